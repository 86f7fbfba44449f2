"""The cubic warp of UniLSeg's released letterbox, equal to the arithmetic of OpenCV 4's ``warpAffine``, in numpy.

The letterbox only scales and shifts, so a source position depends on the column alone in x and on the row alone in y.
Positions are fixed point: 1/1024 pixel, then cut to a grid of 1/32. Pixel centres lie at whole numbers.
Shape letters: H W source, h w output, C channels.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

Size = tuple[int, int]

GRID = 32  # positions between two pixels
ONE = 1 << 15  # the integer weights of a uint8 pixel sum to this
ROWS_AT_ONCE = 128  # bounds the temporary arrays


class Affine(NamedTuple):
    """``out = scale * in + shift`` for each axis, in pixels whose centres lie at whole numbers."""

    scale_x: float
    shift_x: float
    scale_y: float
    shift_y: float


def letterbox(source: Size, length: int) -> tuple[Affine, Affine]:
    """The maps image -> square canvas and canvas -> image that centre ``source`` (H, W) in ``length`` x ``length``.

    Each is solved from corner points rounded to float32, as the released code does, so the two are inverse to each
    other only to about 1e-6 of a pixel.
    """
    height, width = source
    scale = min(length / height, length / width)
    inner_height, inner_width = height * scale, width * scale
    left, top = (length - inner_width) / 2.0, (length - inner_height) / 2.0
    x0, x1, y0, y1 = (float(np.float32(v)) for v in (left, inner_width + left, top, inner_height + top))
    there = Affine((x1 - x0) / width, x0, (y1 - y0) / height, y0)
    scale_x, scale_y = width / (x1 - x0), height / (y1 - y0)
    return there, Affine(scale_x, -x0 * scale_x, scale_y, -y0 * scale_y)


def warp_image(image: np.ndarray, affine: Affine, size: Size, border: tuple[int, ...]) -> np.ndarray:
    """Warp uint8 [H, W, C] to uint8 [h, w, C]; taps outside the image have the ``border`` colour (C values)."""
    columns, rows = _sampling(affine, size)
    out = np.empty((*size, image.shape[2]), np.uint8)
    colour = np.asarray(border, np.int32)
    for start in range(0, size[0], ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        out[part] = _warp_rows(image, _Taps(rows.first[part], rows.fraction[part]), columns, colour)
    return out


def warp_map(values: np.ndarray, affine: Affine, size: Size) -> np.ndarray:
    """Warp float32 [H, W] to float32 [h, w] with zeros around; not clipped, so it may overshoot a little."""
    columns, rows = _sampling(affine, size)
    height, width = values.shape
    across = values @ _matrix(columns, width).T  # [H, w]
    out = np.empty(size, np.float32)
    for start in range(0, size[0], ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        first, fraction = rows.first[part], rows.fraction[part]
        low = int(np.clip(first.min(), 0, height - 1))  # only these source rows matter for this part
        high = int(np.clip(first.max() + 4, low + 1, height))
        out[part] = _matrix(_Taps(first - low, fraction), high - low) @ across[low:high]
    return out


class _Taps(NamedTuple):
    """Along one axis: the first of four neighbours of every output pixel, and the fraction in 1/32 pixel."""

    first: np.ndarray
    fraction: np.ndarray


def _sampling(affine: Affine, size: Size) -> tuple[_Taps, _Taps]:
    """Where output columns and rows are read. Every product and rounding here is the one of the fixed-point warp."""
    determinant = 1.0 / (affine.scale_x * affine.scale_y)
    back_x, back_y = affine.scale_y * determinant, affine.scale_x * determinant
    x = np.arange(size[1], dtype=np.float64)
    y = np.arange(size[0], dtype=np.float64)
    # In x the shift is rounded apart from the step, in y together with it: the original adds x steps to a row's start.
    columns = np.rint(-back_x * affine.shift_x * 1024) + np.rint(back_x * x * 1024)
    rows = np.rint((back_y * y - back_y * affine.shift_y) * 1024)
    return _taps(columns), _taps(rows)


def _taps(position: np.ndarray) -> _Taps:
    """Positions in 1/1024 pixel, cut to 1/32."""
    cut = (position.astype(np.int64) + 16) >> 5
    return _Taps((cut >> 5) - 1, cut & (GRID - 1))


@cache
def _weights() -> np.ndarray:
    """float32 [32, 4]: cubic weights (a = -0.75) of the four neighbours for each fraction."""
    a, one = np.float32(-0.75), np.float32(1)
    x = np.arange(GRID, dtype=np.float32) / np.float32(GRID)
    outer = ((a * (x + one) - 5 * a) * (x + one) + 8 * a) * (x + one) - 4 * a
    near = ((a + 2) * x - (a + 3)) * x * x + one
    mirrored = one - x
    next_ = ((a + 2) * mirrored - (a + 3)) * mirrored * mirrored + one
    return np.stack([outer, near, next_, one - outer - near - next_], -1)


@cache
def _integer_weights() -> np.ndarray:
    """int32 [32, 32, 4, 4] (fraction y, fraction x, row, column): products of weights, each sixteen summing to ONE.

    What rounding leaves over goes to one of the four taps (2..3, 2..3): the largest when the sum is too small, the
    smallest when it is too large, in the scan order and with the tie rule of the original.
    """
    float_weights = _weights()
    products = float_weights[:, None, :, None] * float_weights[None, :, None, :]
    table = np.clip(np.rint(products * np.float32(ONE)).astype(np.int32), -ONE, ONE - 1)
    excess = table.sum((2, 3)) - ONE  # [32, 32]
    central = table[:, :, 2:, 2:].reshape(GRID, GRID, 4)
    smallest, largest = np.zeros((2, GRID, GRID), np.int64)
    for tap in range(1, 4):
        value = central[:, :, tap]
        smaller = value < _pick(central, smallest)
        larger = ~smaller & (value > _pick(central, largest))
        smallest[smaller], largest[larger] = tap, tap
    chosen = np.where(excess < 0, largest, smallest)
    y, x = np.indices(chosen.shape)
    table[y, x, 2 + chosen // 2, 2 + chosen % 2] -= excess
    return table


def _pick(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, index[..., None], -1)[..., 0]


def _warp_rows(image: np.ndarray, rows: _Taps, columns: _Taps, border: np.ndarray) -> np.ndarray:
    height, width, channels = image.shape
    weights = _integer_weights()[rows.fraction][:, columns.fraction]  # [h, w, 4, 4]
    total = np.full((len(rows.first), len(columns.first), channels), ONE >> 1, np.int32)
    inside_x = [(columns.first + b >= 0) & (columns.first + b < width) for b in range(4)]
    for a in range(4):
        y = rows.first + a
        outside_y = (y < 0) | (y >= height)
        lines = image[np.clip(y, 0, height - 1)]  # [h, W, C]
        for b in range(4):
            taps = lines[:, np.clip(columns.first + b, 0, width - 1)].astype(np.int32)
            taps[outside_y] = border
            taps[:, ~inside_x[b]] = border
            taps *= weights[:, :, a, b, None]
            total += taps
    return np.clip(total >> 15, 0, 255).astype(np.uint8)


def _matrix(taps: _Taps, length: int) -> np.ndarray:
    """float32 [n, length]: row i holds the four weights of output i; taps outside 0..length are left out."""
    weights = _weights()[taps.fraction]  # [n, 4]
    matrix = np.zeros((len(taps.first), length), np.float32)
    for tap in range(4):
        index = taps.first + tap
        inside = np.flatnonzero((index >= 0) & (index < length))
        matrix[inside, index[inside]] = weights[inside, tap]
    return matrix
