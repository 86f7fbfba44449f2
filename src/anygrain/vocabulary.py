"""Words that a model was never trained on, read as the nearest name that it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from anygrain import phrases
from anygrain.nouns import looks_plural, plural

# Cosine of two sentences of MiniLM. Of 95 one-word synonyms, each left out of the names, 63 find a name so near, 48 of
# them the right one; between 0.65 and 0.7 it is 8 of 13, below it less than half.
NEAR = 0.65
_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What the texts of a training run said.

    names: every way a category was called, with the name it was called by most ("footway": "sidewalk").
    words: all words of all texts, lower case.
    """

    names: Mapping[str, str]
    words: frozenset[str]

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """From ``vocabulary.json``. Raises ValueError, naming the file."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            names, words = dict(values["names"]), frozenset(values["words"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not a vocabulary ({type(error).__name__}: {error})") from None
        return cls(names=names, words=words)

    def write(self, path: Path) -> None:
        """To ``vocabulary.json``."""
        values = {"names": dict(sorted(self.names.items())), "words": sorted(self.words)}
        path.write_text(json.dumps(values, indent=0) + "\n", encoding="utf-8")


class Reader:
    """Says how a text is read. encode: N texts -> sentence features [N, S] of length 1."""

    def __init__(self, vocabulary: Vocabulary, encode: Callable[[list[str]], Tensor]):
        self.vocabulary, self._encode = vocabulary, encode

    def __call__(self, text: str) -> str:
        """The text, its noun put into a trained name's place when no training text held it and a name is near.

        Only a noun that stands alone or after words of place, size and colour: "the red smartphone on the left", but
        not "garden hose". Nothing is near to most words; they stay as they are.
        """
        phrase = phrases.parse(text)
        if phrase is None or phrase.noun in self.vocabulary.words or not phrases.lone_noun(phrase):
            return text
        likeness = self._features @ self._encode([f"all {phrase.noun}"])[0]  # [names]
        best = int(likeness.argmax())
        if float(likeness[best]) < NEAR:
            return text
        name = self.vocabulary.names[self._ways[best]]
        if looks_plural(phrase.noun):
            name = plural(name) or name
        return text[: phrase.start] + name + text[phrase.end :]

    @cached_property
    def _ways(self) -> list[str]:
        return sorted(self.vocabulary.names)

    @cached_property
    def _features(self) -> Tensor:
        groups = (self._ways[start : start + _AT_ONCE] for start in range(0, len(self._ways), _AT_ONCE))
        return torch.cat([self._encode([f"all {way}" for way in group]) for group in groups])
