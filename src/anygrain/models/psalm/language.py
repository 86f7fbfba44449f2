"""The language model: Phi-1.5's layers from transformers, and what lets many prompts share the start of a prompt.

Shapes: N sequences, T tokens, P tokens of a shared start (prefix), D width, h heads, d width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from anygrain.models.psalm.config import LanguageConfig


class LanguageModel(nn.Module):
    """Causal transformer over embedded tokens. The output layer has no bias, unlike Phi-1.5's own.

    Raises ImportError when transformers is not installed.
    """

    def __init__(self, config: LanguageConfig):
        super().__init__()
        phi, layer_type = _phi(config)
        self.config = config
        self.checkpointing = False
        """Whether training computes each layer's inner values twice instead of keeping them."""
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(layer_type(phi, number) for number in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Embedded tokens [N, T, D] that follow ``prefix`` -> hidden states [N, T, D] after the last norm.

        Padding belongs to the right, where no other token sees it. prefix: what ``read`` gave, [1, layers, 2, h, P, d].
        """
        return self._run(tokens, _Past(prefix))

    def read(self, tokens: Tensor, prefix: Tensor | None = None) -> Tensor:
        """A start that several prompts share, [B, P, D], as keys and values of each layer [B, layers, 2, h, P, d].

        prefix: of what comes before the tokens; the result goes on with it.
        """
        past = _Past(prefix, keep=True)
        self._run(tokens, past)
        kept = torch.stack(past.kept, 1)
        return kept if prefix is None else torch.cat([prefix, kept], -2)

    def _run(self, x: Tensor, past: _Past) -> Tensor:
        count, start = x.shape[1], past.length
        turn = self._angles(start, count, x)
        allowed = None  # plain causal attention
        if start:
            at = torch.arange(count, device=x.device)[:, None]
            allowed = (torch.arange(start + count, device=x.device) <= at + start)[None, None]  # [1, 1, T, P + T]
        for layer in self.layers:
            if self.checkpointing and self.training:
                x = checkpoint(layer, x, attention_mask=allowed, position_embeddings=turn, use_reentrant=False)
            else:
                x = layer(x, attention_mask=allowed, position_embeddings=turn, past_key_values=past)
        return self.norm(x)

    def _angles(self, start: int, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine [1, T, r] of each position and turning channel, in the model's type."""
        turning = int(self.config.width // self.config.num_heads * self.config.rotary)
        channel = torch.arange(0, turning, 2, dtype=torch.float32, device=like.device)
        position = torch.arange(start, start + count, dtype=torch.float32, device=like.device)
        angle = position[:, None] * (1.0 / self.config.rope_theta ** (channel / turning))
        angle = torch.cat([angle, angle], -1)[None]
        return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


class _Past:
    """What Phi's attention asks for earlier keys and values: those of a prefix, shared by all N sequences.

    Nothing of the new tokens is kept, unless ``keep``, so memory is that of one layer.
    """

    def __init__(self, prefix: Tensor | None, *, keep: bool = False):
        self.prefix, self.keep, self.kept = prefix, keep, []
        self.length = 0 if prefix is None else prefix.shape[-2]

    def update(self, key: Tensor, value: Tensor, layer: int, *_: object) -> tuple[Tensor, Tensor]:
        """Keys and values [N, h, T, d] of a layer's new tokens -> with those of the prefix [N, h, P + T, d]."""
        if self.keep:
            self.kept.append(torch.stack([key, value], 1))
        if self.prefix is None:
            return key, value
        earlier = self.prefix[:, layer].expand(key.shape[0], -1, -1, -1, -1)  # [N, 2, h, P, d]
        return torch.cat([earlier[:, 0], key], 2), torch.cat([earlier[:, 1], value], 2)


def _phi(config: LanguageConfig):
    """Phi's configuration and its layer, from transformers."""
    try:
        from transformers import PhiConfig
        from transformers.models.phi.modeling_phi import PhiDecoderLayer
    except ImportError as error:
        raise ImportError("PSALM needs transformers, which is not installed: pip install 'anygrain[psalm]'") from error
    rope = {"rope_type": "default", "rope_theta": config.rope_theta, "partial_rotary_factor": config.rotary}
    values = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.num_heads,
        "hidden_act": "gelu_new",
        "layer_norm_eps": config.norm_eps,
        "max_position_embeddings": config.context,
        "rope_parameters": rope,
        "attn_implementation": "sdpa",
    }
    return PhiConfig(**values), PhiDecoderLayer
