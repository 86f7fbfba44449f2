"""From a score to the probability that it is right: Platt scaling (Platt 1999) of a score that lies in 0..1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Curve = tuple[float, float]
"""(offset, slope): probability = sigmoid(offset + slope * logit(score)); (0, 1) leaves a score as it is."""

_EDGE = 1e-3  # scores nearer to 0 and 1 than this count as this


def probability(score: float, curve: Curve) -> float:
    """How likely a pair of this score is right.

    >>> round(probability(0.9, (0.0, 1.0)), 6), round(probability(0.9, (-0.68, 1.18)), 3)
    (0.9, 0.871)
    """
    score = min(max(score, _EDGE), 1 - _EDGE)
    return 1 / (1 + math.exp(-(curve[0] + curve[1] * math.log(score / (1 - score)))))


def fit(scores: Sequence[float], right: Sequence[bool]) -> Curve:
    """The curve under which the judged pairs are most likely; of few pairs it stays near (0, 1).

    Raises ValueError without a pair, or for as many verdicts as there are not scores.
    """
    from scipy.optimize import minimize

    if not scores or len(scores) != len(right):
        raise ValueError(f"{len(scores)} scores and {len(right)} verdicts: a curve needs both for each of some pairs")
    clipped = np.clip(np.asarray(scores, np.float64), _EDGE, 1 - _EDGE)
    logits, sign = np.log(clipped / (1 - clipped)), np.where(right, 1.0, -1.0)

    def loss(curve: np.ndarray) -> float:
        unlikely = np.logaddexp(0, -sign * (curve[0] + curve[1] * logits)).sum()
        return float(unlikely + 0.01 * (curve[0] ** 2 + (curve[1] - 1) ** 2))

    offset, slope = minimize(loss, np.array([0.0, 1.0])).x
    return float(offset), float(slope)
