"""Mask losses at a few points of each mask, most of them where the mask is unsure.

Paper: Kirillov et al., PointRend (arXiv 1912.08193), §3.2, as Mask2Former (arXiv 2112.01527, §3.3) trains with it.

Shapes: N masks, P points, M label maps, H W size of a map.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anygrain.models.losses import IGNORE
from anygrain.models.matching import sample_points


@torch.no_grad()
def uncertain_points(logits: Tensor, count: int, *, oversample: float = 3.0, importance: float = 0.75) -> Tensor:
    """``count`` points (x, y) in 0..1 of each mask, [N, P, 2], from its logits [N, H, W].

    ``importance`` of them are those nearest to the border among ``oversample`` times as many random points; the others
    are random. Draws twice from PyTorch's global generator.
    """
    candidates = torch.rand(len(logits), int(count * oversample), 2, device=logits.device)
    unsure = -sample_points(logits, candidates).abs()
    near = int(count * importance)
    best = unsure.topk(near, 1).indices
    chosen = candidates.gather(1, best[..., None].expand(-1, -1, 2))
    return torch.cat([chosen, torch.rand(len(logits), count - near, 2, device=logits.device)], 1)


@torch.no_grad()
def sample_labels(labels: Tensor, index: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """What maps ``index`` [N] of labels uint8 [M, H, W] say at points (x, y) in 0..1 [N, P, 2].

    Returns how much each point lies inside, float32 0..1 [N, P] (bilinear, zero outside the map, as ``sample_points``),
    and whether that is known, bool [N, P]: no cell around it is 255. No map is copied.
    """
    height, width = labels.shape[-2:]
    x, y = (points * points.new_tensor([width, height]) - 0.5).unbind(-1)
    left, top = x.floor(), y.floor()
    start = index[:, None] * (height * width)
    flat = labels.flatten()
    inside, known = torch.zeros_like(x), torch.ones_like(x, dtype=torch.bool)
    for column, by_column in ((left, 1 - (x - left)), (left + 1, x - left)):
        for row, by_row in ((top, 1 - (y - top)), (top + 1, y - top)):
            there = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            cell = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            value = flat[start + cell]
            inside += by_column * by_row * ((value == 1) & there)
            known &= (value != IGNORE) | ~there
    return inside, known


def each_point_loss(logits: Tensor, wanted: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cross-entropy (mean over points) and Dice of each mask: two of [N].

    logits: [N, P]. wanted: 0..1 [N, P]. known: bool [N, P], the points that count; all when None.
    """
    logits, wanted = logits.float(), wanted.float()
    count = torch.ones_like(wanted) if known is None else known.float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * count
    probability, wanted = logits.sigmoid() * count, wanted * count
    overlap = (2 * (probability * wanted).sum(1) + 1) / (probability.sum(1) + wanted.sum(1) + 1)
    return cross_entropy.sum(1) / count.sum(1).clamp(min=1), 1 - overlap


def point_losses(logits: Tensor, wanted: Tensor, masks: float, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cross-entropy and Dice of logits [N, P] against 0..1 [N, P]: means over points, summed, divided by ``masks``.

    masks: how many masks the sums are shared among, over all processes. known: as above.
    """
    cross_entropy, dice = each_point_loss(logits, wanted, known)
    return cross_entropy.sum() / masks, dice.sum() / masks
