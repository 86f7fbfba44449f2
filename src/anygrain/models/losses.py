"""Mask losses. N prompts, H W image size; sums run over the pixels whose target is known (not 255)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = 255


def mask_losses(logits: Tensor, targets: Tensor, boxed: Tensor) -> dict[str, Tensor]:
    """ "cross_entropy" and "dice" of N masks, two scalars that weigh each prompt the same.

    logits: float [N, H, W]; targets: uint8 [N, H, W] with 0, 1 and 255 = unknown; boxed: bool [N]. Where the 1s are
    only boxes around the thing, the pixels inside are unknown, and the projections take the place of Dice.
    """
    outside = torch.where(boxed[:, None, None] & (targets == 1), IGNORE, targets)
    kinds = ((dice, ~boxed), (box_projection, boxed))
    parts = [loss(logits[rows], targets[rows]) * rows.sum() for loss, rows in kinds if rows.any()]
    return {"cross_entropy": mask_cross_entropy(logits, outside), "dice": torch.stack(parts).sum() / len(logits)}


def mask_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, mean over the known pixels of each prompt, then over prompts: a scalar.

    logits: float [N, H, W]; targets: uint8 [N, H, W] with 0, 1 and 255 = unknown.
    """
    known = (targets != IGNORE).flatten(1)
    wanted = (targets == 1).flatten(1).to(torch.float32)
    loss = F.binary_cross_entropy_with_logits(logits.flatten(1).float(), wanted, reduction="none")
    return ((loss * known).sum(1) / known.sum(1).clamp(min=1)).mean()


def dice(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - (2 sum pg + 1) / (sum p + sum g + 1) for each prompt, then the mean over prompts: a scalar.

    logits: float [N, H, W]; targets: uint8 [N, H, W] with 0, 1 and 255 = unknown.
    """
    probability = logits.flatten(1).float().sigmoid() * (targets != IGNORE).flatten(1)
    return (1 - _overlap(probability, (targets == 1).flatten(1).to(torch.float32))).mean()


def box_projection(logits: Tensor, targets: Tensor) -> Tensor:
    """How badly a mask fills its boxes: Dice between the projections of both on each axis, a mean over prompts.

    The mask should touch every row and column of its box and none outside (BoxInst, arXiv 2012.02310, eq. 1).
    logits: float [N, H, W]; targets: uint8 [N, H, W] with 1 in the boxes, 0 outside and 255 = unknown.
    """
    probability = logits.float().sigmoid() * (targets != IGNORE)
    wanted = (targets == 1).to(torch.float32)
    both = [_overlap(probability.amax(axis), wanted.amax(axis)) for axis in (1, 2)]
    return 1 - torch.stack(both).mean()


def _overlap(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Dice of two soft sets [N, L]."""
    return (2 * (predicted * wanted).sum(1) + 1) / (predicted.sum(1) + wanted.sum(1) + 1)


def focal(logits: Tensor, labels: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss, summed over the names of each row (Lin et al., arXiv 1708.02002, eq. 5): [*].

    logits: [*, K]. labels: uint8 [*, K], 1 for what it is called, 0 for what it is not, 255 where that is unknown.
    """
    logits, wanted = logits.float(), (labels == 1).float()
    loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    probability = logits.sigmoid()
    miss = torch.where(labels == 1, 1 - probability, probability)
    weight = torch.where(labels == 1, alpha, 1 - alpha) * (labels != IGNORE)
    return (weight * miss**gamma * loss).sum(-1)
