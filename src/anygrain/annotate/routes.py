"""Routes: the lists of steps from photographs with boxes, masks or nothing to triplets (UniLSeg, section 3.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from anygrain.annotate.agree import Agree
from anygrain.annotate.caption import Caption
from anygrain.annotate.detect import Detect
from anygrain.annotate.own import SemanticSamTeacher
from anygrain.annotate.propose import Everything, Propose, SamTeacher
from anygrain.annotate.rank import Rank
from anygrain.annotate.refer import Refer
from anygrain.annotate.step import Step
from anygrain.annotate.tag import Name, RamTeacher, Tag
from anygrain.annotate.tidy import Forget, Tidy, Unname
from anygrain.everything import EverythingOptions

Route = Literal["boxes", "masks", "none"]
Teachers = Literal["paper", "small"]
ALWAYS = ("person",)
"""What the small route asks of every photograph: the commonest thing, and ImageNet has no class for it."""


def route(
    name: Route, teachers: Teachers = "small", *, caption_given_masks: bool = False, proposer: str | None = None
) -> tuple[Step, ...]:
    """The steps of a route, with the paper's teachers or with small ones; change a setting by ``dataclasses.replace``.

    boxes: given boxes become masks and get a caption. masks: what is given is forgotten and the photograph labelled
        from scratch, as the paper found better. none: nothing is given.
    proposer: one of our Semantic-SAM models, which then makes the masks: of the boxes that are given or detected, and
        of a grid of clicks where there are none.
    caption_given_masks: for "masks", keep the masks and only name them anew: what the paper tried first and dropped.
    Raises ValueError for another name.
    """
    routes = {
        ("boxes", "paper"): (Propose(teacher=_HUGE), Caption(), Rank(), Tidy()),
        ("masks", "paper"): (Forget(), Tag(teacher=RamTeacher()), Detect(), Propose(teacher=_HUGE), Rank(), Tidy()),
        ("none", "paper"): (Forget(), Caption(whole=True), Refer(), Rank(), Tidy()),
        ("boxes", "small"): (Name(), Refer(), Agree(), Tidy()),
        ("masks", "small"): (Forget(), *_SMALL),
        ("none", "small"): (Forget(), *_SMALL),
    }
    given = {"paper": (Unname(), Caption(), Rank(), Tidy()), "small": (Unname(), Name(), Tidy())}
    if (name, teachers) not in routes:
        raise ValueError(f"no route '{name}' with teachers '{teachers}': routes are boxes, masks, none; paper, small")
    if caption_given_masks and name != "masks":
        raise ValueError(f"only the route masks can caption given masks, not {name}")
    if caption_given_masks:
        if proposer is not None:
            raise ValueError("given masks need no proposer: leave one of the two out")
        return given[teachers]
    return routes[name, teachers] if proposer is None else _proposed(name, teachers, SemanticSamTeacher(model=proposer))


def _proposed(name: Route, teachers: Teachers, teacher: SemanticSamTeacher) -> tuple[Step, ...]:
    """The routes with Semantic-SAM's masks."""
    boxed, clicked = Propose(teacher=teacher), Everything(teacher=teacher)
    coarse = replace(clicked, options=EverythingOptions(points_per_side=16, granularity="object"))
    routes = {
        ("boxes", "paper"): (boxed, Caption(), Rank(), Tidy()),
        ("masks", "paper"): (Forget(), Tag(teacher=RamTeacher()), Detect(), boxed, Rank(), Tidy()),
        ("none", "paper"): (Forget(), clicked, Caption(), Rank(), Tidy()),
        ("boxes", "small"): (Name(), boxed, Agree(), Tidy()),
        ("masks", "small"): (Forget(), coarse, Name(), Agree(), Tidy()),
        ("none", "small"): (Forget(), coarse, Name(), Agree(), Tidy()),
    }
    return routes[name, teachers]


_HUGE = SamTeacher(model="facebook/sam-vit-huge")
_SMALL: tuple[Step, ...] = (Tag(always=ALWAYS), Refer(), Agree(), Tidy())
