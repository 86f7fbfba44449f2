"""Salient object detection: MAE, F, weighted F, S- and E-measure, as PySODMetrics computes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anygrain.eval.exact import ExactMean

BETA_2 = 0.3  # β² of F: precision counts more than recall (Achanta et al., CVPR 2009)
_CURVE_UNIT = 1 << 40  # curves are summed as whole multiples of 1 / _CURVE_UNIT in int64
_EPS = np.spacing(1)


def _curve() -> np.ndarray:
    return np.zeros(256, np.int64)


@dataclass(eq=False)
class Saliency:
    """Figures of soft maps against masks, mean over photos.

    ``mae``: mean |map - mask| (Perazzi et al., CVPR 2012). ``max_f``, ``mean_f``: F with β² = 0.3 at 256 thresholds,
    averaged over photos first, then the highest and the mean of the curve; ``adaptive_f``: at twice the map's mean (at
    most 1) of each photo. ``weighted_f``: Margolin et al., CVPR 2014, β² = 1. ``s_measure``: Fan et al., ICCV 2017,
    α = 0.5. ``max_e``, ``mean_e``, ``adaptive_e``: Fan et al., IJCAI 2018, at the same thresholds as F. Papers that say
    "F_β" mean max, mean or adaptive: they are far apart, compare like with like.
    """

    means: dict[str, ExactMean] = field(default_factory=dict)
    f_curve: np.ndarray = field(default_factory=_curve)
    e_curve: np.ndarray = field(default_factory=_curve)

    def update(self, saliency: np.ndarray, truth: np.ndarray) -> None:
        """Count one photo.

        saliency: [H, W], uint8 as in a saved map, or floats in 0..1; stretched to 0..1 by its own least and greatest
        value, as the evaluators do. truth: bool [H, W] of the same size.
        Raises ValueError when the sizes differ or the values are out of range.
        """
        values = _stretched(saliency, truth)
        level = min(2 * values.mean(), 1.0)
        at_level = values >= level
        inside, outside = _counts_from_above(values, truth)
        figures = {
            "mae": np.abs(values - truth).mean(),
            "adaptive_f": _f(np.count_nonzero(at_level & truth), np.count_nonzero(at_level & ~truth), truth.sum()),
            "weighted_f": weighted_f(values, truth),
            "s_measure": s_measure(values, truth),
            "adaptive_e": _e(np.count_nonzero(at_level & truth), np.count_nonzero(at_level & ~truth), truth),
        }
        for name, figure in figures.items():
            self.means.setdefault(name, ExactMean()).update(float(figure))
        self.f_curve += np.rint(_f(inside, outside, truth.sum()) * _CURVE_UNIT).astype(np.int64)
        self.e_curve += np.rint(_e(inside, outside, truth) * _CURVE_UNIT).astype(np.int64)

    def merge(self, other: Saliency) -> None:
        """Take in what another one counted."""
        for name, mean in other.means.items():
            self.means.setdefault(name, ExactMean()).merge(mean)
        self.f_curve = self.f_curve + other.f_curve
        self.e_curve = self.e_curve + other.e_curve

    def compute(self) -> dict[str, float]:
        """All figures and the number of ``photos``; nothing when there was none."""
        if not self.means:
            return {}
        photos = self.means["mae"].count
        figures: dict[str, float] = {"photos": photos}
        figures |= {name: mean.mean for name, mean in self.means.items()}
        for name, curve in (("f", self.f_curve), ("e", self.e_curve)):
            figures[f"max_{name}"] = int(curve.max()) / (_CURVE_UNIT * photos)
            figures[f"mean_{name}"] = int(curve.sum()) / (_CURVE_UNIT * photos * len(curve))
        return figures


def _stretched(saliency: np.ndarray, truth: np.ndarray) -> np.ndarray:
    if saliency.shape != truth.shape:
        raise ValueError(f"the saliency map is {saliency.shape} but its truth {truth.shape}; resize the map")
    if truth.dtype != bool:
        raise ValueError(f"the truth must be bool, got {truth.dtype}")
    values = saliency / 255.0 if saliency.dtype == np.uint8 else saliency.astype(np.float64)
    low, high = values.min(), values.max()
    if not 0 <= low <= high <= 1:
        raise ValueError(f"a saliency map holds values in 0..1, got {low:.3g}..{high:.3g}")
    return (values - low) / (high - low) if high > low else values


def _counts_from_above(values: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels inside and outside the truth at each of the 256 thresholds 255/255 ... 0/255: int64 [256] twice."""
    bins = (values * 255).astype(np.uint8)
    inside = np.bincount(bins[truth], minlength=256)
    outside = np.bincount(bins[~truth], minlength=256)
    return np.cumsum(inside[::-1]), np.cumsum(outside[::-1])


