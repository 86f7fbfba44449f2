"""Swin Transformer, the shared image encoder: pixels in, a pyramid of four maps out.

Paper: Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows (arXiv 2103.14030), in the
form dense prediction uses: any image size, every odd block shifted whatever the size of the map, each level normed.
``SwinConfig`` also says the form of image classification: see ``shift_single_window`` and ``out_levels``.

Shapes: B batch, C channels, H W map size (``Hp Wp`` padded to whole windows), M window side, N = M*M tokens of a
window, K windows of an image, h heads. Maps inside are channels-last, [B, H, W, C].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """Size of a Swin; the defaults are Swin-B with window 7."""

    kind: Literal["swin"] = "swin"
    """Names this encoder in a configuration file."""
    embed_dim: int = 128
    """Channels of the first stage; each further stage doubles them."""
    depths: tuple[int, int, int, int] = (2, 2, 18, 2)
    """Blocks of each stage."""
    num_heads: tuple[int, int, int, int] = (4, 8, 16, 32)
    """Attention heads of each stage."""
    window_size: int = 7
    """Side of an attention window in tokens."""
    patch_size: int = 4
    """Side of a patch in pixels: the stride of the first map."""
    mlp_ratio: float = 4.0
    """Hidden width of a block's MLP over its channels."""
    drop_path: float = 0.2
    """Probability of skipping the last block in training; it grows linearly from 0 at the first."""
    shift_single_window: bool = True
    """Whether odd blocks shift also where the whole map is one window; as published for classification they do not."""
    out_levels: tuple[int, ...] = (1, 2, 3, 4)
    """The levels that are normed and given out, in ascending order."""

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Widths of the four output maps."""
        width = self.embed_dim
        return width, 2 * width, 4 * width, 8 * width

    @classmethod
    def tiny(cls) -> SwinConfig:
        """Swin-T, window 7."""
        return cls(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24))

    @classmethod
    def base(cls) -> SwinConfig:
        """Swin-B, window 7."""
        return cls()

    @classmethod
    def large(cls) -> SwinConfig:
        """Swin-L, window 12."""
        return cls(embed_dim=192, num_heads=(6, 12, 24, 48), window_size=12)


class Swin(nn.Module):
    """The encoder. ``forward`` gives maps, each after its own norm, at strides 4, 8, 16 and 32 (patch size 4)."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = nn.Conv2d(3, config.embed_dim, config.patch_size, stride=config.patch_size)
        self.patch_norm = nn.LayerNorm(config.embed_dim)
        drops = torch.linspace(0, config.drop_path, sum(config.depths), device="cpu").split(config.depths)
        self.stages = nn.ModuleList(Stage(config, level, drops[level].tolist()) for level in range(4))
        self.norms = nn.ModuleList(
            nn.LayerNorm(channels) if level in config.out_levels else nn.Identity()
            for level, channels in enumerate(config.channels, 1)
        )
        self.apply(_init_weights)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode pixels [B, 3, H, W] of any size as a map [B, C_k, H_k, W_k] for each of ``out_levels``.

        Sizes round up at every level.
        """
        patch = self.config.patch_size
        pixels = F.pad(pixels, (0, -pixels.shape[3] % patch, 0, -pixels.shape[2] % patch))
        x = self.patch_norm(self.patch_embed(pixels).permute(0, 2, 3, 1))  # [B, H_1, W_1, C_1]
        maps = []
        for level, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True), 1):
            x = stage(x)  # goes on without the level's norm
            if level in self.config.out_levels:
                maps.append(norm(x).permute(0, 3, 1, 2).contiguous())
        return tuple(maps)


class Stage(nn.Module):
    """Halve the map (from the second stage on), then blocks with plain and shifted windows by turns."""

    def __init__(self, config: SwinConfig, level: int, drops: list[float]) -> None:
        super().__init__()
        self.window, self.shift_single_window = config.window_size, config.shift_single_window
        self.merge = PatchMerging(config.channels[level - 1]) if level else nn.Identity()
        self.blocks = nn.ModuleList(Block(config, level, shifted=i % 2 == 1, drop=drop) for i, drop in enumerate(drops))

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H/2, W/2, 2C] (sizes rounded up); the first stage keeps the shape."""
        x = self.merge(x)
        wall = None
        if self.shift_single_window or max(x.shape[1:3]) > self.window:
            wall = shift_mask(x.shape[1], x.shape[2], self.window, x)  # the same for all shifted blocks of the stage
        for block in self.blocks:
            x = block(x, wall)
        return x


