"""Data sets in COCO's JSON form: COCO instances, LVIS, PACO, PartImageNet and Objects365."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from anygrain.data.readers.coco import CocoTable, read_coco, read_table
from anygrain.data.readers.files import check_split, first_of
from anygrain.types import Sample


def read_coco_instances(root: str | Path, split: str) -> Iterator[Sample]:
    """COCO 2017: 80 categories, each exhaustively marked. Splits train, val.

    root: ``annotations/instances_{split}2017.json`` and ``{split}2017/``, or ``images/{split}2017/``.
    """
    check_split(split, ("train", "val"), "coco_instances")
    name = f"instances_{split}2017.json"
    table = read_table(first_of(root, [f"annotations/{name}", name], name))
    images = coco_images(root, split)
    return read_coco(images, table, source="coco_instances", exhaustive=frozenset(table.names.values()))


def coco_images(root: str | Path, split: str) -> Path:
    """The folder of COCO 2017's images of a split."""
    return first_of(root, [f"{split}2017", f"images/{split}2017"], f"the images {split}2017")


def read_lvis(root: str | Path, split: str) -> Iterator[Sample]:
    """LVIS v1 (Gupta et al., CVPR 2019): 1,203 categories over COCO 2017's images. Splits train, val.

    root: ``lvis_v1_{split}.json`` (or ``annotations/...``) and COCO's ``train2017/`` and ``val2017/``: LVIS's val has
    images of both. The annotation is federated: a Sample is exhaustive for the categories that the image is said not to
    show, and for those it shows but the ones listed as not exhaustive.
    """
    check_split(split, ("train", "val"), "lvis")
    name = f"lvis_v1_{split}.json"
    table = read_table(first_of(root, [name, f"annotations/{name}"], name))
    return read_coco(_parent_of_2017(root), table, source="lvis", exhaustive=_federated, file_name=_coco_file)


def read_paco(root: str | Path, split: str) -> Iterator[Sample]:
    """PACO-LVIS v1 (Ramanathan et al., CVPR 2023): 75 objects and 456 parts of them. Splits train, val, test.

    root: ``paco_lvis_v1_{split}.json`` (or ``annotations/...``) and COCO's ``train2017/`` and ``val2017/``. A part's
    category is "{object}:{part}". Exhaustive as LVIS.
    """
    check_split(split, ("train", "val", "test"), "paco")
    name = f"paco_lvis_v1_{split}.json"
    places = [name, f"annotations/{name}", f"annotations/paco_lvis_v1/{name}", f"paco_lvis_v1/{name}"]
    table = read_table(first_of(root, places, name))

    def granularity(category: Mapping[str, Any]) -> str:
        return "part" if category.get("supercategory") == "PART" else "object"

    return read_coco(
        _parent_of_2017(root),
        table,
        source="paco",
        exhaustive=_federated,
        file_name=_coco_file,
        granularity=granularity,
    )


def _parent_of_2017(root: str | Path) -> Path:
    return first_of(root, ["train2017", "images/train2017", "val2017", "images/val2017"], "the COCO 2017 images").parent


def _coco_file(entry: Mapping[str, Any]) -> str:
    """ "train2017/000000391895.jpg": LVIS gives only the address of an image, PACO the file's name."""
    if "coco_url" in entry:
        return "/".join(entry["coco_url"].split("/")[-2:])
    return "/".join(entry["file_name"].split("/")[-2:])


def _federated(table: CocoTable, entry: Mapping[str, Any]) -> Collection[str]:
    there = {annotation["category_id"] for annotation in table.annotations[entry["id"]]}
    sure = there - set(entry.get("not_exhaustive_category_ids", ())) | set(entry.get("neg_category_ids", ()))
    return {table.names[number] for number in sure}


def read_partimagenet(root: str | Path, split: str) -> Iterator[Sample]:
    """PartImageNet (He et al., ECCV 2022): 40 parts of 11 kinds of things. Splits train, val, test.

    root: ``{split}.json`` (or ``annotations/{split}.json``) and ``{split}/`` (or ``images/{split}/``), where an image
    lies in a folder of its synset or by its name alone. "Quadruped Head" of the file is the category "Quadruped:Head".
    Each split has ImageNet classes of its own.
    """
    check_split(split, ("train", "val", "test"), "partimagenet")
    places = [f"{split}.json", f"annotations/{split}.json", f"annotations/{split}/{split}.json"]
    table = read_table(first_of(root, places, f"{split}.json"))
    annotations = {number: [_drawable(a) for a in row] for number, row in table.annotations.items()}
    categories = {n: {**entry, "name": entry["name"].replace(" ", ":", 1)} for n, entry in table.categories.items()}
    table = replace(table, annotations=annotations, categories=categories)
    images = first_of(root, [split, f"images/{split}", "images"], f"the images of {split}")

    def file_name(entry: Mapping[str, Any]) -> str:
        name = entry["file_name"]
        nested = f"{Path(name).name.split('_')[0]}/{Path(name).name}"
        return nested if not (images / name).exists() and (images / nested).exists() else name

    return read_coco(images, table, source="partimagenet", file_name=file_name, granularity=lambda _: "part")


def _drawable(annotation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the polygons of one or two points: the file has some, and they cover nothing."""
    polygons = annotation["segmentation"]
    return (
        {**annotation, "segmentation": [p for p in polygons if len(p) > 4]}
        if isinstance(polygons, list)
        else annotation
    )


def read_objects365(root: str | Path, split: str) -> Iterator[Sample]:
    """Objects365 v2 (Shao et al., ICCV 2019): boxes of 365 categories. Splits train, val.

    root: ``zhiyuan_objv2_{split}.json`` (or ``annotations/...``) and ``{split}/patch{n}/`` (or ``images/v1/patch{n}/``,
    ``images/v2/patch{n}/`` as the JSON says). Boxes are cut at the image.
    """
    check_split(split, ("train", "val"), "objects365")
    name = f"zhiyuan_objv2_{split}.json"
    table = read_table(first_of(root, [name, f"annotations/{name}", f"{split}/{name}"], name))
    images = first_of(root, [split, f"images/{split}", "images"], f"the folder {split}/ of patches")

    def file_name(entry: Mapping[str, Any]) -> str:
        parts = Path(entry["file_name"]).parts  # images/v1/patch8/objects365_v1_00420917.jpg
        return "/".join(parts[1:] if images.name == "images" and parts[0] == "images" else parts[-2:])

    return read_coco(images, table, source="objects365", file_name=file_name, boxes=True)