def _f(inside: Any, outside: Any, area: int) -> np.ndarray:
    """F_β of found pixels inside and outside a truth of ``area`` pixels; 0 where none is inside."""
    found = np.maximum(np.asarray(inside) + outside, 1)
    precision, recall = inside / found, np.asarray(inside) / max(int(area), 1)
    weighed = BETA_2 * precision + recall
    return (1 + BETA_2) * precision * recall / np.where(weighed == 0, 1, weighed)


def _e(inside: Any, outside: Any, truth: np.ndarray) -> np.ndarray:
    """E-measure of a binary map that has so many pixels inside and outside the truth."""
    size, area = truth.size, int(truth.sum())
    inside, outside = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
    found = inside + outside
    if area == 0:
        total = size - found
    elif area == size:
        total = found
    else:
        total = 0.0
        share, true_share = found / size, area / size
        for pixels, here, true in (
            (inside, 1 - share, 1 - true_share),
            (outside, 1 - share, -true_share),
            (area - inside, -share, 1 - true_share),
            (size - found - area + inside, -share, -true_share),
        ):
            align = 2 * here * true / (here**2 + true**2 + _EPS)
            total = total + (align + 1) ** 2 / 4 * pixels
    return total / (size - 1 + _EPS)


def s_measure(values: np.ndarray, truth: np.ndarray) -> float:
    """Structure measure of a map [H, W] in 0..1, halves for objects and for the four regions around the centroid."""
    share = truth.mean()
    if share in (0, 1):
        return float(1 - values.mean() if share == 0 else values.mean())
    objects = share * _s_object(values[truth]) + (1 - share) * _s_object(1 - values[~truth])
    return max(0.0, 0.5 * objects + 0.5 * _s_regions(values, truth))


def _s_object(values: np.ndarray) -> float:
    mean = values.mean()
    spread = values.std(ddof=1) if values.size > 1 else 0.0
    return float(2 * mean / (mean**2 + 1 + spread + _EPS))


def _s_regions(values: np.ndarray, truth: np.ndarray) -> float:
    height, width = truth.shape
    y, x = (int(place) + 1 for place in np.argwhere(truth).mean(0).round())  # the centroid's own row is above the cut
    score, rest = 0.0, 1.0
    for rows, columns in ((slice(0, y), slice(0, x)), (slice(0, y), slice(x, width)), (slice(y, height), slice(0, x))):
        part = truth[rows, columns].size / truth.size
        score += part * _ssim(values[rows, columns], truth[rows, columns])
        rest -= part
    return score + rest * _ssim(values[y:, x:], truth[y:, x:])


def _ssim(values: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity of two regions as wholes; of regions without a pixel 0 (their weight is 0 too)."""
    if values.size == 0:
        return 0.0
    mean, true_mean, free = values.mean(), truth.mean(), values.size - 1 + _EPS
    away, true_away = values - mean, truth - true_mean
    covariance = (away * true_away).sum() / free
    similar = 4 * mean * true_mean * covariance
    bound = (mean**2 + true_mean**2) * ((away**2).sum() / free + (true_away**2).sum() / free)
    if similar != 0:
        return float(similar / (bound + _EPS))
    return float(bound == 0)


def weighted_f(values: np.ndarray, truth: np.ndarray) -> float:
    """Weighted F_β of a map [H, W] in 0..1: background errors weigh up to 2 with distance; 0 of no object."""
    from scipy import ndimage

    if not truth.any():
        return 0.0
    distance, nearest = ndimage.distance_transform_edt(~truth, return_indices=True)  # type: ignore[misc]
    error = np.abs(values - truth)
    depends = error.copy()
    depends[~truth] = error[nearest[0][~truth], nearest[1][~truth]]
    smooth = ndimage.convolve(depends, _gauss(), mode="constant", cval=0)
    error = np.where(truth & (smooth < error), smooth, error)
    error = error * np.where(truth, 1.0, 2 - np.exp(np.log(0.5) / 5 * distance))
    hits = truth.sum() - error[truth].sum()
    recall = 1 - error[truth].mean()
    precision = hits / (hits + error[~truth].sum() + _EPS)
    return float(2 * recall * precision / (recall + precision + _EPS))


def _gauss(size: int = 7, sigma: float = 5) -> np.ndarray:
    line = np.exp(-(np.arange(-(size // 2), size // 2 + 1) ** 2) / (2 * sigma**2))
    kernel = np.outer(line, line)
    return kernel / kernel.sum()
