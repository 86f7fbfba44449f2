"""Panoptic maps in COCO's form: a PNG whose colours are segment ids, and a JSON of what the segments are.

Format: https://cocodataset.org/#format-data (4. panoptic segmentation); Kirillov et al., arXiv 1801.00868.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anygrain.images import write_atomic, write_image
from anygrain.types import Prediction


def to_panoptic(prediction: Prediction, ids: Mapping[str, int]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Segment ids int32 [H, W], 0 where there is none, and COCO's ``segments_info``.

    ids: of the categories, by name. Raises ValueError when rows overlap, as those of the task "instance" may, when a
    row has no category, or when a category has no id.
    """
    segment_map = np.zeros((prediction.image.height, prediction.image.width), np.int32)
    segments = []
    for row in np.flatnonzero(prediction.present):
        mask, category = prediction.masks[row], prediction.categories[row] if prediction.categories else None
        if category is None:
            raise ValueError(
                f"'{prediction.labels[row]}' has no category: a panoptic map is made of categories' answers"
            )
        if category.name not in ids:
            raise ValueError(f"the category '{category.name}' has no id: give the list that was asked for")
        if segment_map[mask].any():
            raise ValueError("masks overlap, so they make no panoptic map: ask for the task panoptic or semantic")
        segment = int(prediction.segment_ids[row])
        segment_map[mask] = segment
        left, top, right, bottom = (int(edge) for edge in prediction.boxes[row])
        segments.append(
            {
                "id": segment,
                "category_id": ids[category.name],
                "area": int(mask.sum()),
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
            }
        )
    return segment_map, segments


def to_colours(segment_map: np.ndarray) -> Image.Image:
    """Ids int32 [H, W] -> RGB picture, id = R + 256 G + 65536 B."""
    return Image.fromarray(np.stack([segment_map >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8))


def write_panoptic(prediction: Prediction, folder: Path, name: str, ids: Mapping[str, int]) -> tuple[Path, Path]:
    """Write ``NAME.panoptic.png`` and ``NAME.panoptic.json``, whole or not at all; returns the two paths.

    The JSON has the form of COCO's files for one image: images, annotations, categories. Raises ValueError like
    ``to_panoptic`` and OSError when a file cannot be written.
    """
    segment_map, segments = to_panoptic(prediction, ids)
    picture, record = folder / f"{name}.panoptic.png", folder / f"{name}.panoptic.json"
    rows = zip(prediction.categories, prediction.things, strict=True)
    things = {category.name: bool(thing) for category, thing in rows if category is not None}
    image = {"id": 1, "file_name": prediction.name, "width": segment_map.shape[1], "height": segment_map.shape[0]}
    values = {
        "images": [image],
        "annotations": [{"image_id": 1, "file_name": picture.name, "segments_info": segments}],
        "categories": [
            {"id": ids[category], "name": category, "isthing": int(thing)} for category, thing in things.items()
        ],
    }
    write_image(picture, to_colours(segment_map))
    write_atomic(record, (json.dumps(values, ensure_ascii=False) + "\n").encode())
    return picture, record
