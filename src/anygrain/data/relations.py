"""How the things of a category lie to one other thing, as attributes, from boxes and with clear margins."""

from __future__ import annotations

import numpy as np

from anygrain.data.attributes import Attribute, sided
from anygrain.data.scene import Scene

# What lies on what in photographs when the boxes say so.
_SMALL = """cup bottle bowl fork knife spoon plate cake pizza sandwich donut book laptop mouse keyboard remote vase
    apple orange banana broccoli carrot scissors"""
_ON_TABLE = frozenset([*_SMALL.split(), "wine glass", "cell phone", "hot dog", "potted plant", "teddy bear"])
_ON_FURNITURE = frozenset({"cat", "dog", "teddy bear", "book", "laptop", "remote", "suitcase", "handbag", "cell phone"})
_CARRIES = {
    "dining table": _ON_TABLE,
    "desk": _ON_TABLE,
    "bed": _ON_FURNITURE,
    "couch": _ON_FURNITURE,
    "chair": frozenset({"cat", "dog", "teddy bear"}),
    "bench": frozenset({"cat", "dog", "teddy bear", "handbag", "backpack"}),
    "skateboard": frozenset({"person"}),
    "surfboard": frozenset({"person"}),
    "snowboard": frozenset({"person"}),
}
_BOARDS = frozenset({"skateboard", "surfboard", "snowboard"})


def anchors(scene: Scene) -> list[int]:
    """Things that their name alone identifies: pointable and the only one of a complete category."""
    return [int(numbers[0]) for numbers in scene.counted.values() if len(numbers) == 1 and scene.pointable[numbers[0]]]


def relations(scene: Scene, numbers: np.ndarray, name: str, anchor: int) -> list[Attribute]:
    """To the left of, above, next to, on ... "the {anchor}", for each thing of a category (not the anchor's)."""
    other = scene.things[anchor].category
    boxes, box = scene.boxes[numbers], scene.boxes[anchor]
    found = []
    if not sided(name) and not sided(other):
        found += _beside(boxes, box, 0, (f"to the left of the {other}", f"left of the {other}"), False)
        found += _beside(boxes, box, 0, (f"to the right of the {other}", f"right of the {other}"), True)
    if scene.whole is not None or name not in _CARRIES.get(other, ()):
        found += _beside(boxes, box, 1, (f"above the {other}",), False)
        found += _beside(boxes, box, 1, (f"below the {other}", f"lower than the {other}"), True)
    if scene.whole is None:
        found += _near(boxes, box, other, np.hypot(*scene.size))
        if name in _CARRIES.get(other, ()):
            found.append(_on(boxes, box, other))
    return found


def _beside(boxes: np.ndarray, box: np.ndarray, axis: int, words: tuple[str, ...], after: bool) -> list[Attribute]:
    """Before the anchor along an axis (0: left of, 1: above), or after it; the other axis must overlap."""
    low, high = boxes[:, axis], boxes[:, axis + 2]
    start, end = box[axis], box[axis + 2]
    if after:
        low, high, start, end = -high, -low, -end, -start
    smaller = np.minimum(high - low, end - start)
    gap = start - high  # [n], negative where they overlap
    level = _overlap(boxes, box, 1 - axis) > (0.4 if axis == 0 else 0.6)
    near = gap < (2.0 if axis == 0 else 1.0) * np.maximum(high - low, end - start)
    middle = (low + high) / 2
    return [
        Attribute(
            kind="relation",
            yes=(gap > -0.15 * smaller) & level & near,
            no=middle > (start + end) / 2 - 0.1 * (end - start),
            never=low > end - 0.15 * smaller,
            afters=words,
        )
    ]


def _overlap(boxes: np.ndarray, box: np.ndarray, axis: int) -> np.ndarray:
    """[n], how much of the shorter of both extents along an axis they share, 0..1."""
    low, high = boxes[:, axis], boxes[:, axis + 2]
    shared = np.minimum(high, box[axis + 2]) - np.maximum(low, box[axis])
    return np.maximum(shared, 0) / np.minimum(high - low, box[axis + 2] - box[axis])


def _near(boxes: np.ndarray, box: np.ndarray, other: str, diagonal: float) -> list[Attribute]:
    """Next to: side by side, hardly a gap, and standing at the same height, so that the one is not far behind."""
    size, own = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]), max(box[2] - box[0], box[3] - box[1])
    gap_x = np.maximum(boxes[:, 0] - box[2], box[0] - boxes[:, 2])  # [n], negative where they overlap
    gap_y = np.maximum(boxes[:, 1] - box[3], box[1] - boxes[:, 3])
    gap = np.hypot(np.maximum(gap_x, 0), np.maximum(gap_y, 0))
    smaller, height = np.minimum(size, own), np.maximum(boxes[:, 3] - boxes[:, 1], box[3] - box[1])
    side_by_side = gap_x > -0.2 * np.minimum(boxes[:, 2] - boxes[:, 0], box[2] - box[0])
    level = np.abs(boxes[:, 3] - box[3]) < 0.2 * height
    alike = smaller > 0.25 * np.maximum(size, own)
    return [
        Attribute(
            kind="relation",
            yes=(gap < 0.3 * smaller) & side_by_side & level & alike & (_overlap(boxes, box, 1) > 0.5),
            no=(gap > 1.2 * smaller) & (gap > 0.12 * diagonal),
            never=(gap > 2.0 * smaller) & (gap > 0.35 * diagonal),
            afters=(f"next to the {other}", f"beside the {other}", f"near the {other}", f"close to the {other}"),
        )
    ]


def _on(boxes: np.ndarray, box: np.ndarray, other: str) -> Attribute:
    """On: stands inside the carrier's box, or on top of a board; what does not even touch the box is not on it."""
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]
    height = box[3] - box[1]
    if other in _BOARDS:
        yes = (
            (boxes[:, 0] < box[2])
            & (boxes[:, 2] > box[0])
            & (np.abs(x - (box[0] + box[2]) / 2) < 0.3 * (box[2] - box[0]))
        )
        yes &= (y > box[1] - 0.1 * height) & (y < box[3] + 0.05 * height)
    else:
        inside = (boxes[:, 0] > box[0]) & (boxes[:, 2] < box[2])
        yes = inside & (y > box[1] + 0.12 * height) & (y < box[3] - 0.08 * height)
    apart = (boxes[:, 0] > box[2]) | (boxes[:, 2] < box[0]) | (boxes[:, 1] > box[3]) | (boxes[:, 3] < box[1])
    return Attribute(
        kind="relation", yes=yes, no=apart, never=apart, afters=(f"on the {other}", f"on top of the {other}")
    )
