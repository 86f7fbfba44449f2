"""A sample as one view of it shows it: what phrases about place, size and colour must be true of."""

from __future__ import annotations

from collections import Counter

import numpy as np

from anygrain.data.boxes import only_boxed, rectangle
from anygrain.data.labels import Labels
from anygrain.data.language import readable
from anygrain.data.scene import Scene, Thing, split_apart
from anygrain.data.transforms import View, swap_sides, whole
from anygrain.types import Region, Sample, Size

CLIPPED = 0.85  # a thing of which less is left is clipped
MANY = 12  # of so many things of a name annotators leave some out


def scene_of(sample: Sample, view: View, pixels: np.ndarray, labels: Labels) -> Scene:
    """The visible things of a sample, in the part of the square that a view fills.

    pixels: uint8 [h, w, 3], that part as seen. labels: of the sample.
    A category is complete when the sample is exhaustive of it and each region of it has a mask or a box of its own.
    """
    things = []
    named = {region.category: _named(region.category, view) for region in sample.regions if region.category is not None}
    unknown: set[str | None] = set()
    for region in sample.regions:
        if region.category is None or (source := _pixels(region, sample.size)) is None:
            unknown.add(region.category)
            continue
        mask = view.seen(source)
        if mask.any():
            boxed = only_boxed(region)
            countable, clipped = boxed or region.instance is not None, view.kept(source) < CLIPPED
            name = named[region.category]
            thing = Thing(mask=mask, category=name, countable=countable, clipped=clipped, boxed=boxed)
            # A part hangs together: a region of two wheels is two wheels.
            things += split_apart(thing) if countable and sample.whole is not None else (thing,)
    counts = Counter(thing.category for thing in things)
    complete = {named[category] for category in sample.exhaustive & named.keys() - unknown}
    return Scene(
        things=tuple(things),
        size=pixels.shape[:2],
        complete=frozenset(name for name in complete if counts[name] < MANY or sample.whole is not None),
        unknown=view.seen(labels.unsure),
        doubts={named[category]: view.seen(where) for category, where in labels.doubts.items()},
        pixels=pixels,
        whole=sample.whole,
    )


def _pixels(region: Region, size: Size) -> np.ndarray | None:
    """bool [H, W]: the box of what is only boxed, else the mask; None when its place is not known or not counted."""
    if region.box is not None and only_boxed(region):
        return rectangle(region.box, size)
    return None if region.ignore or region.mask is None else region.mask.to_array()


def _named(category: str, view: View) -> str:
    """A mirrored car's left mirror is its right one."""
    return swap_sides(readable(category)) if view.flip else readable(category)


def full_scene(sample: Sample, photo: np.ndarray) -> Scene:
    """The scene of the whole photo, uint8 [H, W, 3], at its own size."""
    return scene_of(sample, whole(sample.size, max(sample.size)), photo, Labels(sample))
