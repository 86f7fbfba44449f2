"""SBD, Semantic Boundaries (Hariharan et al., ICCV 2011): PASCAL VOC's 20 categories on 11,355 photos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from anygrain.data.readers.files import check_split, first_of, image_size, need, read_names
from anygrain.data.readers.mask_folder import HUMAN
from anygrain.data.readers.pascal import VOC
from anygrain.types import Mask, Region, Sample

SPLITS = ("train", "val", "train_noval")


def read_sbd(root: str | Path, split: str) -> Iterator[Sample]:
    """One Region an object, with its category. Splits train, val, train_noval.

    root: ``benchmark_RELEASE/dataset`` or a parent: ``img/*.jpg``, ``inst/*.mat`` (``GTinst`` with ``Segmentation``, a
    pixel the object's number from 1 on, and ``Categories``, a number of VOC's each) and ``{split}.txt``.
    ``train_noval.txt`` is a list of other projects: the photos that are not in VOC 2012's val. SBD's own val holds
    photos of VOC's train and the other way round: "VOC aug" is VOC's train and train_noval. There is no rim.
    Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, SPLITS, "sbd")
    places = [f"{prefix}{split}.txt" for prefix in ("", "dataset/", "benchmark_RELEASE/dataset/", "sbd/")]
    path = first_of(root, places, f"{split}.txt")
    folder = path.parent
    for name in read_names(path):
        image = need(folder / "img" / f"{name}.jpg", f"an image, because {path.name} names it")
        size = image_size(image)
        file = need(folder / "inst" / f"{name}.mat", "the objects of an image")
        numbers, categories = _objects(file)
        if numbers.shape != size:
            raise ValueError(f"{file}: the map is {numbers.shape} and its image {size} (height, width)")
        regions = []
        for number in np.unique(numbers[numbers > 0]).tolist():
            kind = categories[number - 1] if number <= len(categories) else 0
            if not 0 < kind <= len(VOC):
                raise ValueError(f"{file}: object {number} has the category {kind}; expected one of 1 to 20")
            mask = Mask.from_array(numbers == number)
            regions.append(Region(mask=mask, category=VOC[kind - 1], instance=number, origin=HUMAN))
        yield Sample(
            id=f"sbd/{name}", image=image, size=size, regions=tuple(regions), source="sbd", exhaustive=frozenset(VOC)
        )


def _objects(file: Path) -> tuple[np.ndarray, list[int]]:
    """The map of objects [H, W] and the category of each."""
    from scipy.io import loadmat

    try:
        truth: Any = loadmat(file, squeeze_me=True, struct_as_record=False)["GTinst"]
        return np.asarray(truth.Segmentation), [int(kind) for kind in np.atleast_1d(truth.Categories)]
    except (KeyError, AttributeError, ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"{file}: no GTinst with Segmentation and Categories ({error}); expected SBD's inst/*.mat"
        ) from None
