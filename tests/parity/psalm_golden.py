"""The small PSALM of the goldens: official weights under our names, a tokenizer of bytes, and arrays by name."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from anygrain.models.mask_decoder import MaskDecoderConfig
from anygrain.models.pixel_decoder import PixelDecoderConfig
from anygrain.models.psalm.config import LanguageConfig, PSALMConfig
from anygrain.models.psalm.convert import psalm
from anygrain.models.psalm.network import PSALM
from anygrain.models.swin import SwinConfig

FIXTURES = Path(__file__).parents[1] / "fixtures" / "parity" / "psalm"


class ByteTokenizer:
    """UTF-8 bytes; the two tokens that prompts name are one id each. ``[PAD]`` would be 257."""

    seg = 258

    def words(self) -> list[str]:
        return []

    def encode(self, text: str) -> list[int]:
        special = {"<|endoftext|>": 256, "[SEG]": self.seg}
        pieces = re.split(r"(<\|endoftext\|>|\[SEG\])", text)
        return [i for piece in pieces for i in ([special[piece]] if piece in special else piece.encode())]


def tiny_config() -> PSALMConfig:
    """Every size of the fixture ``psalm_tiny_config.json``."""
    c = json.loads((FIXTURES / "psalm_tiny_config.json").read_text())
    swin = {key: tuple(value) if isinstance(value, list) else value for key, value in c["swin"].items()}
    llm, pixel, predictor = c["llm"], c["pixel_decoder"], c["predictor"]
    return PSALMConfig(
        image_encoder=SwinConfig(**swin, drop_path=0.0),
        language=LanguageConfig(
            vocab_size=llm["vocab_size"],
            width=llm["hidden_size"],
            layers=llm["num_hidden_layers"],
            num_heads=llm["num_attention_heads"],
            ffn_dim=llm["intermediate_size"],
        ),
        pixel_decoder=PixelDecoderConfig(
            hidden_dim=pixel["conv_dim"],
            mask_dim=pixel["mask_dim"],
            num_layers=pixel["enc_layers"],
            ffn_dim=pixel["ffn_dim"],
            extra_level=False,
            order="coarse_to_fine",
            top_down_bias=True,
            lateral_relu=True,
        ),
        mask_decoder=MaskDecoderConfig(
            hidden_dim=predictor["hidden_dim"],
            num_queries=predictor["num_queries"],
            ffn_dim=predictor["ffn_dim"],
            layers=predictor["dec_layers"],
            mask_dim=predictor["mask_dim"],
        ),
        projector_planes=c["projector"]["planes"],
        input_size=c["image_size"],
    )


def official_state() -> dict[str, torch.Tensor]:
    """The tensors of the fixture under their official names."""
    return load_file(FIXTURES / "psalm_tiny.safetensors")


@cache
def tiny_psalm() -> PSALM:
    """The network of the goldens, in eval mode."""
    weights, unknown = psalm(official_state(), tiny_config())
    assert unknown == []
    model = PSALM(tiny_config(), ByteTokenizer())
    model.load_state_dict(weights)
    return model.eval()


def golden(name: str) -> dict[str, np.ndarray]:
    """All arrays of a golden file."""
    with np.load(FIXTURES / f"{name}.npz") as file:
        return dict(file)


def pixels_of(images: np.ndarray) -> torch.Tensor:
    """uint8 [B, 3, H, W], padded -> normalised pixels."""
    return tiny_psalm().normalise(np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
