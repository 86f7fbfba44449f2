"""Masked query decoder: queries look, layer by layer, at the part of the picture that they took for theirs so far.

Paper: Cheng et al., Masked-attention Mask Transformer for Universal Image Segmentation (arXiv 2112.01527), §3.2. What
a query is called (a category, a phrase, a region) is not decided here: the caller has heads for it.

Shapes: N question rows, B pictures (one for all rows, or one a row), Q queries, C channels, h w size of a memory map,
H W size of the mask features (stride 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anygrain.models.layers import Attention, FeedForward, map_size, resize_map, sine_2d, to_tokens


@dataclass(frozen=True, kw_only=True)
class MaskDecoderConfig:
    """Sizes of the decoder; the defaults are Mask2Former's for COCO with a Swin-B.

    hidden_dim: width of queries and memory maps. num_queries: queries, hence masks. num_heads: attention heads.
    ffn_dim: hidden width of the feed-forward. layers: decoder layers; layer i looks at memory map i mod 3.
    mask_dim: width of the mask features.
    """

    hidden_dim: int = 256
    num_queries: int = 100
    num_heads: int = 8
    ffn_dim: int = 2048
    layers: int = 9
    mask_dim: int = 256


class Decoded(NamedTuple):
    """What one level of the decoder says: queries [N, Q, C] after the decoder's norm, mask_logits [N, Q, H, W]."""

    queries: Tensor
    mask_logits: Tensor


class Memory(NamedTuple):
    """What the decoder takes from a picture, whatever it is asked: of each layer keys and values [B, heads, hw, d], and
    mask features [B, C, h, w] at the size of each map."""

    keys: list[Tensor]
    values: list[Tensor]
    small: list[Tensor]


class MLP(nn.Module):
    """Linear layers with ReLU between."""

    def __init__(self, *widths: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """[..., widths[0]] -> [..., widths[-1]]."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class DecoderLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward, each followed by its norm (paper fig. 2, right)."""

    def __init__(self, config: MaskDecoderConfig):
        super().__init__()
        width = config.hidden_dim
        self.cross_attn = Attention(width, config.num_heads)
        self.self_attn = Attention(width, config.num_heads)
        self.ffn = FeedForward(width, config.ffn_dim)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, queries: Tensor, place: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
        """queries [N, Q, C], their positions [Q, C], a memory's keys and values, allowed bool [N, Q, hw]."""
        x = self.norm1(queries + self.cross_attn.attend(queries + place, keys, values, allowed))
        x = self.norm2(x + self.self_attn(x + place, x + place, x))
        return self.norm3(x + self.ffn(x))


class MaskedQueryDecoder(nn.Module):
    """Queries and the pixel decoder's maps in, queries and masks out."""

    def __init__(self, config: MaskDecoderConfig):
        super().__init__()
        self.config = config
        width = config.hidden_dim
        self.query_embed = nn.Parameter(torch.empty(config.num_queries, width))  # the queries' positions
        self.level_embed = nn.Parameter(torch.empty(3, width))
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.mask_embed = MLP(width, width, width, config.mask_dim)
        nn.init.normal_(self.query_embed)
        nn.init.normal_(self.level_embed)

    def remember(self, maps: Sequence[Tensor], mask_features: Tensor) -> Memory:
        """Three maps [B, C, h, w] from coarse to fine, mask_features [B, C, H, W] -> what all questions share."""
        tokens, places, small = [], [], []
        for i, level in enumerate(maps):
            size = map_size(level)
            tokens.append(to_tokens(level) + self.level_embed[i])  # [B, hw, C]
            position = sine_2d(self.config.hidden_dim, *size, level.device, first=1.0).to(level)
            places.append(tokens[i] + position)
            small.append(resize_map(mask_features, size))
        layers = cast("list[DecoderLayer]", list(self.layers))
        known = [layer.cross_attn.remember(places[n % 3], tokens[n % 3]) for n, layer in enumerate(layers)]
        return Memory([keys for keys, _ in known], [values for _, values in known], small)

    def forward(
        self, queries: Tensor, memory: Memory, mask_features: Tensor, *, every_level: bool = False
    ) -> list[Decoded]:
        """queries [N, Q, C], what ``remember`` made of maps and mask_features, mask_features [B, C, H, W] -> levels.

        B is 1 or N. every_level: False gives the answer after the last layer only, and looks at shrunk mask features
        on the way, which gives the same masks for attention at a fraction of the cost (both steps are linear); True
        gives an answer before the first and after each layer, for a loss on all of them.
        """
        levels = []
        for number, layer in enumerate(self.layers):
            small = memory.small[number % 3]
            if every_level:
                levels.append(self.predict(queries, mask_features))
                logits = resize_map(levels[-1].mask_logits.detach(), map_size(small))
            else:
                logits = self.predict(queries, small).mask_logits
            queries = layer(queries, self.query_embed, memory.keys[number], memory.values[number], looked_at(logits))
        return [*levels, self.predict(queries, mask_features)]

    def predict(self, queries: Tensor, mask_features: Tensor) -> Decoded:
        """The masks of queries [N, Q, C] on features [B, C, H, W], whatever their size."""
        queries = self.norm(queries)
        embedding = self.mask_embed(queries)  # [N, Q, C]
        logits = embedding @ mask_features.flatten(2)  # [N, Q, HW]
        return Decoded(queries, logits.unflatten(2, map_size(mask_features)))


def looked_at(mask_logits: Tensor) -> Tensor:
    """[N, Q, h, w] -> bool [N, Q, hw]: where each query may look; everywhere when its mask is empty (paper eq. 2)."""
    inside = mask_logits.flatten(2) >= 0
    return inside | ~inside.any(-1, keepdim=True)
