"""What is counted when masks are clicked on: one click and the right mask, further clicks, all that one click may mean.

The click is Semantic-SAM's evaluation's: the middle of the mask by a distance transform. Masks are compared in the
photos' own size, as users get them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from anygrain.data.labels import Candidate
from anygrain.eval.clicks import ClickIoU
from anygrain.eval.metrics import overlap
from anygrain.eval.photo import Photo
from anygrain.types import Prediction, Prompt, Region

if TYPE_CHECKING:
    from anygrain.segmenter import Segmenter
    from anygrain.types import ImageEmbedding

GOOD = 0.85  # IoU of a mask that needs no more clicks
_H = 0.35  # sharpness of the transform's soft minimum, kornia's default


def middle(mask: np.ndarray) -> tuple[int, int]:
    """Column and row of the pixel deepest inside bool [H, W], of which some pixel is set.

    The largest value of the distance transform by repeated 3x3 convolution (Pham et al., arXiv 2106.03503; kornia
    0.6.4), which Semantic-SAM's evaluation takes, with the outside of the photo as background. That transform peels the
    mask layer by layer, so its largest value lies in the last layer, and only there it is computed.
    """
    from scipy import ndimage

    layers: Any = ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard")
    last = layers == layers.max()
    weights = np.exp(-np.hypot(*np.mgrid[-1:2, -1:2]) / _H)
    reached: Any = ndimage.convolve((~last).astype(np.float64), weights, mode="nearest")
    row, column = np.unravel_index(np.where(last, reached.round(6), np.inf).argmin(), last.shape)
    return int(column) - 1, int(row) - 1


def best_row(prediction: Prediction, clicks: Sequence[tuple[int, int, int]]) -> int:
    """The row that agrees with most clicks (column, row, label), of those the one of highest predicted IoU."""
    agrees = np.array([sum(mask[y, x] == bool(label) for x, y, label in clicks) for mask in prediction.masks])
    return int(np.where(agrees == agrees.max(), _sureness(prediction), -np.inf).argmax())


def _sureness(prediction: Prediction) -> np.ndarray:
    return prediction.scores if prediction.predicted_iou is None else prediction.predicted_iou


def next_click(mask: np.ndarray, labels: np.ndarray) -> tuple[int, int, int] | None:
    """Where a person would click next: the middle of the largest connected mistake; None when there is none.

    mask: bool [H, W]; labels: uint8 [H, W] of the truth, 1 inside, 255 unknown. Returns column, row and label.
    """
    from scipy import ndimage

    best: tuple[int, np.ndarray, int] | None = None
    for label, wrong in ((1, ~mask & (labels == 1)), (0, mask & (labels == 0))):
        found: Any = ndimage.label(wrong)
        areas = np.bincount(found[0].ravel())[1:]
        if len(areas) and (best is None or areas.max() > best[0]):
            best = int(areas.max()), found[0] == areas.argmax() + 1, label
    return None if best is None else (*middle(best[1]), best[2])


@dataclass
class Sums:
    """Sums of some figures over masks."""

    totals: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Count one value of a figure."""
        self.totals[name] = self.totals.get(name, 0.0) + value
        self.counts[name] = self.counts.get(name, 0) + 1

    def compute(self, what: str) -> dict[str, float]:
        """How many values there were at most, under the name ``what``, and the mean of every figure."""
        means = {name: total / self.counts[name] for name, total in self.totals.items()}
        return {what: float(max(self.counts.values()))} | means if means else {}


