"""CLIP's text transformer, the shared text encoder: token ids in, one vector a token and one a sentence out.

Paper: Radford et al., Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020).

Shapes: B sentences, L tokens, C width of the words, E width of the sentence, h heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class CLIPTextConfig:
    """Size of a CLIP text tower; the defaults are CLIP ViT-B/16's."""

    kind: Literal["clip"] = "clip"
    """Names this encoder in a configuration file."""
    vocab_size: int = 49408
    """Number of token ids; the last one ends a sentence."""
    context_length: int = 77
    """Largest number of tokens of a sentence."""
    width: int = 512
    """Channels of a token."""
    heads: int = 8
    """Attention heads."""
    layers: int = 12
    """Blocks."""
    embed_dim: int = 512
    """Channels of the sentence vector."""
    norm_eps: float = 1e-5
    """What the norms add to the variance: 1e-5 in CLIP, 1e-12 in Semantic-SAM."""


class CLIPText(nn.Module):
    """The text tower: pre-norm blocks with causal attention, so padding after the end token changes nothing before it.

    ``width`` and ``sentence_dim`` are the channels of the words and of the sentence.
    """

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.sentence_dim = config.embed_dim
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.projection = nn.Parameter(torch.empty(config.width, config.embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.projection, std=config.width**-0.5)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Encode ids int64 [B, L], the end token having the largest id.

        Returns words [B, L, C], normed but not projected, and sentence [B, E], the projected word at the first end
        token. Raises ValueError when L is more than the context length.
        """
        length = ids.shape[1]
        if length > self.config.context_length:
            raise ValueError(f"a text of {length} tokens does not fit the {self.config.context_length} of this model")
        x = self.token_embedding(ids) + self.positional_embedding[:length]  # [B, L, C]
        for block in self.blocks:
            x = block(x)
        words = self.norm(x)
        end = ids.argmax(dim=1)  # the first, when the end token was also typed
        return words, words[torch.arange(ids.shape[0], device=ids.device), end] @ self.projection


class Block(nn.Module):
    """Pre-norm causal self-attention and MLP."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.fc1 = nn.Linear(config.width, 4 * config.width)
        self.fc2 = nn.Linear(4 * config.width, config.width)
        self._init_weights(config.width, config.layers)

    def _init_weights(self, width: int, layers: int) -> None:
        """CLIP's own start values: the residual branches of a deeper tower begin smaller."""
        nn.init.normal_(self.qkv.weight, std=width**-0.5)
        nn.init.normal_(self.proj.weight, std=(2 * layers * width) ** -0.5)
        nn.init.normal_(self.fc1.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(self.fc2.weight, std=(2 * layers * width) ** -0.5)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, C] -> [B, L, C]."""
        x = x + self._attend(self.norm1(x))
        return x + self.fc2(quick_gelu(self.fc1(self.norm2(x))))

    def _attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, h, L, C/h]
        x = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(x.transpose(1, 2).flatten(2))


def quick_gelu(x: Tensor) -> Tensor:
    """The sigmoid form of GELU that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)
