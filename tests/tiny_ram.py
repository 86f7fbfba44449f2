"""A small RAM tagger with random weights, whose tags differ."""

from __future__ import annotations

from typing import Any

import torch

from anygrain.models.ram import RAM, RAMConfig
from anygrain.models.swin import SwinConfig


def tiny_config(**changes: Any) -> RAMConfig:
    """Six tags, photos of 64 pixels."""
    small = {
        "image_encoder": SwinConfig(
            embed_dim=8,
            depths=(1, 2, 1, 2),
            num_heads=(1, 2, 2, 4),
            window_size=2,
            shift_single_window=False,
            out_levels=(4,),
        ),
        "input_size": 64,
        "num_tags": 6,
        "text_dim": 16,
        "hidden_dim": 24,
        "num_heads": 3,
        "ffn_dim": 32,
    }
    return RAMConfig(**{**small, **changes})


def build(spread: float = 1.0, **changes: Any) -> RAM:
    """In eval mode. spread: how far the vectors of the tags lie apart."""
    torch.manual_seed(0)
    network = RAM(tiny_config(**changes)).eval()
    torch.nn.init.normal_(network.label_embed, std=spread)
    return network
