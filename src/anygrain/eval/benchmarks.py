"""The field's benchmarks: data set, prompt rule, and the protocol in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from anygrain.eval.parts import PartRule
from anygrain.eval.psalm_rules import ByObjectRule, FollowRule, InteractiveRule
from anygrain.eval.rules import ExpressionRule, LabelMapRule, PromptRule, Rule, SaliencyRule, VideoRule

TEXT = frozenset({"text"})


@dataclass(frozen=True)
class Benchmark:
    """A row of the table.

    splits: those that papers report, the first by default. rule: makes a fresh counter. headline: the figure that
    papers compare. notes: what must be said with the figures. own_folder: its files have names that other sets have
    too, so it is told by the name of its folder only.
    data: name of the data set, when it is not the task's. needs: kinds of prompt that a model must accept.
    all_scores: answers count however unsure the model is of them.
    """

    splits: tuple[str, ...]
    rule: Callable[[], Rule | PromptRule]
    headline: str
    notes: str
    own_folder: bool = False
    data: str | None = None
    needs: frozenset[str] = TEXT
    all_scores: bool = False


_REFER = "Every sentence on its own; cIoU (oIoU), gIoU (mIoU) and P@X as LAVT; 0 / 0 counts as 0."
_MAP = "Masks of all categories joined by the highest probability, see LabelMapRule; one scale, no flip."
_SALIENT = "8-bit maps stretched to 0..1, truth above 128, as PySODMetrics. max, mean and adaptive F are three things."
_VIDEO = "Every frame on its own; all frames count, hidden objects too; the mean over expressions."
_PARTS = (
    'Every annotated part, each mask on its own: "the {part} of the {whole}". Not a label map of all parts, which is '
    "harder: see PartRule."
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
    "ade20k_150": Benchmark(("val",), LabelMapRule, _MIOU, f"{_MAP} 0 (other) is ignored."),
    "voc2012": Benchmark(
        ("val",), partial(LabelMapRule, True), _MIOU, f"{_MAP} 20 categories and background; rim ignored."
    ),
    "pascal_context_59": Benchmark(("val",), LabelMapRule, _MIOU, f"{_MAP} 59 categories; the rest is ignored."),
    "pascal_context_459": Benchmark(("val",), LabelMapRule, _MIOU, _MAP),
    "coco_stuff": Benchmark(("val",), LabelMapRule, _MIOU, f"{_MAP} 171 categories."),
    "cityscapes": Benchmark(("val",), LabelMapRule, _MIOU, f"{_MAP} 19 categories; the whole picture at once."),
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
