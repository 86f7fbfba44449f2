"""State dicts of transformers' Swin and CLIP -> ours: the public start weights of the paper's recipe.

transformers renamed its modules in version 5; files on the Hub keep the older names. Both spellings are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_SWIN = (
    (r"^swin\.", ""),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed."),
    (r"^embeddings\.norm\.", "patch_norm."),
    (r"^layernorm\.", "norms.3."),
    (r"^encoder\.layers\.(\d)\.blocks\.", r"stages.\1.blocks."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(?:self\.|relative_position_bias\.)relative_position_bias_table$", ".attn.bias_table"),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.attention\.(?:self\.)?(query|key|value|[qkv]_proj)\.", r".attn.\1."),
    (r"\.(?:intermediate\.dense|mlp\.fc1)\.", ".fc1."),
    (r"\.(?:output\.dense|mlp\.fc2)\.", ".fc2."),
)
_CLIP = (
    (r"^text_model\.", ""),
    (r"^embeddings\.token_embedding\.", "token_embedding."),
    (r"^embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^final_layer_norm\.", "norm."),
    (r"^encoder\.layers\.", "blocks."),
    (r"\.layer_norm(\d)\.", r".norm\1."),
    (r"\.mlp\.(fc\d)\.", r".\1."),
    (r"\.self_attn\.out_proj\.", ".proj."),
    (r"\.self_attn\.([qkv]_proj)\.", r".\1."),
)
_DROPPED = (
    "relative_position_index",
    "position_ids",
    "classifier.",
    "vision_model.",
    "visual_projection",
    "logit_scale",
)


def swin_from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """SwinModel's (or SwinForImageClassification's) state dict -> ``Swin``'s, without the norms of levels 1 to 3."""
    renamed = _rename(state, _SWIN)
    # Merging is the end of a stage there and the beginning of the next here.
    moved = {re.sub(r"^encoder\.layers\.(\d)\.downsample", _next_stage, key): value for key, value in renamed.items()}
    return _pack(moved, ("query", "key", "value"), ("q_proj", "k_proj", "v_proj"))


def clip_text_from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text half of CLIPModel's (or CLIPTextModelWithProjection's) state dict -> ``CLIPText``'s."""
    packed = _pack(_rename(state, _CLIP), ("q_proj", "k_proj", "v_proj"))
    packed["projection"] = packed.pop("text_projection.weight").T.contiguous()
    return packed


def _rename(state: Mapping[str, Tensor], rules: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    ours = {}
    for key, value in state.items():
        if any(part in key for part in _DROPPED):
            continue
        for theirs, name in rules:
            key = re.sub(theirs, name, key)
        ours[key] = value
    return ours


def _next_stage(match: re.Match[str]) -> str:
    return f"stages.{int(match[1]) + 1}.merge"


def _pack(state: dict[str, Tensor], *spellings: tuple[str, str, str]) -> dict[str, Tensor]:
    """Three projections q, k, v -> one packed ``qkv``, rows in that order."""
    packed = dict(state)
    for first, *others in spellings:
        for key in [key for key in state if f".{first}." in key]:
            parts = [packed.pop(key), *(packed.pop(key.replace(f".{first}.", f".{other}.")) for other in others)]
            packed[key.replace(f".{first}.", ".qkv.")] = torch.cat(parts)
    return packed
