"""What is in a photograph, by name: RAM (arXiv 2306.03514) on our own Swin, or the small ImageNet classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from anygrain.annotate.hub_teacher import INSTEAD
from anygrain.annotate.origin import changed, trace
from anygrain.annotate.pictures import box_of, crop, only
from anygrain.annotate.small import ImageNetTeacher
from anygrain.annotate.step import Teacher, Worker
from anygrain.types import Region, Sample

if TYPE_CHECKING:
    from PIL import Image


class Tagger(Protocol):
    """What a teacher of ``Tag`` loads."""

    def tags(self, images: Sequence[Any]) -> list[list[tuple[str, float]]]:
        """For each RGB picture its tags, each with a score in 0..1."""
        ...


@dataclass(frozen=True, kw_only=True)
class RamTeacher:
    """RAM in a model folder, made from the released checkpoint by ``anygrain convert ram``."""

    model: str = "models/ram"

    @property
    def name(self) -> str:
        """The last part of ``model``."""
        return Path(self.model).name

    @property
    def size(self) -> str:
        """Where its weights are."""
        return "a folder made by `anygrain convert ram` from ram_swin_large_14m.pth, 5.6 GB"

    def version(self) -> str:
        """First 8 digits of the folder's fingerprint."""
        from anygrain.hub import fingerprint

        return fingerprint(self._folder())[:8]

    def load(self, device: str) -> Tagger:
        """Read the model folder."""
        from anygrain.hub import load_tagger

        return load_tagger(self._folder(), device=device)

    def _folder(self) -> Path:
        if not Path(self.model).is_dir():
            raise ValueError(
                f"the teacher {self.name} ({self.size}) is not there: convert it and give its folder instead of "
                f"{self.model}, {INSTEAD}"
            )
        return Path(self.model)


@dataclass(frozen=True, kw_only=True)
class Tag:
    """Adds a region without a place for each name that the teacher says, and for each name of ``always``.

    always: names that every photograph is asked for, whatever the teacher says; they have no score.
    threshold: of a teacher's score; RAM has thresholds of its own.
    """

    name: ClassVar[str] = "tag"
    teacher: Teacher[Tagger] = field(default_factory=ImageNetTeacher)
    always: tuple[str, ...] = ()
    threshold: float = 0.0

    @property
    def teachers(self) -> tuple[Teacher[Tagger]]:
        """The tagger."""
        return (self.teacher,)

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        """Names that a sample's regions already have are not added again."""
        tagger = worker.teacher(self.teacher)
        tags = tagger.tags([worker.image(sample) for sample in samples]) if samples else []
        return [self._tagged(sample, found) for sample, found in zip(samples, tags, strict=True)]

    def _tagged(self, sample: Sample, found: list[tuple[str, float]]) -> Sample:
        there = {region.category for region in sample.regions}
        new = []
        for tag, score in found:
            if score >= self.threshold and tag not in there:
                there.add(tag)
                new.append(trace(Region(category=tag, score=score), self.name, self.teachers, score))
        for tag in self.always:
            if tag not in there:
                there.add(tag)
                new.append(trace(Region(category=tag), self.name))
        return changed(sample, (*sample.regions, *new))


@dataclass(frozen=True, kw_only=True)
class Name:
    """Names every region that has a box or a mask and neither name nor caption, by what the crop shows.

    threshold: how sure the teacher must be.
    context: how much of the box's size is shown around it.
    """

    name: ClassVar[str] = "name"
    teacher: ImageNetTeacher = field(default_factory=ImageNetTeacher)
    threshold: float = 0.3
    context: float = 0.1

    @property
    def teachers(self) -> tuple[ImageNetTeacher]:
        """The classifier."""
        return (self.teacher,)

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        """A region that the teacher is not sure of goes."""
        classifier = worker.teacher(self.teacher)
        views = [
            self._views(worker.image(sample), region)
            for sample in samples
            for region in sample.regions
            if _nameless(region)
        ]
        probabilities = iter(classifier.probabilities([picture for pictures in views for picture in pictures]))
        rows = iter([np.mean([next(probabilities) for _ in pictures], 0) for pictures in views])
        named = []
        for sample in samples:
            regions = []
            for region in sample.regions:
                if not _nameless(region):
                    regions.append(region)
                    continue
                row = next(rows)
                best = int(row.argmax())
                score = float(row[best])
                if score < self.threshold:
                    worker.drop(self.name, "not sure what it is")
                else:
                    word = classifier.words[best]
                    regions.append(trace(region, self.name, self.teachers, score, category=word, score=score))
            named.append(changed(sample, regions))
        return named

    def _views(self, image: Image.Image, region: Region) -> list[Image.Image]:
        """The crop, and for a mask also the mask alone: the one shows too much, the other looks like no photograph."""
        box = box_of(region)
        assert box is not None
        alone = [only(image, region.mask, self.context)] if region.mask is not None and region.mask.area else []
        return [crop(image, box, self.context), *alone]


def _nameless(region: Region) -> bool:
    somewhere = region.box is not None or (region.mask is not None and region.mask.area > 0)
    return somewhere and region.category is None and not region.captions and not region.ignore
