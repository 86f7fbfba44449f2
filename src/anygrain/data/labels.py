"""What can be asked about an annotated photo, and the answer as a map of labels: for training and evaluation alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anygrain.data.transforms import IGNORE
from anygrain.types import Region, Sample

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Candidate:
    """Something that may be asked about a photo.

    regions: their union is the answer; empty when the thing is absent.
    captions: natural captions, or () for a category.
    category: the source's name of it, or None for natural captions.
    """

    regions: tuple[Region, ...]
    captions: tuple[str, ...] = ()
    category: str | None = None


def present_candidates(sample: Sample) -> list[Candidate]:
    """One for each object with natural captions and one for each category that has a mask."""
    by_category: dict[str, list[Region]] = defaultdict(list)
    objects = []
    for region in sample.regions:
        if region.ignore or region.mask is None or region.mask.area == 0:
            continue
        if region.captions:
            objects.append(Candidate((region,), captions=region.captions))
        if region.category is not None:
            by_category[region.category].append(region)
    return objects + [Candidate(tuple(regions), category=name) for name, regions in sorted(by_category.items())]


def absent_candidates(sample: Sample) -> list[Candidate]:
    """The categories that are annotated exhaustively in this photo and that no region has, not even an ignored one."""
    seen = {region.category for region in sample.regions}
    return [Candidate((), category=name) for name in sorted(sample.exhaustive - seen)]


class Labels:
    """Label maps of one sample.

    Unknown (IGNORE) are, unless they belong to the answer: ignored regions without a category, for every question;
    ignored regions of a category and its objects of which only the box is known, for questions about that category.
    """

    def __init__(self, sample: Sample):
        self.sample = sample
        self.unknown = _union([r for r in sample.regions if r.ignore and r.category is None], sample)  # [H, W]

    def of(self, candidate: Candidate) -> np.ndarray:
        """uint8 [H, W]: 1 in the union of the candidate's regions, IGNORE where it is not known, 0 elsewhere."""
        labels = np.where(self.unknown, np.uint8(IGNORE), np.uint8(0))
        if candidate.category is not None:
            same = [r for r in self.sample.regions if r.category == candidate.category and (r.ignore or r.mask is None)]
            labels[_union(same, self.sample)] = IGNORE
        labels[_union(candidate.regions, self.sample)] = 1
        return labels


def _union(regions: Sequence[Region], sample: Sample) -> np.ndarray:
    """bool [H, W]: all masks, and the whole box where there is no mask."""
    union = np.zeros(sample.size, bool)
    for region in regions:
        if region.mask is not None:
            union |= region.mask.to_array()
        elif region.box is not None:
            x0, y0, x1, y1 = region.box
            union[int(max(y0, 0)) : int(np.ceil(y1)), int(max(x0, 0)) : int(np.ceil(x1))] = True
    return union


def open_photo(sample: Sample) -> Image.Image:
    """The sample's photo, decoded. Raises ValueError when it is not of the size of its masks."""
    from anygrain.images import open_image

    image = open_image(sample.image)
    if (image.height, image.width) != tuple(sample.size):
        raise ValueError(f"sample {sample.id!r}: photo of {image.height}x{image.width} but masks of {sample.size}")
    return image
