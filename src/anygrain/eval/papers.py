"""What papers report for the same benchmarks, only where the number could be read in a document at hand.

Each row says where it was read. The tables of UniLSeg and PSALM themselves were not at hand: their figures are quoted.
Nothing is said where nothing could be read.
"""

from __future__ import annotations

from collections.abc import Mapping

_EVF = "as quoted in Table 1 of EVF-SAM, arXiv 2406.20076v5"
_UNILSEG_2 = "Table 2 of arXiv 2312.01623, as the study in ../shared/parity/unilseg quotes it"
_SEMANTIC = "of arXiv 2307.04767"
_README = "README of github.com/UX-Decoder/Semantic-SAM (released weights)"
UNILSEG_20, UNILSEG = "UniLSeg-20 (arXiv 2312.01623)", "UniLSeg-100 (arXiv 2312.01623)"
PSALM = "PSALM (arXiv 2403.14598)"
SAM_T, SAM_L = "Semantic-SAM T (arXiv 2307.04767)", "Semantic-SAM L (arXiv 2307.04767)"
RELEASED_L = "Semantic-SAM L, released"
SAM_PANOPTIC = "Semantic-SAM T, COCO + 1/10 of SA-1B (arXiv 2307.04767)"

# Model, task, split, source, and figures in percent. PSALM is evaluated by object: all sentences in one prompt.
_ROWS: tuple[tuple[str, str, str, str, Mapping[str, float]], ...] = (
    (UNILSEG_20, "refcoco", "val", _UNILSEG_2, {"ciou": 80.52}),
    (UNILSEG, "refcoco", "val", _EVF, {"ciou": 81.7}),
    (UNILSEG, "refcoco", "testA", _EVF, {"ciou": 83.2}),
    (UNILSEG, "refcoco", "testB", _EVF, {"ciou": 79.9}),
    (UNILSEG, "refcoco+", "val", _EVF, {"ciou": 73.2}),
    (UNILSEG, "refcoco+", "testA", _EVF, {"ciou": 78.3}),
    (UNILSEG, "refcoco+", "testB", _EVF, {"ciou": 68.2}),
    (PSALM, "refcoco_by_object", "val", _EVF, {"ciou": 83.6}),
    (PSALM, "refcoco_by_object", "testA", _EVF, {"ciou": 84.7}),
    (PSALM, "refcoco_by_object", "testB", _EVF, {"ciou": 81.6}),
    (PSALM, "refcoco+_by_object", "val", _EVF, {"ciou": 72.9}),
    (PSALM, "refcoco+_by_object", "testA", _EVF, {"ciou": 75.5}),
    (PSALM, "refcoco+_by_object", "testB", _EVF, {"ciou": 70.1}),
    (PSALM, "refcocog_umd_by_object", "val", _EVF, {"ciou": 73.8}),
    (PSALM, "refcocog_umd_by_object", "test", _EVF, {"ciou": 74.4}),
    (SAM_T, "coco_instances_clicks", "val", f"Table 5 {_SEMANTIC}", {"one_click_iou": 54.5, "oracle_iou": 73.8}),
    (SAM_L, "coco_instances_clicks", "val", f"Table 5 {_SEMANTIC}", {"one_click_iou": 57.0, "oracle_iou": 74.2}),
    (RELEASED_L, "coco_instances_clicks", "val", _README, {"one_click_iou": 55.1, "oracle_iou": 74.1}),
    (SAM_T, "sa1b_clicks", "train", f"Table 6 {_SEMANTIC}", {"all_granularity_iou": 88.1}),
    (SAM_L, "sa1b_clicks", "train", f"Table 6 {_SEMANTIC}", {"all_granularity_iou": 89.0}),
    (SAM_PANOPTIC, "coco_panoptic", "val", f"Table 3 {_SEMANTIC}", {"pq": 55.2}),
    (SAM_PANOPTIC, "coco_semantic", "val", f"Table 3 {_SEMANTIC}", {"miou": 63.4}),
    (
        SAM_PANOPTIC,
        "coco_instances",
        "val",
        f"Table 3 {_SEMANTIC}",
        {"ap": 47.4, "ap_small": 28.3, "ap_medium": 50.7, "ap_large": 66.2},
    ),
)


def published(task: str, split: str) -> dict[str, dict[str, float]]:
    """By model, then by figure: shares in 0..1. Empty when nothing is known.

    >>> published("refcocog_umd_by_object", "test")
    {'PSALM (arXiv 2403.14598)': {'ciou': 0.744}}
    """
    return {
        model: {name: round(value / 100, 6) for name, value in figures.items()}
        for model, *key, _, figures in _ROWS
        if key == [task, split]
    }


def sources(task: str, split: str) -> dict[str, str]:
    """By model, where its figures were read."""
    return {model: source for model, *key, source, _ in _ROWS if key == [task, split]}
