"""ADE20K in full (Zhou et al., IJCV 2019), the release of 2021: every object, its parts, and the parts of those."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from anygrain.data.readers.files import check_split, first_of, image_size, need
from anygrain.data.readers.mask_folder import HUMAN
from anygrain.images import decode_image
from anygrain.types import Mask, Region, Sample, Size

FOLDERS = {"train": "training", "val": "validation"}


def read_ade20k_full(root: str | Path, split: str) -> Iterator[Sample]:
    """One Sample an image, sorted by path, one Region an object or part. Splits train, val.

    root: ``ADE20K_2021_17_01`` or its parent: ``images/ADE/{training,validation}/.../NAME.jpg`` with ``NAME.json``,
    ``NAME_seg.png``, ``NAME_parts_{level}.png`` and the masks ``NAME/instance_*.png``.
    The instance masks show also what is hidden. Of one a Region takes the pixels that the map of its level gives to its
    name: ``NAME_seg.png`` for objects, ``NAME_parts_{level}.png`` for parts, where R // 10 * 256 + G is ``name_ndx``.
    An object is called by the first of its synonyms ("car, auto": "car") and has granularity "object"; a part is called
    "car:wheel", after what it is directly part of. What is wholly hidden is left out.
    Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, tuple(FOLDERS), "ade20k_full")
    inside = f"images/ADE/{FOLDERS[split]}"
    folder = first_of(root, [inside, f"ADE20K_2021_17_01/{inside}"], inside)
    for path in sorted(folder.rglob("*.json")):
        image = need(path.with_suffix(".jpg"), "the image of an annotation")
        size = image_size(image)
        regions = tuple(_regions(path, size))
        yield Sample(id=f"ade20k_full/{path.stem}", image=image, size=size, regions=regions, source="ade20k_full")


def _regions(path: Path, size: Size) -> Iterator[Region]:
    objects = _read(path)
    named = {thing["id"]: thing["name"].split(",")[0].strip() for thing in objects}
    maps: dict[int, np.ndarray] = {}
    for thing in objects:
        level, whole = int(thing["parts"]["part_level"]), thing["parts"]["ispartof"]
        if level not in maps:
            suffix = f"_parts_{level}.png" if level else "_seg.png"
            colours = _picture(path.with_name(path.stem + suffix), size)
            maps[level] = colours[..., 0] // 10 * 256 + colours[..., 1]
        mask = _picture(path.parent / thing["instance_mask"], size).any(-1) & (maps[level] == thing["name_ndx"])
        if level and whole not in named:
            raise ValueError(f"{path}: the part {thing['id']} is part of {whole}, which is no object there")
        if mask.any():
            yield Region(
                mask=Mask.from_array(mask),
                category=f"{named[whole]}:{named[thing['id']]}" if level else named[thing["id"]],
                granularity="part" if level else "object",
                instance=thing["id"],
                origin=HUMAN,
            )


def _read(path: Path) -> list[dict[str, Any]]:
    """The objects of an annotation; a few of the files are Latin-1 and not UTF-8."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    try:
        return json.loads(text)["annotation"]["object"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not an annotation of ADE20K ({error!r})") from None


def _picture(path: Path, size: Size) -> np.ndarray:
    """A PNG as int64 [H, W, channels]. Raises ValueError when it is of another size."""
    array = np.asarray(decode_image(need(path, "a map or mask of ADE20K")), np.int64)
    if array.shape[:2] != size:
        raise ValueError(f"{path}: the map is {array.shape[:2]} and its image {size} (height, width)")
    return array.reshape(*size, -1)
