"""What is said of a mask: the captions of the paper's Table 1, made from names and from natural phrases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from anygrain.types import Mask, Sample, Triplet

SALIENT = "the most salient object"

# "balcony-fence" is two words, but "t-shirt" and "non-building" are one.
_HYPHEN = re.compile(r"(?<=\w\w)(?<!\bnon)-(?=\w)")


def readable(category: str) -> str:
    """A category as people write it: "left_mirror" -> "left mirror", "balcony-fence" -> "balcony fence".

    Remarks in brackets, underscores, quotes and repeated spaces go. Raises ValueError when nothing is left.
    """
    text = re.sub(r"\([^)]*\)|\[[^\]]*\]", " ", category)
    text = _HYPHEN.sub(" ", text.replace("_", " ").replace('"', " "))
    text = " ".join(text.split()).strip(" .,;:-'").lower()
    if not text:
        raise ValueError(f"the category {category!r} has no readable name; rename it in the data set")
    return text


def all_category(name: str) -> str:
    """The caption of every region of a category together: "all {name}", by Table 1."""
    return f"all {readable(name)}"


def triplets(sample: Sample) -> Iterator[Triplet]:
    """Every (image, mask, caption) of a sample; image is the sample's id.

    First the natural captions with their region's mask, region by region; then, for each category in order of
    appearance, "all {category}" with the union of its masks. Ignored regions and regions without a mask say nothing.
    """
    drawn = [(region, region.mask) for region in sample.regions if region.mask is not None and not region.ignore]
    for region, mask in drawn:
        for caption in region.captions:
            yield Triplet(sample.id, mask, caption)
    groups: dict[str, list[Mask]] = {}
    for region, mask in drawn:
        if region.category is not None:
            groups.setdefault(region.category, []).append(mask)
    for category, masks in groups.items():
        yield Triplet(sample.id, union(masks), all_category(category))


def union(masks: Sequence[Mask]) -> Mask:
    """The pixels that any of the masks (at least one, all of one size) holds."""
    from pycocotools import mask as coco

    if len(masks) == 1:
        return masks[0]
    codes: Any = [mask.to_coco() for mask in masks]
    merged = coco.merge(codes)
    return Mask.from_coco({"size": merged["size"], "counts": merged["counts"]}, masks[0].size)
