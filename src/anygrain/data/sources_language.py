"""The human texts of ``language/*.json`` as sources: phrases with a box or a mask, statements about a whole photo."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from anygrain.data.boxes import in_pixels
from anygrain.data.readers.coco import HUMAN
from anygrain.data.readers.files import image_size, read_json
from anygrain.types import Mask, Region, Sample


def read_refexp(root: Path, split: str) -> Iterator[Sample]:
    """refexp: referring expressions and bare names with boxes; ``absent`` are those that people made to fit nothing.

    A bare name (Visual Genome) comes once a region, though it is said of several.
    """
    for photo, rows in _photos(root, "refexp", split):
        regions = [_region(root, row, row["box"], photo.size, row.get("mask")) for row in rows if row["box"]]
        yield _with(photo, regions, [row["text"] for row in rows if not row["box"]])


def read_hoi(root: Path, split: str) -> Iterator[Sample]:
    """hoi: what a person does with which object ("person riding a horse"); the region is the person."""
    for photo, rows in _photos(root, "hoi", split):
        regions = [_region(root, row, row["person_box"], photo.size, row.get("person_mask")) for row in rows]
        yield _with(photo, regions)


def read_vg_relations(root: Path, split: str) -> Iterator[Sample]:
    """vg_relations: subject, predicate, object ("glass on table"); the region is the subject."""
    for photo, rows in _photos(root, "vg_relations", split):
        yield _with(photo, [_region(root, row, row["subject_box"], photo.size) for row in rows])


def read_statements(root: Path, split: str) -> Iterator[Sample]:
    """sugarcrepe and spatial: statements about the whole photo; a true one has a region of which no place is known."""
    photos: dict[str, Sample] = {}
    true: dict[str, list[str]] = defaultdict(list)
    false: dict[str, list[str]] = defaultdict(list)
    for name in ("sugarcrepe", "spatial"):
        for photo, rows in _photos(root, name, split):
            identity = f"statements/{photo.id.partition('/')[2]}"
            photos[identity] = replace(photo, id=identity, source="statements")
            true[identity] += [row["true"] if "true" in row else row["text"] for row in rows if row.get("label", True)]
            false[identity] += [row["false"] if "false" in row else row["text"] for row in rows if not row.get("label")]
    for identity in sorted(photos):
        regions = [Region(captions=(text,), origin=HUMAN) for text in dict.fromkeys(true[identity])]
        yield _with(photos[identity], regions, false[identity])


def _photos(root: Path, name: str, split: str) -> Iterator[tuple[Sample, list[Mapping[str, Any]]]]:
    """Each photo of a file with its rows, without regions yet."""
    path = root / "language" / f"{name}.json"
    photos: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in read_json(path, "human texts about photographs")["rows"]:
        if row["split"] == split:
            photos[row["dir"], row["file"]].append(row)
    for (folder, file), rows in sorted(photos.items()):
        image = root / folder / "images" / file
        identity = f"{name}/{folder}/{image.stem}"
        yield Sample(id=identity, image=image, size=image_size(image), regions=(), source=name), rows


def _region(
    root: Path,
    row: Mapping[str, Any],
    box: Sequence[float],
    size: tuple[int, int],
    link: Mapping[str, Any] | None = None,
) -> Region:
    mask = _masks(root / link["file"])[link["id"]] if link else None
    return Region(mask=mask, box=in_pixels(box, size), captions=(row["text"].strip(),), origin=HUMAN)


@lru_cache(maxsize=8)
def _masks(path: Path) -> dict[int, Mask]:
    """The masks of a COCO file by annotation number."""
    table = read_json(path, "a COCO instances JSON")
    sizes = {image["id"]: (image["height"], image["width"]) for image in table["images"]}
    return {
        entry["id"]: Mask.from_coco(entry["segmentation"], sizes[entry["image_id"]]) for entry in table["annotations"]
    }


def _with(photo: Sample, regions: Iterable[Region], absent: Iterable[str] = ()) -> Sample:
    return replace(photo, regions=tuple(regions), absent=tuple(dict.fromkeys(absent)))
