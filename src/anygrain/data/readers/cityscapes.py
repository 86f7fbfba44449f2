"""Cityscapes (Cordts et al., CVPR 2016), fine annotations: label maps, and instances of the eight countable things."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from anygrain.data.readers.files import check_split, first_of, image_size, read_index_mask
from anygrain.data.readers.mask_folder import HUMAN, index_regions
from anygrain.types import Mask, Region, Sample

SPLITS = ("train", "val")  # the labels of test are not public: its files hold only "out of roi" and the like
# By id (not by trainId): the 19 categories of the benchmark. Every other id is left out of the evaluation.
CATEGORIES = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
LAST = 33
THINGS = (24, 25, 26, 27, 28, 31, 32, 33)


def read_cityscapes(root: str | Path, split: str) -> Iterator[Sample]:
    """One Sample an image, sorted by city and name, one Region a category. Splits train, val.

    root: ``leftImg8bit/{split}/{city}/*_leftImg8bit.png`` and ``gtFine/{split}/{city}/*_gtFine_labelIds.png``. Pixels
    are ids 0..33, of which the benchmark counts 19; the others are ignored. Maps of trainIds (``*_labelTrainIds.png``)
    and colours (``*_color.png``) are not read.
    Raises FileNotFoundError or ValueError naming the file.
    """
    for name, image, folder in _files(root, split):
        size = image_size(image)
        path = first_of(folder, [f"{name}_gtFine_labelIds.png"], f"{name}_gtFine_labelIds.png")
        ids = read_index_mask(path, size)
        if ids.max() > LAST:
            raise ValueError(f"{path}: holds {ids.max()}, but label ids end at {LAST}; a map of trainIds has 255")
        regions = index_regions(ids, CATEGORIES, (), _others(ids), path)
        exhaustive = frozenset(CATEGORIES.values())
        sample_id = f"cityscapes/{image.parent.name}/{name}"
        yield Sample(id=sample_id, image=image, size=size, regions=regions, source="cityscapes", exhaustive=exhaustive)


def read_cityscapes_instances(root: str | Path, split: str) -> Iterator[Sample]:
    """As `read_cityscapes` with ``*_gtFine_instanceIds.png``: one Region an object of the eight things.

    A pixel is 1000 x id + number for an object, and the bare id for a group that nobody took apart: an ignored region
    of its category, as a crowd. What the benchmark leaves out is ignored too.
    """
    yield from _segments(root, split, "cityscapes_instances", THINGS)


def read_cityscapes_panoptic(root: str | Path, split: str) -> Iterator[Sample]:
    """As `read_cityscapes_instances`, and one Region for each of the eleven kinds of stuff.

    Things are of granularity "object", stuff of "scene".
    """
    for sample in _segments(root, split, "cityscapes_panoptic", tuple(CATEGORIES)):
        things = {CATEGORIES[label] for label in THINGS}
        regions = tuple(
            r if r.category is None else replace(r, granularity="object" if r.category in things else "scene")
            for r in sample.regions
        )
        yield replace(sample, regions=regions)


def _segments(root: str | Path, split: str, source: str, wanted: tuple[int, ...]) -> Iterator[Sample]:
    for name, image, folder in _files(root, split):
        size = image_size(image)
        path = first_of(folder, [f"{name}_gtFine_instanceIds.png"], f"{name}_gtFine_instanceIds.png")
        numbers = read_index_mask(path, size)
        regions = []
        for number in np.unique(numbers).tolist():
            label = number // 1000 if number >= 1000 else number
            if label not in wanted:
                continue
            mask, group = Mask.from_array(numbers == number), number < 1000 and label in THINGS
            place = number if number >= 1000 else None
            regions.append(Region(mask=mask, category=CATEGORIES[label], instance=place, ignore=group, origin=HUMAN))
        labels = np.where(numbers >= 1000, numbers // 1000, numbers)
        if (void := np.isin(labels, _others(labels))).any():
            regions.append(Region(mask=Mask.from_array(void), ignore=True, origin=HUMAN))
        exhaustive = frozenset(CATEGORIES[label] for label in wanted)
        sample_id = f"{source}/{image.parent.name}/{name}"
        yield Sample(id=sample_id, image=image, size=size, regions=tuple(regions), source=source, exhaustive=exhaustive)


def _others(labels: np.ndarray) -> list[int]:
    return [label for label in np.unique(labels).tolist() if label not in CATEGORIES]


def _files(root: str | Path, split: str) -> Iterator[tuple[str, Path, Path]]:
    """Name, image and folder of annotations."""
    check_split(split, SPLITS, "cityscapes")
    images = first_of(root, [f"leftImg8bit/{split}"], f"leftImg8bit/{split}")
    truth = first_of(root, [f"gtFine/{split}"], f"gtFine/{split}")
    for image in sorted(images.glob("*/*_leftImg8bit.png")):
        yield image.name.removesuffix("_leftImg8bit.png"), image, truth / image.parent.name
