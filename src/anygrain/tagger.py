"""Tagger: what is in a photo, as a list of names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from anygrain.images import ImageSource, open_image

if TYPE_CHECKING:
    from anygrain.models.ram import RAM


class Tagger:
    """A tagging model ready to name what photos show.

    model: the network, in eval mode, on its device, with its tags.
    info: what is said about the model: "name", "architecture", "fingerprint".
    batch_size: images that go through the network together; None takes 1 on a CPU, where more are no faster, and 16
        elsewhere.
    """

    def __init__(self, model: RAM, info: Mapping[str, str], *, batch_size: int | None = None):
        if model.tags is None:
            raise ValueError("this model has no tag list: load it with anygrain.load_tagger")
        self.model, self.info = model, dict(info)
        self.names = model.tags.names
        self.thresholds = np.array(model.tags.thresholds, np.float32)
        self.batch_size = batch_size if batch_size is not None else 1 if model.device.type == "cpu" else 16
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {self.batch_size}")
        with torch.inference_mode():
            self._queries = model.tag_queries()

    def tags(
        self, images: Sequence[ImageSource], *, threshold: float | None = None, without: Collection[str] = ()
    ) -> list[list[tuple[str, float]]]:
        """For each image (name, probability) of every tag whose probability is above its threshold.

        images: paths, bytes, file objects, uint8 arrays [H, W, 3] or PIL images. A batch gives what the images give one
            by one.
        threshold: one for all tags, 0..1, instead of each tag's own.
        without: names never to be given.
        Tags come in the order of the model's list. Raises ImageError for an image that cannot be read, ValueError for a
        threshold outside 0..1 or a name that the model does not know.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold must lie between 0 and 1, got {threshold}")
        if unknown := sorted(set(without) - set(self.names)):
            raise ValueError(f"model '{self.info['name']}' has no tag '{unknown[0]}' to leave out")
        thresholds = self.thresholds if threshold is None else np.full_like(self.thresholds, threshold)
        wanted = np.array([name not in without for name in self.names])
        return [
            [(self.names[tag], float(row[tag])) for tag in np.flatnonzero(wanted & (row > thresholds))]
            for row in self._rows(images)
        ]

    def probabilities(self, images: Sequence[ImageSource]) -> np.ndarray:
        """Of every tag in every image, independent of each other: float32 [B, T]. Images as for ``tags``."""
        return np.array(list(self._rows(images)), np.float32).reshape(len(images), len(self.names))

    def _rows(self, images: Sequence[ImageSource]) -> Iterator[np.ndarray]:
        """Probabilities [T] of one image after the other; no more than a batch of them is open at a time."""
        for start in range(0, len(images), self.batch_size):
            batch = [self.model.squash(open_image(image)) for image in images[start : start + self.batch_size]]
            with torch.inference_mode():
                tokens = self.model.encode_image(self.model.normalise(np.stack(batch)))
                yield from self.model.decode(tokens, self._queries).sigmoid().cpu().numpy()
