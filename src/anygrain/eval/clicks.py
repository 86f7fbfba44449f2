"""Segmenting by one click: IoU of the answer, and of the best of several, as Semantic-SAM and SAM report it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from anygrain.eval.metrics import PromptIoU, overlap


@dataclass
class ClickIoU:
    """One click gives several masks with scores, because a click is ambiguous.

    ``one_click_iou``: mean over clicks of the IoU of the mask with the highest score (of equal ones the first).
    ``oracle_iou``: of the mask that fits best, which no user gets without choosing (Semantic-SAM Table 4 compares
    "1-IoU" so; SAM's Figure 9 shows both).
    """

    best_scored: PromptIoU = field(default_factory=PromptIoU)
    best_fitting: PromptIoU = field(default_factory=PromptIoU)

    def update(self, masks: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> None:
        """Count one click. masks: bool [K, H, W], K at least 1; scores [K]; labels: uint8 [H, W] as in ``overlap``."""
        if not len(masks) or len(masks) != len(scores):
            raise ValueError(f"{len(masks)} masks and {len(scores)} scores: give at least one of each, and as many")
        pairs = [overlap(mask, labels) for mask in masks]
        self.best_scored.update(pairs[int(np.argmax(scores))])
        self.best_fitting.update(max(pairs, key=lambda pair: pair.iou))

    def merge(self, other: ClickIoU) -> None:
        """Take in what another one counted."""
        self.best_scored.merge(other.best_scored)
        self.best_fitting.merge(other.best_fitting)

    def compute(self) -> dict[str, float]:
        """Both means and the number of ``clicks``; nothing when there was none."""
        if not self.best_scored.prompts:
            return {}
        mean, best = self.best_scored.compute()["iou"], self.best_fitting.compute()["iou"]
        return {"one_click_iou": mean, "oracle_iou": best, "clicks": self.best_scored.prompts}
