"""The released RAM checkpoint to ours: checked strictly, renamed, never computed with."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from anygrain.models.convert import Names, Shapes, check_index_tables, check_keys, official_name, shapes_of, swin_names
from anygrain.models.ram import RAM, RAMConfig
from anygrain.models.swin import shift_mask

# Our name -> the official one; every rule is tried, in this order.
RAM_NAMES: Names = [
    *swin_names("visual_encoder"),
    (r"^image_encoder\.norms\.3\.", "visual_encoder.norm."),
    (r"^label_proj\.", "wordvec_proj."),
    (r"^head\.", "fc."),
    (r"^layers\.", "tagging_head.encoder.layer."),
    (r"^(tagging_head.*)\.(query|key|value)\.", r"\1.crossattention.self.\2."),
    (r"^(tagging_head.*)\.attention_output\.", r"\1.crossattention.output.dense."),
    (r"^(tagging_head.*)\.attention_norm\.", r"\1.crossattention.output.LayerNorm."),
    (r"^(tagging_head.*\d\.(?:intermediate|output))\.", r"\1.dense."),
    (r"^(tagging_head.*)\.output_norm\.", r"\1.output.LayerNorm."),
]
CAPTIONING = ("tag_encoder.", "text_decoder.")
"""The half of the released file that only training uses; whatever stands there is ignored."""


def ram(
    state_dict: Mapping[str, Tensor], config: RAMConfig | None = None, *, where: str = "checkpoint"
) -> dict[str, Tensor]:
    """Released RAM weights under our names, as ``RAM(config).load_state_dict`` takes them.

    state_dict: what the file holds under "model", of any float type: all keys of ``ram_keys(config)``; maybe the tables
        of ``ram_tables(config)``, which must be right, and the captioning half. ``vision_multi`` is an older name of
        ``tagging_head``.
    where: what the error message calls the input, normally the file name.
    Raises ValueError, naming keys, when any key is missing, unexpected, of another shape or of another type.
    """
    config = config or RAMConfig.released()
    found = {key: tensor for key, tensor in state_dict.items() if not key.startswith(CAPTIONING)}
    renamed = {key: key.replace("vision_multi", "tagging_head") for key in found}
    if twice := [key for key, name in renamed.items() if key != name and name in found]:
        raise ValueError(
            f"{where} is not the checkpoint expected here: it holds both {twice[0]} and {renamed[twice[0]]}"
        )
    found = {renamed[key]: tensor for key, tensor in found.items()}
    plus_rows = 51 * config.num_tags  # RAM++ has 51 descriptions of each tag
    if "reweight_scale" in found or ("label_embed" in found and found["label_embed"].shape[:1] == (plus_rows,)):
        raise ValueError(f"{where} is a RAM++ checkpoint, which is another network: give ram_swin_large_14m.pth")
    tables = ram_tables(config)
    check_keys(found, ram_keys(config) | {key: shape for key, shape in tables.items() if key in found}, where)
    check_index_tables(found, config.image_encoder.window_size, where)
    _check_masks(found, config, where)
    names = {ours: official_name(ours, RAM_NAMES) for ours in _shapes(config)}
    return {ours: found[theirs].float() for ours, theirs in names.items()}


def ram_keys(config: RAMConfig) -> Shapes:
    """Every key of the released file that can change a probability, with its shape."""
    return {official_name(name, RAM_NAMES): shape for name, shape in _shapes(config).items()}


def ram_tables(config: RAMConfig) -> Shapes:
    """Keys of the tables that follow from the sizes: which need not be there, as our Swin computes them."""
    tables: Shapes = {}
    for key in ram_keys(config):
        match = re.fullmatch(r"visual_encoder\.layers\.(\d)\.blocks\.(\d+)\.attn\.relative_position_bias_table", key)
        if not match:
            continue
        stage, block = int(match[1]), int(match[2])
        window = config.image_encoder.window_size
        tables[key.replace("bias_table", "index")] = (window**2, window**2)
        side = _map_side(config, stage)
        if block % 2 and side > window:
            mask = f"visual_encoder.layers.{stage}.blocks.{block}.attn_mask"
            tables[mask] = ((side // window) ** 2, window**2, window**2)
    return tables


def _map_side(config: RAMConfig, stage: int) -> int:
    return config.input_size // config.image_encoder.patch_size // 2**stage


def _check_masks(state_dict: Mapping[str, Tensor], config: RAMConfig, where: str) -> None:
    for key, mask in state_dict.items():
        if key.endswith(".attn_mask"):
            side = _map_side(config, int(key.split(".")[2]))
            if not torch.equal(mask.float(), shift_mask(side, side, config.image_encoder.window_size, torch.zeros(()))):
                raise ValueError(f"{where} is not the checkpoint expected here: {key} is not Swin's mask")


def _shapes(config: RAMConfig) -> Shapes:
    with torch.device("meta"):  # no memory, no random numbers
        return shapes_of(RAM(config))
