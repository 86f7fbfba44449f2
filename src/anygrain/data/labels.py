"""What can be asked about an annotated photo, and the answer as a map of labels: for training and evaluation alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from anygrain.data.boxes import only_boxed, rectangle
from anygrain.data.transforms import IGNORE
from anygrain.types import Region, Sample

if TYPE_CHECKING:
    from PIL import Image

# What is known of an answer: all of it, only the boxes around it, or only that the thing is in the photo.
Known = Literal["mask", "box", "presence"]


@dataclass(frozen=True)
class Candidate:
    """Something that may be asked about a photo.

    regions: their union is the answer; empty when the thing is absent. Either all have masks, or none has.
    captions: natural captions, or () for a category.
    category: the source's name of it, or None for natural captions.
    """

    regions: tuple[Region, ...]
    captions: tuple[str, ...] = ()
    category: str | None = None

    @property
    def known(self) -> Known:
        """What the regions tell of the answer; nothing is as good as a mask when it is absent."""
        if all(region.mask is not None for region in self.regions):
            return "mask"
        return "box" if all(region.box is not None for region in self.regions) else "presence"


def present_candidates(sample: Sample, *, boxes: bool = False) -> list[Candidate]:
    """One for each object with natural captions and one for each category.

    boxes: also what has no mask, but a box or only the word that it is there. A category that has some masks is known
    by its masks; a caption that several such regions share means them all.
    """
    drawn = [r for r in sample.regions if not r.ignore and r.mask is not None and r.mask.area]
    objects = [Candidate((r,), captions=r.captions) for r in drawn if r.captions]
    masked = _by_category(drawn)
    categories = [Candidate(tuple(regions), category=name) for name, regions in sorted(masked.items())]
    if not boxes:
        return objects + categories
    unmasked = [region for region in sample.regions if not region.ignore and region.mask is None]
    shared: dict[str, list[Region]] = defaultdict(list)
    for region in unmasked:
        for caption in region.captions:
            shared[caption].append(region)
    return (
        objects
        + [Candidate(tuple(regions), captions=(caption,)) for caption, regions in shared.items()]
        + categories
        + [
            Candidate(tuple(r), category=name)
            for name, r in sorted(_by_category(unmasked).items())
            if name not in masked
        ]
    )


def _by_category(regions: Sequence[Region]) -> dict[str, list[Region]]:
    groups: dict[str, list[Region]] = defaultdict(list)
    for region in regions:
        if region.category is not None:
            groups[region.category].append(region)
    return groups


def absent_candidates(sample: Sample) -> list[Candidate]:
    """The phrases known to be wrong, and the categories that are annotated exhaustively and that no region has.

    An ignored region also speaks for its category's presence.
    """
    seen = {region.category for region in sample.regions}
    phrases = [Candidate((), captions=(phrase,)) for phrase in sample.absent]
    return phrases + [Candidate((), category=name) for name in sorted(sample.exhaustive - seen)]


class Labels:
    """Label maps of one sample.

    Unknown (IGNORE) are, unless they belong to the answer: ignored regions without a category, for every question;
    ignored regions of a category and its objects of which only the box is known, for questions about that category.
    """

    def __init__(self, sample: Sample):
        self.sample = sample
        self.unknown = _union([r for r in sample.regions if r.ignore and r.category is None], sample)  # [H, W]

    def of(self, candidate: Candidate) -> np.ndarray:
        """uint8 [H, W]: 1 in the union of the candidate's regions, IGNORE where it is not known, 0 elsewhere.

        For a candidate known by boxes the union is that of the boxes; by presence alone, everything is IGNORE.
        """
        if candidate.known == "presence":
            return np.full(self.sample.size, IGNORE, np.uint8)
        labels = np.where(self.unknown, np.uint8(IGNORE), np.uint8(0))
        if candidate.category is not None:
            same = [r for r in self.sample.regions if r.category == candidate.category and (r.ignore or r.mask is None)]
            labels[_union(same, self.sample)] = IGNORE
        labels[_union(candidate.regions, self.sample)] = 1
        return labels

    @cached_property
    def unsure(self) -> np.ndarray:
        """bool [H, W]: what is ignored or has no place, whatever the question; no doubts, and nothing only boxed."""
        named = [r for r in self.sample.regions if r.category is not None and not only_boxed(r)]
        unmasked = [r for r in named if r.ignore or r.mask is None]
        return self.unknown | _union([r for r in unmasked if not _doubtful(r)], self.sample)

    @cached_property
    def doubts(self) -> dict[str, np.ndarray]:
        """By category, bool [H, W]: the ignored boxes without a mask, where there may be more of that category only."""
        groups = _by_category([region for region in self.sample.regions if _doubtful(region)])
        return {name: _union(regions, self.sample) for name, regions in groups.items()}


def _doubtful(region: Region) -> bool:
    return region.ignore and region.mask is None and region.category is not None


def _union(regions: Sequence[Region], sample: Sample) -> np.ndarray:
    """bool [H, W]: all masks, and the whole box where there is no mask."""
    union = np.zeros(sample.size, bool)
    for region in regions:
        if region.mask is not None:
            union |= region.mask.to_array()
        elif region.box is not None:
            union |= rectangle(region.box, sample.size)
    return union


def open_photo(sample: Sample) -> Image.Image:
    """The sample's photo, decoded. Raises ValueError when it is not of the size of its masks."""
    from anygrain.images import open_image

    image = open_image(sample.image)
    if (image.height, image.width) != tuple(sample.size):
        raise ValueError(f"sample {sample.id!r}: photo of {image.height}x{image.width} but masks of {sample.size}")
    return image
