"""Words -> mask: our own model segments what a caption or a tag names, in the whole photograph or inside a box."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from anygrain.annotate.origin import changed, trace
from anygrain.annotate.own import UniLSegTeacher
from anygrain.annotate.step import Worker
from anygrain.types import Box, Mask, Prompt, Region, Sample


@dataclass(frozen=True, kw_only=True)
class Refer:
    """Gives every region without a mask the mask of its first caption, or of "all {category}".

    presence: score below which the thing is not in the photograph.
    fits: for regions with a box, the mask is cut to the box, and its own tight box must have this IoU with it.
    """

    name: ClassVar[str] = "refer"
    teacher: UniLSegTeacher = field(default_factory=UniLSegTeacher)
    presence: float = 0.5
    fits: float = 0.5

    @property
    def teachers(self) -> tuple[UniLSegTeacher]:
        """The model that segments."""
        return (self.teacher,)

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        """A photograph is encoded once; each text is asked once, also when several boxes share it."""
        segmenter = worker.teacher(self.teacher)
        rows = [row for row, sample in enumerate(samples) if any(text_of(region) for region in sample.regions)]
        embeddings = worker.embeddings([samples[row] for row in rows], segmenter)
        done = {}
        for row, embedding in zip(rows, embeddings, strict=True):
            texts = list(dict.fromkeys(text for region in samples[row].regions if (text := text_of(region))))
            predictions = segmenter.answer(embedding, [Prompt(text=text) for text in texts])
            regions: dict[int, Region | None] = {}
            for text, prediction in zip(texts, predictions, strict=True):  # one mask in memory at a time
                for number, region in enumerate(samples[row].regions):
                    if text_of(region) == text:
                        score = float(prediction.scores[0])
                        regions[number] = self._masked(region, prediction.masks[0], score, worker)
            done[row] = changed(samples[row], _merge(samples[row], regions))
        return [done.get(row, sample) for row, sample in enumerate(samples)]

    def _masked(self, region: Region, array: np.ndarray, score: float, worker: Worker) -> Region | None:
        """The region with its mask, or None."""
        from anygrain.data.boxes import iou

        if score < self.presence or not array.any():
            worker.drop(self.name, "presence below threshold")
            return None
        if region.box is not None:
            array = inside(array, region.box)
        mask = Mask.from_array(array)
        if region.box is not None:
            fit = 0.0 if mask.box is None else iou(mask.box, region.box)
            if fit < self.fits:
                worker.drop(self.name, "mask does not fill its box")
                return None
            score *= fit
        return trace(region, self.name, self.teachers, score, mask=mask, score=score)


def text_of(region: Region) -> str | None:
    """What to ask for a region that has no mask; None when it has one, or nothing to ask by."""
    from anygrain.data.language import all_category

    if region.mask is not None or region.ignore:
        return None
    if region.captions:
        return region.captions[0]
    return None if region.category is None else all_category(region.category)


def inside(array: np.ndarray, box: Box) -> np.ndarray:
    """Bool [H, W] with all outside the box (rounded to pixels) left out."""
    x0, y0, x1, y1 = (max(0, round(value)) for value in box)
    cut = np.zeros_like(array)
    cut[y0:y1, x0:x1] = array[y0:y1, x0:x1]
    return cut


def _merge(sample: Sample, regions: dict[int, Region | None]) -> Iterator[Region]:
    for number, old in enumerate(sample.regions):
        new = regions.get(number, old)
        if new is not None:
            yield new
