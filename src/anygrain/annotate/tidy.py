"""What comes first and last in a route: forget what was given, and clean up what was made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from anygrain import masks
from anygrain.annotate.names import compatible, same
from anygrain.annotate.origin import changed, trace
from anygrain.annotate.step import Worker
from anygrain.types import Mask, Region, Sample


@dataclass(frozen=True)
class Forget:
    """Takes away all annotation, so that a photograph is annotated from scratch."""

    name: ClassVar[str] = "forget"

    @property
    def teachers(self) -> tuple[()]:
        """None."""
        return ()

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        """No regions, nothing exhaustive, nothing absent."""
        for sample in samples:
            if sample.regions:
                worker.drop(self.name, "given annotation", len(sample.regions))
        return [replace(s, regions=(), exhaustive=frozenset(), absent=(), whole=None) for s in samples]


@dataclass(frozen=True, kw_only=True)
class Unname:
    """Takes names and captions from given boxes and masks, so that they are named anew."""

    name: ClassVar[str] = "unname"

    @property
    def teachers(self) -> tuple[()]:
        """None."""
        return ()

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:  # noqa: ARG002  a step's signature
        """Regions keep their place only."""
        return [
            changed(sample, [replace(region, category=None, captions=()) for region in sample.regions])
            for sample in samples
        ]


@dataclass(frozen=True, kw_only=True)
class Tidy:
    """Cleans masks and drops what should not be trained on.

    hole, piece: holes up to this part of the mask's area are filled, pieces below this part of it go.
    min_area: a mask must cover this part of the photograph.
    max_area: and no more than this; what fills a photograph says nothing about edges.
    duplicate: of two regions of one name or caption whose masks have a higher IoU, the better stays.
    contradiction: of two regions whose masks have a higher IoU and whose names cannot both be right, the better stays;
        both stay when one name is the more general.
    """

    name: ClassVar[str] = "tidy"
    hole: float = 0.02
    piece: float = 0.02
    min_area: float = 0.001
    max_area: float = 0.98
    duplicate: float = 0.8
    contradiction: float = 0.6

    @property
    def teachers(self) -> tuple[()]:
        """None."""
        return ()

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        """Better is the higher score; a region without one was made by a human, and is the best."""
        return [self._tidy(sample, worker) for sample in samples]

    def _tidy(self, sample: Sample, worker: Worker) -> Sample:
        cleaned = []
        for region in sample.regions:
            if region.ignore:
                cleaned.append(region)
            elif region.mask is None:
                worker.drop(self.name, "no mask was found")
            elif (fresh := self._clean(region, region.mask, worker)) is not None:
                cleaned.append(fresh)
        return changed(sample, self._best(cleaned, worker))

    def _clean(self, region: Region, mask: Mask, worker: Worker) -> Region | None:
        array = mask.to_array()
        array = masks.fill_holes(array, self.hole * mask.area)
        array = masks.remove_islands(array, self.piece * mask.area)
        share = np.count_nonzero(array) / array.size
        if share < self.min_area:
            worker.drop(self.name, "too small")
            return None
        if share > self.max_area:
            worker.drop(self.name, "fills the photograph")
            return None
        return trace(region, self.name, mask=Mask.from_array(array))

    def _best(self, regions: list[Region], worker: Worker) -> list[Region]:
        """Without the worse of each pair that cannot stand together, in the old order."""
        drawn = [number for number, region in enumerate(regions) if not region.ignore and region.mask is not None]
        overlap = masks.pairwise_iou(*[[mask for n in drawn if (mask := regions[n].mask) is not None]] * 2)
        gone: set[int] = set()
        order = sorted(range(len(drawn)), key=lambda row: -_rank(regions[drawn[row]]))
        for place, row in enumerate(order):
            if drawn[row] in gone:
                continue
            for other in order[place + 1 :]:
                if drawn[other] in gone:
                    continue
                reason = self._clash(regions[drawn[row]], regions[drawn[other]], float(overlap[row, other]))
                if reason is not None:
                    worker.drop(self.name, reason)
                    gone.add(drawn[other])
        return [region for number, region in enumerate(regions) if number not in gone]

    def _clash(self, better: Region, worse: Region, iou: float) -> str | None:
        """Why the worse one cannot stay."""
        alike = better.category is not None and worse.category is not None and same(better.category, worse.category)
        words = set(better.captions) & set(worse.captions)
        if iou > self.duplicate and (words or (alike and not better.captions and not worse.captions)):
            return "duplicate"
        names = better.category, worse.category
        if iou > self.contradiction and None not in names and not compatible(*map(str, names)):
            return "another name fits better"
        return None


def _rank(region: Region) -> float:
    return float("inf") if region.score is None else region.score
