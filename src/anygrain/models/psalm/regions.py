"""Regions: from points, a scribble, a box or a mask to the one feature that stands for it in a prompt (paper §3.2).

A region's feature is the mean of the picture's language tokens, a map of S x S cells, at the region's pixels. The
official code draws 256 of the pixels at random; ``region_feature`` computes the mean over all of them, which is what
the random one is on average, and the same every time. ``sampled_feature`` is the official form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anygrain.types import Mask

POINTS = 256
"""Pixels that the official sampler draws."""
POINT_RADIUS, SCRIBBLE_RADIUS = 10, 5
THIN = {"point": POINT_RADIUS, "scribble": SCRIBBLE_RADIUS}  # marks of a data set that are one pixel thin
"""Thickness of a click and of a stroke, in pixels of the photograph."""


def region_feature(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of a picture's tokens [S*S, D] over all pixels of a bool mask [H, W] of the model's input -> [1, D].

    Raises ValueError for a mask without a pixel.
    """
    side = math.isqrt(len(tokens))
    count = mask.sum()
    if not count:
        raise ValueError("a region has no pixel inside the photograph: mark something that is in it")
    rows, columns = (_taps(length, side, tokens) for length in mask.shape)
    share = rows.T @ mask.to(rows.dtype) @ columns / count  # [S, S], how much of each token
    return (share.flatten() @ tokens.to(rows.dtype)).to(tokens.dtype)[None]


def _taps(length: int, side: int, like: Tensor) -> Tensor:
    """How much each of ``side`` cells gives to pixel i of ``length``, which lies at i / length * (side - 1)."""
    place = torch.arange(length, device=like.device, dtype=torch.float32) / length * (side - 1)
    distance = place[:, None] - torch.arange(side, device=like.device)
    return (1 - distance.abs()).clamp(min=0)  # [length, side]


def sampled_feature(tokens: Tensor, points: Tensor) -> Tensor:
    """The official feature: mean of tokens [S*S, D] at points (row, column) [256, 2] in 0..1 -> [1, D]."""
    side = math.isqrt(len(tokens))
    grid = (points.flip(-1) * 2 - 1)[None, None].to(tokens.dtype)  # (x, y) in -1..1
    cells = tokens.T.unflatten(1, (side, side))[None]
    return F.grid_sample(cells, grid, align_corners=True)[0, :, 0].mean(1)[None]


def random_points(mask: Tensor) -> Tensor:
    """The official draw from a bool mask [H, W] -> (row, column) / (H, W), float32 [256, 2]; no pixel twice if it can.

    Raises ValueError for a mask without a pixel.
    """
    pixels = mask.nonzero()
    if not len(pixels):
        raise ValueError("a region has no pixel inside the photograph: mark something that is in it")
    if len(pixels) > POINTS:
        pixels = pixels[torch.randperm(len(pixels))[:POINTS].to(pixels.device)]
    else:
        again = torch.randint(len(pixels), (POINTS - len(pixels),)).to(pixels.device)
        pixels = torch.cat([pixels, pixels[again]])
    return pixels.float() / torch.tensor(mask.shape, device=mask.device)


def discs(points: Sequence[tuple[float, float]], radius: int, size: tuple[int, int]) -> np.ndarray:
    """Bool [H, W]: the pixels within ``radius`` of the pixel of any point (x, y)."""
    height, width = size
    mask = np.zeros(size, bool)
    for x, y in points:
        column, row = math.floor(x), math.floor(y)
        top, left = max(row - radius, 0), max(column - radius, 0)
        rows = np.arange(top, min(row + radius + 1, height))[:, None] - row
        columns = np.arange(left, min(column + radius + 1, width)) - column
        near = rows**2 + columns**2 <= radius**2
        mask[top : top + near.shape[0], left : left + near.shape[1]] |= near
    return mask


def thick(mark: Mask, kind: str) -> Mask:
    """A mark one pixel thin, a "point" or a "scribble", as thick as the official evaluation draws it; others as is."""
    if kind not in THIN:
        return mark
    rows, columns = np.nonzero(mark.to_array())
    return Mask.from_array(discs(list(zip(columns.tolist(), rows.tolist(), strict=True)), THIN[kind], mark.size))


def stroke(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A line through points (x, y) as points not more than a pixel apart."""
    line = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        steps = max(1, math.ceil(max(abs(x1 - x0), abs(y1 - y0))))
        line += [(x0 + (x1 - x0) * k / steps, y0 + (y1 - y0) * k / steps) for k in range(1, steps + 1)]
    return line


def box_mask(box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """Bool [H, W]: the pixels whose centre lies in ``(x0, y0, x1, y1)``; the right and lower edge exclusive."""
    height, width = size
    rows, columns = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
    return (rows >= box[1]) & (rows < box[3]) & (columns >= box[0]) & (columns < box[2])
