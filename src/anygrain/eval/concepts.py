"""Concept prompts (SA-Co, the SAM 3 paper): cgF1 = pmF1 x IL_MCC, as sam3's ``cgf1_eval.py`` counts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from anygrain.eval.exact import UNIT
from anygrain.masks import Masks, pairwise_iou

THRESHOLDS = np.linspace(0.5, 0.95, 10)
Counts = tuple[int, ...]  # one number a threshold


class _Scored(NamedTuple):
    """One (photo, noun phrase) against one annotator's masks."""

    masks: int
    found: int
    hits: Counts

    def f1(self) -> np.ndarray:
        """Of this prompt alone, float64 [10]; the small numbers are those of the official code."""
        hits = np.array(self.hits)
        return _f1(hits / (self.found + 1e-4), hits / (self.masks + 1e-4))


@dataclass
class ConceptF1:
    """All instances of a noun phrase, found or known to be absent.

    Answers with a score of at least 0.5 are matched to the true masks one to one for the greatest sum of IoU; a match
    counts from IoU t on, t = 0.5, 0.55 ... 0.95. ``pmf1``: F1 of all matches together over prompts that have a mask,
    mean over t. ``il_mcc``: Matthews correlation of "something is there" with the truth, over all prompts. ``cgf1`` =
    pmf1 x il_mcc. ``positive_macro_f1``: mean F1 of prompts that are there and answered. Figures at one t end on
    ``_50`` and ``_75``. In 0..1; the paper writes them times 100.

    presence: [present and answered, absent and answered, absent and refused, present and refused].
    hits, missed, wrong: sums at each t over prompts that are present. answered_f1: F1 sums in multiples of 1 / UNIT.
    """

    threshold: float = 0.5
    presence: list[int] = field(default_factory=lambda: [0] * 4)
    hits: list[int] = field(default_factory=lambda: [0] * len(THRESHOLDS))
    missed: list[int] = field(default_factory=lambda: [0] * len(THRESHOLDS))
    wrong: list[int] = field(default_factory=lambda: [0] * len(THRESHOLDS))
    answered_f1: list[int] = field(default_factory=lambda: [0] * len(THRESHOLDS))

    def update(self, masks: Masks, scores: np.ndarray, *annotators: Masks) -> None:
        """Count one noun phrase in one photo.

        masks, scores: the answers, N of each. annotators: true masks, possibly none, of each person who drew them; of
        several the one is taken with whom the answer agrees best (the SA-Co/Gold protocol).
        """
        if not annotators or len(masks) != len(scores):
            raise ValueError("give the true masks of at least one annotator, and as many scores as masks")
        kept = [mask for mask, score in zip(masks, scores, strict=True) if score >= self.threshold]
        best = _match(kept, annotators[0])
        for annotator in annotators[1:]:
            other = _match(kept, annotator)
            both_empty = not (other.masks or other.found)
            if both_empty or ((best.masks or best.found) and other.f1().mean() > best.f1().mean()):
                best = other
        self._count(best)

    def _count(self, one: _Scored) -> None:
        self.presence[{(1, 1): 0, (0, 1): 1, (0, 0): 2, (1, 0): 3}[min(one.masks, 1), min(one.found, 1)]] += 1
        if not one.masks:
            return
        f1 = one.f1()
        for place, hits in enumerate(one.hits):
            self.hits[place] += hits
            self.missed[place] += one.masks - hits
            self.wrong[place] += one.found - hits
            self.answered_f1[place] += round(float(f1[place]) * UNIT)

    def merge(self, other: ConceptF1) -> None:
        """Take in what another one counted."""
        for name in ("presence", "hits", "missed", "wrong", "answered_f1"):
            setattr(self, name, [a + b for a, b in zip(getattr(self, name), getattr(other, name), strict=True)])

    def compute(self) -> dict[str, float]:
        """All figures and the number of ``prompts``; nothing when there was none."""
        if not sum(self.presence):
            return {}
        tp, fp, tn, fn = self.presence
        mcc = (tp * tn - fp * fn) / (float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5 + 1e-6)
        hits, missed, wrong = np.array(self.hits), np.array(self.missed), np.array(self.wrong)
        f1 = _f1(hits / (hits + wrong + 1e-4), hits / (hits + missed + 1e-4))  # [10]
        figures: dict[str, float] = {"prompts": tp + fp + tn + fn, "il_mcc": mcc}
        figures |= {"pmf1": float(f1.mean()), "cgf1": float((f1 * mcc).mean())}
        for name, place in (("50", 0), ("75", 5)):
            figures |= {f"pmf1_{name}": float(f1[place]), f"cgf1_{name}": float(f1[place] * mcc)}
        if tp:
            figures["positive_macro_f1"] = sum(self.answered_f1) / (UNIT * tp * len(THRESHOLDS))
        return figures


def _match(found: Sequence, masks: Masks) -> _Scored:
    from scipy.optimize import linear_sum_assignment

    if not len(found) or not len(masks):
        return _Scored(len(masks), len(found), (0,) * len(THRESHOLDS))
    iou = pairwise_iou(found, masks)
    rows, columns = linear_sum_assignment(-iou)
    matches = iou[rows, columns]
    return _Scored(len(masks), len(found), tuple(int((matches >= t).sum()) for t in THRESHOLDS))


def _f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    return 2 * precision * recall / (precision + recall + 1e-4)
