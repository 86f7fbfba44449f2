"""COCO instances JSON: polygons, compressed or uncompressed run lengths, crowds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from anygrain.data.readers.files import image_size, need, read_json
from anygrain.types import Mask, Region, Sample

HUMAN = {"step": "human"}


def read_coco(
    images: str | Path, annotations: str | Path, *, source: str, exhaustive: Collection[str] = ()
) -> Iterator[Sample]:
    """One Sample an image of the JSON, sorted by file name.

    images: folder of the files that the JSON names. annotations: the instances JSON.
    exhaustive: categories of which the set marks every occurrence.
    Regions carry the category's name and, as instance, the annotation's number. A crowd (``iscrowd``, or ``crowd`` as
    some files say) becomes an ignored region. ``part_level`` (ADE20K) becomes the granularity. An annotation without
    one pixel, or without a segmentation, is left out.
    Raises FileNotFoundError or ValueError naming the file.
    """
    images, path = Path(images), Path(annotations)
    need(images, "the folder of the images")
    for entry, found, names in read_entries(path):
        yield _sample(images, path, entry, found, names, source, frozenset(exhaustive))


def read_entries(path: Path) -> Iterator[tuple[Mapping[str, Any], list[Mapping[str, Any]], Mapping[int, str]]]:
    """Each image's entry, its annotations and the names of all categories, sorted by file name.

    Raises FileNotFoundError or ValueError naming the file.
    """
    table = read_json(path, "a COCO instances JSON")
    if not isinstance(table, dict) or not {"images", "annotations", "categories"} <= table.keys():
        raise ValueError(f"{path}: not a COCO instances JSON; expected the keys images, annotations, categories")
    names = {entry["id"]: entry["name"] for entry in table["categories"]}
    of_image: dict[int, list[Mapping[str, Any]]] = {entry["id"]: [] for entry in table["images"]}
    for annotation in table["annotations"]:
        _check(path, annotation, of_image, names)
        of_image[annotation["image_id"]].append(annotation)
    for entry in sorted(table["images"], key=lambda entry: entry["file_name"]):
        yield entry, of_image[entry["id"]], names


def _check(path: Path, annotation: Mapping[str, Any], images: Mapping, names: Mapping) -> None:
    """An annotation that points nowhere is an error, not a silent loss."""
    if annotation["image_id"] not in images:
        raise ValueError(
            f"{path}: annotation {annotation['id']} names image {annotation['image_id']}, which is missing"
        )
    if annotation["category_id"] not in names:
        number = annotation["category_id"]
        raise ValueError(f"{path}: annotation {annotation['id']} names category {number}, which is missing")


def _sample(
    images: Path, path: Path, entry: Mapping, annotations: list, names: Mapping, source: str, exhaustive: frozenset
) -> Sample:
    file = images / entry["file_name"]
    size = (entry["height"], entry["width"])
    if image_size(file) != size:
        raise ValueError(f"{file}: the image is {image_size(file)} (height, width), but {path} says {size}")
    regions = (read_region(path, annotation, names, size) for annotation in annotations)
    return Sample(
        id=f"{source}/{Path(entry['file_name']).with_suffix('')}",
        image=file,
        size=size,
        regions=tuple(region for region in regions if region is not None),
        source=source,
        exhaustive=exhaustive,
    )


def read_region(path: Path, annotation: Mapping, names: Mapping, size: tuple[int, int]) -> Region | None:
    """The Region of an annotation; None when it has no pixel or no segmentation. Raises ValueError naming the file."""
    if not annotation.get("segmentation"):
        return None
    try:
        mask = Mask.from_coco(annotation["segmentation"], size)
    except ValueError as error:
        raise ValueError(f"{path}: annotation {annotation['id']}: {error}") from None
    if mask.area == 0:
        return None
    level = annotation.get("part_level")
    return Region(
        mask=mask,
        category=names[annotation["category_id"]],
        granularity=None if level is None else "part" if level else "object",
        instance=annotation["id"],
        ignore=bool(annotation.get("iscrowd") or annotation.get("crowd")),
        origin=HUMAN,
    )