@dataclass
class ClickMeter:
    """One click on every region, all of a photo together; then further clicks, one region at a time."""

    clicks: int
    sums: Sums = field(default_factory=Sums)

    def ask(self, segmenter: Segmenter, embedding: ImageEmbedding, photo: Photo, regions: Sequence[Region]) -> None:
        """See ``evaluate_clicks``."""
        starts = [middle(array_of(region)) for region in regions]
        answers = segmenter.answer(embedding, [prompt_at(start) for start in starts])
        for region, (x, y), prediction in zip(regions, starts, answers, strict=True):
            labels = photo.truth(Candidate((region,)))
            made = [(x, y, 1)]
            ious = ClickIoU()
            ious.update(prediction.masks, _sureness(prediction), labels)
            figures = ious.compute()
            self.sums.add("one_click_iou", figures["one_click_iou"])
            self.sums.add("oracle_iou", figures["oracle_iou"])
            mask, iou = prediction.masks[int(_sureness(prediction).argmax())], figures["one_click_iou"]
            for number in range(2, self.clicks + 1):
                if (click := next_click(mask, labels)) is not None:
                    made.append(click)
                    (prediction,) = segmenter.answer(embedding, [_prompt(made)])
                    mask = prediction.masks[best_row(prediction, made)]
                    iou = overlap(mask, labels).iou
                self.sums.add(f"iou_{number}", iou)
            self.sums.add("good", float(iou >= GOOD))

    def compute(self) -> dict[str, float]:
        """``masks`` and the means."""
        return self.sums.compute("masks")


@dataclass
class GranularityMeter:
    """One click on every region; the truths are all regions of the photo that hold it."""

    sums: Sums = field(default_factory=Sums)

    def ask(self, segmenter: Segmenter, embedding: ImageEmbedding, photo: Photo, regions: Sequence[Region]) -> None:
        """See ``evaluate_clicks``."""
        masks = [array_of(region) for region in regions]
        labels = [photo.truth(Candidate((region,))) for region in regions]
        clicked: dict[tuple[int, int], list[int]] = {}  # regions that have their middle at a place
        for number, mask in enumerate(masks):
            clicked.setdefault(middle(mask), []).append(number)
        answers = segmenter.answer(embedding, [prompt_at(start) for start in clicked])
        for ((x, y), own), prediction in zip(clicked.items(), answers, strict=True):
            row = best_row(prediction, [(x, y, 1)])
            self.sums.add("rows", len(prediction.masks))
            ious = {
                number: np.array([overlap(found, labels[number]).iou for found in prediction.masks])
                for number, mask in enumerate(masks)
                if mask[y, x]
            }
            for number, fits in ious.items():
                self.sums.add("best", fits.max())
                self.sums.add("chosen", fits[row])
                if regions[number].granularity:
                    self.sums.add(f"best_{regions[number].granularity}", fits.max())
            self._with_wholes(regions, own, ious)

    def _with_wholes(self, regions: Sequence[Region], own: Sequence[int], ious: Mapping[int, np.ndarray]) -> None:
        """The clicked regions that are part of an annotated object, each with that object."""
        wholes = [number for number in ious if regions[number].granularity == "object"]
        for part, whole in ((p, w) for p in own for w in wholes if regions[p].granularity != "object"):
            of_part, of_whole = ious[part], ious[whole]
            self.sums.add("part", of_part.max())
            self.sums.add("whole", of_whole.max())
            apart = (of_part >= 0.5)[:, None] & (of_whole >= 0.5) & ~np.eye(len(of_part), dtype=bool)
            self.sums.add("both", float(apart.any()))

    def compute(self) -> dict[str, float]:
        """``truths``, all pairs of a click and a mask that holds it, and the means."""
        return self.sums.compute("truths")


def prompt_at(place: tuple[int, int]) -> Prompt:
    """A click in the middle of a pixel (column, row)."""
    return _prompt([(*place, 1)])


def _prompt(clicks: Sequence[tuple[int, int, int]]) -> Prompt:
    points = tuple((x + 0.5, y + 0.5) for x, y, _ in clicks)
    return Prompt(points=points, point_labels=tuple(label for *_, label in clicks))


def array_of(region: Region) -> np.ndarray:
    """The mask of a region as bool [H, W]. Raises ValueError when it has none."""
    if region.mask is None:
        raise ValueError("a region without a mask cannot be clicked on")
    return region.mask.to_array()
