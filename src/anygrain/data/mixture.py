"""Which photos go into which training step: a pure function of (seed, step), so a run resumes from its step number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

_BLOCK = 1024  # pictures between two exact returns to the wanted proportions


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """How often each source is seen.

    weights: relative number of draws of a source, by name; a source not named here gets the square root of its number
        of images, 0 leaves it out.
    """

    weights: Mapping[str, float] = field(default_factory=dict)

    def of(self, folders: Iterable[str | Path]) -> MixtureConfig:
        """The same without the weights of sources that are not among these folders, each a source of its name."""
        names = {Path(folder).name for folder in folders}
        return MixtureConfig(weights={name: weight for name, weight in self.weights.items() if name in names})


class Mixture:
    """Endless, shuffled stream of (source, index) with fixed proportions and random access by position.

    Inside a source every image comes once before any comes again. Nothing is stored but the sizes.
    """

    def __init__(self, sizes: Mapping[str, int], config: MixtureConfig, seed: int):
        unknown = sorted(set(config.weights) - set(sizes))
        if unknown:
            raise ValueError(f"mixture weights name {unknown}, but the sources are {sorted(sizes)}")
        self.sources = sorted(sizes)
        self.sizes = [sizes[name] for name in self.sources]
        self.seed = seed
        self.counts = _block_counts(self._weights(config))  # [sources], sum = _BLOCK
        self._order = lru_cache(maxsize=2)(self._draw_order)
        self._shuffle = lru_cache(maxsize=2 * len(self.sources))(self._draw_shuffle)

    def _weights(self, config: MixtureConfig) -> np.ndarray:
        weights = np.zeros(len(self.sources))
        for position, (name, size) in enumerate(zip(self.sources, self.sizes, strict=True)):
            weight = config.weights.get(name, float(np.sqrt(size)))
            if weight < 0 or not np.isfinite(weight):
                raise ValueError(f"mixture weight of {name!r} must be a number >= 0, got {weight}")
            weights[position] = weight if size else 0.0
        if not weights.sum():
            raise ValueError(f"the mixture is empty: no source has both images and a weight above 0 ({self.sources})")
        return weights

    def __getitem__(self, position: int) -> tuple[str, int]:
        """The source's name and the index of the image inside it, for the ``position``-th picture of the run."""
        source, earlier = self._place(position)
        epoch, index = divmod(earlier, self.sizes[source])
        return self.sources[source], int(self._shuffle(source, epoch)[index])

    def turn(self, position: int) -> tuple[str, int]:
        """The source's name at a position, and how often it came before."""
        source, earlier = self._place(position)
        return self.sources[source], earlier

    def _place(self, position: int) -> tuple[int, int]:
        block, place = divmod(position, _BLOCK)
        source, earlier = (int(v) for v in self._order(block)[place])
        return source, block * int(self.counts[source]) + earlier

    def _draw_order(self, block: int) -> np.ndarray:
        """int64 [_BLOCK, 2]: the source at each place of the block, and how often it came before inside the block."""
        order = np.repeat(np.arange(len(self.counts)), self.counts)
        np.random.default_rng([self.seed, 0, block]).shuffle(order)
        earlier = np.empty_like(order)
        for source, count in enumerate(self.counts):
            earlier[order == source] = np.arange(count)
        return np.stack([order, earlier], axis=1)

    def _draw_shuffle(self, source: int, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, 1, source, epoch]).permutation(self.sizes[source])


def _block_counts(weights: np.ndarray) -> np.ndarray:
    """Whole numbers with sum _BLOCK in proportion to weights (largest remainders), at least 1 where weight > 0."""
    exact = weights / weights.sum() * _BLOCK
    counts = np.maximum(np.floor(exact), weights > 0).astype(np.int64)
    while counts.sum() != _BLOCK:
        missing = np.sign(_BLOCK - counts.sum())
        gap = np.where((counts + missing >= 1) & (weights > 0), (exact - counts) * missing, -np.inf)
        counts[np.argmax(gap)] += missing
    return counts
