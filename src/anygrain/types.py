"""The plain data every part of anygrain passes around: no network code, no file formats.

Sizes are always ``(height, width)``; boxes are ``(x0, y0, x1, y1)`` in pixels, the right and lower edge exclusive;
points are ``(x, y)`` in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from anygrain.resize import Resize
    from anygrain.tiles import Tile

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Task = Literal["panoptic", "semantic", "instance"]


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


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One question about one image. At least one field must be given; a model names the fields it does not accept.

    text: a phrase, e.g. "the red car on the left".
    points, point_labels: clicks ``(x, y)`` in pixels of the original image, 1 = foreground, 0 = background; all of them
        speak of one thing. Without labels all are foreground.
    box: ``(x0, y0, x1, y1)`` in pixels of the original image.
    mask: a rough mask in the original image's size.
    granularity: "part", "object", "scene", "all" or a Semantic-SAM level 1..6; None leaves it to the model.
    categories, part_categories: names of objects and of parts to choose from.
    scribble: a stroke over the thing, through points ``(x, y)``.
    regions: several prompts of points, a scribble, a box or a mask that are one question; a row of the answer for each.
    reference: the embedding of another image, in which points, scribble, box, mask or regions lie: what looks like it.
    task: of categories without clicks: "panoptic" (each pixel once, things apart), "semantic" (each pixel once, things
        of a category together) or "instance" (things only, which may overlap).
    things: whether each of categories is a thing, which can be counted; by default ``anygrain.categories`` says so.
    any_order: tell the model the categories in alphabetical order, so that theirs here does not matter.
    """

    text: str | None = None
    points: tuple[tuple[float, float], ...] = ()
    point_labels: tuple[int, ...] = ()
    box: Box | None = None
    mask: Mask | None = None
    granularity: str | int | None = None
    categories: tuple[str, ...] = ()
    part_categories: tuple[str, ...] = ()
    scribble: tuple[tuple[float, float], ...] = ()
    regions: tuple[Prompt, ...] = ()
    reference: ImageEmbedding | None = None
    task: Task = "panoptic"
    things: tuple[bool, ...] = ()
    any_order: bool = False

    def __post_init__(self):
        if self.text is not None and not self.text.strip():
            raise ValueError("the text of a prompt is empty: say what to segment, for instance 'the red car'")
        if self.point_labels and len(self.point_labels) != len(self.points):
            raise ValueError(f"{len(self.points)} points but {len(self.point_labels)} point labels")
        if unknown := [label for label in self.point_labels if label not in (0, 1)]:
            raise ValueError(f"a point's label is 1 (foreground) or 0 (background), got {unknown[0]!r}")
        if not self.kinds:
            raise ValueError("a prompt needs text, points, a box or a mask, or categories")
        if self.task not in get_args(Task):
            raise ValueError(f"there is no task '{self.task}' for categories: give {', '.join(get_args(Task))}")
        if self.things and len(self.things) != len(self.categories):
            raise ValueError(f"{len(self.categories)} categories but 'things' tells of {len(self.things)}")
        for point in (*self.points, *self.scribble):
            if len(point) != 2 or not all(math.isfinite(value) for value in point):
                raise ValueError(f"a point is two finite numbers x, y, got {_numbers(point)}")
        if self.box is not None:
            if len(self.box) != 4 or not all(math.isfinite(value) for value in self.box):
                raise ValueError(f"a box is four finite numbers x0, y0, x1, y1, got {_numbers(self.box)}")
            x0, y0, x1, y1 = self.box
            if x1 < x0 or y1 < y0:
                raise ValueError(f"the box {_numbers(self.box)} has its corners swapped: give left, top, right, bottom")
            if x1 == x0 or y1 == y0:
                raise ValueError(f"the box {_numbers(self.box)} is empty: its corners must differ in x and in y")
        for name in (*self.categories, *self.part_categories):
            if not name.strip():
                raise ValueError("a category's name is empty: give names such as 'person'")

    @property
    def kinds(self) -> frozenset[str]:
        """Which of "text", "points", "scribble", "box", "mask", "regions", "categories" (also of parts) are given."""
        given = {"text": self.text is not None, "points": bool(self.points), "box": self.box is not None}
        given |= {"mask": self.mask is not None, "categories": bool(self.categories or self.part_categories)}
        given |= {"scribble": bool(self.scribble), "regions": bool(self.regions)}
        return frozenset(name for name, there in given.items() if there)

    def check_fits(self, size: Size) -> None:
        """Raise ValueError when a point or the whole box lies outside an image of ``size``, or a mask has another.

        Where there is a ``reference``, its size counts.
        """
        height, width = size = size if self.reference is None else self.reference.resize.source
        for region in self.regions:
            region.check_fits(size)
        if self.mask is not None and self.mask.size != size:
            raise ValueError(
                f"the mask is {self.mask.size[1]} x {self.mask.size[0]} pixels, the photo {width} x {height}"
            )
        for x, y in (*self.points, *self.scribble):
            if not (0 <= x <= width and 0 <= y <= height):
                raise ValueError(f"the point {_numbers((x, y))} lies outside the photo of {width} x {height} pixels")
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
                raise ValueError(f"the box {_numbers(self.box)} lies outside the photo of {width} x {height} pixels")

    def to_json(self) -> dict[str, Any]:
        """What was asked, for JSON; fields that say nothing are left out, but for the text of a prompt of text."""
        record: dict[str, Any] = {"text": self.text} if self.text is not None else {}
        if self.points:
            labels = self.point_labels or (1,) * len(self.points)
            record |= {"points": [list(point) for point in self.points], "point_labels": list(labels)}
        if self.box is not None:
            record["box"] = list(self.box)
        if self.scribble:
            record["scribble"] = [list(point) for point in self.scribble]
        if self.mask is not None:
            record["mask"] = self.mask.to_coco()
        if self.regions:
            record["regions"] = [region.to_json() for region in self.regions]
        if self.reference is not None:
            record["reference"] = self.reference.name
        if self.categories and self.kinds == {"categories"}:
            record |= {"categories": len(self.categories), "task": self.task}
        return record


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


