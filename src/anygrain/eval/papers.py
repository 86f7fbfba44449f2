"""What papers report for the same benchmarks, only where the number could be read in a document at hand.

In percent. The papers' own tables were not at hand: what stands here is as Table 1 of EVF-SAM (arXiv 2406.20076v5)
quotes it, as cIoU to one decimal. Nothing is said where nothing could be read.
"""

from __future__ import annotations

from collections.abc import Mapping

SOURCE = "as quoted in Table 1 of EVF-SAM, arXiv 2406.20076v5"

_CIOU: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "UniLSeg-100 (arXiv 2312.01623)": {
        "refcoco": {"val": 81.7, "testA": 83.2, "testB": 79.9},
        "refcoco+": {"val": 73.2, "testA": 78.3, "testB": 68.2},
    },
    "PSALM (arXiv 2403.14598)": {
        "refcoco": {"val": 83.6, "testA": 84.7, "testB": 81.6},
        "refcoco+": {"val": 72.9, "testA": 75.5, "testB": 70.1},
        "refcocog_umd": {"val": 73.8, "test": 74.4},
    },
}


def published(task: str, split: str) -> dict[str, dict[str, float]]:
    """By model, then by figure: shares in 0..1. Empty when nothing is known.

    >>> published("refcocog_umd", "test")
    {'PSALM (arXiv 2403.14598)': {'ciou': 0.744}}
    """
    rows = {model: tasks.get(task, {}).get(split) for model, tasks in _CIOU.items()}
    return {model: {"ciou": round(value / 100, 6)} for model, value in rows.items() if value is not None}
