"""COCO panoptic (133 categories) and COCO-Stuff (171 of 182): label maps over COCO 2017's images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from anygrain.data.readers.coco_sets import coco_images
from anygrain.data.readers.coco_stuff_names import NAMES, UNUSED
from anygrain.data.readers.files import (
    by_stem,
    check_split,
    find,
    first_of,
    image_size,
    read_colour_ids,
    read_index_mask,
    read_json,
)
from anygrain.data.readers.mask_folder import HUMAN, index_regions
from anygrain.types import Mask, Region, Sample


def read_coco_panoptic(root: str | Path, split: str) -> Iterator[Sample]:
    """COCO panoptic 2017, one Region a segment with its number as instance. Splits train, val.

    root: ``annotations/panoptic_{split}2017.json``, ``annotations/panoptic_{split}2017/*.png`` (or beside it) and
    ``{split}2017/``. See ``panoptic_samples``.
    """
    check_split(split, ("train", "val"), "coco_panoptic")
    stem = f"panoptic_{split}2017"
    path = first_of(root, [f"annotations/{stem}.json", f"{stem}.json"], f"{stem}.json")
    maps = first_of(root, [f"annotations/{stem}", stem], f"the folder {stem} of PNGs")
    images = coco_images(root, split)
    return panoptic_samples(path, maps, images, "coco_panoptic")


def panoptic_samples(path: Path, maps: Path, images: Path, source: str) -> Iterator[Sample]:
    """One Sample a label map of a JSON in COCO panoptic's form, sorted.

    path: the JSON. maps, images: the folders of the PNGs and of the photographs.
    Segments are numbered by colour, R + 256 G + 65536 B. Things are of granularity "object", stuff of "scene"; crowds
    are ignored, and so are the pixels of no segment. All categories are exhaustive.
    Raises FileNotFoundError or ValueError naming the file.
    """
    table = read_json(path, "a COCO panoptic JSON")
    if not isinstance(table, dict) or not {"images", "annotations", "categories"} <= table.keys():
        raise ValueError(f"{path}: not a COCO panoptic JSON; expected the keys images, annotations, categories")
    categories = {entry["id"]: entry for entry in table["categories"]}
    files = {entry["id"]: entry["file_name"] for entry in table["images"]}
    names = frozenset(entry["name"] for entry in categories.values())
    for annotation in sorted(table["annotations"], key=lambda annotation: annotation["file_name"]):
        image = images / files[annotation["image_id"]]
        size = image_size(image)
        ids = read_colour_ids(maps / annotation["file_name"], size)
        regions = []
        for segment in annotation["segments_info"]:
            mask = Mask.from_array(ids == segment["id"])
            if mask.area == 0:
                file = maps / annotation["file_name"]
                raise ValueError(f"{file}: no pixel of segment {segment['id']}, which {path.name} names")
            category = categories[segment["category_id"]]
            thing, crowd = bool(category["isthing"]), bool(segment["iscrowd"])
            level = "object" if thing else "scene"
            number = segment["id"] if thing else None
            name = category["name"]
            regions.append(
                Region(mask=mask, category=name, granularity=level, instance=number, ignore=crowd, origin=HUMAN)
            )
        void = ~np.isin(ids, [segment["id"] for segment in annotation["segments_info"]])
        if void.any():
            regions.append(Region(mask=Mask.from_array(void), ignore=True, origin=HUMAN))
        sample_id = f"{source}/{image.stem}"
        yield Sample(id=sample_id, image=image, size=size, regions=tuple(regions), source=source, exhaustive=names)


def read_coco_stuff(root: str | Path, split: str) -> Iterator[Sample]:
    """COCO-Stuff 2017 (Caesar et al., CVPR 2018): things and stuff as one label map. Splits train, val.

    root: ``stuffthingmaps_trainval2017/{split}2017/*.png`` (or ``stuffthingmaps/...``, ``{split}2017`` inside
    ``annotations``) and ``{split}2017/*.jpg``. A pixel is the category's number minus 1; 255 is unlabelled and ignored.
    """
    check_split(split, ("train", "val"), "coco_stuff")
    places = [f"{name}/{split}2017" for name in ("stuffthingmaps_trainval2017", "stuffthingmaps", "annotations")]
    maps = first_of(root, places, f"the stuffthingmaps of {split}2017")
    pictures = by_stem(coco_images(root, split), "the images")
    names = dict(enumerate(NAMES))
    for name, path in by_stem(maps, "the label maps").items():
        image = find(pictures, name, coco_images(root, split), "the image of a label map")
        size = image_size(image)
        regions = index_regions(read_index_mask(path, size), names, (), (255,), path)
        exhaustive = frozenset(NAMES) - UNUSED
        yield Sample(
            id=f"coco_stuff/{name}", image=image, size=size, regions=regions, source="coco_stuff", exhaustive=exhaustive
        )
