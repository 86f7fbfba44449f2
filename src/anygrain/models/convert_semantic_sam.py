"""Official Semantic-SAM checkpoints to ours: every key checked, then renamed. See ``convert`` for the rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from anygrain.models.clip_text import CLIPTextConfig
from anygrain.models.convert import (
    Names,
    Shapes,
    check_index_tables,
    check_keys,
    load_checkpoint,
    official_name,
    shapes_of,
    swin_names,
)
from anygrain.models.semantic_sam import SemanticSAM
from anygrain.models.semantic_sam_config import SemanticSAMConfig
from anygrain.models.swin import SwinConfig

_HEAD = "sem_seg_head.predictor"

# Our name -> the official one; every rule is tried, in this order.
NAMES: Names = [
    *swin_names("backbone"),
    (r"^image_encoder\.norms\.", "backbone.norm"),
    # pixel decoder
    (r"^pixel_decoder\.layers", "sem_seg_head.pixel_decoder.transformer.encoder.layers"),
    (r"^pixel_decoder\.level_embed", "sem_seg_head.pixel_decoder.transformer.level_embed"),
    (r"^pixel_decoder\.lateral\.0\.", "sem_seg_head.pixel_decoder.adapter_1."),
    (r"^pixel_decoder\.lateral\.1\.", "sem_seg_head.pixel_decoder.adapter_1.norm."),
    (r"^pixel_decoder\.output\.0\.", "sem_seg_head.pixel_decoder.layer_1."),
    (r"^pixel_decoder\.output\.1\.", "sem_seg_head.pixel_decoder.layer_1.norm."),
    (r"^pixel_decoder\.", "sem_seg_head.pixel_decoder."),
    # decoder; the official norms are numbered by another order of the attentions
    (r"^layers\.(\d+)\.norm([12])", lambda m: f"{_HEAD}.decoder.layers.{m[1]}.norm{3 - int(m[2])}"),
    (r"^layers\.", f"{_HEAD}.decoder.layers."),
    (r"\.ffn\.", "."),
    (r"^position_head", f"{_HEAD}.decoder.ref_point_head"),
    (r"^norm\.", f"{_HEAD}.decoder_norm."),
    (r"^box_head", f"{_HEAD}._bbox_embed"),
    (r"^mask_head", f"{_HEAD}.mask_embed"),
    (r"^iou_head", f"{_HEAD}.iou_prediction_head"),
    (r"^mask_tokens", f"{_HEAD}.mask_tokens"),
    (r"^prompt_types", f"{_HEAD}.pb_embedding"),
    (r"^content", f"{_HEAD}.label_enc"),
    # names
    (r"^object_projection$", f"{_HEAD}.class_embed"),
    (r"^part_projection$", f"{_HEAD}.class_embed_part"),
    (r"^logit_scale$", f"{_HEAD}.lang_encoder.logit_scale"),
    (r"^text_encoder\.projection$", f"{_HEAD}.lang_encoder.lang_proj"),
    (r"^text_encoder\.blocks\.(\d+)\.qkv\.", rf"{_HEAD}.lang_encoder.lang_encoder.resblocks.\1.attn.in_proj_"),
    (r"^text_encoder\.blocks\.(\d+)\.proj\.", rf"{_HEAD}.lang_encoder.lang_encoder.resblocks.\1.attn.out_proj."),
    (r"^text_encoder\.blocks\.(\d+)\.norm", rf"{_HEAD}.lang_encoder.lang_encoder.resblocks.\1.ln_"),
    (r"^text_encoder\.blocks\.(\d+)\.fc1", rf"{_HEAD}.lang_encoder.lang_encoder.resblocks.\1.mlp.c_fc"),
    (r"^text_encoder\.blocks\.(\d+)\.fc2", rf"{_HEAD}.lang_encoder.lang_encoder.resblocks.\1.mlp.c_proj"),
    (r"^text_encoder\.norm", f"{_HEAD}.lang_encoder.lang_encoder.ln_final"),
    (r"^text_encoder\.", f"{_HEAD}.lang_encoder.lang_encoder."),
]
_IGNORED = ("criterion.empty_weight",)  # written by the first training step, used by nothing
_TEXT_DIM = 512  # of the two projections to names where no text encoder is


def read_semantic_sam(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a released ``.pth`` file, under ``model`` or not, without the ``model.`` before each.

    Raises OSError when the file cannot be opened, ValueError when it is no such checkpoint.
    """
    checkpoint = load_checkpoint(Path(path))
    if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get("model"), Mapping):
        checkpoint = checkpoint["model"]
    tensors = checkpoint if isinstance(checkpoint, Mapping) else {}
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ValueError(f"{path} holds no tensors of a model: give an official checkpoint as it was published")
    if all(key.startswith("model.") for key in tensors):
        return {key.removeprefix("model."): tensor for key, tensor in tensors.items()}
    return dict(tensors)


