"""Figures that need more than one source's table: who is best matched, borders in video, boxes of human phrases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from anygrain.data.boxes import iou as box_iou
from anygrain.data.labels import Candidate
from anygrain.eval.boundary import boundary_f
from anygrain.eval.metrics import CategoryIoU
from anygrain.eval.photo import Asked, Photo
from anygrain.types import Box, Prediction

NAMED = (("pets", "cat", "all cats"), ("pets", "dog", "all dogs"), ("horses", "horse", "all horses"))
HUMAN = ("refexp", "hoi")


@dataclass
class Named:
    """IoU of categories by the very words that the targets ask with: ``{source}.named_miou``.

    asked: source, category and text. As in the table of sources: the sums of intersections and unions over the photos
    that show the category, then the mean over a source's categories.
    """

    asked: Sequence[tuple[str, str, str]] = NAMED
    sums: dict[str, CategoryIoU] = field(default_factory=lambda: defaultdict(CategoryIoU))

    def ask(self, photo: Photo) -> Asked:
        """The text of each category that is there."""
        for source, name, text in self.asked:
            if source == photo.source and (candidate := photo.category(name)) is not None:
                yield text, partial(self._take, photo, name, candidate)

    def _take(self, photo: Photo, name: str, candidate: Candidate, prediction: Prediction) -> None:
        self.sums[photo.source].update(name, photo.overlap(candidate, prediction))

    def figures(self) -> dict[str, float]:
        """By source."""
        return {f"{source}.named_miou": sums.compute()["category_miou"] for source, sums in self.sums.items()}

    def details(self) -> dict[str, object]:
        """IoU of each text."""
        texts = {(source, name): text for source, name, text in self.asked}
        return {
            texts[source, name]: iou for source, sums in self.sums.items() for name, iou in sums.per_category().items()
        }


@dataclass
class BestPerson:
    """``coco_person.best_iou``: "the person" against the masked person that it fits best, mean IoU over photos.

    A photo may show more people than are masked, and nobody says which of them "the person" is.
    """

    source: str = "coco_person"
    text: str = "the person"
    ious: list[float] = field(default_factory=list)

    def ask(self, photo: Photo) -> Asked:
        """The text, where a person is masked."""
        if photo.source == self.source and (people := photo.category("person")) is not None:
            yield self.text, partial(self._take, photo, people)

    def _take(self, photo: Photo, people: Candidate, prediction: Prediction) -> None:
        ones = [Candidate((region,), captions=(self.text,)) for region in people.regions]
        self.ious.append(max(photo.overlap(one, prediction).iou for one in ones))

    def figures(self) -> dict[str, float]:
        """The mean."""
        return {f"{self.source}.best_iou": float(np.mean(self.ious))} if self.ious else {}

    def details(self) -> dict[str, object]:
        """Number of photos."""
        return {"photos": len(self.ious)}


@dataclass
class VideoPhrases:
    """``davis.j_and_f``: for each phrase of each video the mean of J and F over its frames, then the mean over phrases.

    J is the IoU, F the boundary F-measure of one frame's mask; J&F is their mean. Each frame is asked on its own, and
    counts where the object shows.
    """

    source: str = "davis"
    frames: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def ask(self, photo: Photo) -> Asked:
        """All phrases of a frame."""
        for candidate in photo.present if photo.source == self.source else ():
            for text in dict.fromkeys(candidate.captions):
                yield text, partial(self._take, photo, text, candidate)

    def _take(self, photo: Photo, text: str, candidate: Candidate, prediction: Prediction) -> None:
        video = photo.sample.id.rpartition("/")[0]
        f = boundary_f(prediction.masks[0], photo.truth(candidate) == 1)
        self.frames[video, text].append((photo.overlap(candidate, prediction).iou, f))

    def figures(self) -> dict[str, float]:
        """J&F, and its halves."""
        if not self.frames:
            return {}
        j, f = np.mean([np.mean(values, 0) for values in self.frames.values()], 0).tolist()
        return {f"{self.source}.j_and_f": (j + f) / 2, f"{self.source}.j": j, f"{self.source}.f": f}

    def details(self) -> dict[str, object]:
        """J and F of each phrase."""
        means = {key: np.mean(values, 0).tolist() for key, values in sorted(self.frames.items())}
        return {f"{video}: {text}": {"j": j, "f": f} for (video, text), (j, f) in means.items()}


@dataclass
class HumanPhrases:
    """``human.over_half``: share of human phrases whose mask has a box with IoU 0.5 or more with the human's box.

    The box of the whole mask, stray pixels included. Every phrase of every region counts once, also a bare name that is
    said of several regions with a box each.
    """

    sources: Sequence[str] = HUMAN
    ious: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def ask(self, photo: Photo) -> Asked:
        """Every caption of every region with a box."""
        for region in photo.sample.regions if photo.source in self.sources else ():
            box = region.box or (region.mask.box if region.mask else None)
            if box is not None and not region.ignore:
                for text in dict.fromkeys(region.captions):
                    yield text, partial(self._take, photo.source, box)

    def _take(self, source: str, box: Box, prediction: Prediction) -> None:
        found = prediction.boxes[0].tolist()  # zeros for an empty mask
        self.ious[source].append(box_iou(found, box))

    def figures(self) -> dict[str, float]:
        """All phrases together."""
        ious = [iou for values in self.ious.values() for iou in values]
        return {"human.over_half": float(np.mean(np.array(ious) >= 0.5))} if ious else {}

    def details(self) -> dict[str, object]:
        """Share, mean box IoU and number of phrases of each source."""
        return {
            source: {
                "over_half": float(np.mean(np.array(values) >= 0.5)),
                "box_iou": float(np.mean(values)),
                "phrases": len(values),
            }
            for source, values in sorted(self.ious.items())
        }
