"""Which query answers for which object: costs at random points of the masks and of boxes, and the cheapest assignment.

Papers: Cheng et al., Mask2Former (arXiv 2112.01527), §3.3, after Carion et al., DETR (arXiv 2005.12872), §3.1; Li et
al., Semantic-SAM (arXiv 2307.04767), for many objects of one prompt.

Shapes: Q queries, K objects, P points, N masks; * any number of leading dimensions. Boxes are (cx, cy, w, h) in 0..1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_EPS = 1e-6  # of the two quotients of the generalised IoU


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Values [N, P] of maps [N, H, W] at points (x, y) in 0..1, [N, P, 2] or the same [1, P, 2] for all maps.

    Bilinear between the centres of cells, zero outside the map.
    """
    grid = 2 * points.expand(len(maps), -1, -1) - 1
    return F.grid_sample(maps[:, None], grid[:, :, None].to(maps.dtype), align_corners=False)[:, 0, :, 0]


def mask_costs(predicted: Tensor, wanted: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What it costs to take each query for each object: mean cross-entropy and Dice, each [*, Q, K].

    predicted: mask logits [*, Q, P] at P points. wanted: 0..1 [*, K, P] at the same points. known: bool [*, K, P], the
    points that count for an object; all when None.
    """
    predicted, wanted = predicted.float(), wanted.float()
    count = torch.ones_like(wanted) if known is None else known.float()
    inside = F.softplus(-predicted) @ (wanted * count).mT
    outside = F.softplus(predicted) @ ((1 - wanted) * count).mT
    cross_entropy = (inside + outside) / count.sum(-1).clamp(min=1)[..., None, :]
    probability = predicted.sigmoid()
    sizes = probability @ count.mT + (wanted * count).sum(-1)[..., None, :]
    return cross_entropy, 1 - (2 * probability @ (wanted * count).mT + 1) / (sizes + 1)


def box_costs(predicted: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """L1 distance of boxes [*, Q, 4] to boxes [*, K, 4], and 1 - generalised IoU: each [*, Q, K]."""
    pairs = predicted[..., :, None, :], wanted[..., None, :, :]
    return (pairs[0] - pairs[1]).abs().sum(-1), 1 - generalised_iou(*pairs)


def generalised_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """-1..1 of boxes [*, 4] and others [*, 4], which broadcast (arXiv 1902.09630, algorithm 1): [*]."""
    (low, high), (other_low, other_high) = _corners(boxes), _corners(others)
    shared = (torch.minimum(high, other_high) - torch.maximum(low, other_low)).clamp(min=0).prod(-1)
    union = (high - low).prod(-1) + (other_high - other_low).prod(-1) - shared
    hull = (torch.maximum(high, other_high) - torch.minimum(low, other_low)).clamp(min=0).prod(-1)
    return shared / (union + _EPS) - (hull - union) / (hull + _EPS)


def _corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Upper left and lower right [*, 2] of boxes [*, 4]."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return centre - half, centre + half


def assign(cost: Tensor) -> tuple[Tensor, Tensor]:
    """The cheapest pairing of cost [Q, K]: rows and columns, int64 [min(Q, K)], in the order of rows."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost.detach().float().cpu().numpy())
    return torch.from_numpy(rows).to(cost.device), torch.from_numpy(columns).to(cost.device)


def assign_each(costs: Tensor, counts: list[int]) -> Tensor:
    """The query of each object of N independent problems: int64 [sum of counts], object by object.

    costs: [N, Q, K], of which the first ``counts[n]`` columns of problem n are objects; no more than there are queries.
    """
    from scipy.optimize import linear_sum_assignment

    table = costs.detach().float().cpu().numpy()
    queries = []
    for cost, count in zip(table, counts, strict=True):
        rows, columns = linear_sum_assignment(cost[:, :count].T)  # objects are rows: they come out in order
        if len(rows) < count:
            raise ValueError(f"{count} objects of one prompt, but only {len(columns)} queries to answer for them")
        queries += columns.tolist()
    return torch.tensor(queries, dtype=torch.int64, device=costs.device)
