"""Tasks of clicks on shards: one click and the right mask; several simulated clicks; all granularities of one click.

The click is Semantic-SAM's evaluation's: the middle of the mask by a distance transform. Masks are compared in the
photos' own size, as users get them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from anygrain.data.labels import Candidate
from anygrain.data.shards import ShardReader
from anygrain.eval.clicks import ClickIoU
from anygrain.eval.metrics import overlap
from anygrain.eval.photo import Photo
from anygrain.eval.runner import photos_of, progress
from anygrain.eval.tasks import spread
from anygrain.images import write_atomic
from anygrain.markdown import table
from anygrain.recipes.sources import find_sources
from anygrain.types import Prediction, Prompt, Region

if TYPE_CHECKING:
    from anygrain.segmenter import Segmenter
    from anygrain.types import ImageEmbedding

ClickTask = Literal["click", "granularity"]
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

    def means(self) -> dict[str, float]:
        """The mean of every figure."""
        return {name: total / self.counts[name] for name, total in self.totals.items()}


@dataclass(frozen=True, kw_only=True)
class ClickReport:
    """Figures of each source by name; ``print`` it for the table.

    settings: what they depend on. model: name and fingerprint.
    """

    task: ClickTask
    model: dict[str, str]
    data: str
    sources: dict[str, dict[str, float]]
    settings: dict[str, Any]

    def __str__(self) -> str:
        columns = list(dict.fromkeys(name for figures in self.sources.values() for name in figures))
        rows = [["source", *columns]]
        for source, figures in self.sources.items():
            cells = (figures.get(name) for name in columns)
            rows.append([source, *("" if v is None else f"{v:.3f}" if v <= 1 or v % 1 else f"{v:.0f}" for v in cells)])
        return table(rows)

    def write(self, out: Path) -> None:
        """``report.json`` in folder ``out``."""
        record = {name: getattr(self, name) for name in self.__dataclass_fields__}
        write_atomic(out / "report.json", (json.dumps(record, indent=1) + "\n").encode())


def evaluate_clicks(
    segmenter: Segmenter,
    data: str | Path,
    task: ClickTask,
    *,
    limit: int | None = None,
    clicks: int = 1,
) -> ClickReport:
    """Click on every mask of the shards under ``data``.

    task "click": ``one_click_iou`` and ``oracle_iou`` of ``clicks.ClickIoU``. With more clicks ``iou_k`` is the IoU
        after k of them, each in the middle of the largest mistake, and ``good`` the share of masks above 0.85 by then.
    task "granularity": ``best`` is the mean, over the clicks and over all annotated masks that hold the click, of the
        IoU of the best row; ``chosen`` that of the row which the model thinks best; ``rows`` their mean number; and
        ``best_part`` and so on the same for truths of that granularity.
    limit: photos of each source, evenly spaced.
    Raises ValueError for a model without clicks, for shards without masks, and for bad numbers.
    """
    if "points" not in segmenter.model.accepts:
        raise ValueError(f"model '{segmenter.info['name']}' takes no clicks: evaluate it by texts, without --task")
    if not 1 <= clicks <= 20:
        raise ValueError(f"clicks must be from 1 to 20, got {clicks}")
    sources = {}
    folders = find_sources(data)
    with progress(sum(len(spread(len(ShardReader(folder)), limit)) for folder in folders)) as bar:
        for folder in folders:
            sums, photos = Sums(), 0
            for photo in photos_of(folder, limit):
                regions = [r for r in photo.sample.regions if r.mask is not None and r.mask.area and not r.ignore]
                if regions:
                    (embedding,) = segmenter.embed([photo.image])
                    photos += 1
                    if task == "click":
                        _click_each(segmenter, embedding, photo, regions, clicks, sums)
                    else:
                        _all_granularities(segmenter, embedding, regions, sums)
                bar.update()
            if sums.counts:
                masks = max(sums.counts.values())
                sources[Path(folder).name] = {"photos": float(photos), "masks": float(masks)} | sums.means()
    if not sources:
        raise ValueError(f"{data}: no photo has a mask, so there is nothing to click on")
    settings = {"limit": limit, "clicks": clicks, "threshold": segmenter.threshold, "click": "distance transform"}
    return ClickReport(task=task, model=dict(segmenter.info), data=str(data), sources=sources, settings=settings)


def _click_each(
    segmenter: Segmenter, embedding: ImageEmbedding, photo: Photo, regions: Sequence[Region], clicks: int, sums: Sums
) -> None:
    """One click on every region, all of a photo together; then further clicks, one region at a time."""
    starts = [middle(_array(region)) for region in regions]
    answers = segmenter.answer(embedding, [Prompt(points=((x + 0.5, y + 0.5),)) for x, y in starts])
    for region, (x, y), prediction in zip(regions, starts, answers, strict=True):
        labels = photo.truth(Candidate((region,)))
        made = [(x, y, 1)]
        ious = ClickIoU()
        ious.update(prediction.masks, _sureness(prediction), labels)
        figures = ious.compute()
        sums.add("one_click_iou", figures["one_click_iou"])
        sums.add("oracle_iou", figures["oracle_iou"])
        mask, iou = prediction.masks[int(_sureness(prediction).argmax())], figures["one_click_iou"]
        for number in range(2, clicks + 1):
            if (click := next_click(mask, labels)) is not None:
                made.append(click)
                (prediction,) = segmenter.answer(embedding, [_prompt(made)])
                mask = prediction.masks[best_row(prediction, made)]
                iou = overlap(mask, labels).iou
            sums.add(f"iou_{number}", iou)
        sums.add("good", float(iou >= GOOD))


def _prompt(clicks: Sequence[tuple[int, int, int]]) -> Prompt:
    points = tuple((x + 0.5, y + 0.5) for x, y, _ in clicks)
    return Prompt(points=points, point_labels=tuple(label for *_, label in clicks))


def _all_granularities(segmenter: Segmenter, embedding: ImageEmbedding, regions: Sequence[Region], sums: Sums) -> None:
    """One click on every region; the truths are all regions of the photo that hold it."""
    masks = [_array(region) for region in regions]
    starts = list(dict.fromkeys(middle(mask) for mask in masks))
    answers = segmenter.answer(embedding, [Prompt(points=((x + 0.5, y + 0.5),)) for x, y in starts])
    for (x, y), prediction in zip(starts, answers, strict=True):
        row = best_row(prediction, [(x, y, 1)])
        sums.add("rows", len(prediction.masks))
        for region, mask in zip(regions, masks, strict=True):
            if mask[y, x]:
                labels = mask.astype(np.uint8)
                ious = [overlap(found, labels).iou for found in prediction.masks]
                sums.add("best", max(ious))
                sums.add("chosen", ious[row])
                if region.granularity:
                    sums.add(f"best_{region.granularity}", max(ious))


def _array(region: Region) -> np.ndarray:
    if region.mask is None:
        raise ValueError("a region without a mask cannot be clicked on")
    return region.mask.to_array()
