"""All boxes of the 80 COCO categories that ``language/boxes80.json`` knows of a photo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from anygrain.data.boxes import complete_with_boxes, in_pixels
from anygrain.data.readers.files import read_json
from anygrain.types import Box, Sample


def complete_with_boxes_80(root: Path, samples: Iterable[Sample], folder: str) -> Iterator[Sample]:
    """Samples of photos of ``folder`` with what the boxes add to them; see ``complete_with_boxes``."""
    names = coco_names(root)
    boxes = boxes_80(root, folder, names)
    for sample in samples:
        yield complete_with_boxes(sample, boxes_in_pixels(boxes, sample), names)


def coco_names(root: Path) -> list[str]:
    """The 80 categories in the order that ``boxes80`` counts them in."""
    table = read_json(root / "coco" / "annotations" / "instances_train.json", "a COCO instances JSON")
    return [entry["name"] for entry in sorted(table["categories"], key=lambda entry: entry["id"])]


def boxes_80(root: Path, folder: str, names: list[str]) -> dict[str, dict[str, list[Box]]]:
    """For each photo of a folder (file name without ending) all boxes, in 0..1 of the photo, by category."""
    photos: dict[str, dict[str, list[Box]]] = {}
    for row in read_json(root / "language" / "boxes80.json", "the boxes of 80 categories")["rows"]:
        if row["dir"] == folder:
            boxes = photos.setdefault(Path(row["file"]).stem, {})
            for number, *box in row["boxes"]:
                boxes.setdefault(names[number - 1], []).append(tuple(box))
    return photos


def boxes_in_pixels(boxes: Mapping[str, Mapping[str, list[Box]]], sample: Sample) -> dict[str, list[Box]]:
    """The boxes of a sample's photo in its pixels, by category. Raises ValueError when the photo has no row."""
    stem = sample.id.split("/")[-1]
    if stem not in boxes:
        raise ValueError(f"{sample.image}: language/boxes80.json has no row for this photo")
    return {name: [in_pixels(box, sample.size) for box in rows] for name, rows in boxes[stem].items()}
