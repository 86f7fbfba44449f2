"""What a text becomes before the decoder reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Tokenizer(Protocol):
    """What turns texts into ids."""

    def __call__(self, texts: Sequence[str], length: int) -> Tensor:
        """N texts -> ids int64 [N, length], 0 = padding."""
        ...

    def cut(self, text: str, length: int) -> str:
        """The tail of a text that does not fit; empty when all of it fits."""
        ...

    def words(self) -> list[str]:
        """Whole words of the vocabulary, of three letters and more."""
        ...


class TextFeatures(NamedTuple):
    """words [N, L, C], real bool [N, L] (False = padding), sentence [N, S]."""

    words: Tensor
    real: Tensor
    sentence: Tensor

    def select(self, rows: slice | Tensor) -> TextFeatures:
        """Some of the prompts, cut to their longest text."""
        words, real, sentence = (t[rows] for t in self)
        length = last_real(real)  # words masked to -inf contribute exact zeros, so slots beyond it can go
        return TextFeatures(words[:, :length], real[:, :length], sentence)

    def mixed(self, most: float, others: TextFeatures) -> TextFeatures:
        """Each prompt moved towards a random one of ``others``, by up to ``most`` of the way to it; for training.

        All its words move alike, by the difference of the two texts' mean words, so that what its words say to each
        other stays. Who answers these as before has margins between meanings, and answers for synonyms too.
        """
        device = self.real.device
        towards = others.select(torch.randint(len(others.real), (len(self.real),)).to(device))
        part = torch.rand(len(self.real), 1).to(self.sentence) * most  # [N, 1]
        words = self.words + (part * (towards.mean_word() - self.mean_word()))[:, None]
        sentence = torch.lerp(self.sentence, towards.sentence, part)
        length = self.sentence.norm(dim=-1, keepdim=True)
        return TextFeatures(words, self.real, F.normalize(sentence, dim=-1) * length)

    def mean_word(self) -> Tensor:
        """Mean of each text's words [N, C]."""
        weights = self.real.to(self.words.dtype)[..., None]
        return (self.words * weights).sum(1) / weights.sum(1)


def last_real(real: Tensor) -> int:
    """How many slots the longest of N texts takes; real bool [N, L]."""
    return int(real.any(0).nonzero().max()) + 1