class Category(NamedTuple):
    """A name that a model gives, and how sure it is of it among the names it could choose from (0..1)."""

    name: str
    score: float


@dataclass(frozen=True, kw_only=True)
class ImageEmbedding:
    """What a model keeps of one image: encode once, ask many times. Explicit, so it can be cached, sent or dropped.

    features: the model's own tensors, each with a leading batch dimension of 1.
    resize: how the image was brought to the model's input, and the way back.
    model: fingerprint of the model that made it; another model refuses it.
    image: the decoded RGB picture, kept for overlays.
    name: file name, or "image" when there was none.
    tiles: the same of overlapping pieces of a large photo; none in most cases.
    """

    features: tuple[torch.Tensor, ...]
    resize: Resize
    model: str
    image: Image.Image
    name: str = "image"
    tiles: tuple[Tile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Masks for one image, one row a prompt (or several rows for prompts that give several masks).

    masks: bool [N, H, W] in the image's own size.
    scores: float32 [N] in 0..1.
    present: bool [N]; False means "not there", and then the mask is empty.
    prompts: N prompts, one a row.
    low_res_logits: float32 [N, h, w] before enlarging, with all parts of a mask of which only the main one is shown.
    image, name: the picture itself and its file name.
    model: name of the model, for the JSON.
    granularity: "part", "object" or "scene" of each row; empty for models without granularity.
    levels: the same more finely, levels from large (1) to small; several where their masks were one and the same.
    predicted_iou: float32 [N], what the model expects the mask's IoU to be, not limited to 0..1; None without levels.
    categories, part_categories: the name of each row's object and part, where names were given to choose from.
    things: whether each row's category is a thing, where the image was divided among categories.
    """

    masks: np.ndarray
    scores: np.ndarray
    present: np.ndarray
    prompts: tuple[Prompt, ...]
    low_res_logits: np.ndarray
    image: Image.Image
    name: str = "image"
    model: Mapping[str, str] = field(default_factory=dict)
    granularity: tuple[str, ...] = ()
    levels: tuple[tuple[int, ...], ...] = ()
    predicted_iou: np.ndarray | None = None
    categories: tuple[Category | None, ...] = ()
    part_categories: tuple[Category | None, ...] = ()
    things: tuple[bool | None, ...] = ()

    @property
    def segment_ids(self) -> np.ndarray:
        """int32 [N]: 1, 2, ... for the rows that are present, 0 for the others; the ids of a panoptic map."""
        return np.where(self.present, np.cumsum(self.present), 0).astype(np.int32)

    @property
    def labels(self) -> tuple[str, ...]:
        """The text of each prompt, or the names that were found, or the granularity, or the prompt's kind."""
        return tuple(label_of({"prompt": prompt.to_json()} | self._facts(i)) for i, prompt in enumerate(self.prompts))

    @cached_property
    def boxes(self) -> np.ndarray:
        """float32 [N, 4] tight boxes; zeros for an empty mask."""
        return np.array([Mask.from_array(m).box or (0, 0, 0, 0) for m in self.masks], np.float32).reshape(-1, 4)

    def to_regions(self) -> tuple[Region, ...]:
        """The rows that are present, as regions ready for a Sample."""
        return tuple(self._region(row) for row in np.flatnonzero(self.present).tolist())

    def _region(self, row: int) -> Region:
        text, category = self.prompts[row].text, self.categories[row] if self.categories else None
        return Region(
            mask=Mask.from_array(self.masks[row]),
            captions=() if text is None else (text,),
            category=None if category is None else category.name,
            granularity=(self.granularity[row] or None) if self.granularity else None,
            score=float(self.scores[row]),
            origin={"step": "predict", **self.model},
        )

    def to_json(self) -> dict[str, Any]:
        """The record that ``anygrain segment`` writes: image, model, segments with COCO RLE in the image's size."""
        return {
            "image": {"file": self.name, "width": self.image.width, "height": self.image.height},
            "model": dict(self.model),
            "segments": self.segments(),
        }

    def segments(self) -> list[dict[str, Any]]:
        """One JSON-ready record a row: id, prompt, score, present, box, area, segmentation.

        Where the model tells them also granularity, levels, predicted_iou, category and part_category, with scores.
        """
        records = []
        for index, (mask, score, present, prompt) in enumerate(
            zip(self.masks, self.scores, self.present, self.prompts, strict=True)
        ):
            code = Mask.from_array(mask)
            records.append(
                {
                    "id": index,
                    "prompt": prompt.to_json(),
                    "score": round(float(score), 4),
                    "present": bool(present),
                    "box": list(code.box) if code.box else None,
                    "area": code.area,
                    "segmentation": code.to_coco(),
                }
                | self._facts(index)
            )
        return records

    def _facts(self, row: int) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        if self.levels and self.levels[row]:
            facts |= {"granularity": self.granularity[row], "levels": list(self.levels[row])}
        if self.predicted_iou is not None and not np.isnan(self.predicted_iou[row]):
            facts["predicted_iou"] = round(float(self.predicted_iou[row]), 4)
        for kind, table in (("category", self.categories), ("part_category", self.part_categories)):
            if table and (found := table[row]) is not None:
                facts |= {kind: found.name, f"{kind}_score": round(found.score, 4)}
        if self.things and self.things[row] is not None:
            facts |= {"is_thing": self.things[row], "segment_id": int(self.segment_ids[row])}
        return facts

    def overlay(self) -> Image.Image:
        """The picture with every present mask drawn in its own colour, with contour and label."""
        from anygrain.draw import draw_masks

        rows = np.flatnonzero(self.present)
        return draw_masks(self.image, self.masks[rows], [self.labels[i] for i in rows])

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Write ``NAME.overlay.png`` and ``NAME.json`` into folder (made when missing), whole or not at all.

        Returns the two paths. Raises OSError when the folder cannot be written.
        """
        import json

        from anygrain.images import write_atomic, write_image

        stem = Path(self.name).stem
        overlay, record = Path(folder) / f"{stem}.overlay.png", Path(folder) / f"{stem}.json"
        write_image(overlay, self.overlay())
        write_atomic(record, (json.dumps(self.to_json(), ensure_ascii=False) + "\n").encode())
        return overlay, record


def label_of(segment: Mapping[str, Any]) -> str:
    """What a record of ``Prediction.segments`` is called: its text, its names, its granularity or its kind."""
    prompt = segment["prompt"]
    if "text" in prompt:
        return prompt["text"]
    if names := [segment[kind] for kind in ("category", "part_category") if kind in segment]:
        return ": ".join(names)
    if "levels" in segment:
        return f"{segment['granularity']} {'+'.join(map(str, segment['levels']))}"
    return "+".join(sorted(kind for kind in prompt if kind != "point_labels"))
