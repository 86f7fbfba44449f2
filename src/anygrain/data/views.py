"""A sample as one view of it shows it: what phrases about place, size and colour must be true of."""

from __future__ import annotations

from collections import Counter

import numpy as np

from anygrain.data.labels import Labels
from anygrain.data.language import readable
from anygrain.data.scene import Scene, Thing, split_apart
from anygrain.data.transforms import View, swap_sides, whole
from anygrain.types import Sample

CLIPPED = 0.85  # a thing of which less is left is clipped
MANY = 12  # of so many things of a name annotators leave some out


def scene_of(sample: Sample, view: View, pixels: np.ndarray, labels: Labels) -> Scene:
    """The visible things of a sample, in the part of the square that a view fills.

    pixels: uint8 [h, w, 3], that part as seen. labels: of the sample.
    A category is complete when the sample is exhaustive of it and no region of it is ignored or without a mask.
    """
    things = []
    named = {region.category: _named(region.category, view) for region in sample.regions if region.category is not None}
    unknown = {region.category for region in sample.regions if region.ignore or region.mask is None}
    for region in sample.regions:
        if region.category is None or region.ignore or region.mask is None:
            continue
        source = region.mask.to_array()
        mask = view.seen(source)
        if mask.any():
            countable, clipped = region.instance is not None, view.kept(source) < CLIPPED
            thing = Thing(mask=mask, category=named[region.category], countable=countable, clipped=clipped)
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
        background=False,  # "the background" is a region of the sources that can say it
    )


def _named(category: str, view: View) -> str:
    """A mirrored car's left mirror is its right one."""
    return swap_sides(readable(category)) if view.flip else readable(category)


def full_scene(sample: Sample, photo: np.ndarray) -> Scene:
    """The scene of the whole photo, uint8 [H, W, 3], at its own size."""
    return scene_of(sample, whole(sample.size, max(sample.size)), photo, Labels(sample))
