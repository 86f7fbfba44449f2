"""A small Semantic-SAM with random weights and CLIP's tokenizer, whose six masks differ and are not empty."""

from __future__ import annotations

from typing import Any

import torch

from anygrain.models.clip_text import CLIPTextConfig
from anygrain.models.clip_tokenizer import ClipTokenizer
from anygrain.models.pixel_decoder import PixelDecoderConfig
from anygrain.models.semantic_sam import SemanticSAM
from anygrain.models.semantic_sam_config import SemanticSAMConfig
from anygrain.models.swin import SwinConfig


def tiny_config(**changes: Any) -> SemanticSAMConfig:
    """The released configuration with everything narrow, short side 96."""
    small = {
        "image_encoder": SwinConfig(
            embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4, drop_path=0.0
        ),
        "text_encoder": CLIPTextConfig(context_length=18, width=16, heads=2, layers=1, embed_dim=12),
        "pixel_decoder": PixelDecoderConfig(hidden_dim=32, mask_dim=16, num_layers=1, num_heads=4, ffn_dim=32),
        "input_size": 96,
        "longest": 288,
        "num_layers": 2,
        "num_heads": 4,
        "ffn_dim": 32,
    }
    return SemanticSAMConfig(**{**small, **changes})


def build(seed: int = 0, **changes: Any) -> SemanticSAM:
    """Random weights in eval mode."""
    torch.manual_seed(seed)
    config = tiny_config(**changes)
    network = SemanticSAM(config, ClipTokenizer() if config.text_encoder else None)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias") and "sampling" not in name:
                parameter.normal_(std=0.1)
            elif "box_head.layers.2" in name:
                parameter.normal_(std=0.05)
            elif name == "mask_head.layers.2.weight":
                parameter *= 10  # masks with sharp borders
    return network.eval()
