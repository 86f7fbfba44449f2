"""Synthetic weights in the form of the released RAM file: official names, values by ``param``; and all its arrays."""

from __future__ import annotations

import gzip
import json
import re

import fill
import numpy as np
import torch
from official import FIXTURES, index_table
from torch.nn import functional as F

from anygrain.models.ram import RAM, RAMConfig
from anygrain.models.swin import SwinConfig
from anygrain.models.tags import TagList

# On top of fill.param: factors that keep the tags apart and their probabilities near the thresholds.
GAINS = {
    r"wordvec_proj\.weight": 32.0,
    r"tagging_head\..*\.crossattention\.self\.query\.weight": 8.0,
    r"fc\.weight": 2.0,
}
COPIES = {  # the goldens' files hold some tensors twice: key -> the key whose name makes the values
    r"tag_encoder\.(encoder\.layer\.[01]\.(?:crossattention|intermediate|output)\..*)": r"tagging_head.\1",
    r"text_decoder\.cls\.predictions\.decoder\.weight": "text_decoder.bert.embeddings.word_embeddings.weight",
    r"text_decoder\.cls\.predictions\.decoder\.bias": "text_decoder.cls.predictions.bias",
}


def param(key: str, shape: tuple[int, ...]) -> np.ndarray:
    for copy, source in COPIES.items():
        key = re.sub(f"^{copy}$", source, key)
    values = fill.param(key, shape)
    for pattern, gain in GAINS.items():
        if re.fullmatch(pattern, key):
            values = values * np.float32(gain)
    return values - np.float32(4.0) if key == "fc.bias" else values


def normalise(picture: np.ndarray) -> torch.Tensor:
    """uint8 [S, S, 3] -> pixels [1, 3, S, S], by ImageNet's mean and deviation."""
    x = picture.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    x -= np.float32([0.485, 0.456, 0.406])[:, None, None]
    return torch.from_numpy(x / np.float32([0.229, 0.224, 0.225])[:, None, None])[None]


def settings() -> dict:
    return json.loads((FIXTURES / "ram_tiny_config.json").read_text())


def tiny_config() -> RAMConfig:
    """The small network of the tiny goldens: 24, 12, 6 and 3 tokens a side, in windows of 3."""
    c = settings()
    decoder = c["decoder"]
    return RAMConfig(
        image_encoder=SwinConfig(
            embed_dim=c["embed_dim"],
            depths=tuple(c["depths"]),
            num_heads=tuple(c["num_heads"]),
            window_size=c["window_size"],
            patch_size=c["patch_size"],
            shift_single_window=False,
            out_levels=(4,),
        ),
        input_size=c["image_size"],
        num_tags=c["num_tags"],
        text_dim=c["text_width"],
        hidden_dim=decoder["hidden_size"],
        num_heads=decoder["num_attention_heads"],
        num_layers=decoder["num_hidden_layers"],
        ffn_dim=decoder["intermediate_size"],
    )


def tiny_tags() -> TagList:
    return TagList(names=tuple(settings()["tag_list"]), thresholds=tuple(settings()["thresholds"]))


def keys(name: str) -> dict:
    """What a ``ram_*keys.json.gz`` lists."""
    return json.loads(gzip.decompress((FIXTURES / name).read_bytes()))


def tiny_state() -> dict[str, torch.Tensor]:
    """All 371 tensors of the small official network, captioning half and tables included."""
    return {key: _tensor(key, tuple(shape)) for key, shape in keys("ram_tiny_keys.json.gz").items()}


def full_state() -> dict[str, torch.Tensor]:
    """The 366 tensors of the released form that are used, 848 MB."""
    return {key: torch.from_numpy(param(key, shape)) for key, (shape, used) in keys("ram_keys.json.gz").items() if used}


def empty_state() -> dict[str, torch.Tensor]:
    """All 1042 keys of the released form, one zero for each tensor, right tables."""
    tables = ("relative_position_index", "attn_mask")
    return {
        key: _tensor(key, tuple(shape)) if key.endswith(tables) else torch.zeros(()).expand(shape)
        for key, (shape, _) in keys("ram_keys.json.gz").items()
    }


