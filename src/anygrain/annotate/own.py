"""Our own models as teachers: UniLSeg answers words, Semantic-SAM answers boxes and a grid of clicks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anygrain.types import Box, ImageEmbedding, Prompt

if TYPE_CHECKING:
    from PIL import Image

    from anygrain.segmenter import Segmenter

_LOWEST = 0.01


@dataclass(frozen=True, kw_only=True)
class OwnTeacher:
    """What all of them share.

    model: an alias ("nano"), a released model, a model folder, or "org/repo" on the Hub.
    bf16: compute in bfloat16 where that is faster.
    """

    model: str
    bf16: bool = False

    @property
    def name(self) -> str:
        """The last part of ``model``."""
        return self.model.rstrip("/").split("/")[-1]

    @property
    def size(self) -> str:
        """What its first use downloads."""
        from anygrain.hub import ALIASES

        if self.model in ALIASES:
            return "39 MB, ships with anygrain"
        return "a folder here" if Path(self.model).is_dir() else "of unknown size from the Hub"

    def version(self) -> str:
        """First 8 digits of the model's fingerprint."""
        return _fingerprint(self.model)

    def segmenter(self, device: str, kind: str) -> Segmenter:
        """A Segmenter that says "not there" below the lowest presence, so that steps choose their own threshold.

        Raises ValueError when it does not take prompts of this kind ("text", "box").
        """
        from anygrain.hub import load

        segmenter = load(self.model, device=device, presence_threshold=_LOWEST, bf16=self.bf16)
        if kind not in segmenter.model.accepts:
            takes = ", ".join(sorted(segmenter.model.accepts))
            raise ValueError(f"the teacher {self.name} must take prompts of the kind {kind}, but takes {takes}")
        return segmenter


@dataclass(frozen=True, kw_only=True)
class UniLSegTeacher(OwnTeacher):
    """Words -> masks."""

    model: str = "nano"

    def load(self, device: str) -> Segmenter:
        """Read the weights."""
        return self.segmenter(device, "text")


@dataclass(frozen=True, kw_only=True)
class SemanticSamTeacher(OwnTeacher):
    """Boxes and clicks -> masks (Semantic-SAM, arXiv 2307.04767)."""

    def load(self, device: str) -> Clicker:
        """Read the weights."""
        return Clicker(self.segmenter(device, "box"))


class Clicker:
    """Photographs -> embeddings; an embedding and boxes -> masks, as SAM in ``annotate.propose``.

    segmenter: of a model that takes clicks and boxes; a grid of clicks is asked of it by ``Segmenter.propose``.
    """

    def __init__(self, segmenter: Segmenter):
        self.segmenter = segmenter

    def embed(self, images: Sequence[Image.Image]) -> list[ImageEmbedding]:
        """One for each photograph."""
        return self.segmenter.embed(images)

    def masks(
        self, image: Image.Image, embedding: ImageEmbedding, boxes: Sequence[Box]
    ) -> Iterator[tuple[np.ndarray, float]]:
        """For each box, in pixels, the mask bool [H, W] of the level with the highest predicted IoU, and that IoU."""
        width, height = image.size
        inside = [(max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)) for x0, y0, x1, y1 in boxes]
        for prediction in self.segmenter.answer(embedding, [Prompt(box=box) for box in inside]):
            best = int(prediction.scores.argmax())
            yield prediction.masks[best], float(prediction.scores[best])


def _fingerprint(model: str) -> str:
    from anygrain.hub import find

    return _fingerprint_of(str(find(model)))


@lru_cache(maxsize=16)
def _fingerprint_of(folder: str) -> str:
    from anygrain.hub import fingerprint

    return fingerprint(Path(folder))[:8]
