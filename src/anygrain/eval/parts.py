"""Part segmentation by text: every annotated part is asked for as a part of its whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from anygrain.data.language import readable
from anygrain.eval.metrics import Overlap, overlap
from anygrain.eval.rules import Answer, Record, Show, Shown, mask_record, recorded_mask, unknown_labels
from anygrain.eval.semantic import mean_of_wholes
from anygrain.types import Mask, Sample


def part_text(category: str) -> str:
    """ "dog:left ear" -> "the left ear of the dog"."""
    whole, part = _split(category)
    return f"the {readable(part)} of the {readable(whole)}"


def _split(category: str) -> tuple[str, str]:
    """(whole, part): at the colon."""
    whole, _, part = category.partition(":")
    if not whole.strip() or not part.strip():
        raise ValueError(f"the category {category!r} does not say whole and part")
    return whole, part


@dataclass
class PartRule:
    """ "the {part} of the {whole}" for every part that is annotated in a photo.

    All regions of a part in a photo are one answer, each part a mask of its own. IoU of a part is the sum of its
    intersections over the sum of its unions, all photos together. ``part_miou`` is the mean over parts, ``whole_miou``
    the mean over wholes of the mean over their parts. Parts that no one drew are not asked for: the sets do not say
    whether they are to be seen. That is easier than a label map of all parts, in which every name competes.
    """

    sums: dict[str, Overlap] = field(default_factory=dict)
    prompts: int = 0

    def ask(self, sample: Sample) -> Sequence[str]:
        """The parts, in order of appearance."""
        return [part_text(category) for category in _drawn(sample)]

    def record(self, sample: Sample, answers: Iterable[Answer]) -> list[Record]:
        """Each mask, and which part it is of."""
        asked = zip(_drawn(sample), self.ask(sample), answers, strict=True)
        return [mask_record(text, answer) | {"category": category} for category, text, answer in asked]

    def count(self, sample: Sample, records: Sequence[Record], show: Show | None = None) -> None:
        """Each mask against the union of the part's regions."""
        drawn, base = _drawn(sample), unknown_labels(sample)
        for record in records:
            category, found, labels = record["category"], recorded_mask(record, sample.size), base.copy()
            for mask in drawn[category]:
                labels[mask.to_array()] = 1
            pair = overlap(found, labels)
            self._add(category, pair)
            self.prompts += 1
            if show is not None:
                show(Shown(record["text"], labels, found, pair, record["score"], record["present"]))

    def _add(self, category: str, pair: Overlap) -> None:
        before = self.sums.get(category, Overlap(0, 0))
        self.sums[category] = Overlap(before.intersection + pair.intersection, before.union + pair.union)

    def merge(self, other: PartRule) -> None:
        """Take in what another one counted."""
        self.prompts += other.prompts
        for category, pair in other.sums.items():
            self._add(category, pair)

    def compute(self) -> dict[str, float]:
        """``part_miou``, ``whole_miou``, and the number of ``parts`` and ``prompts``; nothing when none was asked."""
        ious = {name: self.sums[name].iou for name in sorted(self.sums)}
        if not ious:
            return {}
        means = mean_of_wholes(ious, {name: _split(name)[0] for name in ious})
        return {**means, "parts": len(ious), "prompts": self.prompts}


def _drawn(sample: Sample) -> dict[str, list[Mask]]:
    """The masks of each part."""
    parts: dict[str, list[Mask]] = {}
    for region in sample.regions:
        if region.granularity == "part" and region.mask is not None and region.category and not region.ignore:
            parts.setdefault(region.category, []).append(region.mask)
    return parts
