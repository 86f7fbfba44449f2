"""COCO-Interactive (Zhang et al., PSALM, arXiv 2403.14598): COCO's instances with marks that a person might draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from anygrain.categories import categories
from anygrain.data.readers.coco import checked_size, region_of
from anygrain.data.readers.coco_sets import coco_images
from anygrain.data.readers.files import check_split, first_of, read_json
from anygrain.types import Mask, Sample, Size

KINDS = ("point", "scribble", "box", "mask")


def read_coco_interactive(root: str | Path, split: str) -> Iterator[Sample]:
    """One Sample an image, sorted by file name, one Region an instance, with its ``marks``. Splits train, val.

    root: ``coco_interactive_{split}_psalm.json``, as PSALM's authors publish it and their script makes it, and COCO's
    ``{split}2017/``. Its records name categories by COCO's numbers only. Points and scribbles are one pixel thin; marks
    of small instances may be empty. Crowds are ignored.
    Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, ("train", "val"), "coco_interactive")
    name = f"coco_interactive_{split}_psalm.json"
    path = first_of(root, [name, f"annotations/{name}"], name)
    images, coco = coco_images(root, split), categories("coco80")
    names = dict(zip(coco.ids, coco.names, strict=True))
    table = read_json(path, "the records of COCO-Interactive")
    if not isinstance(table, list) or not all({"image", "image_info", "anns"} <= record.keys() for record in table):
        raise ValueError(f"{path}: not COCO-Interactive; expected a list of records with image, image_info and anns")
    for record in sorted(table, key=lambda record: record["image"]):
        file = images / record["image"]
        size = checked_size(file, record["image_info"], path)
        regions = []
        for annotation in record["anns"]:
            if annotation["category_id"] not in names:
                number = annotation["category_id"]
                raise ValueError(f"{path}: annotation {annotation['id']} is of category {number}, which COCO has not")
            region = region_of(path, annotation, names, size)
            if region is not None:
                regions.append(replace(region, marks=_marks(path, annotation, size)))
        yield Sample(
            id=f"coco_interactive/{file.stem}",
            image=file,
            size=size,
            regions=tuple(regions),
            source="coco_interactive",
            exhaustive=frozenset(coco.names),
        )


def _marks(path: Path, annotation: Mapping[str, Any], size: Size) -> dict[str, Mask]:
    marks = {}
    for kind in KINDS:
        key = f"{kind}_visual_prompt_mask"
        if key not in annotation:
            raise ValueError(f"{path}: annotation {annotation['id']} has no {key}")
        marks[kind] = Mask.from_coco(annotation[key], size)
    return marks
