"""One photo under evaluation: it is encoded once, and each text is answered once, whoever wants to know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from anygrain.data.labels import Candidate, Labels, open_photo, present_candidates
from anygrain.eval.metrics import Overlap, overlap
from anygrain.types import Prediction, Prompt, Sample

if TYPE_CHECKING:
    from PIL import Image

    from anygrain.segmenter import Segmenter

Asked = Iterator[tuple[str, Callable[[Prediction], None]]]
"""Texts, each with what is done with its answer."""


class Asker(Protocol):
    """Whatever has questions about photos."""

    def ask(self, photo: Photo) -> Asked:
        """All texts to ask about this photo."""
        ...


@dataclass(frozen=True)
class Photo:
    """An annotated photo.

    source: name of its folder of shards.
    sampled: belongs to the few evenly spaced photos of its source about which the long questions are asked.
    """

    sample: Sample
    source: str
    sampled: bool = True

    @cached_property
    def image(self) -> Image.Image:
        """The decoded photo. Raises ValueError when it is not of the size of its masks."""
        return open_photo(self.sample)

    @cached_property
    def labels(self) -> Labels:
        """The truth."""
        return Labels(self.sample)

    @cached_property
    def present(self) -> list[Candidate]:
        """What may be asked about and is there."""
        return present_candidates(self.sample)

    def category(self, name: str) -> Candidate | None:
        """The category of this name, if it is there."""
        return next((candidate for candidate in self.present if candidate.category == name), None)

    def truth(self, candidate: Candidate) -> np.ndarray:
        """The right answer as labels uint8 [H, W], see ``Labels.of``."""
        return self.labels.of(candidate)

    def overlap(self, candidate: Candidate, prediction: Prediction) -> Overlap:
        """How an answer overlaps with the right one."""
        return overlap(prediction.masks[0], self.truth(candidate))


def ask(segmenter: Segmenter, photo: Photo, askers: Iterable[Asker]) -> None:
    """Ask all questions of all askers, and hand each answer to those who wanted it.

    The photo is encoded once, if anything is asked at all, and a text that several want is decoded once. Answers are
    not kept: memory does not grow with the number of questions.
    """
    waiting: dict[str, list[Callable[[Prediction], None]]] = {}
    for asker in askers:
        for text, take in asker.ask(photo):
            waiting.setdefault(text, []).append(take)
    if not waiting:
        return
    (embedding,) = segmenter.embed([photo.image])
    predictions = segmenter.answer(embedding, [Prompt(text=text) for text in waiting])
    for prediction, takers in zip(predictions, waiting.values(), strict=True):
        for take in takers:
            take(prediction)
