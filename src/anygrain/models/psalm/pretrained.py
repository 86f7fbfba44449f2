"""Public weights that PSALM's second stage starts from, under our names: Phi-1.5 and Mask2Former, from transformers.

transformers renamed modules in version 5; files on the Hub keep the older names. Both spellings are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from anygrain.models.pretrained import swin_from_transformers

_PHI = (
    (r"^model\.embed_tokens\.", "embedding."),
    (r"^model\.layers\.", "layers."),
    (r"^model\.final_layernorm\.", "norm."),
    (r"^lm_head\.", "head."),
)
_SWIN = re.compile(r"^model\.pixel_level_module\.encoder\.(?:swin\.)?(?!hidden_states_norms)")
_NORM = r"^model\.pixel_level_module\.encoder\.hidden_states_norms\.stage(\d)"
_HEAD = r"^model\.transformer_module\.decoder\.mask_predictor\.mask_embedder\.(\d)\.0"
_MASK2FORMER = (
    (_NORM, lambda match: f"image_encoder.norms.{int(match[1]) - 1}"),
    (r"^model\.pixel_level_module\.decoder\.", "pixel_decoder."),
    (r"^pixel_decoder\.input_projections\.", "pixel_decoder.input_proj."),
    (r"^pixel_decoder\.encoder\.layers\.", "pixel_decoder.layers."),
    (r"^(pixel_decoder\.layers\.\d+)\.self_attn_layer_norm", r"\1.norm1"),
    (r"^(pixel_decoder\.layers\.\d+)\.final_layer_norm", r"\1.norm2"),
    (r"^pixel_decoder\.mask_projection\.", "pixel_decoder.mask_features."),
    (r"^pixel_decoder\.adapter_1\.", "pixel_decoder.lateral."),
    (r"^pixel_decoder\.layer_1\.", "pixel_decoder.output."),
    (r"^model\.transformer_module\.queries_embedder\.weight", "mask_decoder.query_embed"),
    (r"^model\.transformer_module\.level_embed\.weight", "mask_decoder.level_embed"),
    (r"^model\.transformer_module\.decoder\.layernorm", "mask_decoder.norm"),
    (_HEAD, r"mask_decoder.mask_embed.layers.\1"),
    (r"^model\.transformer_module\.decoder\.layers\.", "mask_decoder.layers."),
    (r"^(mask_decoder\.layers\.\d+)\.cross_attn_layer_norm", r"\1.norm1"),
    (r"^(mask_decoder\.layers\.\d+)\.self_attn_layer_norm", r"\1.norm2"),
    (r"^(mask_decoder\.layers\.\d+)\.final_layer_norm", r"\1.norm3"),
    (r"^((?:pixel|mask)_decoder\.layers\.\d+)\.fc(\d)", r"\1.ffn.linear\2"),
)  # fmt: skip


def phi_from_transformers(state: Mapping[str, Tensor], vocab_size: int, known: int) -> dict[str, Tensor]:
    """PhiForCausalLM's state dict -> ``LanguageModel``'s.

    known: tokens of the tokenizer; the rows behind them stand for nothing. Of ``vocab_size`` tokens the new ones begin
    as the mean of the known ones. The output layer's bias is left out: PSALM has none.
    """
    ours = {}
    for key, value in state.items():
        if key != "lm_head.bias" and "rotary_emb" not in key:
            ours[_renamed(key, _PHI)] = value
    for name in ("embedding.weight", "head.weight"):
        rows = ours[name][:known]
        ours[name] = torch.cat([rows, rows.mean(0, keepdim=True).expand(vocab_size - known, -1)])
    return ours


def mask2former_from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mask2FormerForUniversalSegmentation's state dict -> the image encoder, pixel decoder and mask decoder of PSALM.

    The biases of the convolutions that join stride 4, which Mask2Former has not, are not among them.
    """
    swin = {_SWIN.sub("", key): value for key, value in state.items() if _SWIN.match(key)}
    ours = {f"image_encoder.{key}": value for key, value in swin_from_transformers(swin).items() if key != "norms.3"}
    left = ("class_predictor.", "criterion.", "model.transformer_module.queries_features.")
    for key, value in state.items():
        if not _SWIN.match(key) and not key.startswith(left):
            ours[_renamed(key, _MASK2FORMER)] = value
    for key in [key for key in ours if ".self_attn.q_proj." in key and key.startswith("mask_decoder.")]:
        parts = [ours.pop(key.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
        ours[key.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
    return ours


def _renamed(key: str, rules: tuple) -> str:
    for theirs, name in rules:
        key = re.sub(theirs, name, key)
    return key
