"""PASCAL VOC segmentation (Everingham et al., 2010) and PASCAL-Context (Mottaghi et al., CVPR 2014)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from anygrain.data.readers.files import check_split, first_of, image_size, need, read_index_mask, read_names
from anygrain.data.readers.mask_folder import HUMAN, index_regions
from anygrain.types import Mask, Region, Sample, Size

VOC = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
RIM = 255  # a band of about 5 pixels around every object, neither inside nor outside


def read_voc(root: str | Path, split: str) -> Iterator[Sample]:
    """PASCAL VOC 2012, one Region a category. Splits train, val, trainval.

    root: ``VOCdevkit/VOC2012``, or a parent: ``JPEGImages``, ``SegmentationClass`` (palette PNG, 255 the rim) and
    ``ImageSets/Segmentation/{split}.txt``. The rim is ignored, the background (0) no region.
    Raises FileNotFoundError or ValueError naming the file.
    """
    names = dict(enumerate(VOC, start=1))
    folder, listing = listed(root, split, ("train", "val", "trainval"), "voc2012", "Segmentation")
    for name in listing:
        image, size = picture(folder, name)
        path = folder / "SegmentationClass" / f"{name}.png"
        regions = index_regions(read_index_mask(path, size), names, (0,), (RIM,), path)
        yield _sample("voc2012", image, size, regions, VOC)


def read_voc_instances(root: str | Path, split: str) -> Iterator[Sample]:
    """As `read_voc`, one Region an object, of ``SegmentationObject`` with the category of ``SegmentationClass``."""
    folder, listing = listed(root, split, ("train", "val", "trainval"), "voc2012_instances", "Segmentation")
    for name in listing:
        image, size = picture(folder, name)
        classes = read_index_mask(folder / "SegmentationClass" / f"{name}.png", size)
        path = folder / "SegmentationObject" / f"{name}.png"
        objects = read_index_mask(path, size)
        regions = []
        for number in np.unique(objects).tolist():
            if number in (0, RIM):
                continue
            mask = objects == number
            kinds = np.unique(classes[mask]).tolist()
            if len(kinds) != 1 or not 0 < kinds[0] <= len(VOC):
                raise ValueError(f"{path}: object {number} lies on the categories {kinds}; expected one of 1 to 20")
            category = VOC[kinds[0] - 1]
            regions.append(Region(mask=Mask.from_array(mask), category=category, instance=number, origin=HUMAN))
        if (rim := objects == RIM).any():
            regions.append(Region(mask=Mask.from_array(rim), ignore=True, origin=HUMAN))
        yield _sample("voc2012_instances", image, size, tuple(regions), VOC)


def read_pascal_context(root: str | Path, split: str, *, categories: int) -> Iterator[Sample]:
    """PASCAL-Context with 59 or all 459 categories, one Region a category. Splits train, val.

    root: ``VOCdevkit/VOC2010`` or a parent, with ``JPEGImages``, ``ImageSets/SegmentationContext/{split}.txt``, the
    unpacked ``trainval/*.mat`` (``LabelMap``, numbers from 1 on) with ``labels.txt`` ("1: accordion") and
    ``59_labels.txt``, each in the folder or in ``root``. With 59 categories the pixels of the other 400 are ignored:
    the benchmark counts neither them nor a background (the one with 60 does).
    Raises FileNotFoundError or ValueError naming the file.
    """
    from scipy.io import loadmat

    source = f"pascal_context_{categories}"
    folder, listing = listed(root, split, ("train", "val"), source, "SegmentationContext")
    names = _numbered(near(root, folder, "labels.txt"))
    if categories == 59:
        kept = set(_numbered(near(root, folder, "59_labels.txt")).values())
        if missing := kept - set(names.values()):
            raise ValueError(f"59_labels.txt names {sorted(missing)}, which labels.txt does not have")
        names = {number: name for number, name in names.items() if name in kept}
    maps = near(root, folder, "trainval")
    for name in listing:
        image, size = picture(folder, name)
        path = need(maps / f"{name}.mat", "the label map of an image")
        labels = np.asarray(loadmat(path)["LabelMap"])
        if labels.shape != size:
            raise ValueError(f"{path}: the map is {labels.shape} and its image {size} (height, width)")
        others = {number for number in np.unique(labels).tolist() if number not in names}
        ignore = others if categories == 59 else others & {0}
        regions = index_regions(labels, names, (), sorted(ignore), path)
        yield _sample(source, image, size, regions, tuple(names.values()))


def _numbered(path: Path) -> dict[int, str]:
    """Names by number, of lines "12: bag"."""
    lines = re.findall(r"^\s*(\d+)\s*:\s*(.+?)\s*$", path.read_text(encoding="utf-8"), re.MULTILINE)
    if not lines:
        raise ValueError(f"{path}: expected lines as '1: accordion'")
    return {int(number): name for number, name in lines}


def near(root: str | Path, folder: Path, name: str) -> Path:
    """What came in another download: in the VOC folder or in the root."""
    return folder / name if (folder / name).exists() else first_of(root, [name], name)


def listed(root: str | Path, split: str, splits: tuple[str, ...], source: str, task: str) -> tuple[Path, list[str]]:
    """The folder VOC2010 or VOC2012 and the names of ``ImageSets/{task}/{split}.txt``."""
    check_split(split, splits, source)
    year = "VOC2012" if task == "Segmentation" else "VOC2010"
    name = f"ImageSets/{task}/{split}.txt"
    path = first_of(root, [f"{prefix}{name}" for prefix in ("", f"{year}/", f"VOCdevkit/{year}/")], name)
    return path.parents[2], read_names(path)


def picture(folder: Path, name: str) -> tuple[Path, Size]:
    """An image of ``JPEGImages`` and its size."""
    image = first_of(folder / "JPEGImages", [f"{name}.jpg"], f"{name}.jpg")
    return image, image_size(image)


def _sample(source: str, image: Path, size: Size, regions: tuple[Region, ...], names: tuple[str, ...]) -> Sample:
    return Sample(
        id=f"{source}/{image.stem}", image=image, size=size, regions=regions, source=source, exhaustive=frozenset(names)
    )
