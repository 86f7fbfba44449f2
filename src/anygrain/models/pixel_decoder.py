"""Deformable pixel decoder: the pyramid of an image encoder in, one map of pixel embeddings and refined levels out.

Papers: Zhu et al., Deformable DETR (arXiv 2010.04159, eq. 3 for the attention over levels); Cheng et al., Mask2Former
(arXiv 2112.01527, §3.2.1) and Li et al., Mask DINO (arXiv 2206.02777) for its use as a pixel decoder. Semantic-SAM has
four levels from fine to coarse, the last made of res5; PSALM has Mask2Former's three from coarse to fine.

Shapes: B images, Q queries, S places of all levels together, L levels, P points, h heads, C channels, D = C / h.
Levels of an image encoder are res2..res5, of stride 4, 8, 16, 32.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from anygrain.models.layers import FeedForward, map_size, resize_map, sine_2d, to_map, to_tokens
from anygrain.types import Size

_GROUPS = 32  # of every GroupNorm, in both official codes
_PLACES_AT_ONCE = 2**18  # places (heads x levels x points of some queries) that are looked up together in inference


@dataclass(frozen=True, kw_only=True)
class PixelDecoderConfig:
    """Size of a pixel decoder; the defaults are Semantic-SAM's.

    hidden_dim: channels of every level; a multiple of 32.
    mask_dim: channels of the pixel embeddings.
    num_layers, num_heads, num_points, ffn_dim: the deformable encoder.
    extra_level: also a level of stride 64, made of res5 by a convolution.
    order: in which the levels stand: "fine_to_coarse" (Semantic-SAM) or "coarse_to_fine" (PSALM, Mask2Former).
    top_down_bias: whether the two convolutions that join stride 4 have biases (PSALM's have).
    lateral_relu: whether ReLU follows the first of them too (in PSALM it does).
    """

    hidden_dim: int = 256
    mask_dim: int = 256
    num_layers: int = 6
    num_heads: int = 8
    num_points: int = 4
    ffn_dim: int = 2048
    extra_level: bool = True
    order: Literal["fine_to_coarse", "coarse_to_fine"] = "fine_to_coarse"
    top_down_bias: bool = False
    lateral_relu: bool = False

    @property
    def num_levels(self) -> int:
        """Levels of the deformable encoder."""
        return 4 if self.extra_level else 3

    @classmethod
    def psalm(cls) -> PixelDecoderConfig:
        """PSALM's form (official ``pixel_decoder``): res5, res4, res3, feed-forward of 1024."""
        return cls(ffn_dim=1024, extra_level=False, order="coarse_to_fine", top_down_bias=True, lateral_relu=True)


class PixelFeatures(NamedTuple):
    """mask_features [B, mask_dim, H, W] at stride 4; levels: maps [B, C, H_l, W_l] in the config's order."""

    mask_features: Tensor
    levels: tuple[Tensor, ...]


class PixelDecoder(nn.Module):
    """The decoder. ``channels`` are those of res2..res5."""

    def __init__(self, config: PixelDecoderConfig, channels: Sequence[int]):
        super().__init__()
        if config.hidden_dim % _GROUPS:
            raise ValueError(f"hidden_dim must be a multiple of {_GROUPS}, got {config.hidden_dim}")
        self.config = config
        dim = config.hidden_dim
        inputs = [_conv_norm(width, dim, 1) for width in channels[1:]]
        if config.extra_level:
            inputs.append(_conv_norm(channels[3], dim, 3, stride=2))
        self.input_proj = nn.ModuleList(inputs if config.order == "fine_to_coarse" else inputs[::-1])
        self.level_embed = nn.Parameter(torch.empty(config.num_levels, dim))
        self.layers = nn.ModuleList(PixelDecoderLayer(config) for _ in range(config.num_layers))
        self.lateral = _conv_norm(channels[0], dim, 1, bias=config.top_down_bias)
        self.output = _conv_norm(dim, dim, 3, bias=config.top_down_bias)
        self.mask_features = nn.Conv2d(dim, config.mask_dim, 1)
        nn.init.normal_(self.level_embed)

    def forward(self, pyramid: Sequence[Tensor]) -> PixelFeatures:
        """Four maps [B, C_k, H_k, W_k], res2 first -> pixel embeddings and refined levels."""
        sources = [*pyramid[1:], *([pyramid[3]] if self.config.extra_level else [])]
        if self.config.order == "coarse_to_fine":
            sources = sources[::-1]
        maps = [project(source) for project, source in zip(self.input_proj, sources, strict=True)]
        sizes = [map_size(level) for level in maps]
        tokens = torch.cat([to_tokens(level) for level in maps], 1)  # [B, S, C]
        positions = self._positions(sizes, tokens.device)
        reference = reference_points(sizes, tokens.device)
        for layer in self.layers:
            tokens = layer(tokens, positions, reference, sizes)
        parts = tokens.split([height * width for height, width in sizes], 1)
        levels = tuple(to_map(part, size) for part, size in zip(parts, sizes, strict=True))
        finest = levels[0] if self.config.order == "fine_to_coarse" else levels[-1]
        lateral = self.lateral(pyramid[0])
        if self.config.lateral_relu:
            lateral = F.relu(lateral)
        joined = F.relu(self.output(lateral + resize_map(finest, map_size(lateral))))
        return PixelFeatures(self.mask_features(joined), levels)

    def _positions(self, sizes: Sequence[Size], device: torch.device) -> Tensor:
        """[S, C]: sine tables that count rows and columns from 1, and each level's own vector."""
        tables = [sine_2d(self.config.hidden_dim, height, width, device, first=1.0) for height, width in sizes]
        return torch.cat([table + own for table, own in zip(tables, self.level_embed, strict=True)])


class PixelDecoderLayer(nn.Module):
    """Post-norm deformable self-attention over all levels, and feed-forward."""

    def __init__(self, config: PixelDecoderConfig):
        super().__init__()
        self.self_attn = DeformableAttention(config.hidden_dim, config.num_heads, config.num_levels, config.num_points)
        self.norm1 = nn.LayerNorm(config.hidden_dim)
        self.ffn = FeedForward(config.hidden_dim, config.ffn_dim)
        self.norm2 = nn.LayerNorm(config.hidden_dim)

    def forward(self, tokens: Tensor, positions: Tensor, reference: Tensor, sizes: Sequence[Size]) -> Tensor:
        """tokens [B, S, C], positions [S, C], reference [1, S, 2] -> [B, S, C]."""
        value = self.self_attn.project_value(tokens)  # the position is not part of it
        tokens = self.norm1(tokens + self.self_attn(tokens + positions, reference, value, sizes))
        return self.norm2(tokens + self.ffn(tokens))


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention: each query and head looks at P learnt places of each level.

    The four cells around every place are gathered and summed in one go (``embedding_bag``) from the projected values as
    they lie in memory: on a CPU a fifth of the time of ``grid_sample`` on each level, and the same numbers.
    """

    def __init__(self, channels: int, num_heads: int, num_levels: int, num_points: int):
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels cannot be split into {num_heads} heads")
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        places = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(channels, 2 * places)
        self.attention_weights = nn.Linear(channels, places)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self._init_weights()

    def _init_weights(self) -> None:
        """Deformable DETR's start: head i looks along direction i, point k at k cells; equal weights."""
        if self.sampling_offsets.weight.is_meta:
            return
        angle = torch.arange(self.num_heads) * (2 * torch.pi / self.num_heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)  # [h, 2]
        steps = torch.arange(1, self.num_points + 1)[:, None]
        offsets = (direction[:, None, None] * steps).expand(-1, self.num_levels, -1, -1)  # [h, L, P, 2]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.xavier_uniform_(self.value_proj.weight)
        nn.init.xavier_uniform_(self.output_proj.weight)
        for linear in (self.attention_weights, self.value_proj, self.output_proj):
            nn.init.zeros_(linear.bias)

    def project_value(self, tokens: Tensor) -> Tensor:
        """Memory tokens [B, S, C] -> what is looked up in it [B, S, C]; independent of the queries."""
        return self.value_proj(tokens)

    def forward(
        self,
        queries: Tensor,
        reference: Tensor,
        value: Tensor,
        sizes: Sequence[Size],
        image_index: Tensor | None = None,
    ) -> Tensor:
        """Look up queries [N, Q, C] in projected values [B, S, C] -> [N, Q, C].

        reference: points (x, y) [*, Q, 2], offsets counting cells of each level, or boxes (cx, cy, w, h) [*, Q, 4],
            offsets counting half boxes over the number of points; normalised to 0..1; * is N or 1.
        sizes: (H, W) of each level, in the order of the values.
        image_index: int64 [N], the image of each row of queries; None when rows and images are the same.
        """
        if self.training or torch.is_grad_enabled():
            out = self._look_up(queries, reference, value, sizes, image_index)
        else:
            rows = max(1, _PLACES_AT_ONCE // (queries.shape[0] * self.attention_weights.out_features))
            parts = zip(queries.split(rows, 1), reference.split(rows, 1), strict=True)
            out = [self._look_up(q, r, value, sizes, image_index) for q, r in parts]
            out = out[0] if len(out) == 1 else torch.cat(out, 1)
        return self.output_proj(out)

    def _look_up(
        self, queries: Tensor, reference: Tensor, value: Tensor, sizes: Sequence[Size], image_index: Tensor | None
    ) -> Tensor:
        shape = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(queries).float().unflatten(-1, (*shape, 2))  # [N, Q, h, L, P, 2]
        weights = self.attention_weights(queries).float().unflatten(-1, (self.num_heads, -1)).softmax(-1)
        weights = weights.unflatten(-1, shape[1:])  # [N, Q, h, L, P]
        extent = torch.tensor([[width, height] for height, width in sizes], dtype=torch.float32, device=value.device)
        reference = reference[:, :, None, None, None]  # [*, Q, 1, 1, 1, 2 or 4]
        if reference.shape[-1] == 2:
            places = reference * extent[:, None] + offsets
        else:
            places = (reference[..., :2] + offsets * (reference[..., 2:] * (0.5 / self.num_points))) * extent[:, None]
        return gather(value, places, weights, sizes, image_index)


def gather(
    value: Tensor, places: Tensor, weights: Tensor, sizes: Sequence[Size], image_index: Tensor | None = None
) -> Tensor:
    """Sum of bilinear samples: value [B, S, h*D], places [N, Q, h, L, P, 2], weights [N, Q, h, L, P] -> [N, Q, h*D].

    places: (x, y) in cells of each level, the first cell's centre at 0.5; zeros outside, as ``grid_sample`` with
    ``align_corners=False`` and padding "zeros" has it. Differentiable in value, places and weights.
    """
    batch, total, channels = value.shape
    count, queries, heads = places.shape[:3]
    device = value.device
    width = torch.tensor([w for _, w in sizes], dtype=torch.float32, device=device)[:, None]  # [L, 1]
    height = torch.tensor([h for h, _ in sizes], dtype=torch.float32, device=device)[:, None]
    areas = [0, *(h * w for h, w in sizes)]
    start = torch.tensor(areas[:-1], device=device).cumsum(0).to(torch.int32)[:, None, None]  # [L, 1, 1]
    x, y = (places - 0.5).unbind(-1)  # [N, Q, h, L, P]
    left, top = x.detach().floor(), y.detach().floor()
    right, low = x - left, y - top  # how far towards the next cell, 0..1
    x_weights = ((1 - right) * _inside(left, width), right * _inside(left + 1, width))
    y_weights = ((1 - low) * weights * _inside(top, height), low * weights * _inside(top + 1, height))
    columns = (_clamped(left, width), _clamped(left + 1, width))
    rows = (_clamped(top, height) * width, _clamped(top + 1, height) * width)
    cells = torch.stack([row + column for row in rows for column in columns], -1).to(torch.int32)  # [N, Q, h, L, P, 4]
    shares = torch.stack([a * b for a in y_weights for b in x_weights], -1)
    if image_index is None:
        image_index = torch.arange(count, device=device) if batch > 1 else torch.zeros(count, device=device)
    head = torch.arange(heads, dtype=torch.int32, device=device)[:, None, None, None]
    image = (image_index * total).to(torch.int32)[:, None, None, None, None, None]
    cells = (cells + start + image) * heads + head  # rows of the values seen as [B*S*h, D]
    rows_of_value = value.float().reshape(batch * total * heads, -1)
    cells, shares = cells.view(count * queries * heads, -1), shares.view(count * queries * heads, -1)
    add_up = _WeightedRows.apply if value.device.type == "cpu" else _sum
    found = add_up(rows_of_value, cells, shares)
    return found.view(count, queries, channels)


def _sum(rows: Tensor, index: Tensor, shares: Tensor) -> Tensor:
    """Weighted sums of rows [R, D]: index int32 [n, K], shares [n, K] -> [n, D]."""
    return F.embedding_bag(index, rows, mode="sum", per_sample_weights=shares)


class _WeightedRows(torch.autograd.Function):
    """``_sum`` on a CPU with both gradients as products with one sparse matrix [n, R]: an eighth of the time of the
    library's own backward, which sorts the index."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, shares: Tensor) -> Tensor:
        ctx.save_for_backward(rows, index, shares)
        return _sum(rows, index, shares)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        from scipy.sparse import csr_array

        rows, index, shares = ctx.saved_tensors
        bags, per_bag = index.shape
        starts = torch.arange(0, index.numel() + 1, per_bag, dtype=torch.int32)
        grad_rows = grad_shares = None
        if ctx.needs_input_grad[0]:
            parts = (shares.numpy().ravel(), index.numpy().ravel(), starts.numpy())
            grad_rows = torch.from_numpy(csr_array(parts, shape=(bags, len(rows))).T @ grad.numpy())
        if ctx.needs_input_grad[2]:
            size = (bags, len(rows))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Sparse")  # "CSR is beta": of no use to who trains a model
                zeros = torch.zeros(index.numel())
                pattern = torch.sparse_csr_tensor(starts, index.view(-1), zeros, size, check_invariants=False)
            products = torch.sparse.sampled_addmm(pattern, grad.contiguous(), rows.t(), beta=0.0)
            grad_shares = products.values().view_as(shares)
        return grad_rows, None, grad_shares


def _inside(cell: Tensor, count: Tensor) -> Tensor:
    return ((cell >= 0) & (cell < count)).to(cell.dtype)


def _clamped(cell: Tensor, count: Tensor) -> Tensor:
    return torch.fmin(torch.fmax(cell, torch.zeros_like(count)), count - 1)  # also of a number that is none


def reference_points(sizes: Sequence[Size], device: torch.device) -> Tensor:
    """Centres (x, y) of all cells of all levels, normalised to 0..1: [1, S, 2]."""
    centres = []
    for height, width in sizes:
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1)
        centres.append(grid.flatten(0, 1))
    return torch.cat(centres)[None]


def _conv_norm(in_channels: int, out_channels: int, kernel: int, stride: int = 1, bias: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=bias)
    return nn.Sequential(conv, nn.GroupNorm(_GROUPS, out_channels))
