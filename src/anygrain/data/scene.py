"""What one view of a photo shows, as the language generator needs it: things with their visible masks and names.

H W: size of the view, after crop and flip and without padding. Left and right are sides of this picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from anygrain.nouns import plural
from anygrain.types import Size

TINY = 0.001  # part of the view below which nobody would point at a thing
SLIVER = 0.004  # the same for a thing that touches the edge of the view, of which little may be left


@dataclass(frozen=True, kw_only=True, eq=False)
class Thing:
    """One annotated region of a view.

    mask: bool [H, W], the visible part, not empty.
    category: name as ``language.readable`` gives it.
    countable: the region is exactly one instance; False for stuff and for unions of several instances.
    clipped: a good part (more than 15 %) of it lies outside the view.
    boxed: the mask is a box around it, because no more is known.
    """

    mask: np.ndarray
    category: str
    countable: bool = True
    clipped: bool = False
    boxed: bool = False

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """Tight ``(x0, y0, x1, y1)``. Raises ValueError when the mask is empty."""
        rows = np.flatnonzero(self.mask.any(1))
        if not len(rows):
            raise ValueError(f"the {self.category!r} of a scene has an empty mask: leave it out of the scene")
        columns = np.flatnonzero(self.mask[rows[0] : rows[-1] + 1].any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @cached_property
    def crop(self) -> np.ndarray:
        """The mask inside its box, bool [y1 - y0, x1 - x0]."""
        x0, y0, x1, y1 = self.box
        return self.mask[y0:y1, x0:x1]

    @cached_property
    def area(self) -> int:
        """Number of visible pixels."""
        return int(np.count_nonzero(self.crop))

    @cached_property
    def centroid(self) -> tuple[float, float]:
        """Mean ``(x, y)`` of the visible pixels' centres."""
        x0, y0, _, _ = self.box
        crop = self.crop.view(np.uint8)
        columns, rows = crop.sum(0, dtype=np.int32), crop.sum(1, dtype=np.int32)
        x = x0 + 0.5 + float(columns @ np.arange(len(columns))) / self.area
        y = y0 + 0.5 + float(rows @ np.arange(len(rows))) / self.area
        return x, y


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """All that is known about a view.

    things: the annotated regions.
    size: ``(H, W)``.
    complete: names of which every occurrence in the view is among the things. Only these are counted, singled out or
        related; a complete name that no thing has is certainly absent.
    unknown: bool [H, W], pixels of which nothing is known, or None.
    doubts: by name, bool [H, W], pixels of which only that is not known whether they are of that name.
    pixels: uint8 [H, W, 3] RGB as the eye sees it (before colour jitter), or None: then no colour is named.
    whole: what all the things are parts of ("car", "person", "face"), or None.
    """

    things: tuple[Thing, ...]
    size: Size
    complete: frozenset[str] = frozenset()
    unknown: np.ndarray | None = None
    doubts: Mapping[str, np.ndarray] = field(default_factory=dict)
    pixels: np.ndarray | None = None
    whole: str | None = None

    @cached_property
    def boxes(self) -> np.ndarray:
        """float64 [N, 4], ``(x0, y0, x1, y1)``."""
        return np.array([thing.box for thing in self.things], np.float64).reshape(-1, 4)

    @cached_property
    def areas(self) -> np.ndarray:
        """float64 [N], pixels."""
        return np.array([thing.area for thing in self.things], np.float64)

    @cached_property
    def centres(self) -> np.ndarray:
        """float64 [N, 2], centroids ``(x, y)``."""
        return np.array([thing.centroid for thing in self.things], np.float64).reshape(-1, 2)

    @cached_property
    def pointable(self) -> np.ndarray:
        """bool [N]: neither clipped, nor tiny, nor a sliver at the edge, so that a phrase may be about it."""
        whole = np.array([not thing.clipped for thing in self.things], bool)
        height, width = self.size
        share = self.areas / (height * width)
        x0, y0, x1, y1 = self.boxes.T
        edge = (x0 <= 1) | (y0 <= 1) | (x1 >= width - 1) | (y1 >= height - 1)
        return whole & (share >= np.where(edge, SLIVER, TINY))

    @cached_property
    def members(self) -> dict[str, np.ndarray]:
        """For each name, in order of appearance, the numbers of its things, int64."""
        groups: dict[str, list[int]] = {}
        for number, thing in enumerate(self.things):
            groups.setdefault(thing.category, []).append(number)
        return {name: np.array(numbers) for name, numbers in groups.items()}

    @cached_property
    def counted(self) -> dict[str, np.ndarray]:
        """The members of names that are complete and of which every region is one instance; never of masses (sky)."""
        return {
            name: numbers
            for name, numbers in self.members.items()
            if name in self.complete and plural(name) is not None and all(self.things[i].countable for i in numbers)
        }

    @cached_property
    def absent(self) -> tuple[str, ...]:
        """Names that certainly do not occur in the view, sorted."""
        return tuple(sorted(self.complete - self.members.keys()))

    def union(self, numbers: np.ndarray | tuple[int, ...]) -> np.ndarray:
        """bool [H, W]: the pixels of any of these things."""
        mask = np.zeros(self.size, bool)
        for number in numbers:
            thing = self.things[number]
            x0, y0, x1, y1 = thing.box
            mask[y0:y1, x0:x1] |= thing.crop
        return mask


def split_apart(thing: Thing) -> tuple[Thing, ...]:
    """One thing for each of the pieces of a region that holds several instances, as "wheel" often does in car_parts.

    Only for categories of which one instance is seldom seen in two pieces. Specks go with the largest piece. Where the
    pieces differ too much to say what is an instance, the region comes back as one thing that is not countable.
    """
    from scipy import ndimage

    x0, y0, x1, y1 = thing.box
    labels, count = ndimage.label(thing.crop, np.ones((3, 3)))  # type: ignore[misc]
    if count == 1:
        return (thing,)
    areas = np.bincount(labels.ravel())[1:]
    large = np.flatnonzero(areas >= 0.2 * areas.max()) + 1
    if thing.area - areas[large - 1].sum() > 0.1 * areas.max():
        return (replace(thing, countable=False),)
    labels[~np.isin(labels, large) & (labels > 0)] = int(np.argmax(areas)) + 1
    pieces = []
    for number in large:
        mask = np.zeros_like(thing.mask)
        mask[y0:y1, x0:x1] = labels == number
        pieces.append(replace(thing, mask=mask))
    return tuple(pieces)
