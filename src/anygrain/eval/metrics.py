"""Figures from masks. Every metric counts in whole numbers, so that merged parts equal one pass to the last bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from anygrain.data.transforms import IGNORE
from anygrain.eval.exact import UNIT, share
from anygrain.eval.reliability import Reliability


class Overlap(NamedTuple):
    """Pixels that prediction and truth share, and pixels that either has."""

    intersection: int
    union: int

    @property
    def iou(self) -> float:
        """Intersection over union; 1 when both masks are empty."""
        return self.intersection / self.union if self.union else 1.0


def overlap(mask: np.ndarray, labels: np.ndarray) -> Overlap:
    """Compare a bool mask [H, W] with labels uint8 [H, W]: 1 inside, 0 outside, 255 left out of both counts.

    Raises ValueError when the sizes differ: truth is never resized.
    """
    if mask.shape != labels.shape:
        raise ValueError(f"the mask is of size {mask.shape} but its truth of {labels.shape}; compare at one size")
    inside = labels == 1
    union = inside | (mask & (labels != IGNORE))
    return Overlap(int(np.count_nonzero(mask & inside)), int(np.count_nonzero(union)))


@dataclass
class CategoryIoU:
    """mIoU over categories: for each category all intersections over all unions, of the photos where it is present.

    sums: intersection, union and number of photos by category.
    """

    sums: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def update(self, category: str, pair: Overlap) -> None:
        """Count one photo in which the category is present."""
        self._add(category, (pair.intersection, pair.union, 1))

    def merge(self, other: CategoryIoU) -> None:
        """Take in what another one counted."""
        for category, counts in other.sums.items():
            self._add(category, counts)

    def _add(self, category: str, counts: tuple[int, int, int]) -> None:
        intersection, union, photos = self.sums.get(category, (0, 0, 0))
        self.sums[category] = (intersection + counts[0], union + counts[1], photos + counts[2])

    def per_category(self) -> dict[str, float]:
        """IoU of each category, in alphabetical order."""
        return {name: Overlap(*self.sums[name][:2]).iou for name in sorted(self.sums)}

    def compute(self) -> dict[str, float]:
        """``category_miou`` and the number of ``categories``; nothing when there was none."""
        ious = self.per_category().values()
        return {"category_miou": sum(ious) / len(ious), "categories": len(ious)} if ious else {}


@dataclass
class PromptIoU:
    """Over prompts about something present: mean IoU, IoU of all pixels together, share of prompts at IoU 0.5."""

    prompts: int = 0
    total: int = 0
    intersection: int = 0
    union: int = 0
    over_half: int = 0

    def update(self, pair: Overlap) -> None:
        """Count one prompt."""
        iou = share(pair.intersection, pair.union) if pair.union else UNIT
        over_half = 2 * pair.intersection >= pair.union
        self.merge(PromptIoU(1, iou, pair.intersection, pair.union, int(over_half)))

    def merge(self, other: PromptIoU) -> None:
        """Take in what another one counted."""
        self.prompts += other.prompts
        self.total += other.total
        self.intersection += other.intersection
        self.union += other.union
        self.over_half += other.over_half

    def compute(self) -> dict[str, float]:
        """``iou`` (mean), ``overall_iou``, ``over_half`` and the number of ``prompts``; nothing when there was none."""
        if not self.prompts:
            return {}
        return {
            "iou": self.total / (UNIT * self.prompts),
            "overall_iou": Overlap(self.intersection, self.union).iou,
            "over_half": self.over_half / self.prompts,
            "prompts": self.prompts,
        }


@dataclass
class Presence:
    """How often "not there" is answered, to prompts about absent and about present things."""

    absent: int = 0
    absent_refused: int = 0
    present: int = 0
    present_refused: int = 0

    def update(self, *, there: bool, answered: bool) -> None:
        """Count one prompt. there: the truth. answered: the model gave a mask."""
        if there:
            self.merge(Presence(present=1, present_refused=int(not answered)))
        else:
            self.merge(Presence(absent=1, absent_refused=int(not answered)))

    def merge(self, other: Presence) -> None:
        """Take in what another one counted."""
        self.absent += other.absent
        self.absent_refused += other.absent_refused
        self.present += other.present
        self.present_refused += other.present_refused

    def compute(self) -> dict[str, float]:
        """``absent_called_absent`` and ``present_called_absent`` (shares), and of how many prompts of either sort."""
        figures: dict[str, float] = {"absent_prompts": self.absent, "present_prompts": self.present}
        if self.absent:
            figures["absent_called_absent"] = self.absent_refused / self.absent
        if self.present:
            figures["present_called_absent"] = self.present_refused / self.present
        return figures


@dataclass
class Scores:
    """All figures of one source.

    by_kind: of prompts about present things that have masks, "category", "salient" and "phrase" apart.
    """

    photos: int = 0
    categories: CategoryIoU = field(default_factory=CategoryIoU)
    by_kind: dict[str, PromptIoU] = field(default_factory=dict)
    presence: Presence = field(default_factory=Presence)
    reliability: Reliability = field(default_factory=Reliability)

    def update(self, kind: str, category: str | None, pair: Overlap, answered: bool, score: float) -> None:
        """Count the answer to one question.

        kind: "absent" is about something that is not there, "unmasked" about something that is, nobody knows where; of
        both only the presence counts. score: the answer's presence score.
        """
        self.presence.update(there=kind != "absent", answered=answered)
        self.reliability.update(score, there=kind != "absent")
        if kind in ("absent", "unmasked"):
            return
        self.by_kind.setdefault(kind, PromptIoU()).update(pair)
        if kind == "category" and category is not None:
            self.categories.update(category, pair)

    def merge(self, other: Scores) -> None:
        """Take in what another one counted."""
        self.photos += other.photos
        self.categories.merge(other.categories)
        self.presence.merge(other.presence)
        self.reliability.merge(other.reliability)
        for kind, part in other.by_kind.items():
            self.by_kind.setdefault(kind, PromptIoU()).merge(part)

    def compute(self) -> dict[str, float]:
        """Numbers of photos and prompts, figures over all present prompts (``iou``), per kind, and of presence."""
        whole = PromptIoU()
        for part in self.by_kind.values():
            whole.merge(part)
        figures: dict[str, float] = {
            "photos": self.photos,
            "prompts": 0,
            **whole.compute(),
            **self.categories.compute(),
        }
        for kind, part in sorted(self.by_kind.items()):
            figures |= {f"{kind}_{name}": value for name, value in part.compute().items()}
        return figures | self.presence.compute()


def headline(figures: Mapping[str, float]) -> float | None:
    """The one figure of a source: mIoU over its categories, or mean IoU of its prompts when it has no categories."""
    return figures.get("category_miou", figures.get("iou"))
