"""How well a model of clicks names what it finds: average precision of named masks, and names of clicked ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from anygrain.data.clicks import Names, called, names_of
from anygrain.data.labels import Candidate
from anygrain.data.language import readable
from anygrain.data.shards import ShardReader
from anygrain.eval.click_meters import Sums, array_of, middle, prompt_at
from anygrain.eval.detection import AveragePrecision
from anygrain.eval.metrics import overlap
from anygrain.eval.photo import Photo
from anygrain.everything import EverythingOptions
from anygrain.types import Category, Mask, Region

if TYPE_CHECKING:
    from anygrain.segmenter import Segmenter
    from anygrain.types import ImageEmbedding


@dataclass
class NameMeter:
    """Names among all that a source uses, objects and parts apart.

    ``object_ap`` and ``object_ap_50`` are COCO's average precision of the masks that a grid of clicks finds (of
    overlapping boxes the mask of highest predicted IoU stays, nothing else is sorted out), each with its best name and
    predicted IoU times the name's score; ``part_ap`` the same for parts. A name that a photo does not show counts as a
    mistake only where the annotation says that it is not there.
    ``object_right`` and ``part_right`` ask how often the name itself is right: of one click in the middle of every
    named mask, the name of the row that fits the mask best.
    """

    names: Names
    points_per_side: int
    sums: Sums = field(default_factory=Sums)
    objects: AveragePrecision = field(default_factory=AveragePrecision)
    parts: AveragePrecision = field(default_factory=AveragePrecision)

    @classmethod
    def of(cls, folder: str, points_per_side: int) -> NameMeter:
        """The meter of a folder of shards."""
        reader = ShardReader(folder)
        names = names_of(reader)
        reader.close()
        return cls(names, points_per_side)

    def ask(self, segmenter: Segmenter, embedding: ImageEmbedding, photo: Photo, regions: Sequence[Region]) -> None:
        """Find and name masks, and click on those that have names."""
        sample = photo.sample
        named = [(region, called(region, sample)) for region in regions]
        objects = [replace(r, category=name.object) for r, name in named if name.object and not name.part]
        parts = [replace(r, category=name.part) for r, name in named if name.part]
        if not objects and not parts:
            return
        crowds = [r for r in sample.regions if r.ignore and r.mask is not None and r.category is not None]
        categories, part_categories = sorted(self.names.objects), sorted(self.names.parts)
        options = EverythingOptions(points_per_side=self.points_per_side, min_predicted_iou=-np.inf, min_stability=0.0)
        found = segmenter.propose(embedding, options, categories, part_categories)
        known = {readable(name) for name in sample.exhaustive if ":" not in name}  # of "dog:ear" cats say nothing
        for precision, truth, others, names in (
            (self.objects, objects, crowds, [one.category for one in found]),
            (self.parts, parts, (), [one.part_category for one in found]),
        ):
            if truth:
                truth = [*truth, *(replace(r, category=readable(r.category or "")) for r in others)]
                judged = known | {region.category for region in truth}
                answers = [
                    _answer(one.mask, one.predicted_iou, name)
                    for one, name in zip(found, names, strict=True)
                    if name is not None and name.name in judged
                ]
                precision.update(sample.id, sample.size, answers, truth)
        for kind, truth in (("object", objects), ("part", parts)):
            prompts = [
                replace(
                    prompt_at(middle(array_of(region))),
                    categories=tuple(categories),
                    part_categories=tuple(part_categories),
                )
                for region in truth
            ]
            for region, prediction in zip(truth, segmenter.answer(embedding, prompts), strict=True):
                labels = photo.truth(Candidate((region,)))
                row = int(np.argmax([overlap(mask, labels).iou for mask in prediction.masks]))
                rows = prediction.categories if kind == "object" else prediction.part_categories
                name = rows[row]
                self.sums.add(f"{kind}_right", float(name is not None and name.name == region.category))

    def compute(self) -> dict[str, float]:
        """``masks`` that have names, how many names there are, and the figures."""
        figures = {}
        for kind, precision, names in (
            ("object", self.objects, self.names.objects),
            ("part", self.parts, self.names.parts),
        ):
            if precision.photos:
                found = precision.compute()
                figures |= {f"{kind}_names": float(len(names))}
                figures |= {f"{kind}_{name}": found[name] for name in ("ap", "ap_50") if name in found}
        return self.sums.compute("masks") | figures


def _answer(mask: Mask, predicted_iou: float, name: Category) -> Region:
    return Region(mask=mask, category=name.name, score=min(max(predicted_iou, 0.0), 1.0) * name.score)
