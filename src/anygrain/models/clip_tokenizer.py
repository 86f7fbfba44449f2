"""CLIP's byte-pair tokenizer: sentences in, rows of token ids out.

``bpe_simple_vocab_16e6.txt.gz`` beside this file is OpenAI CLIP's list of merges, in order of rank (MIT licence).
"""

from __future__ import annotations

import gzip
import html
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import ftfy
import regex
import torch

MERGES_FILE = Path(__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
MERGES = 48894  # the file goes on; CLIP's vocabulary ends here
START, END = "<|startoftext|>", "<|endoftext|>"
# The special tokens, English endings, a word, one digit, a run of anything else but space.
PIECES = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


class ClipTokenizer:
    """Texts to ids, exactly as CLIP does; ``START`` and ``END`` enclose a text, id 0 fills the row.

    Id 0 is also the token of a ``!`` inside a run of punctuation, so a row may hold zeros before its end.
    """

    def __init__(self) -> None:
        lines = gzip.decompress(MERGES_FILE.read_bytes()).decode("utf-8").split("\n", MERGES + 1)
        merges = [tuple(line.split()) for line in lines[1 : MERGES + 1]]  # line 0 is a header
        self._byte_chars = _byte_chars()
        chars = list(self._byte_chars.values())  # not in the order of the bytes: "!" comes first and is id 0
        tokens = [*chars, *(char + "</w>" for char in chars), *("".join(pair) for pair in merges), START, END]
        self._tokens = tokens
        self._ids = {token: i for i, token in enumerate(tokens)}
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._encode_piece = lru_cache(maxsize=65536)(self._merge)

    def __reduce__(self) -> tuple[type[ClipTokenizer], tuple[()]]:
        return ClipTokenizer, ()  # the cache cannot be pickled, and there is nothing else to remember

    def __call__(self, texts: Sequence[str], length: int = 17) -> torch.Tensor:
        """Encode N texts as ids int64 [N, length]; a longer text loses its tail (see ``cut``), a shorter gets zeros."""
        ids = torch.zeros(len(texts), length, dtype=torch.int64)
        for row, text in zip(ids, texts, strict=True):
            kept = [self._ids[START], *self.encode(text)[: length - 2], self._ids[END]]
            row[: len(kept)] = torch.tensor(kept)
        return ids

    def cut(self, text: str, length: int = 17) -> str:
        """The tail of ``text`` that does not fit into ``length`` ids, as cleaned text; empty when all of it fits."""
        return self.decode(self.encode(text)[length - 2 :])

    def words(self) -> list[str]:
        """Whole words of the vocabulary, of three letters and more, in the order of their merges."""
        whole = (token.removesuffix("</w>") for token in self._tokens if token.endswith("</w>"))
        return [word for word in whole if word.isascii() and word.isalpha() and len(word) > 2]

    def encode(self, text: str) -> list[int]:
        """All ids of a text, without start and end."""
        return [i for piece in PIECES.findall(clean(text)) for i in self._encode_piece(piece)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, words separated by one space; halves of a character show as the replacement character."""
        chars = "".join(self._tokens[i] for i in ids).replace("</w>", " ")
        byte_of = {char: byte for byte, char in self._byte_chars.items()} | {" ": ord(" ")}
        return bytes(byte_of[char] for char in chars).decode("utf-8", errors="replace").strip()

    def _merge(self, piece: str) -> tuple[int, ...]:
        """Ids of one piece: join the pair of lowest rank, wherever it occurs, until no pair is in the list."""
        if piece in (START, END):
            return (self._ids[piece],)
        parts = [self._byte_chars[byte] for byte in piece.encode("utf-8")]
        parts[-1] += "</w>"
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: self._ranks.get(pair, math.inf))
            if best not in self._ranks:
                break
            parts = _join(parts, best)
        return tuple(self._ids[part] for part in parts)


def clean(text: str) -> str:
    """Repair broken Unicode, undo HTML escapes (twice), collapse white space, lower the case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return regex.sub(r"\s+", " ", text.strip()).strip().lower()


def _join(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """Join every occurrence of ``pair``, from left to right."""
    joined: list[str] = []
    i = 0
    while i < len(parts):
        step = 2 if tuple(parts[i : i + 2]) == pair else 1
        joined.append("".join(parts[i : i + step]))
        i += step
    return joined


def _byte_chars() -> dict[int, str]:
    """A visible character for each byte: itself where it is printable, then for the others code points from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(rest)}
