"""Sources whose masks a teacher drew: the labels of ``pseudo_voc``, alone and inside the human boxes of ``boxes80``.

They are for the first stage of training only: the teacher is unsure of many things and blind to most names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from anygrain.data.boxes import complete_with_boxes, iou
from anygrain.data.coco_boxes import boxes_80, boxes_in_pixels, coco_names
from anygrain.data.readers.files import by_stem, find, image_size, read_index_mask, read_json
from anygrain.data.readers.mask_folder import index_regions
from anygrain.types import Box, Mask, Region, Sample

# What the VOC teacher finds reliably, as the README of pseudo_voc measured; it misses many of the other things.
RELIABLE_VOC = ("bus", "car", "cat", "dog", "horse", "person", "train")
TEACHER = {"step": "teacher", "model": "ESPNetv2 VOC"}
COCO_NAME_OF_VOC = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
FITS = 0.6  # the teacher's mask inside a box must have a box of its own with at least this IoU with it


def read_pseudo_voc(root: Path, split: str) -> Iterator[Sample]:
    """pseudo_voc: a teacher's labels for train photographs of seven folders, only the categories it finds reliably.

    Not exhaustive: what the teacher calls background may hold anything.
    """
    folder = root / "pseudo_voc"
    names = dict(enumerate(read_json(folder / "classes.json", "a list of category names")))
    unreliable = tuple(number for number, name in names.items() if name not in RELIABLE_VOC)
    for image, path in _labelled(root, folder) if split == "train" else ():
        size = image_size(image)
        regions = index_regions(read_index_mask(path, size), names, unreliable, (255,), path, origin=TEACHER)
        sample_id = f"pseudo_voc/{path.parent.name}/{path.stem}"
        yield Sample(id=sample_id, image=image, size=size, regions=regions, source="pseudo_voc")


def _labelled(root: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Photograph and label of every label under pseudo_voc; davis' are named video_frame."""
    for labels in sorted(path for path in folder.iterdir() if path.is_dir()):
        photos = {} if labels.name == "davis" else by_stem(root / labels.name / "images", "the photographs")
        for path in sorted(labels.glob("*.png")):
            if labels.name == "davis":
                video, _, frame = path.stem.rpartition("_")
                yield root / "davis" / "train" / "JPEGImages" / video / f"{frame}.jpg", path
            else:
                yield find(photos, path.stem, root / labels.name / "images", "the photograph of a label"), path


def read_boxes80(root: Path, split: str) -> Iterator[Sample]:
    """boxes80: all boxes of 80 categories for the photos of ``unlabelled``; the teacher's mask where it fills a box.

    All 80 categories are exhaustive. The boxes the teacher drew badly are ignored in questions about their category,
    and a category it drew badly everywhere keeps its bare boxes. Train only.
    """
    names = coco_names(root)
    boxes = boxes_80(root, "unlabelled", names)
    photos = by_stem(root / "unlabelled" / "images", "the photographs")
    classes = read_json(root / "pseudo_voc" / "classes.json", "a list of category names")
    for stem in sorted(boxes) if split == "train" else ():
        image = find(photos, stem, root / "unlabelled" / "images", "a photograph of boxes80")
        size = image_size(image)
        sample = Sample(id=f"boxes80/{stem}", image=image, size=size, regions=(), source="boxes80")
        inside = boxes_in_pixels(boxes, sample)
        labels = read_index_mask(root / "pseudo_voc" / "unlabelled" / f"{stem}.png", size)
        regions = [
            region
            for number, name in enumerate(classes)
            for region in _fitting(labels, number, COCO_NAME_OF_VOC.get(str(name), str(name)), inside)
        ]
        yield complete_with_boxes(replace(sample, regions=tuple(regions)), inside, names)


def _fitting(labels: np.ndarray, number: int, name: str, boxes: dict[str, list[Box]]) -> Iterator[Region]:
    """For each box of a category the teacher's pixels inside, where they fill the box."""
    for box in boxes.get(name, ()):
        mask = Mask.from_array(_inside(labels == number, box))
        if mask.box is not None and iou(mask.box, box) >= FITS:
            yield Region(mask=mask, box=box, category=name, origin=TEACHER)


def _inside(mask: np.ndarray, box: Sequence[float]) -> np.ndarray:
    cut = np.zeros_like(mask)
    y0, x0, y1, x1 = (max(0, round(v)) for v in (box[1], box[0], box[3], box[2]))
    cut[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
    return cut
