"""Features of texts that a frozen encoder has already seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


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
