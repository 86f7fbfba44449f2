"""Routes: the lists of steps from photographs with boxes, masks or nothing to triplets (UniLSeg, section 3.3)."""

from __future__ import annotations

from typing import Literal

from anygrain.annotate.agree import Agree
from anygrain.annotate.caption import Caption
from anygrain.annotate.detect import Detect
from anygrain.annotate.propose import Propose, SamTeacher
from anygrain.annotate.rank import Rank
from anygrain.annotate.refer import Refer
from anygrain.annotate.step import Step
from anygrain.annotate.tag import Name, RamTeacher, Tag
from anygrain.annotate.tidy import Forget, Tidy, Unname

Route = Literal["boxes", "masks", "none"]
Teachers = Literal["paper", "small"]
ALWAYS = ("person",)
"""What the small route asks of every photograph: the commonest thing, and ImageNet has no class for it."""


def route(name: Route, teachers: Teachers = "small", *, caption_given_masks: bool = False) -> tuple[Step, ...]:
    """The steps of a route, with the paper's teachers or with small ones; change a setting by ``dataclasses.replace``.

    boxes: given boxes become masks and get a caption. masks: what is given is forgotten and the photograph labelled
        from scratch, as the paper found better. none: nothing is given.
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
    return given[teachers] if caption_given_masks else routes[name, teachers]


_HUGE = SamTeacher(model="facebook/sam-vit-huge")
_SMALL: tuple[Step, ...] = (Tag(always=ALWAYS), Refer(), Agree(), Tidy())
