"""Synthetic weights in the form of the released UniLSeg file: official names, values by ``fill.param``."""

from __future__ import annotations

import json
from pathlib import Path

import fill
import torch

from anygrain.models.clip_text import CLIPTextConfig
from anygrain.models.convert import unilseg_keys
from anygrain.models.swin import SwinConfig
from anygrain.models.unilseg import UniLSeg, UniLSegConfig

FIXTURES = Path(__file__).parents[1] / "fixtures" / "parity"


def tiny_config() -> UniLSegConfig:
    """The small network of the tiny goldens: every width differs from every other."""
    c = json.loads((FIXTURES / "unilseg_tiny_config.json").read_text())
    swin = {key: tuple(value) if isinstance(value, list) else value for key, value in c["swin"].items()}
    return UniLSegConfig(
        image_encoder=SwinConfig(**swin),
        text_encoder=CLIPTextConfig(
            vocab_size=c["vocab_size"],
            context_length=c["context_length"],
            width=c["text_width"],
            heads=c["text_heads"],
            layers=c["text_layers"],
            embed_dim=c["sentence_dim"],
        ),
        input_size=c["input_size"],
        word_len=c["word_len"],
        level_dims=(c["pixel_decoder_conv"],) * 4,
        reductions=tuple(c["sr_ratios"]),
        ffn_dim=c["pixel_decoder_ffn"],
        mask_dim=c["pixel_decoder_mask"],
        query_dim=c["d_model"],
        query_layers=c["num_dec"],
        query_ffn_dim=c["query_decoder_ffn"],
        num_heads=c["pixel_decoder_heads"],
        fusion_heads=c["fusion_heads"],
    )


def state_dict(config: UniLSegConfig, *, filled: bool = True) -> dict[str, torch.Tensor]:
    """All keys of a released file, without ``module.``; ``filled=False`` stores one zero for each tensor."""
    return {key: _tensor(key, shape, filled) for key, shape in unilseg_keys(config).items()}


def _tensor(key: str, shape: tuple[int, ...], filled: bool) -> torch.Tensor:
    if key.endswith("relative_position_index"):
        return index_table(round(shape[0] ** 0.5))
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if not filled or key.startswith("backbone.visual."):  # dead, and 86 M numbers
        return torch.zeros(1).expand(shape) if shape else torch.zeros(())
    return torch.from_numpy(fill.param(key, shape))


def arrays_of(model: UniLSeg, pixels: torch.Tensor, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every intermediate array of one image with N prompts, under the goldens' names."""
    arrays, queries = {}, []

    def keep(name):
        return lambda module, inputs, output: arrays.update({name: output})

    levels = {"fused": model.pre_fusion, "adapter": model.adapters, "block": model.blocks, "fpn": model.top_down}
    watched = {f"{name}_{k}": parts[k] for name, parts in levels.items() for k in parts}
    path = model.language_path
    watched |= {"pixel_output": model.mask_features, "visual_proj": path.visual_proj, "text_proj": path.text_proj}
    hooks = [module.register_forward_hook(keep(name)) for name, module in watched.items()]
    hooks += [path.norm.register_forward_hook(lambda module, inputs, output: queries.append(output))]
    with torch.inference_mode():
        features = model.encode_image(pixels)
        text = model.encode_tokens(tokens)
        output = model.decode(features, text, torch.zeros(len(tokens), dtype=torch.int64))
    for hook in hooks:
        hook.remove()
    arrays |= {f"swin_{k}": feature for k, feature in enumerate(features, 1)}
    arrays |= {"words": text.words, "sentence": text.sentence, "query_output": torch.stack(queries)}
    return arrays | {"logits": output.mask_logits[:, None]}


def index_table(window: int) -> torch.Tensor:
    """Relative position index of each token pair, int64 [N, N], written out pair by pair."""
    cells = [(row, column) for row in range(window) for column in range(window)]
    offsets = [[(a[0] - b[0] + window - 1, a[1] - b[1] + window - 1) for b in cells] for a in cells]
    return torch.tensor([[row * (2 * window - 1) + column for row, column in line] for line in offsets])
