"""Panoptic quality (Kirillov et al., CVPR 2019), as panopticapi counts it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from anygrain.eval.exact import UNIT, share

VOID = 0  # the id of unlabelled pixels, in truth and answer


@dataclass
class PanopticQuality:
    """PQ = sum of IoU of matched segments / (TP + FP/2 + FN/2), per category, then the mean over categories.

    Two segments match when they are of one category and their IoU is above 0.5, void pixels of the truth left out of
    the union. ``sq`` is the mean IoU of matches, ``rq`` = TP / (TP + FP/2 + FN/2). A crowd is matched by nothing and
    missed by nobody; an answer that lies by more than half in void, or in a crowd of its category, is no false
    positive. Categories with no segment anywhere are left out.

    things: names of the categories of countable things; the rest is stuff. None: no figures of either.
    sums: by category the IoU sum in multiples of 1 / UNIT, TP, FP, FN.
    """

    things: Collection[str] | None = None
    sums: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)

    def update(
        self,
        found: np.ndarray,
        found_categories: Mapping[int, str],
        truth: np.ndarray,
        truth_categories: Mapping[int, str],
        crowds: Collection[int] = (),
    ) -> None:
        """Count one photo.

        found, truth: integer maps [H, W] of segment ids, 0 void. ``*_categories``: the category of each id. crowds: ids
        of the truth. Raises ValueError when the sizes differ or an id has no category, or a category no pixel.
        """
        if found.shape != truth.shape:
            raise ValueError(f"the segments are of size {found.shape} but their truth of {truth.shape}")
        areas, true_areas = _areas(found, found_categories, "answer"), _areas(truth, truth_categories, "truth")
        ids, counts = np.unique(np.stack([truth.ravel(), found.ravel()]).astype(np.int64), axis=1, return_counts=True)
        shared = {(int(t), int(f)): int(count) for t, f, count in zip(*ids, counts, strict=True)}
        matched, matching = set(), set()
        for (t, f), pixels in shared.items():
            if t not in truth_categories or f not in found_categories or t in crowds:
                continue
            union = areas[f] + true_areas[t] - pixels - shared.get((VOID, f), 0)
            if truth_categories[t] == found_categories[f] and 2 * pixels > union:
                self._add(truth_categories[t], share(pixels, union), 1, 0, 0)
                matched.add(t)
                matching.add(f)
        for t in truth_categories.keys() - matched - set(crowds):
            self._add(truth_categories[t], 0, 0, 0, 1)
        # Of several crowds of one category the last one counts, as in panopticapi.
        crowd_of = {truth_categories[t]: t for t in truth_categories if t in crowds}
        for f in found_categories.keys() - matching:
            unsure = shared.get((VOID, f), 0) + shared.get((crowd_of.get(found_categories[f], -1), f), 0)
            if 2 * unsure <= areas[f]:
                self._add(found_categories[f], 0, 0, 1, 0)

    def _add(self, category: str, *counts: int) -> None:
        sums = self.sums.get(category, (0, 0, 0, 0))
        self.sums[category] = tuple(a + b for a, b in zip(sums, counts, strict=True))  # type: ignore[assignment]

    def merge(self, other: PanopticQuality) -> None:
        """Take in what another one counted."""
        for category, counts in other.sums.items():
            self._add(category, *counts)

    def per_category(self) -> dict[str, dict[str, float]]:
        """``pq``, ``sq`` and ``rq`` of each category, in alphabetical order."""
        figures = {}
        for name in sorted(self.sums):
            total, hits, wrong, missed = self.sums[name]
            weight = hits + (wrong + missed) / 2
            iou = total / UNIT
            figures[name] = {"pq": iou / weight, "sq": iou / hits if hits else 0.0, "rq": hits / weight}
        return figures

    def compute(self) -> dict[str, float]:
        """``pq``, ``sq``, ``rq`` and number of ``categories``; with ``things`` also of both kinds."""
        each = self.per_category()
        groups = {"": list(each)}
        if self.things is not None:
            groups["_things"] = [name for name in each if name in self.things]
            groups["_stuff"] = [name for name in each if name not in self.things]
        figures: dict[str, float] = {}
        for group, names in groups.items():
            if names:
                for key in ("pq", "sq", "rq"):
                    figures[key + group] = sum(each[name][key] for name in names) / len(names)
                figures["categories" + group] = len(names)
        return figures


def _areas(ids: np.ndarray, categories: Mapping[int, str], whose: str) -> dict[int, int]:
    numbers, counts = np.unique(ids, return_counts=True)
    areas = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    if wrong := (areas.keys() - {VOID}) ^ categories.keys():
        raise ValueError(f"segment {min(wrong)} of the {whose} is in the map or among the categories, but not in both")
    return areas
