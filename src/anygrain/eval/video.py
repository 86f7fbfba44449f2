"""J, F and J&F of video object segmentation, as davis2017-evaluation counts them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from anygrain.eval.boundary import boundary_f

Frames = dict[str, tuple[float, float]]  # J and F by frame


@dataclass
class JAndF:
    """Region similarity J (IoU) and contour accuracy F (boundary F) of each object of each video, frame by frame.

    ``j`` and ``f``: mean over a object's frames, then over objects of all videos; ``j_and_f`` their mean. ``*_recall``:
    share of an object's frames above 0.5, then mean over objects; ``*_decay``: mean of the first quarter of its frames
    minus that of the last (Perazzi et al., CVPR 2016; Pont-Tuset et al., 2017). Two masks without a pixel agree (J = F
    = 1): a frame in which the object is hidden counts.

    skip_ends: leave the first and last frame of every video out, as the semi-supervised DAVIS protocol does, where the
    first frame's mask is given. Ref-DAVIS17, Ref-YouTube-VOS and MeViS count all frames.
    frames: by video and object.
    """

    skip_ends: bool = False
    frames: dict[tuple[str, str], Frames] = field(default_factory=dict)

    def update(
        self, video: str, target: str, frame: str, mask: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None
    ) -> None:
        """Count one object (or expression) in one frame.

        frame: its name; frames of a video are in order of name. mask, truth: bool [H, W] of one size. void: bool
        [H, W], pixels that count nowhere. Raises ValueError when the sizes differ or the frame was counted before.
        """
        if void is not None:
            mask, truth = mask & ~void, truth & ~void
        f = boundary_f(mask, truth)
        union = int(np.count_nonzero(mask | truth))
        j = int(np.count_nonzero(mask & truth)) / union if union else 1.0
        self._add(video, target, {frame: (j, f)})

    def merge(self, other: JAndF) -> None:
        """Take in other frames. Raises ValueError when one was counted in both."""
        for (video, target), frames in other.frames.items():
            self._add(video, target, frames)

    def _add(self, video: str, target: str, frames: Frames) -> None:
        mine = self.frames.setdefault((video, target), {})
        if twice := mine.keys() & frames.keys():
            raise ValueError(f"{video}: frame {min(twice)} of {target!r} is counted twice")
        mine.update(frames)

    def compute(self) -> dict[str, float]:
        """All figures and the number of ``objects``; nothing when there was none."""
        rows = []
        for _, frames in sorted(self.frames.items()):
            values = np.array([frames[name] for name in sorted(frames)])  # [T, 2]
            values = values[1:-1] if self.skip_ends else values
            if len(values):
                rows.append([*values.mean(0), *(values > 0.5).mean(0), *_decay(values)])
        if not rows:
            return {}
        j, f, j_recall, f_recall, j_decay, f_decay = np.mean(rows, 0).tolist()
        means = {"j_and_f": (j + f) / 2, "j": j, "f": f, "j_recall": j_recall, "f_recall": f_recall}
        return means | {"j_decay": j_decay, "f_decay": f_decay, "objects": len(rows)}


def _decay(values: np.ndarray) -> np.ndarray:
    """First quarter minus last quarter of [T, 2], quarters sharing their edges: the official bins, any length."""
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    return values[edges[0] : edges[1] + 1].mean(0) - values[edges[3] : edges[4] + 1].mean(0)
