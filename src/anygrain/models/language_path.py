"""The language path of UniLSeg: the sentence becomes a query that looks at the image (paper §3.2).

Shapes: N prompts, C channels, H W map at stride 32, h w map at stride 4.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from anygrain.models.layers import Attention, FeedForward, conv_bn_relu, map_size, sine_2d, to_tokens

if TYPE_CHECKING:
    from anygrain.models.unilseg import UniLSegConfig

_WAVES = 8  # half periods over the picture: the finest bump is an eighth of it wide


class LanguageLayer(nn.Module):
    """One layer of the language path.

    "detr" (released): self-attention of the single query, cross-attention to the image, feed-forward.
    "symmetric" (paper §3.2): cross-attention first gives a content-aware prompt, which then attends to itself and the
    initial prompt.
    """

    def __init__(self, config: UniLSegConfig):
        super().__init__()
        dim = config.query_dim
        self.symmetric = config.language_style == "symmetric"
        self.self_attn = Attention(dim, config.num_heads, config.dropout)
        self.cross_attn = Attention(dim, config.num_heads, config.dropout)
        self.ffn = FeedForward(dim, config.query_ffn_dim, config.dropout)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, z: Tensor, prompt: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """z, prompt [N, 1, C]; keys, values [N, HW, C] -> [N, 1, C]."""
        if self.symmetric:
            z = self.norm1(z + self.dropout(self.cross_attn(z + prompt, keys, values)))
            both = torch.cat([prompt, z], 1)
            z = self.norm2(z + self.dropout(self.self_attn(z, both, both)))
        else:
            # With one token the softmax is 1: queries and keys of the self-attention do not matter.
            alone = self.self_attn.out_proj(self.self_attn.project(z, 2))
            z = self.norm1(z + self.dropout(alone))
            z = self.norm2(z + self.dropout(self.cross_attn(z + prompt, keys, values)))
        return self.norm3(z + self.dropout(self.ffn(z)))


class LanguagePath(nn.Module):
    """The sentence becomes one query that looks at the pre-fused stride-32 map."""

    def __init__(self, visual_dim: int, sentence_dim: int, config: UniLSegConfig):
        super().__init__()
        dim = config.query_dim
        self.text_proj = nn.Sequential(nn.Linear(sentence_dim, dim, bias=False), nn.BatchNorm1d(dim), nn.ReLU())
        self.visual_proj = conv_bn_relu(visual_dim, dim, 3) if config.language_path else None
        # Keys alone say where the query looks; with a location prior it must also carry that place away.
        self.place = _zeros(4 * _WAVES, dim) if config.location_prior and config.language_path else None
        self.layers = nn.ModuleList(LanguageLayer(config) for _ in range(config.query_layers * config.language_path))
        self.norm = nn.LayerNorm(dim)

    def forward(self, fused: Tensor, sentence: Tensor) -> tuple[list[Tensor], Tensor]:
        """fused [N, C4, H, W], sentence [N, S] -> the query after every layer, each [N, C]; the first one [N, C]."""
        prompt = self.text_proj(sentence)[:, None]  # [N, 1, C]
        if self.visual_proj is None:  # Table 8 without the language path: the sentence itself is the query
            return [self.norm(prompt)[:, 0]], prompt[:, 0]
        memory = self.visual_proj(fused)
        values = to_tokens(memory)
        keys = values + sine_2d(memory.shape[1], *map_size(memory), memory.device)
        if self.place is not None:
            values = values + self.place(_places(*map_size(memory), memory.device))
        z, queries = torch.zeros_like(prompt), []
        for layer in self.layers:
            z = layer(z, prompt, keys, values)
            queries.append(self.norm(z)[:, 0])
        return queries, prompt[:, 0]


class LocationPrior(nn.Module):
    """A smooth map that is added to the mask's logits: where in the picture sentence and query expect the thing.

    The pixels' embeddings know little of where they are, so that of several alike things the dot product marks all;
    "the left one" needs somebody to name a place. A sum of waves over rows and of waves over columns.
    """

    def __init__(self, query_dim: int):
        super().__init__()
        self.amplitudes = _zeros(2 * query_dim, 4 * _WAVES)

    def forward(self, query: Tensor, prompt: Tensor, size: tuple[int, int]) -> Tensor:
        """query [N, C], the same before it looked at the image [N, C] -> logits [N, *size]."""
        rows, columns = self.amplitudes(torch.cat([query, prompt], -1)).chunk(2, -1)  # [N, 2 waves] each
        (height, width), device = size, query.device
        down, across = _waves(height, device).to(rows.dtype), _waves(width, device).to(rows.dtype)
        return (rows @ down.T)[:, :, None] + (columns @ across.T)[:, None, :]


def _zeros(inputs: int, outputs: int) -> nn.Linear:
    """A layer that adds nothing at first: weights trained without it go on as they were."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


def _waves(cells: int, device: torch.device) -> Tensor:
    """Cosines and sines of 1.._WAVES half periods at the cells' centres: [cells, 2 _WAVES]."""
    centres = (torch.arange(cells, device=device) + 0.5) / cells
    angles = centres[:, None] * torch.arange(1, _WAVES + 1, device=device) * math.pi
    return torch.cat([angles.cos(), angles.sin()], -1)


def _places(height: int, width: int, device: torch.device) -> Tensor:
    """Waves of each cell's row, then of its column: [height * width, 4 _WAVES]."""
    down = _waves(height, device)[:, None].expand(height, width, 2 * _WAVES)
    across = _waves(width, device)[None].expand(height, width, 2 * _WAVES)
    return torch.cat([down, across], -1).flatten(0, 1)
