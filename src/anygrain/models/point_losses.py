"""Mask losses at a few points of each mask, most of them where the mask is unsure.

Paper: Kirillov et al., PointRend (arXiv 1912.08193), §3.2, as Mask2Former (arXiv 2112.01527, §3.3) trains with it.

Shapes: N masks, P points, H W size of mask logits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

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


def point_losses(logits: Tensor, wanted: Tensor, masks: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy and Dice of logits [N, P] against 0..1 [N, P]: means over points, summed, divided by ``masks``.

    masks: how many masks the sums are shared among, over all processes.
    """
    logits, wanted = logits.float(), wanted.float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1).sum()
    probability = logits.sigmoid()
    overlap = (2 * (probability * wanted).sum(1) + 1) / (probability.sum(1) + wanted.sum(1) + 1)
    return cross_entropy / masks, (1 - overlap).sum() / masks
