"""Semantic masks: ``images/``, ``masks/`` (palette PNG, pixel = index), ``classes.json`` (names), ``splits/``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from anygrain.data.readers.files import by_stem, find, image_size, need, read_index_mask, read_json, read_names
from anygrain.types import Mask, Region, Sample

HUMAN = {"step": "human"}


def read_mask_folder(
    folder: str | Path,
    split: str,
    *,
    source: str,
    background: Collection[int] = (0,),
    ignore: Collection[int] = (255,),
    exhaustive: Collection[str] = (),
    granularity: str | None = None,
) -> Iterator[Sample]:
    """One Sample a name of ``splits/{split}.txt``, sorted; one Region a category that has pixels.

    background: indices that name nothing. ignore: indices of pixels that are neither foreground nor background: they
    become one ignored region without a category. exhaustive, granularity: what to say of the samples and regions.
    Raises FileNotFoundError or ValueError naming the file.
    """
    folder = Path(folder)
    names = read_json(folder / "classes.json", "a list of category names, the first of index 0")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{folder / 'classes.json'}: expected a list of category names, the first of index 0")
    wanted = read_names(folder / "splits" / f"{split}.txt")
    images = by_stem(folder / "images", "the folder of the images")
    need(folder / "masks", "the folder of the masks")
    for name in wanted:
        image = find(images, name, folder / "images", f"an image, because splits/{split}.txt names it")
        mask = folder / "masks" / f"{name}.png"
        size = image_size(image)
        index = read_index_mask(mask, size)
        regions = index_regions(index, dict(enumerate(names)), background, ignore, mask, granularity)
        sample_id = f"{source}/{name}"
        exhaust = frozenset(exhaustive)
        yield Sample(id=sample_id, image=image, size=size, regions=regions, source=source, exhaustive=exhaust)


def index_regions(
    index: np.ndarray,
    names: Mapping[int, str],
    background: Collection[int],
    ignore: Collection[int],
    path: Path,
    granularity: str | None = None,
    origin: Mapping[str, str] = HUMAN,
) -> tuple[Region, ...]:
    """The regions of an index mask [H, W], in order of index, the ignored one last. path is for the error."""
    regions = []
    for number in np.unique(index).tolist():
        if number in background or number in ignore:
            continue
        if not names.get(number):
            raise ValueError(f"{path}: holds index {number}, but the category list has no name for it")
        mask = Mask.from_array(index == number)
        regions.append(Region(mask=mask, category=names[number], granularity=granularity, origin=origin))
    unsure = np.isin(index, list(ignore))
    if unsure.any():
        regions.append(Region(mask=Mask.from_array(unsure), ignore=True, origin=origin))
    return tuple(regions)
