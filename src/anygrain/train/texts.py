"""Features of texts by an encoder that stays as it is: remembered ones, and those of words to move texts towards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from anygrain.data.held_out import holds_unseen_word

_COMMON = 12_000  # frequent words of the vocabulary; the rarer ones are names and foreign words


class TextCache:
    """Remembers the features of the last ``limit`` different texts.

    encode: list of texts -> named tuple of tensors, each with a leading dimension of one row a text.
    Each text is encoded alone: its features must not depend on its neighbours, or a resumed run would differ.
    """

    def __init__(self, encode: Callable[[list[str]], Any], limit: int):
        self.encode, self.limit = encode, limit
        self._rows: dict[str, Any] = {}

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Any:
        """Features of N texts, detached, as the encoder gives them."""
        rows = [self._row(text) for text in texts]
        while len(self._rows) > self.limit:
            self._rows.pop(next(iter(self._rows)))
        return type(rows[0])(*(torch.cat(parts) for parts in zip(*rows, strict=True)))

    def _row(self, text: str) -> Any:
        row = self._rows.pop(text, None)
        if row is None:
            row = self.encode([text])
        self._rows[text] = row  # to the end: the least recently used goes first
        return row


@torch.no_grad()
def encode_words(model: Any, count: int = 1024) -> Any:
    """Features of "all {word}" for ``count`` words, spread evenly over the frequent ones of the model's tokenizer.

    Most mean something that no training set shows. None is a word held out of training.
    """
    words = [word for word in model.tokenizer.words() if not holds_unseen_word(word)][:_COMMON]
    chosen = words[:: max(1, len(words) // count)][:count]
    return model.encode_text([f"all {word}" for word in chosen])
