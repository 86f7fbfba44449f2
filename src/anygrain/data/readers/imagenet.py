"""ImageNet-1k (ILSVRC 2012) as folders: one name an image, no place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anygrain.data.readers.files import IMAGE_SUFFIXES, check_split, first_names, first_of, image_size
from anygrain.data.readers.mask_folder import HUMAN
from anygrain.types import Region, Sample


def read_imagenet(root: str | Path, split: str) -> Iterator[Sample]:
    """One Sample an image, sorted, with one Region that has a category but neither mask nor box. Splits train, val.

    root: ``{split}/{synset}/*.JPEG`` (or ``ILSVRC/Data/CLS-LOC/{split}/...``) and ``LOC_synset_mapping.txt``, lines as
    "n01440764 tench, Tinca tinca". A flat ``val/`` is read with ``LOC_val_solution.csv``. The first synonym is
    the name; where two synsets share it ("crane"), all synonyms are.
    Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, ("train", "val"), "imagenet")
    folder = first_of(root, [split, f"ILSVRC/Data/CLS-LOC/{split}"], f"the images of {split}")
    path = first_of(root, ["LOC_synset_mapping.txt"], "LOC_synset_mapping.txt")
    lines = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    names = dict(zip((line[0] for line in lines), first_names([line[1] for line in lines]), strict=True))
    flat = not any(child.is_dir() for child in folder.iterdir())
    synsets = _solution(first_of(root, ["LOC_val_solution.csv"], "LOC_val_solution.csv")) if flat else {}
    for image in sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES):
        synset = synsets.get(image.stem) if flat else image.parent.name
        if synset not in names:
            raise ValueError(f"{image}: its synset {synset!r} has no name in {path}")
        region = Region(category=names[synset], origin=HUMAN | {"synset": synset})
        size = image_size(image)
        yield Sample(id=f"imagenet/{image.stem}", image=image, size=size, regions=(region,), source="imagenet")


def _solution(path: Path) -> dict[str, str]:
    """Synset of each image, of lines "ILSVRC2012_val_00048981,n03995372 85 1 499 272 "."""
    rows = (line.split(",") for line in path.read_text(encoding="utf-8").splitlines()[1:] if line.strip())
    return {name: answer.split()[0] for name, answer in rows}
