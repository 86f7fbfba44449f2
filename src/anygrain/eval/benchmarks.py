"""The field's benchmarks: data set, prompt rule, and the protocol in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from anygrain.eval.click_rule import ClickRule
from anygrain.eval.label_map_rule import LabelMapRule
from anygrain.eval.parts import PartRule
from anygrain.eval.psalm_rules import ByObjectRule, FollowRule, InteractiveRule
from anygrain.eval.rules import ExpressionRule, Rule, SaliencyRule, VideoRule
from anygrain.eval.segments_rule import InstanceRule, PanopticRule


@dataclass(frozen=True)
class Benchmark:
    """A row of the table.

    splits: those that papers report, the first by default. rule: makes a fresh counter. headline: the figure that
    papers compare. notes: what must be said with the figures. own_folder: its files have names that other sets have
    too, so it is told by the name of its folder only.
    data: name of the data set, when it is not the task's. needs: kinds of prompt that a model must accept.
    by_names: the rule for a model that reads a list of names, when that is another one. all_scores: answers count
    however unsure the model is of them, as average precision wants it.
    """

    splits: tuple[str, ...]
    rule: Callable[[], Rule]
    headline: str
    notes: str
    own_folder: bool = False
    data: str | None = None
    needs: frozenset[str] = frozenset({"text"})
    by_names: Callable[[], Rule] | None = None
    all_scores: bool = False

    def rule_for(self, accepts: frozenset[str]) -> tuple[Rule, str]:
        """A fresh counter for a model of these kinds of prompt, and its protocol in words."""
        if self.by_names is not None and accepts >= NAMES:
            return self.by_names(), f"{_AT_ONCE} {self.notes}"
        return self.rule(), self.notes


NAMES = frozenset({"text", "categories"})  # of a model that reads a list of names by itself, without a click
_AT_ONCE = "All names in one prompt, in the set's own order."
_REFER = "Every sentence on its own; cIoU (oIoU), gIoU (mIoU) and P@X as LAVT; 0 / 0 counts as 0."
_MAP = "Masks of all categories joined by the highest probability, see LabelMapRule; one scale, no flip."
_SALIENT = "8-bit maps stretched to 0..1, truth above 128, as PySODMetrics. max, mean and adaptive F are three things."
_VIDEO = "Every frame on its own; all frames count, hidden objects too; the mean over expressions."
_PARTS = (
    'Every annotated part, each mask on its own: "the {part} of the {whole}". Not a label map of all parts, which is '
    "harder: see PartRule."
)
_PQ = "All names in one prompt; things and stuff as the set says; crowds match nothing, void forgives."
_AP = "All names in one prompt; at most 100 answers a photo, whatever their scores; crowds forgive."
_CLICK = (
    "A click in the middle of every mask by Semantic-SAM's distance transform, crowds left out; masks compared in the "
    "photo's own size."
)
_CIOU, _MIOU = "ciou", "miou"
_REFCOCO = partial(ExpressionRule, ("refcoco",))
_UNC = ("val", "testA", "testB")
_REGIONS = frozenset({"mask", "regions"})


def _by_object(data: str, splits: tuple[str, ...]) -> dict[str, Benchmark]:
    """PSALM's protocol of referring."""
    notes = "All sentences of an object in one prompt, as PSALM's evaluation: not comparable with figures by sentence."
    rule = partial(ByObjectRule, ("refcoco",))
    return {f"{data}_by_object": Benchmark(splits, rule, _CIOU, notes, data=data, all_scores=True)}


_FOLLOW = "PSALM's procedure from the first frame's masks; J and F as davis2017-evaluation, first and last frame out."


def _map(splits: tuple[str, ...], notes: str, known: str | None = None, **fields: Any) -> Benchmark:
    """A label map of which no category is background."""
    crowds = fields.pop("crowds", False)
    ways = (partial(LabelMapRule, at_once=at_once, known=known, crowds=crowds) for at_once in (False, True))
    return Benchmark(splits, next(ways), _MIOU, f"{_MAP} {notes}", by_names=next(ways), **fields)


def _clicks(data: str, split: str, notes: str = "", **fields: Any) -> dict[str, Benchmark]:
    """The task of clicks on a set's masks."""
    text = f"{_CLICK} {notes}".strip()
    more = {"headline": "one_click_iou", "data": data, "needs": frozenset({"points"})} | fields
    return {f"{data}_clicks": Benchmark((split,), ClickRule, notes=text, **more)}


