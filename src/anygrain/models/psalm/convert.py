"""The released PSALM (EnmingZhang/PSALM on the Hugging Face Hub) to our names.

Its shards hold 943 tensors: the 935 of the official code, and eight of other experiments that nothing defines. Of the
935, two are read by nothing (the decoder's own queries) and 24 are index tables that we compute.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from anygrain.models import convert
from anygrain.models.psalm.config import PSALMConfig
from anygrain.models.psalm.network import PSALM
from anygrain.models.swin import SwinConfig

# Our name -> the official one; every rule is tried, in this order.
NAMES: convert.Names = [
    # image encoder; theirs counts a merging with the stage before it, ours with the stage after it
    (r"^image_encoder\.stages\.(\d)\.merge", lambda m: f"model.vision_tower.layers.{int(m[1]) - 1}.downsample"),
    (r"^image_encoder\.stages", "model.vision_tower.layers"),
    (r"^image_encoder\.patch_embed", "model.vision_tower.patch_embed.proj"),
    (r"^image_encoder\.patch_norm", "model.vision_tower.patch_embed.norm"),
    (r"^image_encoder\.norms\.", "model.vision_tower.norm"),
    (r"^(model\.vision_tower.*)\.fc", r"\1.mlp.fc"),
    (r"attn\.bias_table$", "attn.relative_position_bias_table"),
    # projector
    (r"^projector\.linear", "model.mm_projector.fc"),
    (r"^projector\.shortcut", "model.mm_projector.layer1.0.downsample"),
    (r"^projector\.conv", "model.mm_projector.layer1.0.conv"),
    (r"^projector\.norm", "model.mm_projector.layer1.0.bn"),
    # language model
    (r"^language\.embedding", "model.embed_tokens"),
    (r"^language\.layers", "model.layers"),
    (r"^language\.norm", "model.final_layernorm"),
    (r"^language\.head", "lm_head"),
    (r"self_attn\.[qkv]_proj", "self_attn.query_key_value"),
    # pixel decoder
    (r"^pixel_decoder\.level_embed", "pixel_decoder.transformer.level_embed"),
    (r"^pixel_decoder\.layers", "pixel_decoder.transformer.encoder.layers"),
    (r"^(pixel_decoder.*)\.ffn\.", r"\1."),
    (r"^pixel_decoder\.lateral", "pixel_decoder.adapter_1"),
    (r"^pixel_decoder\.output", "pixel_decoder.layer_1"),
    # mask decoder
    (r"^mask_decoder\.(query|level)_embed$", r"predictor.\1_embed.weight"),
    (r"^mask_decoder\.norm", "predictor.decoder_norm"),
    (r"^mask_decoder\.mask_embed", "predictor.mask_embed"),
    (
        r"^mask_decoder\.layers\.(\d+)\.cross_attn",
        r"predictor.transformer_cross_attention_layers.\1.multihead_attn",
    ),
    (r"^mask_decoder\.layers\.(\d+)\.self_attn", r"predictor.transformer_self_attention_layers.\1.self_attn"),
    (r"^mask_decoder\.layers\.(\d+)\.ffn", r"predictor.transformer_ffn_layers.\1"),
    (r"^mask_decoder\.layers\.(\d+)\.norm1", r"predictor.transformer_cross_attention_layers.\1.norm"),
    (r"^mask_decoder\.layers\.(\d+)\.norm2", r"predictor.transformer_self_attention_layers.\1.norm"),
    (r"^mask_decoder\.layers\.(\d+)\.norm3", r"predictor.transformer_ffn_layers.\1.norm"),
    # between the language model and the decoder
    (r"^mask_tokens$", "seg_query"),
    (r"^query_proj", "seg_query_projector"),
    (r"^condition_proj\.categories", "class_name_projector"),
    (r"^condition_proj\.phrase", "SEG_token_projector"),
    (r"^condition_proj\.regions", "region_projector"),
    (r"^condition_head\.categories", "predictor.CLASS_proj"),
    (r"^condition_head\.phrase", "predictor.SEG_proj"),
    (r"^condition_head\.regions", "predictor.REGION_proj"),
]


def psalm(
    state_dict: Mapping[str, Tensor], config: PSALMConfig | None = None, *, where: str = "checkpoint"
) -> tuple[dict[str, Tensor], list[str]]:
    """Released weights under our names, as ``PSALM(config).load_state_dict`` takes them, and the keys left aside.

    state_dict: the 935 keys of ``psalm_keys(config)``, of any float type; more of them are named and left aside.
    config: sizes, by default the released ones. where: what the error message calls the input.
    Raises ValueError, naming keys, when any of the 935 is missing, of another shape or type, when a stored index table
    is not Swin's, or when the statistics of a BatchNorm cannot be those of a trained network.
    """
    config = config or PSALMConfig.released()
    expected = psalm_keys(config)
    known = {key: state_dict[key] for key in expected if key in state_dict}
    convert.check_keys(known, expected, where)
    convert.check_index_tables(known, _swin(config).window_size, where)
    _check_statistics(known, where)
    heads = config.language.num_heads
    tensors = {ours: _third(known[convert.official_name(ours, NAMES)], ours, heads) for ours in _shapes(config)}
    converted = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return converted, sorted(set(state_dict) - set(expected))


def _swin(config: PSALMConfig) -> SwinConfig:
    if not isinstance(config.image_encoder, SwinConfig):
        raise ValueError("an official PSALM has a Swin: give a configuration with one")
    return config.image_encoder


def psalm_keys(config: PSALMConfig) -> convert.Shapes:
    """Every key of the official code with its shape: those we use and those that are dead."""
    keys: convert.Shapes = {}
    for name, shape in _shapes(config).items():
        fused = re.search(r"self_attn\.[qkv]_proj", name) and name.startswith("language.")
        keys[convert.official_name(name, NAMES)] = (3 * shape[0], *shape[1:]) if fused else shape
    tokens = _swin(config).window_size ** 2
    tables = {
        key.replace("relative_position_bias_table", "relative_position_index"): (tokens, tokens)
        for key in keys
        if key.endswith("relative_position_bias_table")
    }
    queries, width = config.mask_decoder.num_queries, config.mask_decoder.hidden_dim
    dead: convert.Shapes = {
        "predictor.query_feat.weight": (queries, width),
        "predictor.SEG_query_embed.weight": (queries + 1, width),
    }
    return keys | tables | dead


def read_released(folder: Path) -> dict[str, Tensor]:
    """Tensors of a folder as it was published: ``model.safetensors.index.json`` and its shards, or one file.

    They stay on disk until they are used. Raises OSError or ValueError with one sentence.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{index} is not the index of a checkpoint in shards: get it again") from None
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder} is not the released folder: {', '.join(missing)} is missing; download all its files"
        )
    tensors: dict[str, Tensor] = {}
    for name in names:
        try:
            tensors |= load_file(folder / name)
        except SafetensorError as error:
            raise ValueError(f"{folder / name}: not a readable safetensors file ({error})") from None
    return tensors