def released_config(state_dict: Mapping[str, Tensor], *, where: str = "checkpoint") -> SemanticSAMConfig:
    """Which of the two released networks a checkpoint holds, told from the width of its first convolution."""
    first = state_dict.get("backbone.patch_embed.proj.weight")
    for config in (SemanticSAMConfig.released_tiny(), SemanticSAMConfig.released_large()):
        if first is not None and first.shape[:1] == (_swin(config).embed_dim,):
            return config
    raise ValueError(f"{where} is not a Semantic-SAM checkpoint with Swin-T or Swin-L: convert only released files")


def semantic_sam(
    state_dict: Mapping[str, Tensor], config: SemanticSAMConfig, *, where: str = "checkpoint"
) -> dict[str, Tensor]:
    """Official weights under our names, as ``SemanticSAM(config).load_state_dict`` takes them.

    state_dict: all keys of ``semantic_sam_keys(config)``, of any float type. where: what the error calls the input.
    Raises ValueError, naming keys, when any key is missing, unexpected, of another shape or type, when two copies of a
    tied parameter differ, or when a stored index table is not Swin's.
    """
    state_dict = {key: tensor for key, tensor in state_dict.items() if key not in _IGNORED}
    check_keys(state_dict, semantic_sam_keys(config), where)
    check_index_tables(state_dict, _swin(config).window_size, where)
    differing = [copy for copy, key in tied_keys(config).items() if not torch.equal(state_dict[copy], state_dict[key])]
    if differing:
        raise ValueError(f"{where}: {differing[0]} differs from the parameter that it must be a copy of")
    return {ours: state_dict[official_name(ours, NAMES)].float() for ours in _shapes(config)}


def semantic_sam_keys(config: SemanticSAMConfig) -> Shapes:
    """Every key of an official file with its shape: those we use, copies, index tables and those that are dead."""
    used = {official_name(name, NAMES): shape for name, shape in _shapes(config).items()}
    tokens = _swin(config).window_size ** 2
    tables = {
        key.replace("relative_position_bias_table", "relative_position_index"): (tokens, tokens)
        for key in used
        if key.endswith("relative_position_bias_table")
    }
    copies = {copy: used[key] for copy, key in tied_keys(config).items()}
    dim, text = config.pixel_decoder.hidden_dim, config.text_encoder
    width = text.embed_dim if isinstance(text, CLIPTextConfig) else _TEXT_DIM
    dead = {f"{_HEAD}.lang_mapper": (width, dim)}
    if text is None:
        dead |= {f"{_HEAD}.class_embed": (dim, width), f"{_HEAD}.class_embed_part": (dim, width)}
    return used | tables | copies | dead


def tied_keys(config: SemanticSAMConfig) -> dict[str, str]:
    """Official keys that repeat another one -> that one: the box head once for each layer and user, and the norm."""
    tied = {f"{_HEAD}.decoder.norm.{part}": f"{_HEAD}.decoder_norm.{part}" for part in ("weight", "bias")}
    for user in ("decoder.bbox_embed", "bbox_embed"):
        for layer in range(config.num_layers):
            for linear in range(3):
                for part in ("weight", "bias"):
                    name = f"layers.{linear}.{part}"
                    tied[f"{_HEAD}.{user}.{layer}.{name}"] = f"{_HEAD}._bbox_embed.{name}"
    return tied


def _swin(config: SemanticSAMConfig) -> SwinConfig:
    if not isinstance(config.image_encoder, SwinConfig):
        raise ValueError(f"an official Semantic-SAM has a Swin, not {config.image_encoder.kind}")
    return config.image_encoder


def _shapes(config: SemanticSAMConfig) -> Shapes:
    with torch.device("meta"):  # no memory, no random numbers
        return shapes_of(SemanticSAM(config))
