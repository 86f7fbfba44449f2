"""COCO instances JSON: polygons, compressed or uncompressed run lengths, crowds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anygrain.data.readers.files import image_size, need, read_json
from anygrain.types import Box, Mask, Region, Sample, Size

HUMAN = {"step": "human"}


@dataclass(frozen=True)
class CocoTable:
    """A COCO JSON by image.

    path: the file. images: its image entries. annotations: of each image id, in the file's order. categories: entries
    by id.
    """

    path: Path
    images: Sequence[Mapping[str, Any]]
    annotations: Mapping[int, Sequence[Mapping[str, Any]]]
    categories: Mapping[int, Mapping[str, Any]]

    @property
    def names(self) -> dict[int, str]:
        """Names of the categories by id."""
        return {number: entry["name"] for number, entry in self.categories.items()}


def read_table(path: Path) -> CocoTable:
    """Parse and check a COCO JSON. Raises FileNotFoundError or ValueError naming the file."""
    table = read_json(path, "a COCO instances JSON")
    if not isinstance(table, dict) or not {"images", "annotations", "categories"} <= table.keys():
        raise ValueError(f"{path}: not a COCO instances JSON; expected the keys images, annotations, categories")
    categories = {entry["id"]: entry for entry in table["categories"]}
    of_image: dict[int, list[Mapping[str, Any]]] = {entry["id"]: [] for entry in table["images"]}
    for annotation in table["annotations"]:
        _check(path, annotation, of_image, categories)
        of_image[annotation["image_id"]].append(annotation)
    return CocoTable(path, table["images"], of_image, categories)


def read_coco(
    images: str | Path,
    annotations: str | Path | CocoTable,
    *,
    source: str,
    exhaustive: Collection[str] | Callable[[CocoTable, Mapping[str, Any]], Collection[str]] = (),
    file_name: Callable[[Mapping[str, Any]], str] = lambda entry: entry["file_name"],
    granularity: Callable[[Mapping[str, Any]], str | None] | None = None,
    boxes: bool = False,
) -> Iterator[Sample]:
    """One Sample an image of the JSON, sorted by file name.

    images: folder of the files that the JSON names. annotations: the instances JSON.
    exhaustive: categories of which the set marks every occurrence, or a function of the table and an image's entry.
    file_name: from an image's entry to its file in the folder. granularity: from a category's entry.
    boxes: an annotation without a segmentation becomes a region of its box.
    Regions carry the category's name and, as instance, the annotation's number. A crowd (``iscrowd``, or ``crowd`` as
    some files say) becomes an ignored region. ``part_level`` (ADE20K) becomes the granularity. An annotation without
    one pixel, or without a segmentation, is left out.
    Raises FileNotFoundError or ValueError naming the file.
    """
    images = Path(images)
    need(images, "the folder of the images")
    table = annotations if isinstance(annotations, CocoTable) else read_table(Path(annotations))
    names = table.names
    for entry in sorted(table.images, key=file_name):
        name = file_name(entry)
        known = exhaustive(table, entry) if callable(exhaustive) else exhaustive
        size = checked_size(images / name, entry, table.path)
        regions = []
        for annotation in table.annotations[entry["id"]]:
            region = region_of(table.path, annotation, names, size, boxes)
            if region is not None and granularity is not None:
                region = replace(region, granularity=granularity(table.categories[annotation["category_id"]]))
            regions += [] if region is None else [region]
        yield Sample(
            id=f"{source}/{Path(name).with_suffix('')}",
            image=images / name,
            size=size,
            regions=tuple(regions),
            source=source,
            exhaustive=frozenset(known),
        )


def checked_size(file: Path | bytes, entry: Mapping[str, Any], table: Path) -> Size:
    """(height, width) of an image, given by its file or its bytes. Raises ValueError when the table says otherwise."""
    size, name = (entry["height"], entry["width"]), file if isinstance(file, Path) else entry["file_name"]
    if (found := image_size(file, name)) != size:
        raise ValueError(f"{name}: the image is {found} (height, width), but {table} says {size}")
    return size


def _check(path: Path, annotation: Mapping[str, Any], images: Mapping, names: Mapping) -> None:
    """An annotation that points nowhere is an error, not a silent loss."""
    if annotation["image_id"] not in images:
        raise ValueError(
            f"{path}: annotation {annotation['id']} names image {annotation['image_id']}, which is missing"
        )
    if annotation["category_id"] not in names:
        number = annotation["category_id"]
        raise ValueError(f"{path}: annotation {annotation['id']} names category {number}, which is missing")


def mask_of(path: Path, annotation: Mapping[str, Any], size: Size) -> Mask | None:
    """The mask of an annotation; None when it has no segmentation or no pixel. Raises ValueError naming it."""
    if not annotation.get("segmentation"):
        return None
    try:
        mask = Mask.from_coco(annotation["segmentation"], size)
    except ValueError as error:
        raise ValueError(f"{path}: annotation {annotation['id']}: {error}") from None
    return mask if mask.area else None


def box_of(annotation: Mapping[str, Any], size: Size) -> Box | None:
    """The box (x0, y0, x1, y1) of an annotation's ``bbox`` (x, y, width, height), cut at the image; None when empty."""
    if not annotation.get("bbox"):
        return None
    x, y, width, height = map(float, annotation["bbox"])
    box = (max(x, 0.0), max(y, 0.0), min(x + width, size[1]), min(y + height, size[0]))
    return box if box[0] < box[2] and box[1] < box[3] else None


def region_of(
    path: Path, annotation: Mapping[str, Any], names: Mapping[int, str], size: Size, boxes: bool = False
) -> Region | None:
    """The region of an annotation; None when it has no pixel, and with ``boxes`` no box either."""
    mask = mask_of(path, annotation, size)
    box = box_of(annotation, size) if mask is None and boxes else None
    if mask is None and box is None:
        return None
    level = annotation.get("part_level")
    return Region(
        mask=mask,
        box=box,
        category=names[annotation["category_id"]],
        granularity=None if level is None else "part" if level else "object",
        instance=annotation["id"],
        ignore=bool(annotation.get("iscrowd") or annotation.get("crowd")),
        origin=HUMAN,
    )
