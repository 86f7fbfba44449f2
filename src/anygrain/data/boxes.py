"""What complete boxes add to incomplete masks: which categories are absent, and where not to look for negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from anygrain.masks import pairwise_iou
from anygrain.types import Box, Mask, Region, Sample, Size

SAME = 0.5  # a box and a mask (or two masks) of one category with this IoU are one object


def complete_with_boxes(sample: Sample, boxes: Mapping[str, Sequence[Box]], names: Sequence[str]) -> Sample:
    """Tell a sample with some masks what all boxes of the categories ``names`` say.

    boxes: (x0, y0, x1, y1) in pixels by category; no entry means that the category is absent from the image.
    A box without a mask of its own becomes a region: without a mask when its category has none here, else an ignored
    one (its rectangle less the masks of that category), so that the object inside never counts as background.
    ``exhaustive`` gains all the categories, the absent ones included: each occurrence has a mask or a box.
    """
    regions = list(sample.regions)
    for name in names:
        own = [region for region in sample.regions if region.category == name and region.mask is not None]
        left = unmatched(boxes.get(name, ()), own)
        if own:
            regions.extend(_ignored(name, box, own, sample.size) for box in left)
        else:
            regions.extend(Region(box=box, category=name, origin={"step": "human"}) for box in left)
    kept = tuple(region for region in regions if region.mask is None or region.mask.area or only_boxed(region))
    return replace(sample, regions=kept, exhaustive=sample.exhaustive | set(names))


def only_boxed(region: Region) -> bool:
    """Whether a region is one thing of which the box is known for sure, but no mask, or only a teacher's."""
    if region.box is None or region.instance is not None:
        return False
    return not region.ignore or region.origin.get("step") == "box"


def rectangle(box: Box, size: Size) -> np.ndarray:
    """bool [H, W]: the pixels that a box touches."""
    inside = np.zeros(size, bool)
    x0, y0 = (max(0, int(np.floor(v))) for v in box[:2])
    x1, y1 = (int(np.ceil(v)) for v in box[2:])
    inside[y0:y1, x0:x1] = True
    return inside


def in_pixels(box: Sequence[float], size: Size) -> Box:
    """A box in 0..1 of an image of ``size`` -> in its pixels."""
    x0, y0, x1, y1 = box
    return x0 * size[1], y0 * size[0], x1 * size[1], y1 * size[0]


def unmatched(boxes: Sequence[Box], regions: Sequence[Region]) -> list[Box]:
    """The boxes left over when each region takes the free box it fits best, the best fit first."""
    masks = [region.mask.box for region in regions if region.mask is not None and region.mask.box]
    pairs = sorted(
        ((iou(box, mask), i, j) for i, box in enumerate(boxes) for j, mask in enumerate(masks)), reverse=True
    )
    taken: set[int] = set()
    used: set[int] = set()
    for score, i, j in pairs:
        if score >= SAME and i not in taken and j not in used:
            taken.add(i)
            used.add(j)
    return [box for i, box in enumerate(boxes) if i not in taken]


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def _ignored(category: str, box: Box, own: Sequence[Region], size: Size) -> Region:
    inside = rectangle(box, size)
    for region in own:
        if region.mask is not None and not region.ignore:
            inside &= ~region.mask.to_array()
    return Region(mask=Mask.from_array(inside), box=box, category=category, ignore=True, origin={"step": "box"})


def merge(sample: Sample, more: Sample) -> Sample:
    """The regions of two annotations of one photo; an object that both mask keeps the first mask and all captions.

    Instances are numbered anew from 1, because the two annotations count on their own.
    """
    regions = list(sample.regions)
    for region in more.regions:
        same = _find(region, regions)
        if same is None:
            regions.append(region)
        else:
            captions = dict.fromkeys(regions[same].captions + region.captions)
            regions[same] = replace(regions[same], captions=tuple(captions))
    numbered = tuple(replace(region, instance=number) for number, region in enumerate(regions, start=1))
    return replace(sample, regions=numbered, exhaustive=sample.exhaustive | more.exhaustive)


def _find(region: Region, others: Sequence[Region]) -> int | None:
    """Place of the region in others that is the same object, or None."""
    for place, other in enumerate(others):
        if region.mask is None or other.mask is None or other.category != region.category:
            continue
        if pairwise_iou([region.mask], [other.mask])[0, 0] >= SAME:
            return place
    return None
