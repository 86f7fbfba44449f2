"""Semantic segmentation: every pixel one category, by texts of a model that knows texts, or by names all at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from anygrain.categories import categories, guess_thing
from anygrain.data.labels import Labels
from anygrain.data.language import all_category
from anygrain.data.transforms import IGNORE
from anygrain.eval.metrics import overlap
from anygrain.eval.rules import Answer, Record, Show, Shown, answers, recorded_mask
from anygrain.eval.semantic import Confusion
from anygrain.types import Mask, Prompt, Sample

if TYPE_CHECKING:
    from anygrain.segmenter import Segmenter
    from anygrain.types import ImageEmbedding

NONE = -1  # no category is the best: only where all are called absent
IGNORE_INDEX = 1 << 20  # 255 is a category of sets with more than 255


def in_order(names: Collection[str], known: str | None) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """Names in the order that models were trained with, and whether each is a thing.

    known: a list of `anygrain.categories`, whose order and word for things count; names that it has not, and all names
    when None, come in alphabetical order behind.
    """
    things = {}
    if known is not None:
        listed = categories(known)
        things = {name: thing for name, thing in zip(listed.names, listed.things, strict=True) if name in names}
    things |= {name: guess_thing(name) for name in sorted(names) if name not in things}
    return tuple(things), tuple(things.values())


@dataclass
class LabelMapRule:
    """ "all {name}" for every category of the set, and the masks joined to one label map.

    The papers that segment by text do not say how masks become a map. Here a pixel gets the category of the highest
    probability (of equal ones the first in the alphabet). Figures beginning with ``present_`` leave out categories that
    the model calls absent from the photo; the distance between the two shows what that choice does.

    background: the set counts the rest as a category of its own, as PASCAL VOC does; a pixel is background where no
        category is above one half. Without, every pixel gets a category.
    at_once: ask with all names in one prompt of the task "semantic", for a model that reads lists of names; without
        background, and without ``present_`` figures.
    known: the list of `anygrain.categories` in whose order names are told.
    crowds: pixels of a crowd are of its category, as in the label maps made of COCO panoptic; else they are ignored.
    """

    background: bool = False
    at_once: bool = False
    known: str | None = None
    crowds: bool = False
    names: tuple[str, ...] = ()
    counts: dict[str, Confusion] = field(default_factory=dict)

    def __post_init__(self):
        if self.at_once and self.background:
            raise ValueError("a prompt of all names has no background")

    def ask(self, sample: Sample) -> Sequence[str | Prompt]:
        """The categories that the set marks exhaustively: a text each, or one prompt of all names."""
        self._prepare(sample)
        return [Prompt(categories=self.names, task="semantic")] if self.at_once else self._texts()

    def _prepare(self, sample: Sample) -> None:
        """The categories must be the same each time."""
        if self.names:
            if sample.exhaustive != set(self.names[self.background :]):
                raise ValueError(f"{sample.id}: the set's categories differ from those of the photos before")
            return
        known = self.known if self.at_once else None
        self.names = (("background",) if self.background else ()) + in_order(sample.exhaustive, known)[0]
        ways = ("",) if self.at_once else ("", "present_")
        self.counts = {way: Confusion(self.names, IGNORE_INDEX) for way in ways}

    def _texts(self) -> list[str]:
        return [all_category(name) for name in self.names[self.background :]]

    def answer(self, sample: Sample, segmenter: Segmenter, embedding: ImageEmbedding) -> list[Record]:
        """The map that the model makes of all names or texts, or, of a letterbox, of its probability maps."""
        self._prepare(sample)
        if self.at_once:
            return self._records({"": self._map(sample, segmenter, embedding)})
        texts = self._texts()
        if embedding.resize.kind == "letterbox":
            return self.record(sample, answers(segmenter, embedding, texts))
        found = segmenter.label_maps(embedding, texts, background=self.background)
        numbers = np.where(found < 0, self._rest, found + int(self.background))
        return self._records(dict(zip(self.counts, numbers, strict=True)))

    def _map(self, sample: Sample, segmenter: Segmenter, embedding: ImageEmbedding) -> np.ndarray:
        """int32 [H, W]: the map of a model that gives a row for each category that it finds."""
        (prediction,) = segmenter.answer(embedding, [Prompt(categories=self.names, task="semantic")])
        index, numbers = np.full(sample.size, NONE, np.int32), {name: n for n, name in enumerate(self.names)}
        for mask, category in zip(prediction.masks, prediction.categories, strict=True):
            assert category is not None
            index[mask] = numbers[category.name]
        return index

    def record(self, sample: Sample, answers: Iterable[Answer]) -> list[Record]:
        """The same of probability maps, which are compared one after another."""
        self._prepare(sample)
        best = {way: np.full(sample.size, 0.5 if self.background else -1.0, np.float32) for way in self.counts}
        maps = self._empty(sample)
        for number, answer in enumerate(answers, start=int(self.background)):
            probability = answer.probability()
            for way in self.counts:
                if way == "" or answer.present:
                    higher = probability > best[way]
                    best[way][higher], maps[way][higher] = probability[higher], number
        return self._records(maps)

    def _records(self, maps: Mapping[str, np.ndarray]) -> list[Record]:
        """By category the pixels that it got by each way of joining; a category that got none has no record."""
        texts = self._texts()
        found = sorted(set().union(*(np.unique(index).tolist() for index in maps.values())) - {self._rest})
        records = []
        for number in found:
            masks = {way: index == number for way, index in maps.items()}
            shapes = {f"{way}segmentation": Mask.from_array(m).to_coco() for way, m in masks.items() if m.any()}
            records.append({"text": texts[int(number) - self.background], "category": self.names[number]} | shapes)
        return records

    @property
    def _rest(self) -> int:
        """What a pixel without a category is."""
        return 0 if self.background else NONE

    def _empty(self, sample: Sample) -> dict[str, np.ndarray]:
        return {way: np.full(sample.size, self._rest, np.int32) for way in self.counts}

    def count(self, sample: Sample, records: Sequence[Record], show: Show | None = None) -> None:
        """The label map by each way of joining against the truth; categories of the truth are shown."""
        self._prepare(sample)
        texts, maps, truth = self._texts(), self._empty(sample), self._truth(sample)
        numbers = {name: number for number, name in enumerate(self.names)}
        for record in records:
            for way, index in maps.items():
                index[recorded_mask(record, sample.size, f"{way}segmentation")] = numbers[record["category"]]
        for way, count in self.counts.items():
            count.update(maps[way], truth)
        if show is not None:
            unknown = np.where(truth == IGNORE_INDEX, np.uint8(IGNORE), np.uint8(0))
            for number in np.unique(truth).tolist():
                if self.background <= number < IGNORE_INDEX:
                    labels, found = unknown + (truth == number), maps[""] == number
                    pair = overlap(found, labels)
                    show(Shown(texts[int(number) - self.background], labels, found, pair, pair.iou, bool(found.any())))

    def _truth(self, sample: Sample) -> np.ndarray:
        numbers = {name: number for number, name in enumerate(self.names)}
        truth = np.full(sample.size, 0 if self.background else IGNORE_INDEX, np.int32)
        for region in sample.regions:
            if region.mask is not None and region.category is not None and (self.crowds or not region.ignore):
                truth[region.mask.to_array()] = numbers[region.category]
        truth[Labels(sample).unknown] = IGNORE_INDEX
        return truth

    def merge(self, other: LabelMapRule) -> None:
        """Take in what another one counted."""
        if not self.counts:
            self.names, self.counts = other.names, other.counts
        elif other.counts:
            for way, count in self.counts.items():
                count.merge(other.counts[way])

    def compute(self) -> dict[str, float]:
        """See Confusion; each figure twice."""
        return {way + name: value for way, count in self.counts.items() for name, value in count.compute().items()}
