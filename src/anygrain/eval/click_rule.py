"""Clicks on the masks of a public set: the first in the middle of each mask, further ones on the largest mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from anygrain.eval.click_meters import GOOD, best_row, middle, next_click
from anygrain.eval.metrics import Overlap, PromptIoU, overlap
from anygrain.eval.rules import Record, Show, Shown, recorded_mask, unknown_labels
from anygrain.types import Mask, Prediction, Prompt, Region, Sample

if TYPE_CHECKING:
    from anygrain.segmenter import Segmenter
    from anygrain.types import ImageEmbedding

NEEDED = (50, 80, 90)  # IoU in percent, for the number of clicks
Click = tuple[int, int, int]  # column, row, label


@dataclass
class ClickRule:
    """A click in the middle of every mask, by Semantic-SAM's distance transform, and the model's masks against it.

    ``one_click_iou``: mean IoU of the mask that the model thinks best ("Max" of Semantic-SAM's Table 5).
    ``oracle_iou``: of the one that fits best ("Oracle"). ``..._part`` and so on: of masks of that granularity only.
    ``all_granularity_iou``: all masks of the set that hold a click are matched one to one with the model's, so that the
    sum of IoU is largest (Table 6); a mask without a partner counts 0. A row that stands for several levels may be
    matched as often.
    With more clicks, each in the middle of the largest connected mistake: ``iou_k`` after k of them, ``good`` the share
    of masks above 0.85 by then, ``noc_80`` the mean number of clicks up to an IoU of 0.8, at most ``clicks``.

    clicks: how many on each mask.
    """

    clicks: int = 1
    sums: dict[str, PromptIoU] = field(default_factory=dict)
    needed: dict[str, int] = field(default_factory=dict)

    def ask(self, sample: Sample) -> Sequence[Region]:
        """The regions that are clicked on."""
        return [
            region for region in sample.regions if region.mask is not None and region.mask.area and not region.ignore
        ]

    def answer(self, sample: Sample, segmenter: Segmenter, embedding: ImageEmbedding) -> list[Record]:
        """All first clicks together, then those that follow, one region at a time."""
        masks = [region.mask.to_array() for region in self.ask(sample) if region.mask is not None]
        starts = [(*middle(mask), 1) for mask in masks]
        base, records = unknown_labels(sample), []
        predictions = segmenter.answer(embedding, [_prompt([start]) for start in starts])
        for number, (start, prediction) in enumerate(zip(starts, predictions, strict=True)):
            labels = _labels(base, masks[number])
            pairs, row = [overlap(mask, labels) for mask in prediction.masks], _surest(prediction)
            record: dict[str, Any] = {
                "text": f"click {start[0]},{start[1]}",
                "score": float(prediction.scores[row]),
                "rows": [list(pair) for pair in pairs],
                "chosen": row,
                "segmentation": Mask.from_array(prediction.masks[row]).to_coco(),
                "granularities": _matched(prediction, base, [mask for mask in masks if mask[start[1], start[0]]]),
            }
            if self.clicks > 1:
                later = self._follow(segmenter, embedding, labels, start, prediction.masks[row])
                record["clicks"] = [list(pair) for pair in (pairs[row], *later)]
            records.append(record)
        return records

    def _follow(
        self, segmenter: Segmenter, embedding: ImageEmbedding, labels: np.ndarray, start: Click, mask: np.ndarray
    ) -> list[Overlap]:
        """What mask and truth share after the second click, the third ..."""
        made, pairs = [start], []
        for _ in range(self.clicks - 1):
            if (click := next_click(mask, labels)) is not None:
                made.append(click)
                (prediction,) = segmenter.answer(embedding, [_prompt(made)])
                mask = prediction.masks[best_row(prediction, made)]
            pairs.append(overlap(mask, labels))
        return pairs

    def count(self, sample: Sample, records: Sequence[Record], show: Show | None = None) -> None:
        """Each click."""
        base = unknown_labels(sample)
        for region, record in zip(self.ask(sample), records, strict=True):
            pairs = [Overlap(*pair) for pair in record["rows"]]
            chosen, fitting = pairs[record["chosen"]], max(pairs, key=lambda pair: pair.iou)
            self._add("one_click_iou", chosen)
            self._add("oracle_iou", fitting)
            if region.granularity:
                self._add(f"one_click_iou_{region.granularity}", chosen)
            for pair in record["granularities"]:
                self._add("all_granularity_iou", Overlap(*pair))
            self._count_clicks([Overlap(*pair) for pair in record.get("clicks", ())])
            if show is not None and region.mask is not None:
                labels, mask = _labels(base, region.mask.to_array()), recorded_mask(record, sample.size)
                text = f"{record['text']} {region.category or ''}".strip()
                show(Shown(text, labels, mask, chosen, record["score"], bool(mask.any())))

    def _count_clicks(self, pairs: Sequence[Overlap]) -> None:
        for number, pair in enumerate(pairs[1:], start=2):
            self._add(f"iou_{number}", pair)
        if pairs:
            ious = [pair.iou for pair in pairs]
            self._need("good", int(ious[-1] >= GOOD))
            for percent in NEEDED:
                enough = (number for number, iou in enumerate(ious, start=1) if iou >= percent / 100)
                self._need(f"noc_{percent}", next(enough, len(ious)))

    def _add(self, name: str, pair: Overlap) -> None:
        self.sums.setdefault(name, PromptIoU()).update(pair)

    def _need(self, name: str, count: int) -> None:
        self.needed[name] = self.needed.get(name, 0) + count

    def merge(self, other: ClickRule) -> None:
        """Take in what another one counted."""
        for name, sums in other.sums.items():
            self.sums.setdefault(name, PromptIoU()).merge(sums)
        for name, count in other.needed.items():
            self._need(name, count)

    def compute(self) -> dict[str, float]:
        """The figures, and how many ``masks`` were clicked on; nothing when there was none."""
        if not self.sums:
            return {}
        first = ("one_click_iou", "oracle_iou", "all_granularity_iou")
        names = [*first, *sorted(self.sums.keys() - set(first), key=lambda name: (len(name), name))]
        masks = self.sums["one_click_iou"].prompts
        figures = {name: self.sums[name].compute()["iou"] for name in names if name in self.sums}
        return figures | {name: count / masks for name, count in self.needed.items()} | {"masks": masks}


def _prompt(clicks: Sequence[Click]) -> Prompt:
    """The middle of each pixel."""
    points = tuple((x + 0.5, y + 0.5) for x, y, _ in clicks)
    return Prompt(points=points, point_labels=tuple(label for *_, label in clicks))


def _surest(prediction: Prediction) -> int:
    return int((prediction.scores if prediction.predicted_iou is None else prediction.predicted_iou).argmax())


def _labels(base: np.ndarray, mask: np.ndarray) -> np.ndarray:
    labels = base.copy()
    labels[mask] = 1
    return labels


def _matched(prediction: Prediction, base: np.ndarray, truths: Sequence[np.ndarray]) -> list[list[int]]:
    """Pairs of each truth with the row that it is matched with; [0, its area] without one."""
    from scipy.optimize import linear_sum_assignment

    levels = prediction.levels or ((1,),) * len(prediction.masks)
    rows = [row for row, stands_for in enumerate(levels) for _ in stands_for]
    pairs = [[overlap(mask, _labels(base, truth)) for mask in prediction.masks] for truth in truths]
    places = linear_sum_assignment([[-pair[row].iou for row in rows] for pair in pairs])
    partner = {int(truth): pairs[truth][rows[place]] for truth, place in zip(*places, strict=True)}
    return [list(partner.get(n, Overlap(0, int(truth.sum())))) for n, truth in enumerate(truths)]
