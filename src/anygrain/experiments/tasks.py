"""The tasks of a sample apart, for models that learn one of them only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from anygrain.data.batch import usable
from anygrain.data.formats import from_record
from anygrain.data.language import SALIENT
from anygrain.data.shards import ShardReader
from anygrain.types import Region, Sample

Task = Literal["categories", "salient", "phrases"]

TASKS: dict[Task, str] = {
    "categories": '"all {name}" of categories and parts that are or are not there',
    "salient": f'"{SALIENT}"',
    "phrases": "natural captions, true and false",
}
"""Each task and what is asked."""


class TaskView(Sequence[Sample]):
    """The samples of a folder of shards about which a task has something to ask, with nothing else in them."""

    def __init__(self, folder: str | Path, task: Task, *, boxes: bool):
        """boxes: things of which only a box is known, or less, count too. Reads every record, but no photo."""
        self.reader = ShardReader(folder)
        self.task: Task = task
        self.numbers = [
            number
            for number in range(len(self.reader))
            if usable(only(from_record(self.reader.record(number), b""), task), boxes=boxes)
        ]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> Sample:  # type: ignore[override]  # no slices, as in ShardReader
        return only(self.reader[self.numbers[number]], self.task)


def only(sample: Sample, task: Task) -> Sample:
    """The sample as a task sees it. Ignored regions stay: what they cover is unknown to every task."""
    regions = (region if region.ignore else _only(region, task) for region in sample.regions)
    kept = tuple(region for region in regions if region.ignore or region.captions or region.category is not None)
    return replace(
        sample,
        regions=kept,
        exhaustive=sample.exhaustive if task == "categories" else frozenset(),
        absent=sample.absent if task == "phrases" else (),
    )


def _only(region: Region, task: Task) -> Region:
    if task == "categories":
        return replace(region, captions=())
    captions = tuple(caption for caption in region.captions if (caption == SALIENT) == (task == "salient"))
    return replace(region, captions=captions, category=None)
