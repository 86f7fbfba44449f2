"""Official checkpoints to ours: read the file safely, check it strictly, rename. One function a source.

A conversion never computes: every tensor of ours is one tensor of theirs, cast to float32.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from anygrain.models.clip_text import CLIPTextConfig
from anygrain.models.swin import SwinConfig
from anygrain.models.unilseg import UniLSeg, UniLSegConfig

Shapes = dict[str, tuple[int, ...]]

# Our name -> the official one; every rule is tried, in this order.
Names = list[tuple[str, str | Callable[[re.Match[str]], str]]]


def swin_names(theirs: str) -> Names:
    """Rules for a Swin of Microsoft's code, called ``theirs`` there and ``image_encoder`` here, but for its norms."""
    return [
        # theirs counts a merging with the stage before it, ours with the stage after it
        (r"^image_encoder\.stages\.(\d)\.merge", lambda m: f"{theirs}.layers.{int(m[1]) - 1}.downsample"),
        (r"^image_encoder\.stages", f"{theirs}.layers"),
        (r"^image_encoder\.patch_embed", f"{theirs}.patch_embed.proj"),
        (r"^image_encoder\.patch_norm", f"{theirs}.patch_embed.norm"),
        (rf"^({theirs}.*)\.fc", r"\1.mlp.fc"),
        (r"attn\.bias_table$", "attn.relative_position_bias_table"),
    ]


UNILSEG_NAMES: Names = [
    *swin_names("backbone_visual"),
    (r"^image_encoder\.norms\.", "backbone_visual.norm"),
    # text encoder
    (r"^text_encoder\.blocks\.(\d+)\.(qkv\.|proj\.)", r"backbone.transformer.resblocks.\1.attn.\2"),
    (r"^text_encoder\.blocks\.(\d+)\.norm", r"backbone.transformer.resblocks.\1.ln_"),
    (r"^text_encoder\.blocks\.(\d+)\.fc1", r"backbone.transformer.resblocks.\1.mlp.c_fc"),
    (r"^text_encoder\.blocks\.(\d+)\.fc2", r"backbone.transformer.resblocks.\1.mlp.c_proj"),
    (r"^(backbone\..*attn)\.qkv\.", r"\1.in_proj_"),
    (r"^(backbone\..*attn)\.proj\.", r"\1.out_proj."),
    (r"^text_encoder\.norm", "backbone.ln_final"),
    (r"^text_encoder\.projection", "backbone.text_projection"),
    (r"^text_encoder\.", "backbone."),
    # head; level 4 of pre-fusion has names of its own
    (r"^pre_fusion\.4\.attn", "fusion.multihead_attn"),
    (r"^pre_fusion\.4\.proj", "fusion_proj"),
    (r"^pre_fusion\.(\d)\.attn", lambda m: f"all_fusion_module.{int(m[1]) - 1}.multihead_attn"),
    (r"^pre_fusion\.(\d)\.proj", lambda m: f"all_fusion_proj.{int(m[1]) - 1}"),
    (r"^adapters\.", "pixel_decoder.adapter_"),
    (r"^blocks\.", "pixel_decoder.cross_attn_"),
    (r"^top_down\.", "pixel_decoder.layer_"),
    (r"^mask_features", "pixel_decoder.mask_features"),
    (r"^language_path\.(layers|norm)", r"query_decoder.query_transformer.decoder.\1"),
    (r"^language_path\.", "query_decoder."),
    (r"\.cross_attn\.", ".multihead_attn."),
    (r"\.ffn\.", "."),
]


def read_official(path: str | Path, under: str = "state_dict") -> dict[str, Tensor]:
    """Tensors under the key ``under`` of a released ``.pth`` file, without the ``module.`` that DataParallel adds.

    Never runs code from the file; tensors stay on disk until they are used, where the format allows it.
    Raises OSError when the file cannot be opened, ValueError when it is no such checkpoint.
    """
    checkpoint = load_checkpoint(Path(path))
    tensors = checkpoint.get(under) if isinstance(checkpoint, Mapping) else None
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ValueError(f"{path} holds no tensors under '{under}': give an official checkpoint as it was published")
    if all(key.startswith("module.") for key in tensors):
        return {key.removeprefix("module."): tensor for key, tensor in tensors.items()}
    return dict(tensors)


