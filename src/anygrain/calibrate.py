"""What a trained network's outputs mean, found on labelled photos and written into its ``config.json``.

``levels``: which of a network's masks are large and which are small, from the mean area of each token's masks.
Semantic-SAM's order of granularity emerges in training, so a retrained model needs a map of its own.
``presence``: how likely a thing is there when PSALM's best query has a given logit. Its training asks which query a
phrase means, never whether it means one, so its scores need a scale and an offset of their own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anygrain.images import write_atomic
from anygrain.segmenter import Segmenter


def mean_areas(segmenter: Segmenter, images: Iterable[Any], *, points_per_side: int = 4) -> np.ndarray:
    """Mean share of the photo that each token's masks cover, float64 [T], over a grid of clicks on every image.

    images: whatever ``Segmenter.embed`` takes. Raises ValueError without images or for a model without clicks.
    """
    areas = []
    for image in images:
        (embedding,) = segmenter.embed([image])
        areas.append(segmenter.token_areas(embedding, points_per_side).mean(0))
    if not areas:
        raise ValueError("there are no photos to calibrate the levels on")
    return np.mean(areas, 0)


def levels_by_area(areas: np.ndarray) -> tuple[int, ...]:
    """Tokens in order of their mean area, the largest first: the token of level 1, 2, ..."""
    return tuple(int(token) for token in np.argsort(-areas, kind="stable"))


class Evidence(NamedTuple):
    """What a model thought of N phrases: float64 [N] the best query's logit and the mean probability inside its mask,
    and bool [N] whether what they say is there."""

    logits: np.ndarray
    quality: np.ndarray
    there: np.ndarray

    def scores(self, slope: float, offset: float) -> np.ndarray:
        """The presence scores float64 [N] in 0..1 that a calibration gives."""
        return self.quality / (1 + np.exp(-np.clip(slope * self.logits + offset, -60, 60)))


def presence_evidence(segmenter: Segmenter, photos: Iterable[tuple[Any, Sequence[tuple[str, bool]]]]) -> Evidence:
    """Ask for phrases of which it is known whether they mean something.

    photos: images, whatever ``Segmenter.embed`` takes, each with its phrases and whether what they say is there.
    Raises ValueError when the model has no presence to calibrate, or when all phrases are there or none is.
    """
    rows: list[tuple[float, float, bool]] = []
    for image, phrases in photos:
        if phrases:
            (embedding,) = segmenter.embed([image])
            found = segmenter.evidence(embedding, [phrase for phrase, _ in phrases])
            rows += [(*pair, there) for pair, (_, there) in zip(found, phrases, strict=True)]
    there = np.array([row[2] for row in rows], bool)
    if there.all() or not there.any():
        raise ValueError(
            f"of {len(rows)} phrases {int(there.sum())} mean something in their photo: presence is calibrated on "
            "phrases of both kinds, as gRefCOCO has them"
        )
    return Evidence(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]), there)


def fit_presence(evidence: Evidence) -> tuple[float, float]:
    """Slope and offset whose scores are likeliest, were each phrase there with the probability of its score.

    (Platt scaling, with the mask's quality as a factor.) The slope lies within 0.01..10, so that a perfect split of few
    phrases gives no step.
    """
    from scipy.optimize import minimize

    def surprise(values: np.ndarray) -> float:
        scores = evidence.scores(math.exp(values[0]), values[1]).clip(1e-6, 1 - 1e-6)
        return float(-np.log(np.where(evidence.there, scores, 1 - scores)).mean())

    bounds = [(math.log(0.01), math.log(10)), (-100.0, 100.0)]
    middle = float(-np.median(evidence.logits))
    starts = [np.array([math.log(slope), slope * middle]) for slope in (0.1, 1.0)]
    found = [minimize(surprise, start, method="Nelder-Mead", bounds=bounds) for start in starts]
    best = min(found, key=lambda result: result.fun).x
    return float(math.exp(best[0])), float(best[1])


def write_levels(folder: Path, levels: tuple[int, ...]) -> None:
    """Put a level map into the ``config.json`` of a model folder; nothing else is changed."""
    _write(folder, {"levels": list(levels)})


def write_presence(folder: Path, slope: float, offset: float) -> None:
    """Put a calibration of presence into the ``config.json`` of a model folder; nothing else is changed."""
    _write(folder, {"presence_slope": slope, "presence_offset": offset})


def _write(folder: Path, fields: dict[str, Any]) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["model"] |= fields
    write_atomic(path, (json.dumps(values, indent=1) + "\n").encode())
