"""Resize: bring an image to a model's input, and images, points, boxes and masks both ways.

Sizes are ``(height, width)``. Points and box edges are continuous: pixel column c covers c <= x < c + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image

from anygrain import warp

Size = tuple[int, int]

LETTERBOX_BORDER = (123, 117, 104)  # CLIP's mean colour, in 0..255


@dataclass(frozen=True, kw_only=True)
class Resize:
    """How an image is brought to a model's input, and everything else with it, there and back.

    source: (H, W) of the image.
    canvas: (h, w) of the model's input.
    content: (h, w) that the picture takes inside the canvas ("letterbox": rounded, it may end between two pixels).
    kind: "letterbox" = centred in a square, cubic, OpenCV's arithmetic to the bit, CLIP's mean colour around;
        "fit" = at the top left, antialiased, zeros (black) to the right and below; "corner" = at the top left of a
        square, Pillow's bilinear filter, grey (128) to the right and below, masks by their nearest pixel.
    """

    source: Size
    canvas: Size
    content: Size
    kind: Literal["letterbox", "fit", "corner"]

    @classmethod
    def letterbox(cls, source: Size, length: int) -> Resize:
        """UniLSeg's released preparation: the whole image, small ones enlarged, centred in ``length`` x ``length``."""
        _check_lengths(source, length)
        scale = min(length / source[0], length / source[1])
        content = (max(1, round(source[0] * scale)), max(1, round(source[1] * scale)))
        return cls(source=source, canvas=(length, length), content=content, kind="letterbox")

    @classmethod
    def fit(cls, source: Size, long_side: int, multiple: int = 32) -> Resize:
        """The long side becomes ``long_side``, the canvas is padded right and below to a multiple of ``multiple``."""
        _check_lengths(source, long_side)
        scale = long_side / max(source)
        content = (max(1, round(source[0] * scale)), max(1, round(source[1] * scale)))
        height, width = (-(-side // multiple) * multiple for side in content)
        return cls(source=source, canvas=(height, width), content=content, kind="fit")

    @classmethod
    def corner(cls, source: Size, length: int) -> Resize:
        """PSALM's preparation: the long side becomes ``length``, in a square of that side."""
        _check_lengths(source, length)
        scale = length / max(source)
        content = (max(1, int(source[0] * scale + 0.5)), max(1, int(source[1] * scale + 0.5)))
        return cls(source=source, canvas=(length, length), content=content, kind="corner")

    @classmethod
    def short(cls, source: Size, short_side: int, longest: int, multiple: int = 32) -> Resize:
        """Semantic-SAM's preparation: the short side becomes ``short_side``, the long one is rounded down; kind "fit".

        A picture whose long side would pass ``longest`` is fitted into that instead.
        """
        _check_lengths(source, short_side)
        content = (short_side, short_side * source[1] // source[0])
        if source[0] > source[1]:
            content = (short_side * source[0] // source[1], short_side)
        if max(content) > longest:
            return cls.fit(source, longest, multiple)
        height, width = (-(-side // multiple) * multiple for side in content)
        return cls(source=source, canvas=(height, width), content=content, kind="fit")

    def image(self, image: Image.Image | np.ndarray) -> np.ndarray:
        """RGB picture of the source size -> uint8 [h, w, 3], the whole canvas. Raises ValueError for another size."""
        if isinstance(image, Image.Image) and image.mode != "RGB":
            raise ValueError(f"the image must be RGB, got mode {image.mode}: open it with open_image")
        shape = (image.height, image.width, 3) if isinstance(image, Image.Image) else image.shape
        self._check(shape, (*self.source, 3), "image")
        if self.kind == "letterbox":
            return warp.warp_image(np.asarray(image), self._warps[0], self.canvas, LETTERBOX_BORDER)
        picture = image if isinstance(image, Image.Image) else Image.fromarray(np.ascontiguousarray(image))
        size = (self.content[1], self.content[0])
        if self.kind == "corner":
            return self._pad(picture.resize(size, Image.Resampling.BILINEAR), 128)
        return self._pad(picture.resize(size, Image.Resampling.BICUBIC))

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Bool [H, W] of the source -> bool [h, w] of the canvas, False in the padding."""
        self._check(mask.shape, self.source, "mask")
        grey = mask.astype(np.uint8) * np.uint8(255)
        if self.kind == "letterbox":
            return warp.warp_image(grey[..., None], self._warps[0], self.canvas, (0,))[..., 0] >= 128
        size = (self.content[1], self.content[0])
        how = Image.Resampling.NEAREST if self.kind == "corner" else Image.Resampling.BILINEAR
        return self._pad(Image.fromarray(grey).resize(size, how)) >= 128

    def maps_back(self, maps: np.ndarray) -> np.ndarray:
        """Float32 [N, h, w] over the whole canvas -> float32 [N, H, W] of the source, the padding cut off.

        "fit" and "corner" take maps of any resolution and interpolate linearly; "letterbox" takes the canvas' own and
        is cubic, so that values may overshoot. One map of the result takes 4 bytes a pixel: for masks, ``masks_back``
        needs less.
        """
        self._check_maps(maps)
        out = np.empty((len(maps), *self.source), np.float32)
        for index, values in enumerate(maps):
            out[index] = self._map_back(values)
        return out

    def masks_back(self, maps: np.ndarray, threshold: float) -> np.ndarray:
        """``maps_back(maps) > threshold`` as bool [N, H, W]; "fit" interpolates only around what is above it."""
        self._check_maps(maps)
        out = np.zeros((len(maps), *self.source), bool)
        for mask, values in zip(out, maps, strict=True):
            if self.kind == "letterbox":
                np.greater(self._map_back(values), np.float32(threshold), out=mask)
            else:
                y, x = self._weights(values)
                above = values > threshold
                rows, columns = _reached(above.any(1), y), _reached(above.any(0), x)
                found = self._interpolated(values, x, rows, columns)
                np.greater(found, np.float32(threshold), out=mask[rows, columns])
        return out

    def cells(self, shape: Size) -> tuple[np.ndarray, np.ndarray] | None:
        """Where each row and column of the source lies in a map of ``shape``: int64 [H] and [W], never falling.

        Row r of the source is a mixture of the map's rows ``cells[0][r]`` and the next one, and so with columns; so a
        pixel is never above the largest nor below the smallest of four values. None where more than two are mixed: in
        sources of fewer pixels than the map has, and for "letterbox".
        """
        spans = [shape[axis] * self.content[axis] / self.canvas[axis] for axis in (0, 1)]
        if self.kind == "letterbox" or any(span > side for span, side in zip(spans, self.source, strict=True)):
            return None
        rows, columns = (_linear_taps(*sizes)[0] for sizes in zip(self.source, shape, spans, strict=True))
        return rows, columns

    def window_back(self, values: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """``maps_back`` of one map [h, w], only some rows and columns of the source; not for "letterbox"."""
        return self._interpolated(values, self._weights(values)[1], rows, columns)

    def mask_back(self, mask: np.ndarray) -> np.ndarray:
        """Bool [h, w] -> bool [H, W] of the source."""
        return self.masks_back(mask[None].astype(np.float32), 0.5)[0]

    def points(self, points: np.ndarray) -> np.ndarray:
        """(x, y) in the source -> float64 [N, 2] in the canvas."""
        scale, shift = self._points_map
        return np.asarray(points, np.float64).reshape(-1, 2) * scale + shift

    def points_back(self, points: np.ndarray) -> np.ndarray:
        """(x, y) in the canvas -> float64 [N, 2] in the source; a point in the padding lands outside the image."""
        scale, shift = self._points_map
        return (np.asarray(points, np.float64).reshape(-1, 2) - shift) / scale

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """(x0, y0, x1, y1) in the source -> float64 [N, 4] in the canvas."""
        return self.points(np.asarray(boxes)).reshape(-1, 4)

    def boxes_back(self, boxes: np.ndarray) -> np.ndarray:
        """(x0, y0, x1, y1) in the canvas -> float64 [N, 4] in the source."""
        return self.points_back(np.asarray(boxes)).reshape(-1, 4)

    @property
    def _warps(self) -> tuple[warp.Affine, warp.Affine]:
        return warp.letterbox(self.source, self.canvas[0])

    @property
    def _points_map(self) -> tuple[np.ndarray, np.ndarray]:
        """(x, y) scale and shift of continuous positions."""
        if self.kind != "letterbox":
            return np.divide(self.content, self.source)[::-1], np.zeros(2)
        there = self._warps[0]  # speaks of pixel centres at whole numbers, half a pixel from ours
        scale = np.array([there.scale_x, there.scale_y])
        return scale, np.array([there.shift_x, there.shift_y]) + 0.5 - 0.5 * scale

    def _map_back(self, values: np.ndarray) -> np.ndarray:
        values = np.ascontiguousarray(values, np.float32)
        if self.kind == "letterbox":
            return warp.warp_map(values, self._warps[1], self.source)
        return self._interpolated(values, self._weights(values)[1], slice(None), slice(None))

    def _interpolated(self, values: np.ndarray, x: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """Some rows and columns of a map in the source's size ("fit"); x: the weights of all columns."""
        span = values.shape[0] * self.content[0] / self.canvas[0]
        if span > self.source[0]:  # fewer rows than the map has: each is a mean of several
            return _product(_linear_weights(self.source[0], values.shape[0], span)[rows], values, x[columns])
        low, share = (taps[rows] for taps in _linear_taps(self.source[0], values.shape[0], span))
        return _lerp_rows(values, x[columns], low, share)

    def _weights(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How much of each row and column of a map goes into each row and column of the source ("fit")."""
        spans = (values.shape[axis] * self.content[axis] / self.canvas[axis] for axis in (0, 1))
        y, x = (_linear_weights(*sizes) for sizes in zip(self.source, values.shape, spans, strict=True))
        return y, x

    def _pad(self, picture: Image.Image, value: int = 0) -> np.ndarray:
        array = np.asarray(picture)
        out = np.full((*self.canvas, *array.shape[2:]), value, np.uint8)
        out[: self.content[0], : self.content[1]] = array
        return out

    def _check(self, shape: tuple[int, ...], expected: tuple[int, ...], what: str) -> None:
        if tuple(shape) != tuple(expected):
            raise ValueError(f"the {what} must have shape {list(expected)} to be resized, got {list(shape)}")

    def _check_maps(self, maps: np.ndarray) -> None:
        if maps.ndim != 3 or 0 in maps.shape[1:]:
            raise ValueError(f"maps must be [N, h, w] and not empty, got {list(maps.shape)}")
        if self.kind == "letterbox":
            self._check(maps.shape[1:], self.canvas, "maps")


@lru_cache(maxsize=8)
def _linear_weights(length: int, count: int, span: float) -> np.ndarray:
    """Float32 [length, count]: linear interpolation of the first ``span`` of ``count`` values at ``length`` places.

    Where that makes fewer of them, each place takes the weighted mean of all values near it, as Pillow does.
    """
    step = span / length
    distance = (np.arange(length)[:, None] + 0.5) * step - (np.arange(count) + 0.5)
    weights = np.maximum(1 - np.abs(distance) / max(step, 1), 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=8)
def _linear_taps(length: int, count: int, span: float) -> tuple[np.ndarray, np.ndarray]:
    """``_linear_weights`` where that makes more: the first of two neighbours, int64 [length], the second's share."""
    place = ((np.arange(length) + 0.5) * (span / length) - 0.5).clip(0, count - 1)
    low = np.minimum(np.floor(place).astype(np.int64), max(count - 2, 0))
    return low, (place - low).astype(np.float32)


def _lerp_rows(values: np.ndarray, columns: np.ndarray, low: np.ndarray, share: np.ndarray) -> np.ndarray:
    """``values @ columns.T``, of whose rows each result is a mixture of two: half the time of a second product."""
    import torch

    first, second = torch.from_numpy(np.ascontiguousarray(values)), torch.from_numpy(np.ascontiguousarray(columns))
    wide = first @ second.T  # [h, W]
    above, below = torch.from_numpy(low), torch.from_numpy(np.minimum(low + 1, len(values) - 1))
    mixed = torch.lerp(wide[above], wide[below], torch.from_numpy(np.ascontiguousarray(share))[:, None])
    return mixed.numpy()


def _product(rows: np.ndarray, values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """``rows @ values @ columns.T``: two matrix products take a fifth of the time of Pillow's resize.

    They are PyTorch's because those of NumPy leave threads behind that wait at full speed and slow the network down.
    """
    import torch

    first, middle, last = (torch.from_numpy(np.ascontiguousarray(part)) for part in (rows, values, columns))
    return (first @ (middle @ last.T)).numpy()


def _reached(above: np.ndarray, weights: np.ndarray) -> slice:
    """The places, as one range, to which a value that is ``above`` contributes; bool [count], float [length, count]."""
    places = np.flatnonzero(weights[:, above].any(1))
    return slice(places[0], places[-1] + 1) if len(places) else slice(0, 0)


def _check_lengths(source: Size, length: int) -> None:
    if min(source) < 1 or length < 1:
        raise ValueError(f"cannot resize an image of size {source} to {length} pixels: both must be at least 1")
