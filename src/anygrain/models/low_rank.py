"""Low-rank adaptation: linear layers stay as they are, and a product of two narrow matrices beside each learns.

Paper: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (arXiv 2106.09685), §4.1.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

_SCALE = 2.0
"""What the product is multiplied with (the paper's alpha / r), so that a change of the rank needs no other rate."""


class LowRankLinear(nn.Module):
    """base(x) + scale * up(down(x)); ``up`` starts at zero, so that nothing changes at first."""

    def __init__(self, base: nn.Linear, rank: int):
        super().__init__()
        self.base = base.requires_grad_(False)
        like = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.down = nn.Linear(base.in_features, rank, bias=False, **like)
        self.up = nn.Linear(rank, base.out_features, bias=False, **like)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[*, C] -> [*, D]."""
        return self.base(x) + _SCALE * self.up(self.down(x))

    def merged(self) -> nn.Linear:
        """One linear layer that computes the same."""
        self.base.weight.data += _SCALE * (self.up.weight.data @ self.down.weight.data)
        return self.base


def add_low_rank(module: nn.Module, rank: int) -> None:
    """Freeze a module and put a product of that rank beside each linear layer of its ``layers``.

    Raises ValueError when the rank is below 1.
    """
    if rank < 1:
        raise ValueError(f"the rank of low-rank adaptation must be at least 1, got {rank}")
    module.requires_grad_(False)
    for name, layer in list(module.named_modules()):
        if name.startswith("layers.") and isinstance(layer, nn.Linear):
            _replace(module, name, LowRankLinear(layer, rank))


def merge_low_rank(module: nn.Module) -> None:
    """Put every product into its linear layer, so that the module is as it was before ``add_low_rank``, but trained."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, LowRankLinear):
            _replace(module, name, layer.merged())


def _replace(module: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, new)
