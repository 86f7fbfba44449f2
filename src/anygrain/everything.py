"""Everything in an image: click on a grid of points, keep the masks that are sure and stable, drop what is double.

The rules and their order are those of Semantic-SAM's released generator (itself after SAM's, arXiv 2304.02643, App. B).
Ours ends with masks in the photo's own size, and of a candidate it keeps no mask but the network's code for it: some
hundred numbers, from which the mask is made again when the candidate is chosen. So memory does not grow with the
number of clicks; beside the image's features there are at most ``memory_limit`` bytes of masks at a time, and the
run-length codes of the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from anygrain.types import Category, Mask, Region, Size

MOST_POINTS = 256  # along a side


@dataclass(frozen=True, kw_only=True)
class EverythingOptions:
    """What is clicked and what is kept; the defaults are the released generator's.

    granularity: which masks of a click are looked at: "all", "part", "object", "scene" or a level.
    points_per_side: clicks along each side of the grid.
    min_predicted_iou: masks whose IoU the network expects to be less, or equal, are dropped.
    min_stability: masks whose area changes more than this ratio between the two logits +-``stability_offset`` go.
    max_overlap: of two masks whose boxes have a larger IoU the better one stays.
    min_area: holes and islands of fewer pixels of the model's input are removed.
    joint: 0 asks every click on its own; a number asks so many at once and lets them see each other, as the released
        generator does with 200. Results then depend on the grid's order.
    """

    granularity: str | int = "all"
    points_per_side: int = 32
    min_predicted_iou: float = 0.88
    min_stability: float = 0.92
    stability_offset: float = 1.0
    max_overlap: float = 0.7
    min_area: int = 10
    joint: int = 0

    def __post_init__(self):
        if not 1 <= self.points_per_side <= MOST_POINTS:
            raise ValueError(f"points_per_side must be from 1 to {MOST_POINTS}, got {self.points_per_side}")
        for name in ("min_predicted_iou", "min_stability", "stability_offset"):
            if math.isnan(getattr(self, name)):
                raise ValueError(f"{name} must be a number, got nan")
        if not 0 < self.max_overlap <= 1:
            raise ValueError(f"max_overlap must lie between 0 and 1, got {self.max_overlap}")
        if self.min_area < 0 or self.joint < 0:
            raise ValueError("min_area and joint must not be negative")

    def grid(self) -> np.ndarray:
        """Clicks (x, y) float64 [N, 2] in 0..1, row by row."""
        places = (np.arange(self.points_per_side) + 0.5) / self.points_per_side
        y, x = np.meshgrid(places, places, indexing="ij")
        return np.stack([x.ravel(), y.ravel()], 1)


class Clicked(NamedTuple):
    """What N clicks gave at L levels.

    codes: [N * L, ...], from which the source makes masks. predicted_iou: float32 [N * L]. Click by click.
    """

    codes: Any
    predicted_iou: np.ndarray


class Source(Protocol):
    """An image that can be clicked on.

    size: (H, W) at which candidates are compared. final_size: (H, W) of the result.
    levels: the L levels asked for.
    """

    size: Size
    final_size: Size
    levels: Sequence[int]

    def click(self, points: np.ndarray) -> Iterator[tuple[np.ndarray, Clicked]]:
        """Clicks (x, y) [N, 2] in 0..1, answered some at a time, each part with its points."""
        ...

    def logits(self, codes: Any) -> Iterator[np.ndarray]:
        """Mask logits float32 [K, H, W] at ``size``, some at a time."""
        ...

    def masks(self, codes: Any) -> Iterator[np.ndarray]:
        """Masks bool [H, W] at ``final_size``, one at a time."""
        ...

    def names(self, codes: Any) -> Sequence[tuple[Category | None, Category | None]]:
        """Object and part name of each code, None where no names were asked for."""
        ...


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """One mask that was found.

    mask, box: in the photo's own size; box (x0, y0, x1, y1) with right and lower edge exclusive.
    point: the click (x, y) in pixels of the photo.
    level, granularity: which of the click's masks it is, and in a word.
    """

    mask: Mask
    point: tuple[float, float]
    level: int
    granularity: str
    predicted_iou: float
    stability: float
    category: Category | None = None
    part_category: Category | None = None

    def to_region(self, model: Mapping[str, str]) -> Region:
        """As a region of a Sample, with where it came from."""
        return Region(
            mask=self.mask,
            category=None if self.category is None else self.category.name,
            granularity=self.granularity,
            score=min(max(self.predicted_iou, 0.0), 1.0),
            origin={"step": "everything", "level": str(self.level), **model},
        )


@dataclass(frozen=True)
class Candidates:
    """Masks that passed the first thresholds; all arrays have K rows."""

    codes: Any
    points: np.ndarray
    level: np.ndarray
    predicted_iou: np.ndarray
    stability: np.ndarray
    boxes: np.ndarray

    def take(self, rows: np.ndarray) -> Candidates:
        """Some rows, in the order given."""
        parts = (getattr(self, name) for name in self.__dataclass_fields__)
        return Candidates(*(part[rows] for part in parts))


def everything(source: Source, options: EverythingOptions, word: Mapping[int, str]) -> list[Proposal]:
    """All masks of a grid of clicks, those that cleaning left as they were first, then the better ones first.

    word: the granularity of each level.
    """
    found = [_sure(source, points, clicked, options) for points, clicked in source.click(options.grid())]
    found = [part for part in found if len(part.predicted_iou)]
    if not found:
        return []
    candidates = _concatenate(found)
    candidates = candidates.take(box_nms(candidates.boxes, candidates.predicted_iou, options.max_overlap))
    masks, boxes, unchanged = _finish(source, candidates.codes, options)
    kept = np.arange(len(masks))
    if options.min_area > 0:
        kept = box_nms(boxes, unchanged, max(options.max_overlap, 0.7))
    candidates = candidates.take(kept)
    names = source.names(candidates.codes)
    height, width = source.final_size
    return [
        Proposal(
            mask=masks[row],
            point=(float(point[0] * width), float(point[1] * height)),
            level=int(level),
            granularity=word[int(level)],
            predicted_iou=float(iou),
            stability=float(stability),
            category=category,
            part_category=part,
        )
        for row, point, level, iou, stability, (category, part) in zip(
            kept,
            candidates.points,
            candidates.level,
            candidates.predicted_iou,
            candidates.stability,
            names,
            strict=True,
        )
        if masks[row].area
    ]


def _sure(source: Source, points: np.ndarray, clicked: Clicked, options: EverythingOptions) -> Candidates:
    """Those of some clicks' masks that are expected to be good and are stable; masks are made for the former only."""
    rows = np.flatnonzero(clicked.predicted_iou > options.min_predicted_iou)
    boxes, stability = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
    for logits in source.logits(clicked.codes[rows]):
        boxes.append(np.stack([extent(mask) for mask in logits > 0]))
        stability.append(stability_of(logits, options.stability_offset))
    stable = np.concatenate(stability) >= options.min_stability  # False where there is no pixel: 0 / 0
    rows, levels = rows[stable], np.asarray(source.levels)
    return Candidates(
        codes=clicked.codes[rows],
        points=points[rows // len(levels)],
        level=levels[rows % len(levels)],
        predicted_iou=clicked.predicted_iou[rows],
        stability=np.concatenate(stability)[stable],
        boxes=np.concatenate(boxes)[stable],
    )


def _concatenate(parts: Sequence[Candidates]) -> Candidates:
    """All candidates in one; codes may be tensors."""
    import torch

    def joined(column: list[Any]) -> Any:
        return torch.cat(column) if isinstance(column[0], torch.Tensor) else np.concatenate(column)

    return Candidates(*(joined([getattr(part, name) for part in parts]) for name in Candidates.__dataclass_fields__))


def _finish(source: Source, codes: Any, options: EverythingOptions) -> tuple[list[Mask], np.ndarray, np.ndarray]:
    """Masks in the final size without small holes and islands, their boxes, and 1 for each that had none."""
    scale = source.final_size[0] * source.final_size[1] / (source.size[0] * source.size[1])
    masks, boxes, unchanged = [], [np.zeros((0, 4), np.float32)], []
    for mask in source.masks(codes):
        changed = False
        if options.min_area:
            mask, changed = clean(mask, options.min_area * scale)
        masks.append(Mask.from_array(mask))
        boxes.append(extent(mask)[None])
        unchanged.append(float(not changed))
    return masks, np.concatenate(boxes), np.array(unchanged, np.float32)


def stability_of(logits: np.ndarray, offset: float) -> np.ndarray:
    """Area above ``offset`` over area above ``-offset`` of logits [K, H, W]: float32 [K], NaN where there is none."""
    inner = (logits > offset).sum((1, 2)).astype(np.float32)
    outer = (logits > -offset).sum((1, 2)).astype(np.float32)
    return np.divide(inner, outer, out=np.full_like(inner, np.nan), where=outer > 0)


def extent(mask: np.ndarray) -> np.ndarray:
    """float32 [4]: first column and row and last column and row, inclusive, of a mask; zeros when it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros(4, np.float32)
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)


def box_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Boxes [K, 4] to keep, best score first: int64 rows. One goes when its IoU with a kept one is above the threshold.

    Of equal scores the first wins. A box without an area overlaps with nothing.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    gone = np.zeros(len(boxes), bool)
    kept = []
    for row in np.argsort(-np.asarray(scores), kind="stable"):
        if gone[row]:
            continue
        kept.append(row)
        low = np.maximum(boxes[row, :2], boxes[:, :2])
        high = np.minimum(boxes[row, 2:], boxes[:, 2:])
        both = (high - low).clip(min=0).prod(1)
        union = area[row] + area - both
        gone |= np.divide(both, union, out=np.zeros_like(both), where=union > 0) > threshold
    return np.array(kept, np.int64)


def clean(mask: np.ndarray, min_area: float) -> tuple[np.ndarray, bool]:
    """Fill holes and remove islands of fewer than ``min_area`` pixels; also whether there were any.

    As the released generator: both are connected over edges and corners, background at the rim counts as a hole too,
    and the largest island stays.
    """
    holes, areas = _parts(~mask)
    small_holes = areas < min_area
    if small_holes.any():
        mask = mask | np.append(False, small_holes)[holes]
    islands, areas = _parts(mask)
    small_islands = areas < min_area
    if small_islands.any():
        stay = ~small_islands
        stay[areas.argmax()] = True
        mask = np.append(False, stay)[islands]
    return mask, bool(small_holes.any() or small_islands.any())


def _parts(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected parts as numbers 1.. [H, W], and the area of each."""
    from scipy import ndimage

    found: Any = ndimage.label(mask, structure=np.ones((3, 3)))
    return found[0], np.bincount(found[0].ravel(), minlength=found[1] + 1)[1:]
