"""Which of a network's masks are large and which are small: the level map, from the mean area of each token's masks.

Semantic-SAM's order of granularity emerges in training, so a retrained model needs a map of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from anygrain.images import write_atomic
from anygrain.segmenter import Segmenter


def mean_areas(segmenter: Segmenter, images: Iterable[Any], *, points_per_side: int = 4) -> np.ndarray:
    """Mean share of the photo that each token's masks cover, float64 [T], over a grid of clicks on every image.

    images: whatever ``Segmenter.embed`` takes. Raises ValueError without images or for a model without clicks.
    """
    areas = []
    for image in images:
        (embedding,) = segmenter.embed([image])
        areas.append(segmenter.token_areas(embedding, points_per_side).mean(0))
    if not areas:
        raise ValueError("there are no photos to calibrate the levels on")
    return np.mean(areas, 0)


def levels_by_area(areas: np.ndarray) -> tuple[int, ...]:
    """Tokens in order of their mean area, the largest first: the token of level 1, 2, ..."""
    return tuple(int(token) for token in np.argsort(-areas, kind="stable"))


def write_levels(folder: Path, levels: tuple[int, ...]) -> None:
    """Put a level map into the ``config.json`` of a model folder; nothing else is changed."""
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["model"]["levels"] = list(levels)
    write_atomic(path, (json.dumps(values, indent=1) + "\n").encode())
