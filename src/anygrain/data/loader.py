"""Batches by step number, made ahead of time by worker processes; item i depends on (seed, i) only."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from anygrain.data.batch import Batch, BatchConfig, TensorBatch, make_batch, usable
from anygrain.data.mixture import Mixture, MixtureConfig
from anygrain.data.mosaic import composable, copy_paste, mosaic, pastable
from anygrain.data.shards import ShardReader
from anygrain.types import Sample

Source = Sequence[Sample]
B = TypeVar("B", bound=TensorBatch)

_TRIES = 50  # samples in a row about which nothing can be asked
_OTHERS = 8  # photos looked at to find those that one is put together with


class StepDataset(Dataset[B]):
    """Which photos are seen in every step of a run. A subclass makes the batch of a step of them, in any order.

    sources: the samples of each source by its name, e.g. ``ShardReader``s.
    """

    def __init__(self, sources: Mapping[str, Source], mixture: MixtureConfig, *, images: int, seed: int):
        self.sources, self.images, self.seed = dict(sources), images, seed
        self.mixture = Mixture({name: len(source) for name, source in sources.items()}, mixture, seed)
        self.rank, self.processes = 0, 1

    def divide(self, rank: int, processes: int) -> None:
        """Prepare only this process's share of each step's photos. Raises ValueError when they cannot be shared."""
        if self.images % processes:
            raise ValueError(f"{self.images} images a step cannot be shared among {processes} processes")
        self.rank, self.processes = rank, processes

    def positions(self, step: int) -> range:
        """Places in the mixture of the photos of a step, of which this process has its share."""
        each = self.images // self.processes
        start = step * self.images + self.rank * each
        return range(start, start + each)

    def numbers(self, stream: int, step: int) -> np.random.Generator:
        """Random numbers of a step, other ones in each process."""
        return np.random.default_rng([self.seed, stream, step, *([self.rank] if self.rank else [])])

    def neighbours(self, position: int) -> Iterator[Sample]:
        """The sample at a position of the mixture, and those that follow it in its source, for a while."""
        name, index = self.mixture[position]
        source = self.sources[name]
        return (source[(index + further) % len(source)] for further in range(_TRIES))

    def nothing_to_train_on(self, position: int) -> ValueError:
        """The error when none of the neighbours serves."""
        name, index = self.mixture[position]
        last = self.sources[name][(index + _TRIES - 1) % len(self.sources[name])]
        return ValueError(f"source {name!r}: {_TRIES} samples in a row up to {last.id!r} have nothing to train on")


class TextDataset(StepDataset[Batch]):
    """Batches of texts and their masks."""

    def __init__(
        self, sources: Mapping[str, Source], mixture: MixtureConfig, batch: BatchConfig, *, images: int, seed: int
    ):
        super().__init__(sources, mixture, images=images, seed=seed)
        self.batch = batch
        sizes = {name: len(source) for name, source in sources.items()}
        self.others = Mixture(sizes, mixture, seed + 1)  # photos that others are put together with

    def __getitem__(self, step: int) -> Batch:
        """The batch of step ``step`` (from 0)."""
        samples = [self._varied(position) for position in self.positions(step)]
        return make_batch(samples, self.batch, self.numbers(2, step))

    def _varied(self, position: int) -> Sample:
        """The sample at a position, or what mosaic or copy and paste makes of it."""
        sample = self._sample(position)
        if not (self.batch.mosaic or self.batch.copy_paste) or not composable(sample):
            return sample
        rng = np.random.default_rng([self.seed, 3, position])
        draw = rng.random() - self.batch.mosaic
        if draw < 0:
            alike = rng.random() < 0.5  # of one source: "the dog at the top left" among four dogs
            stream = self._alike(position, rng) if alike else self._others(position, composable)
            others = list(islice(stream, int(rng.integers(1, 4))))
            # Twice the square: what a zoom of 2 shows is still as sharp as it was.
            varied = mosaic([sample, *others], rng, long_side=2 * self.batch.size) if others else sample
        elif draw < self.batch.copy_paste:
            pasted = (copy_paste(sample, donor, rng) for donor in self._others(position, pastable))
            varied = next((picture for picture in pasted if picture is not sample), sample)
        else:
            return sample
        return varied if usable(varied, boxes=self.batch.boxes) else sample

    def _alike(self, position: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Random photos of the source of the one at a position."""
        source = self.sources[self.mixture[position][0]]
        for index in rng.integers(len(source), size=_OTHERS).tolist():
            sample = source[index]
            if composable(sample):
                yield sample

    def _others(self, position: int, fit: Callable[[Sample], object]) -> Iterator[Sample]:
        """Photos for the one at a position, of the same mixture."""
        for name, index in (self.others[position * _OTHERS + number] for number in range(_OTHERS)):
            sample = self.sources[name][index]
            if fit(sample):
                yield sample

    def _sample(self, position: int) -> Sample:
        """The sample at a position of the mixture; its next neighbour when nothing can be asked about it."""
        for sample in self.neighbours(position):
            if usable(sample, boxes=self.batch.boxes):
                return sample
        raise self.nothing_to_train_on(position)


def annotation(source: Source, number: int) -> Sample:
    """A sample, without its image where that spares time."""
    return source.annotation(number) if isinstance(source, ShardReader) else source[number]


def some_annotations(source: Source, most: int) -> Iterator[Sample]:
    """All samples of a source, or at most so many evenly spread over it; without images where that spares time."""
    return (annotation(source, number) for number in range(0, len(source), -(-len(source) // most) or 1))


def open_sources(folders: Sequence[str | Path]) -> dict[str, Source]:
    """The shard folders by name; the name of a source is the name of its folder. Raises ValueError on two of a name."""
    sources: dict[str, Source] = {}
    for folder in map(Path, folders):
        if folder.name in sources:
            raise ValueError(f"{folder}: two data folders are named {folder.name!r}; rename one")
        sources[folder.name] = ShardReader(folder)
    return sources


def batches(
    dataset: StepDataset[B], start: int, stop: int, *, workers: int, pin: bool = False
) -> Generator[B, None, None]:
    """The batches of steps start..stop-1 in order, prepared by ``workers`` processes (0: in this process).

    Close it when not all are taken: the workers heed no SIGTERM, so that without it a failed run would wait for them.
    """
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_quiet_worker,
        pin_memory=pin,
        generator=torch.Generator(),  # else the loader takes a number from the generator that dropout uses
    )
    stream = iter(loader)
    try:
        yield from stream
    finally:
        if isinstance(stream, _MultiProcessingDataLoaderIter):
            stream._shutdown_workers()  # a traceback may hold the stream, and with it the workers


def _quiet_worker(_: int) -> None:
    """Ctrl-C and a job manager's SIGTERM reach the whole process group, but only the trainer answers them.

    It ends its workers by their queue; a worker whose trainer is dead ends by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
