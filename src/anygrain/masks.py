"""What one does with masks: compare, thin out, clean, outline, trace as polygons, keep as PNG.

A mask is a bool array [H, W]; several are [N, H, W] or a sequence of ``Mask``.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from anygrain.images import ImageError, ImageSource, decode_image, write_atomic
from anygrain.types import Mask

if TYPE_CHECKING:
    import os

Masks = np.ndarray | Sequence[Mask]


# ---------------------------------------------------------------------------------------------------- comparing


def pairwise_iou(masks: Masks, others: Masks) -> np.ndarray:
    """Intersection over union of every mask with every other one: float64 [N, M]; two empty masks give 0."""
    from pycocotools import mask as coco

    if len(masks) == 0 or len(others) == 0:
        return np.zeros((len(masks), len(others)))
    codes, other_codes = _codes(masks), _codes(others)
    sizes = {tuple(code["size"]) for code in codes + other_codes}
    if len(sizes) > 1:
        raise ValueError(f"masks to be compared must all have one size, got {sorted(sizes)}")
    return np.asarray(coco.iou(codes, other_codes, [0] * len(other_codes)), np.float64)


def nms(masks: Masks, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Indices of the masks to keep, best score first: int64 [K].

    A mask goes when its IoU with a better mask that is kept is above ``threshold``. Of equal scores the first wins.
    """
    if len(masks) != len(scores):
        raise ValueError(f"{len(masks)} masks but {len(scores)} scores")
    overlap = pairwise_iou(masks, masks) > threshold
    gone = np.zeros(len(masks), bool)
    kept = []
    for index in np.argsort(-np.asarray(scores), kind="stable"):
        if not gone[index]:
            kept.append(index)
            gone |= overlap[index]
    return np.array(kept, np.int64)


def _codes(masks: Masks) -> list[Any]:
    ready = [m if isinstance(m, Mask) else Mask.from_array(m) for m in masks]
    return [{"size": list(m.size), "counts": m.counts} for m in ready]


# ---------------------------------------------------------------------------------------------------- cleaning


def fill_holes(mask: np.ndarray, max_area: float) -> np.ndarray:
    """Fill background parts of at most ``max_area`` pixels that the mask encloses; ``math.inf`` fills all.

    A hole is connected over edges (the mask around it may be connected over corners) and does not touch the image's
    rim. Returns a new bool [H, W].
    """
    mask = np.asarray(mask, bool)
    parts, count = _parts(~mask, corners=False)
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    fill = areas <= max_area
    fill[0] = False  # the mask itself
    for rim in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        fill[rim] = False
    return mask | fill[parts]


def remove_islands(mask: np.ndarray, min_area: float) -> np.ndarray:
    """Drop parts of fewer than ``min_area`` pixels, connected over edges and corners; the largest part always stays.

    Returns a new bool [H, W].
    """
    parts, count = _parts(np.asarray(mask, bool), corners=True)
    if count == 0:
        return np.zeros(parts.shape, bool)
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    areas[0] = 0  # the background
    keep = areas >= min_area
    keep[areas.argmax()] = True
    keep[0] = False
    return keep[parts]


def boundary(mask: np.ndarray, thickness: int) -> np.ndarray:
    """The mask's own pixels within ``thickness`` pixels (rows, columns or diagonals) of its outside: bool [H, W].

    Outside the image counts as outside, as in Boundary IoU.
    """
    from scipy import ndimage

    mask = np.asarray(mask, bool)
    inner = ndimage.minimum_filter(mask.view(np.uint8), size=2 * thickness + 1, mode="constant", cval=0)
    return mask & (inner == 0)


