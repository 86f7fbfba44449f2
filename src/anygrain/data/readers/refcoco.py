"""RefCOCO, RefCOCO+, RefCOCOg (Yu et al. and Mao et al., 2016) and gRefCOCO (Liu et al., CVPR 2023)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from anygrain.data.language import union
from anygrain.data.readers.coco import CocoTable, box_of, checked_size, mask_of, read_table
from anygrain.data.readers.files import check_split, first_of, read_json
from anygrain.data.readers.pickles import read_plain_pickle
from anygrain.types import Mask, Region, Sample, Size

IMAGES = ("images/mscoco/images/train2014", "images/train2014", "train2014")
SPLITS = {
    ("refcoco", "unc"): ("train", "val", "testA", "testB"),
    ("refcoco", "google"): ("train", "val", "test"),
    ("refcoco+", "unc"): ("train", "val", "testA", "testB"),
    ("refcoco+", "google"): ("train", "val", "test"),
    ("refcocog", "umd"): ("train", "val", "test"),
    ("refcocog", "google"): ("train", "val"),  # its test was never published
}
GREF_SPLITS = ("train", "val", "testA", "testB")


def read_refcoco(root: str | Path, split: str, *, name: str, by: str) -> Iterator[Sample]:
    """One Sample an image of a split, sorted by file name, one Region a referred object with all its expressions.

    root: holds ``{name}/refs({by}).p``, ``{name}/instances.json`` and ``images/mscoco/images/train2014``.
    name: "refcoco", "refcoco+" or "refcocog". by: "unc", "google" or "umd": who made the split. The google splits
    divide objects, not images: of RefCOCOg's, the images of val are in train too.
    Expressions are the lower-case ``sent``, as often as the file has them. Only what is referred to is a region, so no
    region has a category (``origin`` names it): "all people" would not be all. ``instance`` is COCO's annotation
    number. An object whose polygon covers no pixel has its box alone.
    Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, SPLITS[name, by], f"{name} ({by})")
    folder = first_of(root, [name], f"{name}/refs({by}).p")
    refs = read_plain_pickle(first_of(folder, [f"refs({by}).p"], f"refs({by}).p"), "the references of REFER")
    yield from _samples(Path(root), folder, refs, split, f"{name}_{by}")


def read_grefcoco(root: str | Path, split: str) -> Iterator[Sample]:
    """gRefCOCO: an expression means one object, several, or none.

    root: holds ``grefcoco/grefs(unc).json``, ``grefcoco/instances.json`` and ``images/train2014``. Several objects
    become one Region of their union, crowds left out, as in the official loader; what means none (``ann_id`` -1) stands
    in ``Sample.absent``. Otherwise as `read_refcoco`.
    """
    check_split(split, GREF_SPLITS, "grefcoco")
    folder = first_of(root, ["grefcoco"], "grefcoco/grefs(unc).json")
    path = first_of(folder, ["grefs(unc).json", "grefs(unc).p"], "grefs(unc).json")
    read = read_plain_pickle if path.suffix == ".p" else read_json
    yield from _samples(Path(root), folder, read(path, "the references of gRefCOCO"), split, "grefcoco")


def _samples(root: Path, folder: Path, refs: list[dict], split: str, source: str) -> Iterator[Sample]:
    images = first_of(root, IMAGES, "the COCO train2014 images")
    table = read_table(first_of(folder, ["instances.json"], "instances.json"))
    entries = {entry["id"]: entry for entry in table.images}
    of_image: dict[int, list[dict]] = defaultdict(list)
    for ref in refs:
        if ref["split"] == split:
            of_image[ref["image_id"]].append(ref)
    if not of_image:
        raise ValueError(f"{folder}: no reference of the split {split!r}, only {sorted({r['split'] for r in refs})}")
    for number in sorted(of_image):
        if number not in entries:
            raise ValueError(f"{table.path}: image {number} is missing, but references name it")
    for number in sorted(of_image, key=lambda number: entries[number]["file_name"]):
        entry = entries[number]
        file = images / entry["file_name"]
        size = checked_size(file, entry, table.path)
        annotations = {annotation["id"]: annotation for annotation in table.annotations[number]}
        regions, absent = [], []
        for ref in of_image[number]:
            sentences = tuple(sentence["sent"] for sentence in ref["sentences"])
            wanted = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
            if wanted == [-1]:
                absent += sentences
            else:
                regions.append(_region(table, ref, wanted, annotations, sentences, size))
        yield Sample(
            id=f"{source}/{Path(entry['file_name']).stem}",
            image=file,
            size=size,
            regions=tuple(regions),
            source=source,
            absent=tuple(absent),
        )


def _region(
    table: CocoTable, ref: Mapping, wanted: list[int], annotations: Mapping[int, Any], sentences: tuple, size: Size
) -> Region:
    for number in wanted:
        if number not in annotations:
            raise ValueError(f"{table.path}: annotation {number} of reference {ref['ref_id']} is missing in its image")
    chosen = [annotations[number] for number in wanted]
    if len(chosen) > 1:
        chosen = [annotation for annotation in chosen if not annotation.get("iscrowd")]
    masks = [mask for annotation in chosen if (mask := mask_of(table.path, annotation, size)) is not None]
    mask: Mask | None = union(masks) if masks else None
    names = dict.fromkeys(table.names[annotation["category_id"]] for annotation in chosen)
    return Region(
        mask=mask,
        box=box_of(chosen[0], size) if mask is None and len(chosen) == 1 else None,
        captions=sentences,
        instance=wanted[0] if len(wanted) == 1 else None,
        origin={"step": "human", "ref_id": str(ref["ref_id"]), "category": ", ".join(names)},
    )
