"""Mask losses. N prompts, H W image size; sums run over the pixels whose target is known (not 255)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = 255


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
    wanted = (targets == 1).flatten(1).to(torch.float32)
    overlap = (probability * wanted).sum(1)
    return (1 - (2 * overlap + 1) / (probability.sum(1) + wanted.sum(1) + 1)).mean()
