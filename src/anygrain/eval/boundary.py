"""How well the border of a mask is met: F-measure of DAVIS (Perazzi et al., CVPR 2016), Boundary IoU (CVPR 2021)."""

from __future__ import annotations

import math

import numpy as np

from anygrain.eval.metrics import Overlap
from anygrain.masks import boundary

TOLERANCE = 0.008  # of the image's diagonal
BAND = 0.02  # of the image's diagonal


def boundary_f(mask: np.ndarray, truth: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """F-measure, 0..1, of the contour of ``mask`` against that of ``truth``, both bool [H, W].

    Precision is the share of the mask's contour pixels that lie within the tolerance of the truth's contour, recall the
    share of the truth's that lie within it of the mask's. tolerance: share of the diagonal, rounded up to whole pixels.
    Two masks without a contour agree (1); one without against one with gives 0.
    Raises ValueError when the sizes differ.
    """
    if mask.shape != truth.shape:
        raise ValueError(f"the mask is of size {mask.shape} but its truth of {truth.shape}; compare at one size")
    radius = math.ceil(tolerance * math.hypot(*mask.shape))
    found, wanted = contour(mask), contour(truth)
    if not found.any() or not wanted.any():
        return float(found.any() == wanted.any())
    precision, recall = _near(found, wanted, radius), _near(wanted, found, radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_overlap(mask: np.ndarray, truth: np.ndarray, band: float = BAND) -> Overlap:
    """Boundary IoU (Cheng et al., CVPR 2021) as a pair: the pixels of each mask within ``band`` of its own outside.

    mask, truth: bool [H, W]. band: share of the diagonal, rounded to whole pixels, at least 1; 0.02 for COCO and LVIS,
    0.005 for Cityscapes. The image's rim is a border. Means and sums are then taken as of any ``Overlap``.
    Raises ValueError when the sizes differ.
    """
    if mask.shape != truth.shape:
        raise ValueError(f"the mask is of size {mask.shape} but its truth of {truth.shape}; compare at one size")
    thickness = max(1, round(band * math.hypot(*mask.shape)))
    found, wanted = boundary(mask, thickness), boundary(truth, thickness)
    return Overlap(int(np.count_nonzero(found & wanted)), int(np.count_nonzero(found | wanted)))


def contour(mask: np.ndarray) -> np.ndarray:
    """Pixels, bool [H, W], that differ from their right, lower or lower right neighbour.

    The image's rim is no border.
    """
    padded = np.pad(np.asarray(mask, bool), ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    return (here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:])


def _near(pixels: np.ndarray, others: np.ndarray, radius: int) -> float:
    """Share of the pixels at a distance of at most ``radius`` from one of the others. Both hold at least one."""
    from scipy import ndimage

    distance = np.asarray(ndimage.distance_transform_edt(~others))
    return float(np.mean(distance[pixels] <= radius))
