"""What is said of a mask: the captions of the paper's Table 1, made from names and from natural phrases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from anygrain.data.synonyms import SYNONYMS
from anygrain.nouns import is_plural, plural
from anygrain.types import Mask, Sample, Triplet

SALIENT = "the most salient object"
SYNONYM_RATIO = 0.3  # of the ways to say a category that are not the paper's

# "balcony-fence" is two words, but "t-shirt" and "non-building" are one.
_HYPHEN = re.compile(r"(?<=\w\w)(?<!\bnon)-(?=\w)")


@lru_cache(maxsize=4096)
def readable(category: str) -> str:
    """A category as people write it: "left_mirror" -> "left mirror", "balcony-fence" -> "balcony fence", and a part
    with its whole, "dog:left_ear" -> "dog left ear".

    Remarks in brackets, underscores, quotes and repeated spaces go. Raises ValueError when nothing is left.
    """
    text = re.sub(r"\([^)]*\)|\[[^\]]*\]", " ", category)
    text = _HYPHEN.sub(" ", re.sub(r"[_\":]", " ", text))
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
    for phrase in sample.absent:
        yield Triplet(sample.id, None, phrase)


def union(masks: Sequence[Mask]) -> Mask:
    """The pixels that any of the masks (at least one, all of one size) holds."""
    from pycocotools import mask as coco

    if len(masks) == 1:
        return masks[0]
    codes: Any = [mask.to_coco() for mask in masks]
    merged = coco.merge(codes)
    return Mask.from_coco({"size": merged["size"], "counts": merged["counts"]}, masks[0].size)


# ---------------------------------------------------------------------------------------------------- words


def synonyms(name: str) -> tuple[str, ...]:
    """Other words for a readable name; () for most names. See SYNONYMS."""
    return SYNONYMS.get(name, ())


def say_category(name: str, rng: np.random.Generator, regions: int | None) -> str:
    """A random way to ask for a category as a whole, most often as Table 1 does: "all {name}".

    name: as ``readable`` gives it; regions: how many instances the photo shows, None when that is not known (stuff).
    """
    if rng.random() < 0.35:
        return f"all {name}"
    said = name
    if synonyms(name) and rng.random() < SYNONYM_RATIO:
        said = synonyms(name)[rng.integers(len(synonyms(name)))]
    # Other words for a mass or a pair need not look like one: no "every firmament", no "every footgear".
    plain = plural(name) is None or is_plural(name)
    ways = [said, f"all {said}", f"the {said}"] if said != name and plain else _ways(said, regions)
    return ways[rng.integers(len(ways))]


def _ways(name: str, regions: int | None) -> list[str]:
    many = plural(name)
    ways = [name, name, f"all {name}"]
    if regions == 1 or many is None:
        ways += [f"the {name}"] * 2
    if many is None:
        return [*ways, f"all the {name}", f"all of the {name}"]
    if regions != 1 or is_plural(name):
        ways += [f"the {many}", many, f"all the {many}", f"all of the {many}"]
    if not is_plural(name):
        ways += [f"every {name}", f"any {name}"]
    return [*ways, f"all {many}"]


_SALIENT_WAYS = (
    "the main object",
    "the main subject",
    "main subject of the photo",
    "the most eye-catching object",
    "the most eye-catching thing",
    "the most prominent object",
    "the most noticeable object",
    "the object that stands out",
    "what stands out most",
    "the thing that stands out the most",
    "the foreground object",
    "the salient object",
    "salient object",
    "the subject of the picture",
    "what the photo is about",
    "the object in focus",
)


def say_salient(rng: np.random.Generator) -> str:
    """SALIENT half of the time, else another way to ask for what a photo is about."""
    return SALIENT if rng.random() < 0.5 else _SALIENT_WAYS[rng.integers(len(_SALIENT_WAYS))]
