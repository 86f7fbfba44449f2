"""LIP, Look into Person (Gong et al., CVPR 2017): parts and clothes of one person an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anygrain.data.readers.files import by_stem, check_split, find, first_of, image_size, read_index_mask, read_names
from anygrain.data.readers.mask_folder import index_regions
from anygrain.types import Sample

# In order of index, the background first. Left and right are the person's own.
NAMES = (
    "background",
    "hat",
    "hair",
    "glove",
    "sunglasses",
    "upper clothes",
    "dress",
    "coat",
    "socks",
    "pants",
    "jumpsuit",
    "scarf",
    "skirt",
    "face",
    "left arm",
    "right arm",
    "left leg",
    "right leg",
    "left shoe",
    "right shoe",
)


def read_lip(root: str | Path, split: str) -> Iterator[Sample]:
    """One Sample an image of ``{split}_id.txt``, sorted, one Region a category. Splits train, val.

    root: ``{split}_images/*.jpg`` and ``{split}_id.txt`` (or both inside ``TrainVal_images``), and
    ``TrainVal_parsing_annotations/{split}_segmentations/*.png``. The background counts as a category in LIP's own mIoU
    over 20; here it is no region.
    Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, ("train", "val"), "lip")
    prefixes = ("", "TrainVal_images/", "TrainVal_images/TrainVal_images/")
    folder = first_of(root, [f"{prefix}{split}_images" for prefix in prefixes], f"{split}_images")
    names = first_of(root, [f"{prefix}{split}_id.txt" for prefix in prefixes], f"{split}_id.txt")
    maps = f"{split}_segmentations"
    prefixes = ("TrainVal_parsing_annotations/", "TrainVal_parsing_annotations/TrainVal_parsing_annotations/", "")
    drawn = first_of(root, [prefix + maps for prefix in prefixes], maps)
    pictures = by_stem(folder, "the images")
    for name in read_names(names):
        image = find(pictures, name, folder, f"an image, because {names.name} names it")
        size = image_size(image)
        path = drawn / f"{name}.png"
        regions = index_regions(read_index_mask(path, size), dict(enumerate(NAMES)), (0,), (), path, "part")
        exhaustive = frozenset(NAMES[1:])
        yield Sample(id=f"lip/{name}", image=image, size=size, regions=regions, source="lip", exhaustive=exhaustive)
