"""Synthetic referring expressions about val photos: one object among several by place, size, colour or relation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from anygrain.data.referring import POINTING, true_phrases
from anygrain.data.transforms import IGNORE
from anygrain.data.views import full_scene
from anygrain.eval.metrics import PromptIoU, overlap
from anygrain.eval.photo import Asked, Photo
from anygrain.eval.tasks import order
from anygrain.types import Mask, Prediction

SOURCES = ("coco", "car_parts", "facade")
PHRASES_PER_PHOTO = 6


@dataclass(frozen=True)
class Expression:
    """A phrase, how it singles its object out, and what it means in its photo. unknown: bool [H, W], not counted."""

    text: str
    kind: str
    mask: Mask
    unknown: np.ndarray


@dataclass
class Referring:
    """``referring.overall_iou`` (all intersections over all unions) and ``referring.over_half`` (share at IoU 0.5).

    Over all phrases of three sources together. Phrases are made from the annotation, each true of exactly its mask, and
    are the same for every model; what is ignored in the photo is not counted, and what is only boxed not asked for.
    """

    sources: Sequence[str] = SOURCES
    by_source: dict[str, PromptIoU] = field(default_factory=lambda: defaultdict(PromptIoU))
    by_kind: dict[str, PromptIoU] = field(default_factory=lambda: defaultdict(PromptIoU))

    def ask(self, photo: Photo) -> Asked:
        """The phrases of a photo."""
        for expression in expressions(photo) if photo.source in self.sources else ():
            yield expression.text, partial(self._take, photo.source, expression)

    def _take(self, source: str, expression: Expression, prediction: Prediction) -> None:
        labels = np.where(expression.unknown, np.uint8(IGNORE), np.uint8(0))
        labels[expression.mask.to_array()] = 1
        pair = overlap(prediction.masks[0], labels)
        self.by_source[source].update(pair)
        self.by_kind[expression.kind].update(pair)

    def figures(self) -> dict[str, float]:
        """Overall IoU, share at IoU 0.5, and the mean IoU."""
        whole = PromptIoU()
        for part in self.by_source.values():
            whole.merge(part)
        return {f"referring.{name}": value for name, value in whole.compute().items()}

    def details(self) -> dict[str, object]:
        """The figures by source and by kind."""
        parts = {**self.by_source, **self.by_kind}
        return {name: part.compute() for name, part in parts.items()}


def expressions(photo: Photo, count: int = PHRASES_PER_PHOTO) -> list[Expression]:
    """Up to ``count`` phrases about a photo, of all kinds in turn, always the same."""
    scene = full_scene(photo.sample, np.asarray(photo.image.convert("RGB")))
    rng = np.random.default_rng(order("referring", photo.sample.id))
    unknown = np.zeros(scene.size, bool) if scene.unknown is None else scene.unknown
    # A round of all kinds holds some that are not wanted: 4 rounds' worth is enough for ``count`` of the others.
    phrases = [phrase for phrase in true_phrases(scene, rng, 4 * count) if phrase.kind in POINTING and not phrase.boxed]
    return [Expression(phrase.text, phrase.kind, Mask.from_array(phrase.mask), unknown) for phrase in phrases[:count]]
