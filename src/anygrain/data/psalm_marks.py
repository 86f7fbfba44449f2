"""What a person might draw to mean a region: a point, a scribble, a box, or a rough mask (PSALM, §3.2).

H W: size of a view of the photo, without padding.
"""

from __future__ import annotations

import numpy as np

from anygrain.data.readers.coco_interactive import KINDS
from anygrain.data.transforms import View
from anygrain.models.psalm.regions import THIN, box_mask, discs, stroke, thick
from anygrain.types import Region


def draw_mark(region: Region, seen: np.ndarray, view: View, rng: np.random.Generator) -> np.ndarray:
    """A mark of a random kind, bool [H, W]; empty when the view shows nothing of it.

    region: with marks of its own (COCO-Interactive), one of these that is not empty, a thin one made as thick as at
    inference; else one is drawn. seen: bool [H, W], the visible part of its mask, not empty.
    """
    own = {kind: mark for kind, mark in region.marks.items() if mark.area}
    if not own:
        return new_mark(KINDS[rng.integers(len(KINDS))], seen, _zoom(view), rng)
    kind = sorted(own)[rng.integers(len(own))]
    return view.seen(thick(own[kind], kind).to_array())


def new_mark(kind: str, seen: np.ndarray, zoom: float, rng: np.random.Generator) -> np.ndarray:
    """A mark of ``kind`` for a mask bool [H, W] that is not empty. zoom: pixels of the view over those of the photo."""
    if kind == "mask":
        return seen
    rows, columns = np.nonzero(seen)
    if kind == "box":
        return box_mask((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), (seen.shape[0], seen.shape[1]))
    picked = rng.integers(len(rows), size=1 if kind == "point" else 4)
    points = [(float(columns[i]), float(rows[i])) for i in picked.tolist()]
    if kind == "scribble":  # between places of the region, where the way lies inside
        points = [(x, y) for x, y in stroke(points) if seen[int(y), int(x)]]
    return discs(points, max(1, round(THIN[kind] * zoom)), (seen.shape[0], seen.shape[1]))


def _zoom(view: View) -> float:
    return (view.target[2] - view.target[0]) / (view.source[2] - view.source[0])