def main_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part (over edges and corners) of bool [H, W]; of an empty mask nothing."""
    parts, count = _parts(np.asarray(mask, bool), corners=True)
    if count < 2:
        return parts > 0
    return parts == 1 + np.bincount(parts.ravel())[1:].argmax()


def _parts(mask: np.ndarray, *, corners: bool) -> tuple[np.ndarray, int]:
    """Number the connected parts: int32 [H, W] with 1..count inside, and the count."""
    from scipy import ndimage

    found: Any = ndimage.label(mask, structure=np.ones((3, 3))) if corners else ndimage.label(mask)
    return found


# ---------------------------------------------------------------------------------------------------- tracing


def to_polygons(mask: np.ndarray) -> list[list[float]]:
    """Trace bool [H, W] along its pixel edges into COCO polygons ``[x0, y0, x1, y1, ...]``, one for each part.

    Parts are connected over edges. COCO polygons know no holes, so a hole is joined to its outline by a cut that is
    walked there and back; its corners run the other way round. Filled by the even-odd or the non-zero rule this gives
    the mask back: ``Mask.from_polygons(to_polygons(m), m.shape)`` has exactly the pixels of m, holes included.
    """
    parts, count = _parts(np.asarray(mask, bool), corners=False)
    parts = np.pad(parts, 1)
    outlines: list[list[np.ndarray]] = [[] for _ in range(count + 1)]
    for ring in _rings(parts > 0):
        x, y = ring[0]  # its first corner is the upper left one: what lies below and right of it is inside the ring
        part = parts[y + 1, x + 1]
        if part:
            outlines[part].insert(0, ring)
        else:
            outlines[parts[y, x + 1]].append(ring[::-1])
    return [_with_holes(rings).ravel().astype(float).tolist() for rings in outlines[1:]]


def _rings(padded: np.ndarray) -> list[np.ndarray]:
    """Closed outlines of a mask with a rim of one background pixel: int64 [K, 2] corners (x, y), upper left first.

    Walks start to the right. Corners are counted without the rim.
    """
    upper, lower = padded[:-1], padded[1:]
    quarters = [a.view(np.uint8) for a in (upper[:, :-1], upper[:, 1:], lower[:, :-1], lower[:, 1:])]
    inside = quarters[0] + quarters[1] + quarters[2] + quarters[3]
    crossing = (inside == 2) & (quarters[0] == quarters[3])  # two parts touch at a corner: it is two corners in one
    y, x = np.nonzero((inside & 1).astype(bool) | crossing)
    double = crossing[y, x]
    rows = np.repeat(np.arange(len(y)), 1 + double)
    y, x = y[rows], x[rows]
    second = np.zeros(len(y), bool)
    second[1:] = rows[1:] == rows[:-1]
    # Of a double corner the first copy ends the edge from the left, the second begins the edge to the right. The copy
    # that takes the edge from above must keep its pixel: the upper left pixel's corner joins left with up.
    falling = padded[y, x]  # upper left inside
    across = _partners(np.arange(len(y)))
    down = _partners(np.lexsort((second == falling, y, x)))
    return _walk(np.stack([x, y], 1), across, down)


def _partners(order: np.ndarray) -> np.ndarray:
    """Neighbours in the order belong together two by two: the other end of each corner's edge."""
    partner = np.empty_like(order)
    partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
    return partner


def _walk(corners: np.ndarray, across: np.ndarray, down: np.ndarray) -> list[np.ndarray]:
    rings = []
    seen = bytearray(len(corners))
    next_across, next_down = across.tolist(), down.tolist()
    for start in range(len(corners)):
        if seen[start]:
            continue
        ring, corner = [], start
        while not seen[corner]:
            turn = next_across[corner]
            ring += [corner, turn]
            seen[corner] = seen[turn] = 1
            corner = next_down[turn]
        rings.append(corners[ring])
    return rings


def _with_holes(rings: list[np.ndarray]) -> np.ndarray:
    """Join holes to the outline (first of the rings), each by a cut from its first corner to the nearest corner."""
    from scipy.spatial import KDTree

    outline, holes = rings[0], rings[1:]
    if not holes:
        return outline
    nearest = np.asarray(KDTree(outline).query([hole[0] for hole in holes])[1])
    pieces, done = [], 0
    for index in np.argsort(nearest):
        corner, hole = nearest[index], holes[index]
        pieces += [outline[done : corner + 1], hole, hole[:1], outline[corner : corner + 1]]
        done = corner + 1
    return np.concatenate([*pieces, outline[done:]])


# ---------------------------------------------------------------------------------------------------- PNG


def write_png(path: str | os.PathLike[str], mask: np.ndarray) -> None:
    """Write bool [H, W] as a one-channel PNG of 0 and 255, whole or not at all."""
    from PIL import Image

    _write(path, Image.fromarray(mask.astype(np.uint8) * np.uint8(255)))


def read_png(source: ImageSource) -> np.ndarray:
    """Read a mask image (palette or grey) as bool [H, W]: every value but 0 is inside."""
    return read_labels(source) != 0


def write_labels(path: str | os.PathLike[str], labels: np.ndarray) -> None:
    """Write a label map, uint8 [H, W], as a palette PNG: the pixel is the index, the colour is for the eye only.

    Index 0 is black, the others have the colours of Pascal VOC.
    """
    from PIL import Image

    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(f"a label map must be uint8 [H, W], got {labels.dtype} {list(labels.shape)}")
    image = Image.fromarray(labels)
    image.putpalette(_voc_palette())
    _write(path, image)


def read_labels(source: ImageSource) -> np.ndarray:
    """Read a label map as uint8 [H, W] (uint16 for a 16-bit file): the palette's indices, never its colours.

    source: a path, encoded bytes or a binary file, of a palette or grey image. Raises ImageError for anything else.
    """
    image = decode_image(source)
    if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
        name = source if isinstance(source, str) or hasattr(source, "__fspath__") else "the label map"
        raise ImageError(f"{name} is a colour image ({image.mode}), not a label map: it must be palette or grey")
    return np.array(image, np.uint16 if image.mode.startswith("I") else np.uint8)


def _write(path: str | os.PathLike[str], image: Any) -> None:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=False)
    write_atomic(path, buffer.getvalue())


def _voc_palette() -> bytes:
    """256 RGB colours: bit b of a channel's value, from the top, is bit 3 b + channel of the index."""
    index = np.arange(256)[:, None]
    channel = np.arange(3)[None]
    colours = sum(((index >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(8))
    return np.asarray(colours, np.uint8).tobytes()