def released_config(state_dict: Mapping[str, Tensor]) -> PSALMConfig:
    """The released sizes, with as many words as the checkpoint's embedding has rows."""
    config = PSALMConfig.released()
    embedding = state_dict.get("model.embed_tokens.weight")
    if embedding is None or embedding.ndim != 2:
        return config  # the check that follows says what is wrong
    return replace(config, language=replace(config.language, vocab_size=embedding.shape[0]))


def _shapes(config: PSALMConfig) -> convert.Shapes:
    """Every key of ours with its shape."""
    from anygrain.models.layers import WithoutInit

    with torch.device("meta"), WithoutInit():
        return convert.shapes_of(PSALM(config))


def _third(tensor: Tensor, name: str, heads: int) -> Tensor:
    """Queries, keys or values out of a fused tensor [heads * 3 * d, ...], which holds them head by head."""
    found = re.search(r"^language\..*self_attn\.([qkv])_proj", name)
    if not found:
        return tensor
    split = tensor.unflatten(0, (heads, 3, -1))  # [heads, 3, d, ...]
    return split[:, "qkv".index(found[1])].flatten(0, 1)


def _check_statistics(tensors: Mapping[str, Tensor], where: str) -> None:
    for key in tensors:
        if not key.endswith("running_var"):
            continue
        mean, variance = tensors[key.replace("running_var", "running_mean")], tensors[key]
        if not (mean.isfinite().all() and variance.isfinite().all() and (variance > 0).all()):
            raise ValueError(f"{where} is damaged: {key} is not a variance, or its mean is no number")
        if (mean == 0).all() and (variance == 1).all():
            raise ValueError(
                f"{where} lacks the projector's BatchNorm statistics ({key} is 1 everywhere, as before training): "
                "use the whole published checkpoint"
            )
