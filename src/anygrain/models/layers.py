"""Blocks that at least two networks use: normalised pixels, sine tables, attention, convolution + norm, feed-forward.

Shapes: B batch, L tokens, C channels, H W map size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.overrides import TorchFunctionMode


def normalise(images: np.ndarray, mean: Sequence[float], std: Sequence[float], device: torch.device) -> Tensor:
    """uint8 [B, H, W, 3] -> (x / 255 - mean) / std of each channel, float32 [B, 3, H, W] on ``device``."""
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255.0
    centre, spread = (torch.tensor(values, device=device)[:, None, None] for values in (mean, std))
    return (pixels - centre) / spread


def map_size(feature_map: Tensor) -> tuple[int, int]:
    """(H, W) of [..., H, W]."""
    return feature_map.shape[-2], feature_map.shape[-1]


def to_tokens(feature_map: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H*W, C], row-major."""
    return feature_map.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, H*W, C] -> [B, C, H, W]."""
    return tokens.transpose(1, 2).unflatten(2, size)


def resize_map(feature_map: Tensor, size: tuple[int, int]) -> Tensor:
    """2-tap bilinear, corners not aligned, no antialiasing; the identity when the size is right already."""
    if map_size(feature_map) == size:
        return feature_map
    return F.interpolate(feature_map, size=size, mode="bilinear", align_corners=False)


def sine_2d(channels: int, height: int, width: int, device: torch.device, *, first: float = 0.5) -> Tensor:
    """Position table [H*W, channels]: the first half of the channels holds rows, the second columns.

    Positions are those of cells normalised to 0..2 pi (eps 1e-6), the first at ``first`` cells: 0.5 for their centres,
    1.0 in DETR's family. Kept for the last 64 sizes.
    """
    # While a graph is traced tensors are not real: such a table belongs to the graph and must not be kept.
    make = _sine_2d if torch.compiler.is_compiling() else _kept_sine_2d
    return make(channels, height, width, device, first)


def sine_1d(channels: int, length: int, device: torch.device) -> Tensor:
    """Position table [length, channels] of word slots: positions 1..length, no half step."""
    make = _sine_1d if torch.compiler.is_compiling() else _kept_sine_1d
    return make(channels, length, device)


@torch.inference_mode(False)  # a kept table is used in training as well
def _sine_2d(channels: int, height: int, width: int, device: torch.device, first: float) -> Tensor:
    rows = (torch.arange(height) + first) / (height + 1e-6) * 2 * math.pi
    columns = (torch.arange(width) + first) / (width + 1e-6) * 2 * math.pi
    half = channels // 2
    table = torch.cat(
        [
            sine(rows, half)[:, None].expand(height, width, half),
            sine(columns, half)[None].expand(height, width, half),
        ],
        dim=-1,
    )
    return table.flatten(0, 1).to(device)


@torch.inference_mode(False)
def _sine_1d(channels: int, length: int, device: torch.device) -> Tensor:
    position = (torch.arange(length) + 1) / (length + 1e-6) * 2 * math.pi
    return sine(position, channels).to(device)


def sine(position: Tensor, channels: int) -> Tensor:
    """Interleaved sine and cosine of positions [...] in radians -> [..., channels], temperature 10000."""
    index = torch.arange(channels, device=position.device)
    frequency = 10000.0 ** (2 * (index // 2) / channels)
    angle = position[..., None] / frequency
    return torch.where(index % 2 == 0, angle.sin(), angle.cos())


_kept_sine_2d, _kept_sine_1d = lru_cache(maxsize=64)(_sine_2d), lru_cache(maxsize=64)(_sine_1d)


class Attention(nn.Module):
    """Multi-head attention with one packed projection, as ``torch.nn.MultiheadAttention`` stores it."""

    def __init__(self, channels: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels cannot be split into {num_heads} heads")
        self.num_heads, self.dropout = num_heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def project(self, tokens: Tensor, third: int) -> Tensor:
        """Tokens [B, L, C] -> queries (third 0), keys (1) or values (2) [B, L, C]."""
        channels = self.out_proj.in_features
        rows = slice(third * channels, (third + 1) * channels)
        return F.linear(tokens, self.in_proj_weight[rows], self.in_proj_bias[rows])

    def forward(self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Attention of q [B, Lq, C] over k and v [B, Lk, C] -> [B, Lq, C].

        k and v of batch 1 serve every row of q, and are projected once.
        allowed: bool [B, Lk] or [B, Lq, Lk], False for keys that must not be looked at.
        """
        return self.attend(q, *self.remember(k, v), allowed)

    def remember(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k and v [B, Lk, C] -> projected keys and values [B, heads, Lk, d], for ``attend``."""
        return self._split(self.project(k, 1)), self._split(self.project(v, 2))

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None = None) -> Tensor:
        """``forward`` with keys and values that ``remember`` gave: they may serve many calls."""
        q = self._split(self.project(q, 0))
        k, v = (part.expand(q.shape[0], -1, -1, -1) for part in (keys, values))
        mask = None if allowed is None else (allowed[:, None] if allowed.ndim == 3 else allowed[:, None, None, :])
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=self.dropout if self.training else 0.0)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def look_up(self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
        """``forward`` for many queries and few keys: the projections of queries and results move to the keys.

        A score is (Wq q + bq) . key = q . (Wq' key) + bq . key, and Wo (sum of weight * value) the sum of
        weight * (Wo value), so no C x C product is left for each of the Lq queries.
        """
        channels, heads = self.out_proj.in_features, self.num_heads
        k, v = self._split(self.project(k, 1)), self._split(self.project(v, 2))  # [B, heads, Lk, d]
        k = k * k.shape[-1] ** -0.5
        q_weight, q_bias = self.in_proj_weight[:channels], self.in_proj_bias[:channels]
        keys = k @ q_weight.unflatten(0, (heads, -1))  # [B, heads, Lk, C]
        values = v @ self.out_proj.weight.t().unflatten(0, (heads, -1))  # [B, heads, Lk, C]
        offsets = (k @ q_bias.view(heads, -1, 1)).masked_fill(~allowed[:, None, :, None], -math.inf)
        # The few keys stand before the many queries: the softmax then runs along memory, ten times faster on a CPU.
        scores = torch.baddbmm(offsets.flatten(1, 2), keys.flatten(1, 2), q.transpose(1, 2))  # [B, heads*Lk, Lq]
        weights = scores.unflatten(1, (heads, -1)).softmax(2).flatten(1, 2)
        weights = F.dropout(weights, self.dropout, self.training).transpose(1, 2)  # [B, Lq, heads*Lk]
        return torch.baddbmm(self.out_proj.bias, weights, values.flatten(1, 2))

    def _split(self, tokens: Tensor) -> Tensor:
        """[B, L, C] -> [B, heads, L, d]."""
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


_HIDDEN_AT_ONCE = 2**21  # numbers


class FeedForward(nn.Module):
    """linear2(relu(linear1(x))) with dropout between."""

    def __init__(self, channels: int, hidden: int, dropout: float = 0.0):
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, L, C] -> [B, L, C]."""
        if self.training or tokens.device.type != "cpu" or torch.compiler.is_compiling():
            return self._rows(tokens)
        # Some rows at a time: the hidden values stay in the cache, and the largest array of the network is never made.
        rows = max(1, _HIDDEN_AT_ONCE // (tokens.shape[0] * self.linear1.out_features))
        if rows >= tokens.shape[1]:
            return self._rows(tokens)
        return torch.cat([self._rows(part) for part in tokens.split(rows, 1)], 1)

    def _rows(self, tokens: Tensor) -> Tensor:
        return self.linear2(self.dropout(F.relu(self.linear1(tokens))))


class MLP(nn.Module):
    """Linear layers with ReLU between: ``depth`` of them, all hidden ones of width ``hidden``."""

    def __init__(self, channels: int, hidden: int, out_channels: int, depth: int):
        super().__init__()
        widths = [channels, *[hidden] * (depth - 1), out_channels]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """[..., channels] -> [..., out_channels]."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class WithoutInit(TorchFunctionMode):
    """Modules built inside leave their parameters as they are, for those that are about to be loaded.

    Initialising on the meta device would import PyTorch's compiler: 80 MB and most of a second.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Every function of ``torch.nn.init`` returns its tensor untouched."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """Convolution (stride 1, same size, no bias), BatchNorm, ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Merge every BatchNorm that follows a convolution or linear layer in a Sequential into that layer, in place.

    For inference only: the model must be in eval mode, and its state dict is no longer the checkpoint's.
    """
    if model.training:
        raise ValueError("BatchNorm can be folded only in eval mode: call model.eval() first")
    for sequence in [m for m in model.modules() if isinstance(m, nn.Sequential)]:
        for i in range(len(sequence) - 1):
            first, norm = sequence[i], sequence[i + 1]
            if isinstance(first, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                sequence[i], sequence[i + 1] = fuse_conv_bn_eval(first, norm), nn.Identity()
            elif isinstance(first, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                sequence[i], sequence[i + 1] = fuse_linear_bn_eval(first, norm), nn.Identity()
    return model


class OneDnnLinear(nn.Linear):
    """``nn.Linear`` that uses oneDNN in float32 inference on a CPU.

    PyTorch multiplies float32 matrices by MKL, which on an AMD processor reaches less than half of oneDNN's speed.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]."""
        plain = (
            torch.is_grad_enabled()
            or torch.compiler.is_compiling()
            or torch.is_autocast_enabled("cpu")
            or input.device.type != "cpu"
            or input.dtype != torch.float32
            or input.numel() < _ONEDNN_ROWS * self.in_features
        )
        if plain:
            return super().forward(input)
        return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")


_ONEDNN_ROWS = 8  # below, the call itself costs more than it saves


def use_onednn(model: nn.Module) -> nn.Module:
    """Replace every plain linear layer by ``OneDnnLinear`` with the same parameters, in place; names stay."""
    if not torch.backends.mkldnn.is_available():
        return model
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                fast = OneDnnLinear(child.in_features, child.out_features, child.bias is not None, device="meta")
                fast.weight, fast.bias = child.weight, child.bias
                setattr(parent, name, fast.train(child.training))
    return model
