"""Synthetic Semantic-SAM weights in the form of the official files, and the runs of the goldens."""

from __future__ import annotations

import copy
import gzip
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import semsam_fill
import torch
from official import index_table

from anygrain.models.clip_text import CLIPTextConfig
from anygrain.models.convert_semantic_sam import semantic_sam, semantic_sam_keys
from anygrain.models.pixel_decoder import PixelDecoderConfig
from anygrain.models.semantic_sam import Prompts, SemanticSAM
from anygrain.models.semantic_sam_config import SemanticSAMConfig
from anygrain.models.swin import SwinConfig
from anygrain.segmenter import Segmenter

FIXTURES = Path(__file__).parents[1] / "fixtures" / "parity"


def tiny_config(*, text: bool = True) -> SemanticSAMConfig:
    """The small network of the tiny goldens."""
    encoder = CLIPTextConfig(vocab_size=64, context_length=8, width=16, heads=2, layers=2, embed_dim=20, norm_eps=1e-12)
    return SemanticSAMConfig(
        image_encoder=SwinConfig(
            embed_dim=12, depths=(2, 2, 2, 2), num_heads=(1, 2, 3, 6), window_size=4, drop_path=0.0
        ),
        text_encoder=encoder if text else None,
        pixel_decoder=PixelDecoderConfig(hidden_dim=32, mask_dim=24, num_layers=2, ffn_dim=64),
        num_layers=2,
        ffn_dim=64,
        word_len=8,
    )


def golden(name: str) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays of a golden file, and what it says about itself."""
    with np.load(FIXTURES / f"semsam_{name}_golden.npz") as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads(bytes(arrays.pop("meta_json")))


def keys(name: str) -> dict:
    """Key list of a released file."""
    return json.loads(gzip.decompress((FIXTURES / f"semsam_{name}_keys.json.gz").read_bytes()))


def state_dict(config: SemanticSAMConfig, *, filled: bool = True) -> dict[str, torch.Tensor]:
    """All keys of an official file; ``filled=False`` stores one zero for each tensor."""
    return {key: _tensor(key, shape, filled) for key, shape in semantic_sam_keys(config).items()}


def _tensor(key: str, shape: tuple[int, ...], filled: bool) -> torch.Tensor:
    if key.endswith("relative_position_index"):
        return index_table(round(shape[0] ** 0.5))
    if not filled:
        return torch.zeros(1).expand(shape) if shape else torch.zeros(())
    return torch.from_numpy(np.asarray(semsam_fill.value(key, shape)))


@cache
def tiny_network() -> SemanticSAM:
    """The tiny network with the goldens' weights, in eval mode; not to be changed."""
    network = SemanticSAM(tiny_config())
    network.load_state_dict(semantic_sam(state_dict(tiny_config()), tiny_config()))
    return network.eval()


def pixels_of(network: SemanticSAM, height: int, width: int, phase: float) -> torch.Tensor:
    """The formula image, normalised, then padded to a multiple of 32."""
    image = semsam_fill.image_formula(height, width, phase).transpose(1, 2, 0)
    canvas = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.uint8)
    canvas[:height, :width] = image
    return network.normalise(canvas[None], [(height, width)])


def prompts(boxes: list, types: list | None = None) -> Prompts:
    """Boxes (cx, cy, w, h) about the only image; type 0 unless given."""
    kinds = torch.tensor(types).long() if types else torch.zeros(len(boxes), dtype=torch.long)
    return Prompts(torch.tensor(boxes), kinds, torch.zeros(len(boxes), dtype=torch.long))


def error(actual: torch.Tensor | np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference; shapes must be equal."""
    actual = actual.detach().numpy() if isinstance(actual, torch.Tensor) else np.asarray(actual)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    return float(np.abs(actual.astype(np.float64) - expected).max())


def tiny_segmenter(short_side: int, **options) -> Segmenter:
    """A Segmenter of the tiny network that brings images to this short side."""
    network = copy.copy(tiny_network())  # the weights are shared
    network.config = replace(network.config, input_size=short_side)
    info = {"name": "tiny", "architecture": "semantic_sam", "fingerprint": "0123456789ab"}
    return Segmenter(network, info, **options)
