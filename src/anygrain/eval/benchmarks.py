"""The field's benchmarks: data set, prompt rule, and the protocol in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from anygrain.eval.rules import ExpressionRule, LabelMapRule, Rule, SaliencyRule, VideoRule


@dataclass(frozen=True)
class Benchmark:
    """A row of the table.

    splits: those that papers report, the first by default. rule: makes a fresh counter. notes: what must be said with
    the figures.
    """

    splits: tuple[str, ...]
    rule: Callable[[], Rule]
    notes: str


_REFER = "Every sentence on its own; cIoU (oIoU), gIoU (mIoU) and P@X as LAVT; 0 / 0 counts as 0."
_MAP = "Masks of all categories joined by the highest probability, see LabelMapRule; one scale, no flip."
_SALIENT = "8-bit maps stretched to 0..1, truth above 128, as PySODMetrics. max, mean and adaptive F are three things."
_VIDEO = "Every frame on its own; all frames count, hidden objects too; the mean over expressions."
_REFCOCO = partial(ExpressionRule, ("refcoco",))
_UNC = ("val", "testA", "testB")

BENCHMARKS: dict[str, Benchmark] = {
    "refcoco": Benchmark(_UNC, _REFCOCO, _REFER),
    "refcoco+": Benchmark(_UNC, _REFCOCO, _REFER),
    "refcocog_umd": Benchmark(("val", "test"), _REFCOCO, f"{_REFER} The umd split: not comparable with google."),
    "refcocog_google": Benchmark(
        ("val",), _REFCOCO, f"{_REFER} The google split, whose val images are in its train: not comparable with umd."
    ),
    "grefcoco": Benchmark(
        _UNC,
        partial(ExpressionRule, ("rela", "lisa")),
        "By ReLA; figures named lisa_ by LISA. A mask that is called absent is empty here, also in cIoU's union.",
    ),
    "phrasecut": Benchmark(("test", "val"), _REFCOCO, "giou is PhraseCut's mean IoU, ciou its cumulative IoU."),
    "ref_davis": Benchmark(
        ("val",),
        VideoRule,
        f"{_VIDEO} The four expressions of an object weigh alike. Masks of two objects may overlap: in ReferFormer's "
        "script the highest probability takes a pixel.",
    ),
    "mevis": Benchmark(("valid_u",), VideoRule, f"{_VIDEO} valid_u, not the server's valid."),
    "ade20k_150": Benchmark(("val",), LabelMapRule, f"{_MAP} 0 (other) is ignored."),
    "voc2012": Benchmark(("val",), partial(LabelMapRule, True), f"{_MAP} 20 categories and background; rim ignored."),
    "pascal_context_59": Benchmark(("val",), LabelMapRule, f"{_MAP} 59 categories; the rest is ignored."),
    "pascal_context_459": Benchmark(("val",), LabelMapRule, _MAP),
    "coco_stuff": Benchmark(("val",), LabelMapRule, f"{_MAP} 171 categories."),
    "cityscapes": Benchmark(("val",), LabelMapRule, f"{_MAP} 19 categories; the whole picture at once."),
    "lip": Benchmark(("val",), partial(LabelMapRule, True), f"{_MAP} 19 parts and background."),
    "ecssd": Benchmark(("test",), SaliencyRule, _SALIENT),
    "duts": Benchmark(("test",), SaliencyRule, _SALIENT),
    "dut_omron": Benchmark(("test",), SaliencyRule, _SALIENT),
    "hku_is": Benchmark(("test",), SaliencyRule, f"{_SALIENT} All 4,447 images."),
    "pascal_s": Benchmark(("test",), SaliencyRule, f"{_SALIENT} At least half of the annotators."),
    "sod": Benchmark(("test",), SaliencyRule, _SALIENT),
}
