"""Which query answers for which object: costs at random points of the masks, and the cheapest assignment.

Paper: Cheng et al., Mask2Former (arXiv 2112.01527), §3.3, after Carion et al., DETR (arXiv 2005.12872), §3.1.

Shapes: Q queries, K objects, P points, N masks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Values [N, P] of maps [N, H, W] at points (x, y) in 0..1, [N, P, 2] or the same [1, P, 2] for all maps.

    Bilinear between the centres of cells, zero outside the map.
    """
    grid = 2 * points.expand(len(maps), -1, -1) - 1
    return F.grid_sample(maps[:, None], grid[:, :, None].to(maps.dtype), align_corners=False)[:, 0, :, 0]


def mask_costs(predicted: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """What it costs to take each query for each object: mean cross-entropy and Dice, each [Q, K].

    predicted: mask logits [Q, P] at P points. wanted: 0..1 [K, P] at the same points.
    """
    predicted, wanted = predicted.float(), wanted.float()
    inside = F.binary_cross_entropy_with_logits(predicted, torch.ones_like(predicted), reduction="none")
    outside = F.binary_cross_entropy_with_logits(predicted, torch.zeros_like(predicted), reduction="none")
    cross_entropy = (inside @ wanted.T + outside @ (1 - wanted).T) / predicted.shape[1]
    probability = predicted.sigmoid()
    sizes = probability.sum(1)[:, None] + wanted.sum(1)
    return cross_entropy, 1 - (2 * probability @ wanted.T + 1) / (sizes + 1)


def assign(cost: Tensor) -> tuple[Tensor, Tensor]:
    """The cheapest pairing of cost [Q, K]: rows and columns, int64 [min(Q, K)], in the order of rows."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost.detach().float().cpu().numpy())
    return torch.from_numpy(rows).to(cost.device), torch.from_numpy(columns).to(cost.device)