class PatchMerging(nn.Module):
    """Gather each 2x2 cell into one token and project 4C -> 2C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, ceil(H/2), ceil(W/2), 2C]."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        batch, height, width, channels = x.shape
        x = x.view(batch, height // 2, 2, width // 2, 2, channels)
        x = x.permute(0, 1, 3, 4, 2, 5).flatten(3)  # a cell is read column by column: (0,0) (1,0) (0,1) (1,1)
        return self.reduction(self.norm(x))


class Block(nn.Module):
    """Pre-norm window attention and MLP."""

    def __init__(self, config: SwinConfig, level: int, *, shifted: bool, drop: float) -> None:
        super().__init__()
        channels = config.channels[level]
        self.window = config.window_size
        self.shift = config.window_size // 2 if shifted else 0
        self.drop = drop
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, config.num_heads[level], config.window_size)
        self.norm2 = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, int(channels * config.mlp_ratio))
        self.fc2 = nn.Linear(int(channels * config.mlp_ratio), channels)

    def forward(self, x: Tensor, wall: Tensor | None) -> Tensor:
        """Map [B, H, W, C] and the stage's ``shift_mask``, None where nothing is shifted -> [B, H, W, C]."""
        x = x + self._drop_path(self._attend(self.norm1(x), wall))
        return x + self._drop_path(self.fc2(F.gelu(self.fc1(self.norm2(x)))))

    def _attend(self, x: Tensor, wall: Tensor | None) -> Tensor:
        size, window, shift = x.shape, self.window, 0 if wall is None else self.shift
        # Padding comes after the norm and is not masked: its tokens are keys like any other.
        x = F.pad(x, (0, 0, 0, -size[2] % window, 0, -size[1] % window))
        padded = x.shape
        if shift:
            x = x.roll((-shift, -shift), dims=(1, 2))
        x = join_windows(self.attn(split_windows(x, window), wall if shift else None), padded, window)
        if shift:
            x = x.roll((shift, shift), dims=(1, 2))
        return x[:, : size[1], : size[2]]

    def _drop_path(self, x: Tensor) -> Tensor:
        if not self.training or self.drop == 0:
            return x
        keep = torch.rand(x.shape[0], 1, 1, 1, device=x.device) >= self.drop  # one draw an image
        return x * keep.to(x.dtype) / (1 - self.drop)


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with a learnt bias for each relative position."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))

    def bias(self) -> Tensor:
        """The table spread over token pairs, [h, N, N]: entry (a, b) belongs to row and column offsets a - b."""
        side, window = 2 * self.window - 1, self.window
        table = self.bias_table.view(side, side, self.heads)
        # [row a, column a, h, i, j] = table[row a + i, column a + j]; i = M-1 - row b, hence the flip
        near = table.unfold(0, window, 1).unfold(1, window, 1).flip(3, 4)
        return near.permute(2, 0, 1, 3, 4).reshape(self.heads, window**2, window**2)

    def forward(self, x: Tensor, wall: Tensor | None) -> Tensor:
        """Windows [B*K, N, C], region mask [K, N, N] or None -> [B*K, N, C]."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B*K, h, N, C/h]
        mask = self.bias()[None].to(q.dtype)  # [1, h, N, N]
        if wall is not None:
            mask = mask + wall[:, None].to(q.dtype)  # [K, h, N, N]
            mask = mask.expand(x.shape[0] // wall.shape[0], -1, -1, -1, -1).flatten(0, 1)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(x.transpose(1, 2).flatten(2))


def split_windows(x: Tensor, window: int) -> Tensor:
    """[B, Hp, Wp, C] -> [B*K, N, C], windows and their tokens row by row."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window * window, channels)


def join_windows(x: Tensor, size: torch.Size, window: int) -> Tensor:
    """Undo ``split_windows``: [B*K, N, C] -> ``size``, [B, Hp, Wp, C]."""
    batch, height, width, channels = size
    x = x.view(batch, height // window, width // window, window, window, channels)
    return x.transpose(2, 3).reshape(size)


def shift_mask(height: int, width: int, window: int, like: Tensor) -> Tensor:
    """What keeps the regions that a cyclic shift brings into one window apart: [K, N, N] of 0 and -100.

    height, width: the map's size before padding to whole windows. like: gives device and dtype.
    """

    def parts(length: int) -> Tensor:
        length += -length % window
        at = torch.arange(length, device=like.device)
        return (at >= length - window).int() + (at >= length - window // 2).int()

    regions = 3 * parts(height)[:, None] + parts(width)  # [Hp, Wp]
    regions = split_windows(regions[None, :, :, None], window)  # [K, N, 1]
    return -100.0 * (regions != regions.transpose(1, 2)).to(like.dtype)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.bias_table, std=0.02)
