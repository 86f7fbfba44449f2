"""PASCAL-Part (Chen et al., CVPR 2014)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anygrain.data.readers.files import need
from anygrain.data.readers.mask_folder import HUMAN
from anygrain.data.readers.pascal import listed, near, picture
from anygrain.types import Mask, Region, Sample, Size


def read_pascal_part(root: str | Path, split: str) -> Iterator[Sample]:
    """PASCAL-Part (Chen et al., CVPR 2014): objects of VOC 2010 and their parts. Splits train, val, trainval.

    root: ``VOCdevkit/VOC2010`` or a parent, with ``JPEGImages``, ``ImageSets/Main/{split}.txt`` and the unpacked
    ``Annotations_Part/*.mat``, in the folder or in ``root``. An object is a Region "dog" of granularity
    "object", a part a Region "dog:left ear" of granularity "part"; both have the object's place in the file as
    instance. Papers merge the parts each in its own way (left and right, wheel_1 and wheel_2): state the list used.
    Raises FileNotFoundError or ValueError naming the file.
    """
    from scipy.io import loadmat

    folder, listing = listed(root, split, ("train", "val", "trainval"), "pascal_part", "Main")
    drawn = near(root, folder, "Annotations_Part")
    for name in listing:
        path = need(drawn / f"{name}.mat", "the parts of an image")
        image, size = picture(folder, name)
        record = loadmat(path, squeeze_me=True, struct_as_record=False)["anno"]
        regions = tuple(
            region
            for number, thing in enumerate(_many(record.objects), start=1)
            for region in _thing(thing, number, size, path)
        )
        yield Sample(id=f"pascal_part/{name}", image=image, size=size, regions=regions, source="pascal_part")


def _thing(thing: Any, number: int, size: Size, path: Path) -> Iterator[Region]:
    name = thing.__dict__["class"]
    for category, drawn, level in [
        (name, thing.mask, "object"),
        *((f"{name}:{part_name(part.part_name)}", part.mask, "part") for part in _many(thing.parts)),
    ]:
        if np.shape(drawn) != size:
            raise ValueError(f"{path}: a mask of {category} is {np.shape(drawn)} and the image {size} (height, width)")
        if np.any(drawn):
            mask = Mask.from_array(np.asarray(drawn) > 0)
            yield Region(mask=mask, category=category, granularity=level, instance=number, origin=HUMAN)


def _many(value: Any) -> list[Any]:
    """What MATLAB gives as nothing, one struct or a row of them."""
    return list(value) if isinstance(value, np.ndarray) else [value]


SIDES = {"l": "left", "r": "right", "f": "front", "b": "back"}
PARTS: Mapping[str, str] = {
    "fwheel": "front wheel",
    "bwheel": "back wheel",
    "chainwheel": "chain wheel",
    "frontside": "front side",
    "leftside": "left side",
    "rightside": "right side",
    "backside": "back side",
    "roofside": "roof",
    "leftmirror": "left mirror",
    "rightmirror": "right mirror",
    "fliplate": "front licence plate",
    "bliplate": "back licence plate",
    "lebrow": "left eyebrow",
    "rebrow": "right eyebrow",
    "rear": "right ear",
    "lear": "left ear",
    "hfrontside": "head front side",
    "hleftside": "head left side",
    "hrightside": "head right side",
    "hbackside": "head back side",
    "hroofside": "head roof",
    "cfrontside": "coach front side",
    "cleftside": "coach left side",
    "crightside": "coach right side",
    "cbackside": "coach back side",
    "croofside": "coach roof",
}
_LIMB = re.compile(r"([lr])([fbul]?)([ul]?)(leg|arm|pa|ho|hand|foot|eye|horn|wing)")
_LIMBS = {"pa": "paw", "ho": "hoof"}


def part_name(code: str) -> str:
    """PASCAL-Part's codes as words: "lfuleg" -> "left front upper leg", "wheel_2" -> "wheel", "lear" -> "left ear"."""
    code = re.sub(r"_\d+$", "", code)
    if code in PARTS:
        return PARTS[code]
    if not (found := _LIMB.fullmatch(code)):
        return code
    side, first, second, limb = found.groups()
    words = [SIDES[side]]
    if first in ("f", "b"):
        words.append(SIDES[first])
        first, second = second, ""
    words += [{"u": "upper", "l": "lower"}[first]] if first else []
    return " ".join([*words, _LIMBS.get(limb, limb)])
