"""Average precision of masks or boxes, by pycocotools."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any, Literal

from anygrain.types import Region, Size

NAMES = ("ap", "ap_50", "ap_75", "ap_small", "ap_medium", "ap_large")
NAMES += ("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large")


@dataclass
class AveragePrecision:
    """AP of COCO: the mean over categories and IoU 0.5, 0.55 ... 0.95 of precision over 101 recalls.

    At most 100 answers a photo and category. Crowds (ignored regions) are matched by any number of answers and
    count for none. LVIS counts otherwise (federated categories, 300 answers): its own evaluator is needed there.

    kind: masks ("segm") or boxes ("bbox").
    photos: by id: size, answers and truth as plain records.
    """

    kind: Literal["segm", "bbox"] = "segm"
    photos: dict[str, tuple[Size, list[dict[str, Any]], list[dict[str, Any]]]] = field(default_factory=dict)

    def update(self, photo: str, size: Size, found: Sequence[Region], truth: Sequence[Region]) -> None:
        """Count one photo.

        photo: its id. size: (height, width). found: with category and score. truth: with category; ignored ones are
        crowds. Both with masks, or boxes for "bbox". The area of a region, by which COCO tells small from large, is
        that of its mask (of its box without one).
        Raises ValueError when a photo comes twice or a field is missing.
        """
        answers = [self._record(photo, region) | {"score": self._score(photo, region)} for region in found]
        wanted = [self._record(photo, region) | {"iscrowd": int(region.ignore)} for region in truth]
        self._add(photo, (size, answers, wanted))

    def _record(self, photo: str, region: Region) -> dict[str, Any]:
        if region.category is None:
            raise ValueError(f"{photo}: a region has no category; average precision is counted by category")
        box = region.box or (region.mask.box or (0.0, 0.0, 0.0, 0.0) if region.mask else None)
        if (region.mask if self.kind == "segm" else box) is None:
            raise ValueError(f"{photo}: a region of {region.category!r} has no {self.kind}")
        assert box is not None
        xywh = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        area = region.mask.area if region.mask else xywh[2] * xywh[3]
        record = {"category": region.category, "bbox": xywh, "area": area}
        return record | ({"segmentation": region.mask.to_coco()} if region.mask else {})

    @staticmethod
    def _score(photo: str, region: Region) -> float:
        if region.score is None:
            raise ValueError(f"{photo}: an answer of {region.category!r} has no score")
        return float(region.score)

    def merge(self, other: AveragePrecision) -> None:
        """Take in other photos. Raises ValueError when one is in both."""
        for photo, records in other.photos.items():
            self._add(photo, records)

    def _add(self, photo: str, records: tuple[Size, list[dict[str, Any]], list[dict[str, Any]]]) -> None:
        if photo in self.photos:
            raise ValueError(f"{photo}: the photo is counted twice")
        self.photos[photo] = records

    def compute(self) -> dict[str, float]:
        """The twelve figures of COCO's table that can be told (of small objects only where there are some)."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        photos = [self.photos[name] for name in sorted(self.photos)]
        names = sorted({record["category"] for _, _, truth in photos for record in truth})
        if not names:
            return {}
        with redirect_stdout(io.StringIO()):  # pycocotools tells its progress
            truth, answers = COCO(), COCO()
            truth.dataset = _table([(size, wanted) for size, _, wanted in photos], names)
            answers.dataset = _table([(size, found) for size, found, _ in photos], names)
            truth.createIndex()
            answers.createIndex()
            evaluation = COCOeval(truth, answers, self.kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        figures: dict[str, float] = {"photos": len(photos)}
        rows = zip(NAMES, evaluation.stats.tolist(), strict=True)
        return figures | {name: figure for name, figure in rows if figure >= 0}


def _table(photos: Sequence[tuple[Size, list[dict[str, Any]]]], names: list[str]) -> Any:
    """A COCO table. A category without a true region has no precision, so its answers are left out."""
    numbers = {name: number for number, name in enumerate(names, start=1)}
    annotations = [
        {"iscrowd": 0, **record, "image_id": number, "category_id": numbers[record["category"]]}
        for number, (_, records) in enumerate(photos)
        for record in records
        if record["category"] in numbers
    ]
    return {
        "images": [{"id": n, "height": size[0], "width": size[1]} for n, (size, _) in enumerate(photos)],
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": [record | {"id": number} for number, record in enumerate(annotations, start=1)],
    }
