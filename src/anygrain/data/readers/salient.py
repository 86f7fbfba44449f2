"""One object an image: binary masks, or trimaps with an unsure rim, beside a folder of images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np

from anygrain.data.language import SALIENT
from anygrain.data.readers.files import by_stem, find, image_size, read_index_mask
from anygrain.types import Mask, Region, Sample

HUMAN = {"step": "human"}


def read_salient(
    images: str | Path,
    masks: str | Path,
    *,
    source: str,
    names: Collection[str] | None = None,
    foreground: int | None = None,
    least: int = 128,
    ignore: Collection[int] = (),
    category: Callable[[str], str | None] | str | None = None,
    exhaustive: Collection[str] = (),
    single: bool = False,
) -> Iterator[Sample]:
    """One Sample a mask (or a name of ``names``), sorted, with the caption "the most salient object".

    foreground: the object's pixel value; None takes every value of at least ``least``, as 0/255 masks with soft
    edges mean.
    ignore: values that are neither object nor background. category: a name, or a function from the file's name to one.
    single: every mask is one thing, not several of a name.
    An object without a pixel gives a Sample without its region. Raises FileNotFoundError or ValueError naming the file.
    """
    pictures = by_stem(Path(images), "the folder of the images")
    drawn = by_stem(Path(masks), "the folder of the masks")
    for name in sorted(names if names is not None else drawn):
        image = find(pictures, name, Path(images), "the image of a mask")
        mask = find(drawn, name, Path(masks), "the mask of an image")
        size = image_size(image)
        index = read_index_mask(mask, size)
        unsure = np.isin(index, list(ignore))
        inside = (index >= least) & ~unsure if foreground is None else index == foreground
        regions = []
        if inside.any():
            called = category(name) if callable(category) else category
            number = 1 if single else None
            mask = Mask.from_array(inside)
            regions.append(Region(mask=mask, captions=(SALIENT,), category=called, instance=number, origin=HUMAN))
        if unsure.any():
            regions.append(Region(mask=Mask.from_array(unsure), ignore=True, origin=HUMAN))
        sample_id, exhaust = f"{source}/{name}", frozenset(exhaustive)
        yield Sample(id=sample_id, image=image, size=size, regions=tuple(regions), source=source, exhaustive=exhaust)
