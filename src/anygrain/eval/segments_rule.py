"""Instances (AP) and panoptic segments (PQ) of a model that reads a list of names: one prompt of all names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from anygrain.eval.detection import AveragePrecision
from anygrain.eval.label_map_rule import in_order
from anygrain.eval.metrics import overlap
from anygrain.eval.panoptic import VOID, PanopticQuality
from anygrain.eval.rules import Record, Show, Shown, recorded_mask, unknown_labels
from anygrain.types import Mask, Prompt, Region, Sample

if TYPE_CHECKING:
    from anygrain.segmenter import Segmenter
    from anygrain.types import ImageEmbedding


def all_names(sample: Sample, task: Literal["panoptic", "instance"], known: str | None) -> Prompt:
    """The one prompt of these rules: all categories that a set marks exhaustively.

    known: the list of `anygrain.categories` in whose order names are told, and which says what is a thing. Instances
    are of things, whatever the list says.
    """
    names, things = in_order(sample.exhaustive, known)
    return Prompt(categories=names, task=task, things=things if task == "panoptic" else (True,) * len(names))


def segments(segmenter: Segmenter, embedding: ImageEmbedding, prompt: Prompt) -> list[Record]:
    """A record a segment, in the model's order."""
    (prediction,) = segmenter.answer(embedding, [prompt])
    rows = zip(prediction.masks, prediction.categories, prediction.scores.tolist(), strict=True)
    return [
        {"text": found.name, "score": score, "segmentation": Mask.from_array(mask).to_coco()}
        for mask, found, score in rows
        if found is not None and mask.any()
    ]


@dataclass
class InstanceRule:
    """AP of instances by pycocotools: the answers of one prompt of all names against the regions of the set.

    Ignored regions of a category are crowds. See AveragePrecision.
    """

    known: str | None = None
    counts: AveragePrecision = field(default_factory=AveragePrecision)

    def ask(self, sample: Sample) -> Sequence[Prompt]:
        """One prompt."""
        return [all_names(sample, "instance", self.known)]

    def answer(self, sample: Sample, segmenter: Segmenter, embedding: ImageEmbedding) -> list[Record]:
        """Each instance."""
        return segments(segmenter, embedding, *self.ask(sample))

    def count(self, sample: Sample, records: Sequence[Record], show: Show | None = None) -> None:
        """All instances of the photo at once; all of a true category together are shown."""
        truth = [region for region in sample.regions if region.category is not None and region.mask is not None]
        found = [
            Region(
                mask=Mask.from_coco(record["segmentation"], sample.size),
                category=record["text"],
                score=record["score"],
                origin={"step": "predict"},
            )
            for record in records
        ]
        self.counts.update(sample.id, sample.size, found, truth)
        if show is not None:
            for name in sorted({region.category for region in truth if region.category and not region.ignore}):
                masks = [r.mask.to_array() for r in truth if r.category == name and r.mask and not r.ignore]
                sure = [record for record in records if record["text"] == name and record["score"] >= SURE]
                _show_union(show, sample, name, masks, sure)

    def merge(self, other: InstanceRule) -> None:
        """Take in what another one counted."""
        self.counts.merge(other.counts)

    def compute(self) -> dict[str, float]:
        """See AveragePrecision."""
        return self.counts.compute()


@dataclass
class PanopticRule:
    """PQ of the segments of one prompt of all names. See PanopticQuality.

    Ignored regions of a category are crowds, those without one and pixels of no region are void.
    """

    known: str | None = None
    counts: PanopticQuality = field(default_factory=PanopticQuality)

    def ask(self, sample: Sample) -> Sequence[Prompt]:
        """One prompt."""
        prompt = all_names(sample, "panoptic", self.known)
        if self.counts.things is None:
            pairs = zip(prompt.categories, prompt.things, strict=True)
            self.counts.things = frozenset(name for name, thing in pairs if thing)
        return [prompt]

    def answer(self, sample: Sample, segmenter: Segmenter, embedding: ImageEmbedding) -> list[Record]:
        """Each segment."""
        return segments(segmenter, embedding, *self.ask(sample))

    def count(self, sample: Sample, records: Sequence[Record], show: Show | None = None) -> None:
        """All segments of the photo at once; each true one is shown with the answer that covers most of it."""
        self.ask(sample)
        found, truth = np.full(sample.size, VOID, np.int32), np.full(sample.size, VOID, np.int32)
        for number, record in enumerate(records, start=1):
            found[recorded_mask(record, sample.size)] = number
        true = {}
        for number, region in enumerate(sample.regions, start=1):
            if region.category is not None and region.mask is not None:
                truth[region.mask.to_array()] = number
                true[number] = region
        left = set(np.unique(truth).tolist())
        true = {number: region for number, region in true.items() if number in left}
        shown = set(np.unique(found).tolist())
        answered = {n: record["text"] for n, record in enumerate(records, start=1) if n in shown}
        crowds = {number for number, region in true.items() if region.ignore}
        categories = {number: region.category or "" for number, region in true.items()}
        self.counts.update(found, answered, truth, categories, crowds)
        if show is not None:
            for number in sorted(true.keys() - crowds):
                same = [n for n, name in answered.items() if name == categories[number]]
                best = max(same, key=lambda n: np.count_nonzero((found == n) & (truth == number)), default=None)
                chosen = [] if best is None else [records[best - 1]]
                _show_union(show, sample, categories[number], [truth == number], chosen)

    def merge(self, other: PanopticRule) -> None:
        """Take in what another one counted."""
        self.counts.things = self.counts.things or other.counts.things
        self.counts.merge(other.counts)

    def compute(self) -> dict[str, float]:
        """See PanopticQuality."""
        return self.counts.compute()


SURE = 0.5  # of an instance's score, to be shown


def _show_union(show: Show, sample: Sample, name: str, truth: Sequence[np.ndarray], records: Sequence[Record]) -> None:
    labels, found = unknown_labels(sample), np.zeros(sample.size, bool)
    for mask in truth:
        labels[mask] = 1
    for record in records:
        found |= recorded_mask(record, sample.size)
    score = max((record["score"] for record in records), default=0.0)
    show(Shown(name, labels, found, overlap(found, labels), score, bool(records)))
