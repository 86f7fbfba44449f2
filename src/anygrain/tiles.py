"""Tiles: a photo much larger than the model's input is also looked at piece by piece, for what is small in it.

The photo as a whole decides whether a thing is there and has a say in every pixel; each tile refines its own piece, as
far as the tile itself believes the thing to be in it. Tiles overlap and fade into each other.

Shapes: N prompts, h w a decoder's map, H W the finer map of the result.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from anygrain.resize import Resize
    from anygrain.types import Size

TileOption = Literal["off", "auto"] | int

AUTO = 3  # tiles along the longer side
MOST = 8
_OVERLAP = 1 / 4  # of a tile's side
_ENLARGED = 7 / 6  # the most a tile's pixels are: two tiles from 1.5 times the input size on
_SHARE = 0.5  # a sure tile's weight against the whole photo's; see docs/segment.md for what was measured


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One encoded piece of a photo.

    top, left: its corner in pixels of the photo; ``resize.source`` is its size.
    features, resize: as in an ImageEmbedding.
    """

    top: int
    left: int
    features: tuple[Tensor, ...]
    resize: Resize


def most_tiles(tile: TileOption) -> int:
    """How many tiles a side may have: 1 for "off", a few for "auto". Raises ValueError for what is no such option."""
    if tile in ("off", "auto"):
        return 1 if tile == "off" else AUTO
    if isinstance(tile, int) and 2 <= tile <= MOST:
        return tile
    raise ValueError(f"tile must be 'off', 'auto' or a whole number from 2 to {MOST}, got {tile!r}")


def layout(size: Size, input_size: int, most: int) -> list[tuple[int, int, int, int]]:
    """(top, left, bottom, right) of the tiles of a photo of ``size``, all of one size; none when it is not large.

    Along the longer side there are as many as need not be enlarged much to ``input_size``, and ``most`` at the most.
    """
    for count in range(most, 1, -1):
        side = math.ceil(max(size) / (count - (count - 1) * _OVERLAP))
        if side * _ENLARGED >= input_size:
            height, width = (min(side, length) for length in size)
            corners = product(*(_starts(length, side) for length in size))
            return [(top, left, top + height, left + width) for top, left in corners]
    return []


def _starts(length: int, side: int) -> list[int]:
    if side >= length:
        return [0]
    gaps = math.ceil((length - side) / (side * (1 - _OVERLAP)))
    return [round(gap * (length - side) / gaps) for gap in range(gaps + 1)]


class Fusion:
    """The logits of a whole photo, on a finer map over the same canvas, with what its tiles add.

    At each pixel the tiles have weights w that sum to one and fall linearly towards a tile's inner edges. With p a
    tile's presence scores, ``logits`` is ``whole + 0.5 * sum of w * p * (tile - whole)``.
    """

    def __init__(self, whole: Tensor, resize: Resize, tiles: Collection[Tile]):
        """whole: float32 [N, h, w] of a photo brought to the input by ``resize``. ``tiles`` come through ``add``."""
        piece = next(iter(tiles)).resize.source
        zoom = max(resize.source) / max(piece)
        cells = [round(length * zoom) for length in whole.shape[1:]]
        # Of each axis: where the cells' centres lie in the photo, in pixels, and each tile's weights by its start.
        self._centres = [_centres(resize, axis, cells[axis], whole.device) for axis in (0, 1)]
        self._windows = [
            _windows(self._centres[axis], starts, piece[axis], resize.source[axis])
            for axis, starts in enumerate(({tile.top for tile in tiles}, {tile.left for tile in tiles}))
        ]
        self._whole = self._spread(whole, resize, (0, 0))  # [N, H, W]
        self.logits = self._whole.clone()

    def add(self, tile: Tile, rows: Tensor, logits: Tensor, presence: Tensor | None) -> None:
        """One tile has its say on some prompts.

        rows: their places, int64 [M]; logits: float32 [M, h, w]; presence: scores [M], None where not predicted.
        """
        here = self._spread(logits, tile.resize, (tile.top, tile.left))
        y, x = (windows[start] for windows, start in zip(self._windows, (tile.top, tile.left), strict=True))
        share = _SHARE if presence is None else _SHARE * presence[:, None, None]
        self.logits[rows] += share * y[:, None] * x * (here - self._whole[rows])

    def _spread(self, maps: Tensor, resize: Resize, corner: tuple[int, int]) -> Tensor:
        """Maps [M, h, w] of a piece of the photo at ``corner`` -> [M, H, W], linear, edges continued outside."""
        y, x = (_linear(self._centres[i] - corner[i], resize, i, maps.shape[1 + i]) for i in (0, 1))
        return y @ maps @ x.T


def _centres(resize: Resize, axis: int, cells: int, device: torch.device) -> Tensor:
    """[cells]: places in the source, in pixels, of the centres of ``cells`` cells over the whole canvas."""
    places = (torch.arange(cells, device=device) + 0.5) / cells
    return places * (resize.canvas[axis] / resize.content[axis] * resize.source[axis])


def _linear(places: Tensor, resize: Resize, axis: int, count: int) -> Tensor:
    """Places [cells] in the source -> [cells, count]: weights of a map's ``count`` values over the whole canvas."""
    span = count * resize.content[axis] / resize.canvas[axis]  # the values over the picture itself
    index = (places / resize.source[axis] * span - 0.5).clamp(0, max(span - 1, 0))
    return (1 - (index[:, None] - torch.arange(count, device=places.device)).abs()).clamp(min=0)


def _windows(places: Tensor, starts: Collection[int], side: int, length: int) -> dict[int, Tensor]:
    """The weights [cells] of the tiles that start at ``starts``; at each place they sum to one."""
    windows = {}
    for start in starts:
        before = (places - start) if start > 0 else torch.full_like(places, math.inf)
        after = (start + side - places) if start + side < length else torch.full_like(places, math.inf)
        windows[start] = (torch.minimum(before, after) / (_OVERLAP * side)).clamp(0, 1)
    total = torch.stack(list(windows.values())).sum(0)
    return {start: window / total for start, window in windows.items()}
