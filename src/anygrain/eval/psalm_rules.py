"""PSALM's own protocols: all sentences of an object at once, marked regions, and objects followed through a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from anygrain.data.labels import open_photo
from anygrain.data.readers.coco_interactive import KINDS
from anygrain.eval.expressions import ExpressionIoU
from anygrain.eval.metrics import overlap
from anygrain.eval.rules import ExpressionRule, Record, Show, Shown, recorded_mask, unknown_labels
from anygrain.eval.video import JAndF
from anygrain.models.psalm.network import PSALM
from anygrain.models.psalm.regions import thick
from anygrain.models.psalm.video import confused, locate
from anygrain.types import Mask, Prompt, Region, Sample

if TYPE_CHECKING:
    from anygrain.segmenter import Segmenter
    from anygrain.types import ImageEmbedding


@dataclass
class ByObjectRule(ExpressionRule):
    """All sentences about an object in one prompt, "the man. left man. man in red", an answer an object.

    What PSALM's evaluation does. Figures are higher than those by sentence, as one good sentence is enough.
    """

    def ask(self, sample: Sample) -> Sequence[str]:
        """A text an object."""
        return super().ask(_joined(sample))

    def count(self, sample: Sample, records: Sequence[Record], show: Show | None = None) -> None:
        """As by sentence."""
        super().count(_joined(sample), records, show)


def _joined(sample: Sample) -> Sample:
    regions = (replace(r, captions=(". ".join(r.captions),) if r.captions else ()) for r in sample.regions)
    return replace(sample, regions=tuple(regions))


@dataclass
class InteractiveRule:
    """Every region by each of its marks: a point, a scribble, a box, a rough mask.

    All regions of a photo that have a mark of a kind stand in one prompt, as in PSALM's evaluation, and the best query
    of each is compared with its mask in the photo's own size. (Officially the true mask goes through the model's input
    size and back, and photos that raise an error are left out.) ``point_giou`` and so on: mean IoU, ``point_ciou``: all
    intersections over all unions.
    """

    counts: dict[str, ExpressionIoU] = field(default_factory=lambda: {kind: ExpressionIoU("refcoco") for kind in KINDS})

    def ask(self, sample: Sample) -> Sequence[tuple[str, int]]:
        """Kinds of marks and numbers of regions."""
        return [
            (kind, number)
            for kind in KINDS
            for number, region in enumerate(sample.regions)
            if not region.ignore and region.mask is not None and kind in region.marks and region.marks[kind].area
        ]

    def answer(self, sample: Sample, segmenter: Segmenter, embedding: ImageEmbedding) -> list[Record]:
        """A prompt for each kind of mark."""
        asked = self.ask(sample)
        kinds = [kind for kind in KINDS if any(own == kind for own, _ in asked)]
        groups = [[number for own, number in asked if own == kind] for kind in kinds]
        prompts = [
            Prompt(regions=tuple(Prompt(mask=thick(sample.regions[number].marks[kind], kind)) for number in group))
            for kind, group in zip(kinds, groups, strict=True)
        ]
        records: list[Record] = []
        for kind, group, found in zip(kinds, groups, segmenter.answer(embedding, prompts), strict=True):
            for number, mask, score in zip(group, found.masks, found.scores.tolist(), strict=True):
                record: dict[str, Any] = {"text": f"{kind} {number}", "kind": kind, "region": number, "score": score}
                records.append(record | ({"segmentation": Mask.from_array(mask).to_coco()} if mask.any() else {}))
        return records

    def count(self, sample: Sample, records: Sequence[Record], show: Show | None = None) -> None:
        """Each answer against the mask of its region."""
        base = unknown_labels(sample)
        for record in records:
            mask = sample.regions[record["region"]].mask
            assert mask is not None
            labels, found = base.copy(), recorded_mask(record, sample.size)
            labels[mask.to_array()] = 1
            pair = overlap(found, labels)
            self.counts[record["kind"]].update(pair)
            if show is not None:
                show(Shown(record["text"], labels, found, pair, record["score"], True))

    def merge(self, other: InteractiveRule) -> None:
        """Take in what another one counted."""
        for kind, count in self.counts.items():
            count.merge(other.counts[kind])

    def compute(self) -> dict[str, float]:
        """See ExpressionIoU, by kind of mark."""
        return {
            f"{kind}_{name}": value for kind, count in self.counts.items() for name, value in count.compute().items()
        }


@dataclass
class FollowRule:
    """Objects whose masks are given in a video's first frame, in all its further frames: J&F as DAVIS-2017.

    PSALM's procedure, see `anygrain.models.psalm.video`. Of two objects that claim a pixel the later one has it. The
    first and the last frame do not count. Frames of a video must come in order, so all in one process.

    told: the official evaluation asks in each frame only for objects that its true masks show, which nobody knows who
    has no truth: a hidden object is then never drawn. False asks for all objects of the first frame in each.
    first: the video's first frame. memory: the frame whose masks are looked for, and these, by number of the object.
    """

    told: bool = False
    counts: JAndF = field(default_factory=lambda: JAndF(skip_ends=True))
    first: Sample | None = None
    memory: tuple[Sample, dict[int, np.ndarray]] | None = None
    embeddings: dict[str, ImageEmbedding] = field(default_factory=dict)

    in_order = True
    """Samples of several processes cannot be counted apart."""

    def ask(self, sample: Sample) -> Sequence[int]:
        """Numbers of the objects that are looked for."""
        if self.first is None or _video(self.first) != _video(sample):
            self.first, self.memory, self.embeddings = sample, None, {}
        return [number for number in _objects(self.first) if not self.told or number in _objects(sample)]

    def answer(self, sample: Sample, segmenter: Segmenter, embedding: ImageEmbedding) -> list[Record]:
        """Masks of the objects; of the first frame those that are given."""
        numbers = self.ask(sample)
        assert self.first is not None
        self.embeddings[sample.id] = embedding
        given = {number: mask for number, mask in _objects(self.first).items() if number in numbers}
        if sample.id == self.first.id or not numbers:
            return [_record(number, mask) for number, mask in given.items()]
        there, masks = self.memory or (self.first, {})
        if len(masks) != len(numbers):
            there, masks = self.first, given
        if there.id not in self.embeddings:  # a run that goes on in the middle of a video
            (self.embeddings[there.id],) = segmenter.embed([open_photo(there)])
        network = segmenter.model
        assert isinstance(network, PSALM)  # no other accepts regions of another frame
        found = locate(network, embedding, self.embeddings[there.id], list(masks.values()))
        return [_record(number, mask) for number, mask in zip(numbers, found, strict=True)]

    def count(self, sample: Sample, records: Sequence[Record], show: Show | None = None) -> None:
        """J and F of every object of the first frame, and what the next frame is asked for."""
        self.ask(sample)
        assert self.first is not None
        masks = {record["object"]: recorded_mask(record, sample.size) for record in records}
        labels = np.zeros(sample.size, np.int32)
        for number, mask in masks.items():
            labels[mask] = number
        truth, void = _objects(sample), unknown_labels(sample) > 0
        for number in _objects(self.first):
            true, found = truth.get(number, np.zeros(sample.size, bool)), labels == number
            self.counts.update(_video(sample), str(number), sample.id.rpartition("/")[2], found, true, void)
            if show is not None and true.any() and sample.id != self.first.id:
                shown = np.where(void, np.uint8(255), true.astype(np.uint8))
                show(Shown(f"object {number}", shown, found, overlap(found, shown), 1.0, bool(found.any())))
        drawn = np.array(list(masks.values()))
        if sample.id != self.first.id and len(masks) and drawn.any((1, 2)).all() and not confused(drawn):
            self.memory = sample, masks
        kept = {self.first.id} | ({self.memory[0].id} if self.memory else set())
        self.embeddings = {name: one for name, one in self.embeddings.items() if name in kept}

    def merge(self, other: FollowRule) -> None:
        """Take in what another one counted."""
        self.counts.merge(other.counts)

    def compute(self) -> dict[str, float]:
        """See JAndF."""
        return self.counts.compute()


def _video(sample: Sample) -> str:
    return sample.id.rpartition("/")[0]


def _objects(sample: Sample) -> dict[int, np.ndarray]:
    """Masks bool [H, W] of a frame's objects by their numbers, in order."""

    def key(region: Region) -> int:
        return region.instance or 0

    there = (region for region in sample.regions if not region.ignore and region.instance)
    return {key(region): region.mask.to_array() for region in sorted(there, key=key) if region.mask is not None}


def _record(number: int, mask: np.ndarray) -> Record:
    record = {"text": f"object {number}", "object": number}
    return record | ({"segmentation": Mask.from_array(mask).to_coco()} if mask.any() else {})
