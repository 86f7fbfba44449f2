"""PhraseCut (Wu et al., CVPR 2020): phrases about regions of Visual Genome images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from anygrain.data.readers.files import check_split, each_record, first_of, image_size
from anygrain.types import Mask, Region, Sample, Size

SPLITS = ("train", "val", "test", "miniv")
Polygon = np.ndarray  # int32 [points, 2], x and y


def read_phrasecut(root: str | Path, split: str) -> Iterator[Sample]:
    """One Sample an image, in order of its number, one Region a phrase (the union of all instances it means).

    root: ``VGPhraseCut_v0`` or a folder that holds it, with ``refer_{split}.json`` and ``images/{number}.jpg``.
    Polygons are drawn as the official code does: corners cut to whole pixels and joined by ``PIL.ImageDraw``, outline
    included. COCO's rule would draw thin things up to half a pixel smaller on each side.
    Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, SPLITS, "phrasecut")
    places = [f"refer_{split}.json", f"VGPhraseCut_v0/refer_{split}.json", f"data/VGPhraseCut_v0/refer_{split}.json"]
    path = first_of(root, places, f"refer_{split}.json")
    images = first_of(path.parent, ["images"], "the folder images/")
    tasks: dict[int, list[tuple[str, str, list[Polygon]]]] = defaultdict(list)
    for task in each_record(path, "the phrases of PhraseCut"):
        polygons = [np.array(p, np.float64).astype(np.int32) for instance in task["Polygons"] for p in instance if p]
        tasks[task["image_id"]].append((task["phrase"], str(task["task_id"]), polygons))
    for number in sorted(tasks):
        image = first_of(images, [f"{number}.jpg"], f"image {number}.jpg")
        size = image_size(image)
        regions = tuple(
            Region(mask=mask, captions=(phrase,), origin={"step": "human", "task_id": name})
            for phrase, name, polygons in tasks.pop(number)
            if (mask := _draw(polygons, size)).area
        )
        yield Sample(id=f"phrasecut/{number}", image=image, size=size, regions=regions, source="phrasecut")


def _draw(polygons: Sequence[Polygon], size: Size) -> Mask:
    canvas = Image.new("L", (size[1], size[0]), 0)
    for polygon in polygons:
        if len(polygon) > 1:
            ImageDraw.Draw(canvas).polygon([(x, y) for x, y in polygon.tolist()], outline=1, fill=1)
    return Mask.from_array(np.asarray(canvas))