def load_checkpoint(path: Path) -> object:
    """What a ``.pth`` file holds, without running code from it. Raises OSError or ValueError with one sentence."""
    is_zip = zipfile.is_zipfile(path)
    if not is_zip:
        path.open("rb").close()  # is_zipfile also says no to a file that cannot be opened
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except OSError:
        raise
    except Exception as error:  # damaged bytes can fail in any way inside the reader
        refused = ""
        if is_zip and isinstance(error, pickle.UnpicklingError):
            refused = ", ".join(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        if refused:
            raise ValueError(f"{path} was not read: it holds Python objects that could run code ({refused})") from error
        raise ValueError(
            f"{path} cannot be read as a PyTorch checkpoint of plain tensors: it is damaged, of another format, "
            "or holds Python objects"
        ) from error


def unilseg(
    state_dict: Mapping[str, Tensor], config: UniLSegConfig | None = None, *, where: str = "checkpoint"
) -> dict[str, Tensor]:
    """Released UniLSeg weights under our names, as ``UniLSeg(config).load_state_dict`` takes them.

    state_dict: all keys of ``unilseg_keys(config)``, of any float type. config: sizes, by default the released ones.
    where: what the error message calls the input, normally the file name.
    Raises ValueError, naming keys, when any key is missing, unexpected, of another shape or of another type, or when
    a stored index table is not Swin's.
    """
    config = config or UniLSegConfig.released()
    check_keys(state_dict, unilseg_keys(config), where)
    check_index_tables(state_dict, _towers(config)[0].window_size, where)
    tensors = {ours: state_dict[official_name(ours, UNILSEG_NAMES)] for ours in _shapes(config)}
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def unilseg_keys(config: UniLSegConfig) -> Shapes:
    """Every key of the released file, without ``module.``, with its shape: those we use and those that are dead."""
    swin, clip = _towers(config)
    used = {official_name(name, UNILSEG_NAMES): shape for name, shape in _shapes(config).items()}
    tokens = swin.window_size**2
    tables = {
        key.replace("relative_position_bias_table", "relative_position_index"): (tokens, tokens)
        for key in used
        if key.endswith("relative_position_bias_table")
    }
    return used | tables | {"backbone.logit_scale": ()} | _clip_visual_keys(clip.embed_dim)


def _towers(config: UniLSegConfig) -> tuple[SwinConfig, CLIPTextConfig]:
    image, text = config.image_encoder, config.text_encoder
    if not isinstance(image, SwinConfig) or not isinstance(text, CLIPTextConfig):
        raise ValueError(f"an official UniLSeg has a Swin and a CLIP text encoder, not {image.kind} and {text.kind}")
    return image, text


def _shapes(config: UniLSegConfig) -> Shapes:
    with torch.device("meta"):  # no memory, no random numbers
        return shapes_of(UniLSeg(config))


def shapes_of(network: nn.Module) -> Shapes:
    """Every key of ours with its shape."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def official_name(name: str, rules: Names) -> str:
    """Our key by its official name."""
    for ours, theirs in rules:
        name = re.sub(ours, theirs, name)
    return name


def _clip_visual_keys(embed_dim: int) -> Shapes:
    """CLIP ViT-B/16's image tower (224 pixels), stored in the released file and read by nothing."""
    width, patch, grid = 768, 16, 14
    keys: Shapes = {
        "class_embedding": (width,),
        "positional_embedding": (grid**2 + 1, width),
        "proj": (width, embed_dim),
        "conv1.weight": (width, 3, patch, patch),
    }
    norms = ["ln_pre", "ln_post"]
    linears: dict[str, tuple[int, int]] = {}
    for i in range(12):
        block = f"transformer.resblocks.{i}."
        norms += [f"{block}ln_1", f"{block}ln_2"]
        linears |= {f"{block}attn.in_proj_": (3 * width, width), f"{block}attn.out_proj.": (width, width)}
        linears |= {f"{block}mlp.c_fc.": (4 * width, width), f"{block}mlp.c_proj.": (width, 4 * width)}
    for norm in norms:
        keys |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for linear, shape in linears.items():
        keys |= {f"{linear}weight": shape, f"{linear}bias": shape[:1]}
    return {f"backbone.visual.{key}": shape for key, shape in keys.items()}


def check_keys(state_dict: Mapping[str, Tensor], expected: Shapes, where: str) -> None:
    """Raise one sentence that counts and names all that differs from ``expected``."""
    missing = [key for key in expected if key not in state_dict]
    extra = [key for key in state_dict if key not in expected]
    shared = [(key, state_dict[key], shape) for key, shape in expected.items() if key in state_dict]
    reshaped = [f"{key} is {tuple(t.shape)} instead of {shape}" for key, t, shape in shared if t.shape != shape]
    retyped = [f"{key} is {t.dtype}" for key, t, _ in shared if t.is_floating_point() == _is_integer(key)]
    faults = {"missing": missing, "unexpected": extra, "of another shape": reshaped, "of another type": retyped}
    found = [f"{len(keys)} {what} ({_first(keys)})" for what, keys in faults.items() if keys]
    if found:
        raise ValueError(f"{where} is not the checkpoint expected here: of {len(expected)} keys, {', '.join(found)}")


def _is_integer(key: str) -> bool:
    return key.endswith(("num_batches_tracked", "relative_position_index"))


def _first(keys: list[str], count: int = 3) -> str:
    return ", ".join(keys[:count]) + (", ..." if len(keys) > count else "")


def check_index_tables(state_dict: Mapping[str, Tensor], window: int, where: str) -> None:
    """Our Swin computes the position index; a stored table that differs would mean another network."""
    at = torch.arange(window)
    rows, columns = at.repeat_interleave(window), at.repeat(window)
    row_offset, column_offset = rows[:, None] - rows, columns[:, None] - columns
    index = (row_offset + window - 1) * (2 * window - 1) + column_offset + window - 1  # [N, N]
    tables = {key: table for key, table in state_dict.items() if key.endswith("relative_position_index")}
    wrong = [key for key, table in tables.items() if not torch.equal(table.long(), index)]
    if wrong:
        raise ValueError(f"{where} is not the checkpoint expected here: {_first(wrong)} is not Swin's index table")
