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
from anygrain.types import Mask

Record = Mapping[str, Any]


def to_panoptic(record: Record, ids: Mapping[str, int]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Segment ids int32 [H, W], 0 where there is none, and COCO's ``segments_info``.

    record: as ``Prediction.to_json`` gives it; its answers to other prompts than categories are passed over.
    ids: of the categories, by name. Raises ValueError when segments overlap, as those of the task "instance" may, or
    when a category has no id.
    """
    size = (record["image"]["height"], record["image"]["width"])
    segment_map, segments = np.zeros(size, np.int32), []
    for found in record["segments"]:
        if not found["present"] or "segment_id" not in found:
            continue
        if found["category"] not in ids:
            raise ValueError(f"the category '{found['category']}' has no id: give the list that was asked for")
        mask = Mask.from_coco(found["segmentation"], size).to_array()
        if segment_map[mask].any():
            raise ValueError("masks overlap, so they make no panoptic map: ask for the task panoptic or semantic")
        segment_map[mask] = found["segment_id"]
        left, top, right, bottom = (int(edge) for edge in found["box"])
        segments.append(
            {
                "id": found["segment_id"],
                "category_id": ids[found["category"]],
                "area": found["area"],
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
            }
        )
    return segment_map, segments


def to_colours(segment_map: np.ndarray) -> Image.Image:
    """Ids int32 [H, W] -> RGB picture, id = R + 256 G + 65536 B."""
    return Image.fromarray(np.stack([segment_map >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8))


def write_panoptic(record: Record, folder: Path, name: str, ids: Mapping[str, int]) -> tuple[Path, Path]:
    """Write ``NAME.panoptic.png`` and ``NAME.panoptic.json``, each whole or not at all; returns the two paths.

    The JSON has the form of COCO's files, for one image: images, annotations, categories. Raises ValueError like
    ``to_panoptic`` and OSError when a file cannot be written.
    """
    segment_map, segments = to_panoptic(record, ids)
    picture, table = folder / f"{name}.panoptic.png", folder / f"{name}.panoptic.json"
    things = {found["category"]: found["is_thing"] for found in record["segments"] if "segment_id" in found}
    image = record["image"]
    values = {
        "images": [{"id": 1, "file_name": image["file"], "width": image["width"], "height": image["height"]}],
        "annotations": [{"image_id": 1, "file_name": picture.name, "segments_info": segments}],
        "categories": [
            {"id": ids[category], "name": category, "isthing": int(thing)} for category, thing in things.items()
        ],
    }
    write_image(picture, to_colours(segment_map))
    write_atomic(table, (json.dumps(values, ensure_ascii=False) + "\n").encode())
    return picture, table
