"""Many masks of one photo joined to a label map: each pixel gets the one of the highest logit.

Enlarging every mask to the photo's size takes as long as the photo is large, times the number of masks, most of which
win nowhere. A pixel of an enlarged mask lies between the smallest and the largest of four values of the small one.
Where the largest of a mask's four is below the smallest of another's, it cannot win, and is not enlarged there.

Shapes: N masks, W ways, h w size of mask logits, H W size of the photo.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

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
        for way, chosen in enumerate(takes_part.T):
            rows = np.flatnonzero(chosen)
            if len(rows):
                windows = [None] * len(rows) if cells is None else self._windows(way, small[rows], cells)
                for row, window in zip(rows.tolist(), windows, strict=True):
                    if cells is None or window is not None:
                        self._compete(way, small[row].numpy(), first + row, window or (slice(None), slice(None)))

    def _windows(
        self, way: int, logits: Tensor, cells: tuple[np.ndarray, np.ndarray]
    ) -> list[tuple[slice, slice] | None]:
        """Rows and columns of the photo outside which each mask cannot win; None for one that wins nowhere."""
        kernel = (min(2, logits.shape[1]), min(2, logits.shape[2]))
        most = F.max_pool2d(logits[:, None], kernel, stride=1)[:, 0]  # [N, h - 1, w - 1]
        least = -F.max_pool2d(-logits[:, None], kernel, stride=1)[:, 0]
        bound = least.amax(0).clamp(min=self._floor)
        if (before := self._bounds[way]) is not None:
            bound = torch.maximum(bound, before)
        self._bounds[way] = bound
        there = most >= bound - _SLACK * (1 + bound.abs().nan_to_num(posinf=0.0))
        return [_window(open.numpy(), cells) for open in there]

    def _compete(self, way: int, values: np.ndarray, number: int, window: tuple[slice, slice]) -> None:
        found, best = self.resize.window_back(values, *window), self._best[way][window]
        higher = found > best
        np.copyto(best, found, where=higher)
        np.copyto(self.index[way][window], np.int32(number), where=higher)


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
