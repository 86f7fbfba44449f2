"""Whether the thing that a prompt names is in the image at all (not in the paper)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PresenceHead(nn.Module):
    """Answers from the query and from what the mask has found.

    The mask's own evidence (the mean embedding inside, its surest pixel and its area) keeps the two answers from
    contradicting each other; no gradient goes back into the mask through it, only into the query.
    N prompts, C and D channels of query and pixel embedding.
    """

    def __init__(self, query_dim: int, mask_dim: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(query_dim + mask_dim + 2, query_dim), nn.ReLU(), nn.Linear(query_dim, 1))

    def forward(self, query: Tensor, pixel_embedding: Tensor, mask_logits: Tensor) -> Tensor:
        """query [N, C], pixel_embedding [N, D, h, w], mask_logits [N, h, w] -> logits [N]."""
        mask_logits = mask_logits.detach()
        probability = mask_logits.sigmoid()
        area = probability.sum((1, 2))[:, None]  # [N, 1]
        inside = torch.einsum("nhw,ndhw->nd", probability, pixel_embedding.detach()) / (area + 1)
        surest = mask_logits.amax((1, 2))[:, None]
        return self.layers(torch.cat([query, inside, surest, torch.log1p(area)], 1))[:, 0]
