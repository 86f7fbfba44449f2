"""What is annotated: masks, regions, and samples as they stand in shards. ``anygrain.types`` has them too.

Sizes are always ``(height, width)``; boxes are ``(x0, y0, x1, y1)`` in pixels, the right and lower edge exclusive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Size = tuple[int, int]
Box = tuple[float, float, float, float]


def _coco() -> Any:
    """pycocotools, imported on first use; its type stubs refuse forms that its code takes."""
    from pycocotools import mask

    return mask


@dataclass(frozen=True)
class Mask:
    """One binary mask as COCO compressed run-length code.

    size: ``(height, width)`` of the image the mask belongs to.
    counts: the compressed runs, as pycocotools writes them.
    """

    size: Size
    counts: bytes

    @classmethod
    def from_array(cls, array: np.ndarray) -> Mask:
        """Encode a 2-D array [H, W] of bool or of 0/1 numbers. Raises ValueError on any other shape."""
        coco = _coco()
        if array.ndim != 2:
            raise ValueError(f"a mask must be 2-D [H, W], got shape {array.shape}")
        code = coco.encode(np.asfortranarray(array, dtype=np.uint8))
        return cls(size=(int(array.shape[0]), int(array.shape[1])), counts=code["counts"])

    @classmethod
    def from_polygons(cls, polygons: Sequence[Sequence[float]], size: Size) -> Mask:
        """Rasterise COCO polygons, each ``[x0, y0, x1, y1, ...]``, and merge them."""
        coco = _coco()
        if not polygons:
            return cls.from_array(np.zeros(size, bool))
        for polygon in polygons:
            if len(polygon) < 6 or len(polygon) % 2:
                raise ValueError(f"a polygon needs at least 3 x,y pairs, got {len(polygon)} numbers")
        height, width = size
        code = coco.merge(coco.frPyObjects([list(map(float, p)) for p in polygons], height, width))
        return cls(size=size, counts=code["counts"])

    @classmethod
    def from_coco(cls, segmentation: Mapping[str, Any] | Sequence[Sequence[float]], size: Size) -> Mask:
        """Read any form COCO uses: polygons, compressed or uncompressed RLE. Raises ValueError when sizes disagree."""
        coco = _coco()
        if not isinstance(segmentation, Mapping):
            return cls.from_polygons(segmentation, size)
        if tuple(segmentation["size"]) != tuple(size):
            raise ValueError(f"RLE size {tuple(segmentation['size'])} differs from the image size {tuple(size)}")
        counts = segmentation["counts"]
        if isinstance(counts, list):
            counts = coco.frPyObjects(dict(segmentation), *size)["counts"]
        return cls(
            size=(int(size[0]), int(size[1])), counts=counts.encode("ascii") if isinstance(counts, str) else counts
        )

    def to_coco(self) -> dict[str, Any]:
        """``{"size": [h, w], "counts": "..."}``: COCO compressed RLE, ready for JSON."""
        return {"size": list(self.size), "counts": self.counts.decode("ascii")}

    def to_array(self) -> np.ndarray:
        """Decode to a bool array [H, W]."""
        coco = _coco()
        return coco.decode(self._rle).astype(bool)

    @property
    def _rle(self) -> Any:
        return {"size": list(self.size), "counts": self.counts}

    @cached_property
    def area(self) -> int:
        """Number of pixels inside."""
        coco = _coco()
        return int(coco.area(self._rle))

    @cached_property
    def box(self) -> Box | None:
        """Tight box ``(x0, y0, x1, y1)``, or None when the mask is empty."""
        coco = _coco()
        if self.area == 0:
            return None
        x, y, width, height = (float(v) for v in coco.toBbox(self._rle))
        return x, y, x + width, y + height


@dataclass(frozen=True, kw_only=True)
class Region:
    """A mask and everything that is said of it.

    mask: where it is; None when only a box is known, or, without a box too, only that it is in the image.
    box: given box, for regions without a mask.
    captions: human or generated phrases that mean exactly this region.
    category: one name of the source's vocabulary, as the source spells it.
    granularity: "part", "object" or "scene".
    instance: number of the object inside the image (video: the same number in every frame).
    score: confidence of an automatic annotation, None when a human made it.
    ignore: the region is neither foreground nor background in training and evaluation (void, crowd, unsure rim).
    marks: what a person might draw to mean it, by kind: "point" and "scribble" (one pixel thin), "box", "mask".
    origin: where it came from, for instance ``{"step": "human"}`` or a teacher with its version.
    """

    mask: Mask | None = None
    box: Box | None = None
    captions: tuple[str, ...] = ()
    category: str | None = None
    granularity: str | None = None
    instance: int | None = None
    score: float | None = None
    ignore: bool = False
    marks: Mapping[str, Mask] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)


class Triplet(NamedTuple):
    """The unit of training: (image, mask, caption). mask is None when the caption names something absent."""

    image: str
    mask: Mask | None
    caption: str


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The unit on disk: one image and its regions.

    id: unique inside the source, e.g. "coco/000000253452".
    image: path of the image file, or the encoded bytes (JPEG/PNG) when read from a shard.
    size: ``(height, width)``.
    regions: all that is annotated.
    source: name of the data set.
    exhaustive: categories of which every occurrence is annotated; a caption about such a category that no region has
        may be used as a negative.
    absent: phrases that mean nothing in the image, so their answer is an empty mask.
    whole: what all regions of granularity "part" belong to, e.g. "car", for phrases like "the wheels of the car".
    chats: conversations about the image, each of turns (question, answer).
    """

    id: str
    image: Path | bytes
    size: Size
    regions: tuple[Region, ...]
    source: str
    exhaustive: frozenset[str] = frozenset()
    absent: tuple[str, ...] = ()
    whole: str | None = None
    chats: tuple[tuple[tuple[str, str], ...], ...] = ()

    def triplets(self) -> Iterator[Triplet]:
        """Every (image, mask, caption) of the sample: natural captions as they are, categories by Table 1."""
        from anygrain.data.language import triplets

        return triplets(self)