BENCHMARKS: dict[str, Benchmark] = {
    "refcoco": Benchmark(_UNC, _REFCOCO, _CIOU, _REFER),
    "refcoco+": Benchmark(_UNC, _REFCOCO, _CIOU, _REFER),
    "refcocog_umd": Benchmark(("val", "test"), _REFCOCO, _CIOU, f"{_REFER} The umd split: not comparable with google."),
    "refcocog_google": Benchmark(
        ("val",),
        _REFCOCO,
        _CIOU,
        f"{_REFER} The google split, whose val images are in its train: not comparable with umd.",
    ),
    "grefcoco": Benchmark(
        _UNC,
        partial(ExpressionRule, ("rela", "lisa")),
        "giou",
        "By ReLA; figures named lisa_ by LISA. A mask that is called absent is empty here, also in cIoU's union.",
    ),
    "phrasecut": Benchmark(("test", "val"), _REFCOCO, "giou", "giou is PhraseCut's mean IoU, ciou its cumulative IoU."),
    "ref_davis": Benchmark(
        ("val",),
        VideoRule,
        "j_and_f",
        f"{_VIDEO} The four expressions of an object weigh alike. Masks of two objects may overlap: in ReferFormer's "
        "script the highest probability takes a pixel.",
    ),
    "mevis": Benchmark(("valid_u",), VideoRule, "j_and_f", f"{_VIDEO} valid_u, not the server's valid."),
    "ade20k_150": _map(("val",), "0 (other) is ignored.", "ade20k"),
    "ade20k_847": _map(("val",), "The photos as MaskFormer's script shrinks them."),
    "voc2012": Benchmark(
        ("val",), partial(LabelMapRule, True), _MIOU, f"{_MAP} 20 categories and background; rim ignored."
    ),
    "voc2012_20": _map(("val",), "20 categories; background is ignored (PAS-20).", "pascal20", data="voc2012"),
    "pascal_context_59": _map(("val",), "59 categories; the rest is ignored.", "pascal_context59"),
    "pascal_context_459": _map(("val",), "459 categories.", "pascal_context459"),
    "coco_stuff": _map(("val",), "171 categories."),
    "coco_semantic": _map(
        ("val",), "133 categories; crowds count as their category.", "coco", data="coco_panoptic", crowds=True
    ),
    "cityscapes": _map(("val",), "19 categories; the whole picture at once.", "cityscapes"),
    "coco_panoptic": Benchmark(("val",), partial(PanopticRule, "coco"), "pq", _PQ, needs=NAMES),
    "cityscapes_panoptic": Benchmark(
        ("val",),
        partial(PanopticRule, "cityscapes"),
        "pq",
        f"{_PQ} 8 things, 11 kinds of stuff; the whole picture at once.",
        needs=NAMES,
    ),
    "coco_instances": Benchmark(("val",), partial(InstanceRule, "coco80"), "ap", _AP, needs=NAMES, all_scores=True),
    "cityscapes_instances": Benchmark(
        ("val",),
        partial(InstanceRule, "cityscapes"),
        "ap",
        f"{_AP} By COCO's rules; Cityscapes' own evaluator has others.",
        needs=NAMES,
        all_scores=True,
    ),
    "voc2012_instances": Benchmark(
        ("val",),
        partial(InstanceRule, "pascal20"),
        "ap",
        f"{_AP} The rim is not forgiven.",
        needs=NAMES,
        all_scores=True,
    ),
    **_clicks("coco_instances", "val"),
    **_clicks("coco_panoptic", "val", "Stuff too, one mask a category."),
    **_clicks("ade20k_150", "val", "A mask is all of a category, not an object."),
    **_clicks("cityscapes_instances", "val"),
    **_clicks("voc2012_instances", "val", "The rim is ignored."),
    **_clicks("davis2017", "val", "Every object in every frame, on its own."),
    **_clicks("lvis", "val"),
    **_clicks(
        "sa1b",
        "train",
        "The only split; the paper takes 1,000 photos.",
        headline="all_granularity_iou",
        own_folder=True,
    ),
    **_clicks("partimagenet", "test"),
    **_clicks("pascal_part", "val", "Objects and parts."),
    **_clicks("paco", "test", "Objects and parts."),
    "lip": Benchmark(("val",), partial(LabelMapRule, True), _MIOU, f"{_MAP} 19 parts and background."),
    "partimagenet": Benchmark(("test", "val"), PartRule, "part_miou", f"{_PARTS} 40 parts of 11 kinds of things."),
    "pascal_part": Benchmark(
        ("val",), PartRule, "part_miou", f"{_PARTS} All parts of the files, left and right apart, wheels together."
    ),
    "paco": Benchmark(
        ("test", "val"), PartRule, "part_miou", f"{_PARTS} PACO-LVIS; its paper reports AP of instances."
    ),
    "ecssd": Benchmark(("test",), SaliencyRule, "max_f", _SALIENT, own_folder=True),
    "duts": Benchmark(("test",), SaliencyRule, "max_f", _SALIENT, own_folder=True),
    "dut_omron": Benchmark(("test",), SaliencyRule, "max_f", _SALIENT, own_folder=True),
    "hku_is": Benchmark(("test",), SaliencyRule, "max_f", f"{_SALIENT} All 4,447 images.", own_folder=True),
    "pascal_s": Benchmark(
        ("test",), SaliencyRule, "max_f", f"{_SALIENT} At least half of the annotators.", own_folder=True
    ),
    "sod": Benchmark(("test",), SaliencyRule, "max_f", _SALIENT, own_folder=True),
    **_by_object("refcoco", _UNC),
    **_by_object("refcoco+", _UNC),
    **_by_object("refcocog_umd", ("val", "test")),
    "coco_interactive": Benchmark(
        ("val",),
        InteractiveRule,
        "point_giou",
        "All regions of a photo in one prompt, by point, scribble, box and mask; true masks are never resized.",
        needs=_REGIONS,
    ),
    "davis2017_objects": Benchmark(
        ("val",),
        FollowRule,
        "j_and_f",
        f"{_FOLLOW} All objects of the first frame are asked for in every frame.",
        data="davis2017",
        needs=_REGIONS,
    ),
    "davis2017_objects_told": Benchmark(
        ("val",),
        partial(FollowRule, told=True),
        "j_and_f",
        f"{_FOLLOW} As published, each frame is asked only for objects that its true masks show: a leak of truth.",
        data="davis2017",
        needs=_REGIONS,
    ),
}
