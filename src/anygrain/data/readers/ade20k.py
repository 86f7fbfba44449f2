"""ADE20K-150: the scene parsing benchmark, SceneParsing / ADEChallengeData2016 (Zhou et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anygrain.data.readers.files import by_stem, check_split, find, first_names, first_of, image_size, read_index_mask
from anygrain.data.readers.mask_folder import index_regions
from anygrain.types import Sample

FOLDERS = {"train": "training", "val": "validation"}


def read_ade20k(root: str | Path, split: str) -> Iterator[Sample]:
    """One Sample an image, sorted, one Region a category. Splits train, val.

    root: ``ADEChallengeData2016`` or its parent: ``images/{training,validation}``, ``annotations/{training,
    validation}``, ``objectInfo150.txt``. A pixel is the category's number from 1 on; 0 is "other", which the benchmark
    leaves out of every count: it is ignored, not background. Of the names "building, edifice" the first is taken.
    Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, tuple(FOLDERS), "ade20k_150")
    path = first_of(root, ["objectInfo150.txt", "ADEChallengeData2016/objectInfo150.txt"], "objectInfo150.txt")
    names = dict(enumerate(_names(path), start=1))
    maps = first_of(path.parent, [f"annotations/{FOLDERS[split]}"], f"annotations/{FOLDERS[split]}")
    folder = first_of(path.parent, [f"images/{FOLDERS[split]}"], f"images/{FOLDERS[split]}")
    pictures = by_stem(folder, "the images")
    for name, file in by_stem(maps, "the label maps").items():
        image = find(pictures, name, folder, "the image of a label map")
        size = image_size(image)
        yield Sample(
            id=f"ade20k_150/{name}",
            image=image,
            size=size,
            regions=index_regions(read_index_mask(file, size), names, (), (0,), file),
            source="ade20k_150",
            exhaustive=frozenset(names.values()),
        )


def _names(path: Path) -> list[str]:
    """The last column of a table with tabs: Idx, Ratio, Train, Val, Name."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    numbers = [row[0].strip() for row in rows[1:]]
    if numbers != [str(number) for number in range(1, len(rows))] or len(rows) < 2:
        raise ValueError(f"{path}: expected the columns Idx, Ratio, Train, Val, Name, numbered from 1")
    return first_names([row[-1] for row in rows[1:]])
