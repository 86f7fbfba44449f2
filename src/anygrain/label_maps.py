"""Many masks of one photo joined to a label map: each pixel gets the one of the highest logit.

Enlarging every mask to the photo's size takes as long as the photo is large, times the number of masks, most of which
win nowhere. A pixel of an enlarged mask lies between the smallest and the largest of four values of the small one.
Where the largest of a mask's four is below the smallest of another's, it cannot win, and is not enlarged there.

Shapes: N masks, W ways, h w size of mask logits, H W size of the photo.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from anygrain.resize import Resize

NONE = -1
_SLACK = 1e-4  # of a logit: what rounding may add to a mixture


class LabelMaps:
    """The running best of each pixel, in several ways at once, each of which leaves some masks out.

    resize: of the photo, not "letterbox", whose enlarged values may lie outside the four. floor: logit that a mask must
    pass to win a pixel.
    index: int32 [W, H, W], the number of the best mask, ``NONE`` where none has passed. Of equal ones the first.
    """

    def __init__(self, resize: Resize, ways: int, floor: float):
        self.resize = resize
        self.index = np.full((ways, *resize.source), NONE, np.int32)
        self._best = np.full((ways, *resize.source), floor, np.float32)
        self._floor = floor
        self._bounds: list[Tensor | None] = [None] * ways

    def add(self, logits: Tensor, takes_part: np.ndarray, first: int) -> None:
        """Let N more masks compete.

        logits: [N, h, w]. takes_part: bool [N, W]. first: the number of the first of them; they are counted on.
        """
        small = logits.float().cpu()
        cells = self.resize.cells((small.shape[1], small.shape[2]))
        everywhere = (slice(None), slice(None))
        most = least = small
        if cells is not None:
            most, least = _of_corners(small, torch.maximum), _of_corners(small, torch.minimum)  # [N, h - 1, w - 1]
        for way, chosen in enumerate(takes_part.T):
            rows = np.flatnonzero(chosen).tolist()
            if rows and cells is not None:
                open = self._open(way, most[rows], least[rows])
                windows = [_window(part, cells) for part in open.numpy()]
            else:
                windows = [everywhere] * len(rows)
            for row, window in zip(rows, windows, strict=True):
                if window is not None:
                    self._compete(way, small[row].numpy(), first + row, window)

    def _open(self, way: int, most: Tensor, least: Tensor) -> Tensor:
        """bool [N, h - 1, w - 1]: where each mask may win. The bound is kept for those that come later."""
        bound = least.amax(0).clamp(min=self._floor)
        if (before := self._bounds[way]) is not None:
            bound = torch.maximum(bound, before)
        self._bounds[way] = bound
        return most >= bound - _SLACK * (1 + bound.abs().nan_to_num(posinf=0.0))

    def _compete(self, way: int, values: np.ndarray, number: int, window: tuple[slice, slice]) -> None:
        found, best = self.resize.window_back(values, *window), self._best[way][window]
        higher = found > best
        np.copyto(best, found, where=higher)
        np.copyto(self.index[way][window], np.int32(number), where=higher)


def _of_corners(maps: Tensor, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """[N, h, w] -> [N, h - 1, w - 1]: the largest or smallest of each four neighbours; a side of one stays."""
    if maps.shape[1] > 1:
        maps = choose(maps[:, :-1], maps[:, 1:])
    if maps.shape[2] > 1:
        maps = choose(maps[:, :, :-1], maps[:, :, 1:])
    return maps


def _window(open: np.ndarray, cells: tuple[np.ndarray, np.ndarray]) -> tuple[slice, slice] | None:
    """The smallest rectangle of the photo that holds all cells which are bool [h - 1, w - 1] ``open``."""
    if not open.any():
        return None
    sides = []
    for axis, places in enumerate(cells):
        lines = np.flatnonzero(open.any(1 - axis))
        start, end = np.searchsorted(places, [lines[0], lines[-1] + 1])
        sides.append(slice(int(start), int(end)))
    return sides[0], sides[1]
