"""Photos of a house that holds a car that has wheels: masks inside masks, each of its own colour."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image

from anygrain.types import Mask, Region, Sample

H, W = 48, 64
COLOURS = {"house": (40, 60, 200), "car": (200, 30, 40), "wheel": (240, 220, 40)}


def rect(y0, x0, y1, x1):
    """Bool [H, W] with a filled box."""
    array = np.zeros((H, W), bool)
    array[y0:y1, x0:x1] = True
    return array


def nested(number: int, *, kind: str = "parts", source: str = "street") -> Sample:
    """One photo, another place for each number. kind: "parts" (objects and parts with names), "objects" (with names),
    or "masks"."""
    rng = np.random.default_rng(number)
    y, x = int(rng.integers(0, 8)), int(rng.integers(0, 10))
    masks = {
        "house": rect(y + 1, x + 1, y + 39, x + 53),
        "car": rect(y + 12, x + 6, y + 34, x + 46),
        "wheel": rect(y + 24, x + 10, y + 34, x + 20) | rect(y + 24, x + 32, y + 34, x + 42),
    }
    pixels = rng.integers(90, 130, (H, W, 3)).astype(np.uint8)
    regions = []
    for name, mask in masks.items():
        pixels[mask] = COLOURS[name]
        part = name == "wheel" and kind == "parts"
        category = None if kind == "masks" else "car:wheel" if part else name
        granularity = "part" if part else None
        regions.append(Region(mask=Mask.from_array(mask), category=category, granularity=granularity))
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return Sample(id=f"{source}/{number}", image=file.getvalue(), size=(H, W), regions=tuple(regions), source=source)


def with_region(sample: Sample, region: Region) -> Sample:
    """The sample with one more region."""
    return replace(sample, regions=(*sample.regions, region))
