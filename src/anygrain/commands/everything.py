"""``anygrain everything``: all masks of a photo, from a grid of clicks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from anygrain.commands.parse import parse
from anygrain.commands.prompts import read_names

if TYPE_CHECKING:
    from anygrain.everything import Proposal
    from anygrain.segmenter import Segmenter
    from anygrain.types import ImageEmbedding


@dataclass(frozen=True, kw_only=True)
class EverythingCommand:
    """Find everything in photos: click on a grid of points, keep the masks that are sure, drop what is double.

    For each photo: NAME.overlay.png, all masks in distinct colours, and NAME.json, COCO annotations with the masks as
    run-length code in the photo's own size. Memory is bounded: the features of one photo, a batch of masks, and the
    codes of the result.

    examples:
      anygrain everything street.jpg --model semantic-sam-swint
      anygrain everything photos/ --model models/semantic_sam --granularity part --points-per-side 16 --out parts
    """

    photos: Annotated[Positional[tuple[str, ...]], arg(metavar="PHOTO ...")]
    """Photos, folders (the photos right inside) or quoted patterns."""
    model: Annotated[str, arg(metavar="NAME|FOLDER|ORG/REPO")] = "semantic-sam-swint"
    """A model that takes clicks: a released one by name, or a model folder."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("out")
    """Folder of the results."""
    granularity: Annotated[str, arg(metavar="all|part|object|scene|1..6")] = "all"
    """Which masks of each click: all, in words, or a level from 1 (large) to 6 (small)."""
    points_per_side: int = 32
    """Clicks along each side of the grid, 1 to 256."""
    min_predicted_iou: float = 0.88
    """Masks whose IoU the model expects to be no better are dropped."""
    min_stability: float = 0.92
    """Masks whose area changes more than this ratio, when their threshold moves a little, are dropped."""
    max_overlap: float = 0.7
    """Of two masks whose boxes overlap (IoU) by more, the better one stays."""
    min_area: int = 10
    """Holes and islands of fewer pixels of the model's input are removed."""
    categories: Annotated[str | None, arg(metavar="NAMES", help_behavior_hint="")] = None
    """Names of objects to choose from, "person,dog", for models that have a text encoder."""
    part_categories: Annotated[str | None, arg(metavar="NAMES", help_behavior_hint="")] = None
    """The same for parts."""
    threshold: Annotated[float | None, arg(metavar="0..1", help_behavior_hint="")] = None
    """Probability above which a pixel belongs to a mask; by default the model's own."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""


def everything(arguments: Sequence[str]) -> int:
    """``anygrain everything``."""
    options = parse(EverythingCommand, "everything", arguments)
    from anygrain.everything import EverythingOptions
    from anygrain.hub import load
    from anygrain.images import ImageError
    from anygrain.inputs import expand, result_names
    from anygrain.outputs import complain, say

    asked = EverythingOptions(
        granularity=options.granularity,
        points_per_side=options.points_per_side,
        min_predicted_iou=options.min_predicted_iou,
        min_stability=options.min_stability,
        max_overlap=options.max_overlap,
        min_area=options.min_area,
    )
    names = [read_names(options.categories, "--categories"), read_names(options.part_categories, "--part-categories")]
    paths = [path for photo in options.photos for path in expand(photo)]
    segmenter, failed = load(options.model, device=options.device, threshold=options.threshold), False
    for path, name in zip(paths, result_names(paths), strict=True):
        try:
            (embedding,) = segmenter.embed([path])
        except ImageError as error:
            complain(error)
            failed = True
            continue
        found = segmenter.propose(embedding, asked, *names)
        write(embedding, found, segmenter, options.out, name)
        say(f"{path}: {len(found)} masks -> {options.out}/{name}.json")
    return 2 if failed else 0


def write(embedding: ImageEmbedding, found: Sequence[Proposal], segmenter: Segmenter, out: Path, name: str) -> None:
    """``name.overlay.png`` and ``name.json`` of all masks of a photo."""
    from anygrain.images import write_atomic, write_image
    from anygrain.inputs import OVERLAY
    from anygrain.outputs import draw_codes, to_bytes

    labels = [": ".join(c.name for c in (one.category, one.part_category) if c is not None) for one in found]
    write_image(out / f"{name}{OVERLAY}.png", draw_codes(embedding.image, [one.mask for one in found], labels))
    write_atomic(out / f"{name}.json", to_bytes(to_coco(embedding, found, segmenter.info)))


def to_coco(embedding: ImageEmbedding, found: Sequence[Proposal], model: Any) -> dict[str, Any]:
    """COCO's form of a photo's masks: one image, its annotations, best first, and the categories that occur.

    Categories are the names that were found, else the granularities. An annotation also has ``granularity``, ``level``,
    ``predicted_iou``, ``stability_score``, ``point`` and, where names were given, their scores.
    """
    from anygrain.inputs import printable

    kinds = [one.category.name if one.category else one.granularity for one in found]
    numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds), 1)}
    annotations = []
    for number, (one, kind) in enumerate(zip(found, kinds, strict=True), 1):
        x0, y0, x1, y1 = one.mask.box or (0, 0, 0, 0)
        record: dict[str, Any] = {
            "id": number,
            "image_id": 1,
            "category_id": numbers[kind],
            "segmentation": one.mask.to_coco(),
            "area": one.mask.area,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "iscrowd": 0,
            "granularity": one.granularity,
            "level": one.level,
            "predicted_iou": round(one.predicted_iou, 4),
            "stability_score": round(one.stability, 4),
            "point": [round(value, 2) for value in one.point],
        }
        if one.category is not None:
            record["category_score"] = round(one.category.score, 4)
        if one.part_category is not None:
            record |= {"part": one.part_category.name, "part_score": round(one.part_category.score, 4)}
        annotations.append(record)
    image = {"id": 1, "file_name": printable(embedding.name)}
    image |= {"width": embedding.image.width, "height": embedding.image.height}
    return {
        "info": {"model": dict(model)},
        "images": [image],
        "annotations": annotations,
        "categories": [{"id": number, "name": kind} for kind, number in numbers.items()],
    }
