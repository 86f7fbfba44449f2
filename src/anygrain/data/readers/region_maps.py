"""Several people's segmentations of one image: ``masks/<annotator>/<name>.png`` (pixel = region number), no names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from anygrain.data.readers.files import by_stem, find, image_size, need, read_index_mask, read_names
from anygrain.types import Mask, Region, Sample, Size


def read_region_maps(folder: str | Path, split: str, *, source: str) -> Iterator[Sample]:
    """One Sample a name of ``splits/{split}.txt``, sorted, with the regions of every annotator who drew it.

    Regions have no name; ``origin["annotator"]`` says whose they are and ``instance`` is the number in that map.
    One annotator's regions cover the image; those of two annotators overlap.
    Raises FileNotFoundError or ValueError naming the file.
    """
    folder = Path(folder)
    wanted = read_names(folder / "splits" / f"{split}.txt")
    images = by_stem(folder / "images", "the folder of the images")
    annotators = sorted(p for p in need(folder / "masks", "a folder an annotator").iterdir() if p.is_dir())
    for name in wanted:
        image = find(images, name, folder / "images", f"an image, because splits/{split}.txt names it")
        size = image_size(image)
        maps = [path for annotator in annotators if (path := annotator / f"{name}.png").exists()]
        if not maps:
            raise FileNotFoundError(
                f"{folder / 'masks'}/*/{name}.png: not found; expected at least one annotator's map"
            )
        regions = tuple(region for path in maps for region in _regions(path, size))
        yield Sample(id=f"{source}/{name}", image=image, size=size, regions=regions, source=source)


def _regions(path: Path, size: Size) -> Iterator[Region]:
    index = read_index_mask(path, size)
    origin = {"step": "human", "annotator": path.parent.name}
    for number in np.unique(index).tolist():
        yield Region(mask=Mask.from_array(index == number), instance=number, origin=origin)