def _tensor(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    if key.endswith("relative_position_index"):
        return index_table(round(shape[0] ** 0.5))
    if key.endswith("attn_mask"):
        return shift_table(round(shape[0] ** 0.5), round(shape[1] ** 0.5))
    if key.endswith("position_ids"):
        return torch.arange(shape[1])[None]
    return torch.from_numpy(param(key, shape))


def shift_table(windows: int, window: int) -> torch.Tensor:
    """The mask of shifted windows [K, N, N], written out token by token: -100 between different regions."""
    side, shift = windows * window, window // 2

    def part(at: int) -> int:
        return 0 if at < side - window else 1 if at < side - shift else 2

    regions = [
        [(part(row * window + i), part(column * window + j)) for i in range(window) for j in range(window)]
        for row in range(windows)
        for column in range(windows)
    ]
    codes = torch.tensor([[3 * row + column for row, column in cells] for cells in regions])
    return torch.where(codes[:, :, None] == codes[:, None, :], 0.0, -100.0)


def arrays_of(model: RAM, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every intermediate array of B images, under the goldens' names, maps as [B, tokens, C]."""
    arrays: dict[str, torch.Tensor] = {}

    def keep(name, inputs=False):
        def hook(module, given, made):
            array = given[0] if inputs else made
            arrays[name] = array.flatten(1, 2) if array.ndim == 4 else array

        return hook

    swin = model.image_encoder
    watched = {"patch_embed": swin.patch_norm, "norm": swin.norms[3], "image_embeds": model.image_proj}
    watched |= {"wordvec": model.label_proj}
    for s, stage in enumerate(swin.stages):
        if s:
            watched[f"merge_{s - 1}"] = stage.merge
        for i, block in enumerate(stage.blocks):
            here = f"block_{s}_{i}"
            watched |= {here: block, f"{here}/norm1": block.norm1, f"{here}/fc1": block.fc1}
            watched |= {f"{here}/qkv": block.attn.qkv, f"{here}/proj": block.attn.proj}
    for i, layer in enumerate(model.layers):
        parts = {"q": layer.query, "k": layer.key, "v": layer.value, "dense": layer.attention_output}
        parts |= {"cross": layer.attention_norm, "out": layer.output_norm}
        watched |= {f"dec{i}/{name}": module for name, module in parts.items()}
    hooks = [module.register_forward_hook(keep(name)) for name, module in watched.items()]
    hooks.append(model.image_proj.register_forward_hook(keep("tokens", inputs=True)))
    for i, layer in enumerate(model.layers):
        hooks.append(layer.attention_output.register_forward_hook(keep(f"dec{i}/context", inputs=True)))
        hooks.append(layer.output.register_forward_hook(keep(f"dec{i}/inter", inputs=True)))
    with torch.inference_mode():
        arrays["label"] = model.tag_queries()
        arrays["logits"] = model(pixels)
    for hook in hooks:
        hook.remove()
    arrays["dec0/q"] = arrays["dec0/q"].expand(len(pixels), -1, -1)  # made once for all images
    for i, layer in enumerate(model.layers):  # fused in the network: from its queries and keys
        q, k = (arrays[f"dec{i}/{name}"].unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for name in "qk")
        arrays[f"dec{i}/attn"] = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    return arrays | {"prob": arrays["logits"].sigmoid()}


def window_attention(qkv: torch.Tensor, block, side: int) -> torch.Tensor:
    """Attention of a block [B*K, h, N, N] from its projection [B*K, N, 3C], by the definition: table, then mask."""
    attention = block.attn
    q, k, _ = qkv.unflatten(2, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
    index = index_table(attention.window)
    scores = q * q.shape[-1] ** -0.5 @ k.mT + attention.bias_table.detach()[index].permute(2, 0, 1)
    if block.shift and side > attention.window:
        mask = shift_table(side // attention.window, attention.window)[:, None]
        scores = scores + mask.repeat(len(scores) // len(mask), 1, 1, 1)
    return F.softmax(scores, -1)
