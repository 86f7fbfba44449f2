"""ADE20K (Zhou et al., CVPR 2017): 150 categories of ADEChallengeData2016, and 847 of the full set."""

from __future__ import annotations

import ast
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


SCRIPT = "prepare_ade20k_full_sem_seg.py"
LIST = "ADE20K_SEM_SEG_FULL_CATEGORIES"
UNLISTED = 65535


def read_ade20k_847(root: str | Path, split: str) -> Iterator[Sample]:
    """ADE20K-847, the full set's 847 most frequent categories, one Region a category. Splits train, val.

    root: ``ADE20K_2021_17_01`` or its parent, as MaskFormer's ``prepare_ade20k_full_sem_seg.py`` leaves it:
    ``images_detectron2/{training,validation}/*.jpg`` (short side 512 at most) and ``annotations_detectron2/...*.tif``
    of 16 bits, a pixel the category's number from 0 on, 65535 ignored. The names stand nowhere but in that script: put
    it into root. It is read, not run. Of the names "building, edifice" the first is taken.
    Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, tuple(FOLDERS), "ade20k_847")
    script = first_of(root, [SCRIPT, f"ADE20K_2021_17_01/{SCRIPT}"], f"MaskFormer's datasets/{SCRIPT}, for the names,")
    names = dict(enumerate(_listed(script)))
    what = f"annotations_detectron2/{FOLDERS[split]}"
    maps = first_of(root, [what, f"ADE20K_2021_17_01/{what}"], what)
    folder = maps.parents[1] / "images_detectron2" / FOLDERS[split]
    pictures = by_stem(folder, "the images")
    for file in sorted(maps.glob("*.tif")):
        image = find(pictures, file.stem, folder, "the image of a label map")
        size = image_size(image)
        yield Sample(
            id=f"ade20k_847/{file.stem}",
            image=image,
            size=size,
            regions=index_regions(read_index_mask(file, size), names, (), (UNLISTED,), file),
            source="ade20k_847",
            exhaustive=frozenset(names.values()),
        )


def _listed(script: Path) -> list[str]:
    """The names of the list that a Python file assigns, by their ``trainId``."""
    try:
        tree = ast.parse(script.read_text(encoding="utf-8"))
        assigned = next(
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == LIST for target in node.targets)
        )
        rows = sorted(ast.literal_eval(assigned), key=lambda row: row["trainId"])
        if not rows or [row["trainId"] for row in rows] != list(range(len(rows))):
            raise ValueError("trainIds are not 0, 1, 2 ...")
        return first_names([row["name"] for row in rows])
    except (SyntaxError, StopIteration, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{script}: no list {LIST} of names and trainIds ({error}); expected MaskFormer's file"
        ) from None
