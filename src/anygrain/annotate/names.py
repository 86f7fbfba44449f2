"""Names: the 1,000 of ImageNet made readable, the everyday word for each, and which word is more general than which."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from anygrain.data.language import readable, synonyms
from anygrain.data.synonyms import SYNONYMS
from anygrain.nouns import singular


@dataclass(frozen=True, kw_only=True)
class ImageNetNames:
    """names: of class 0 to 999, as WordNet has them ("Pembroke"). everyday: the word people use ("dog").

    scenes: pairs of everyday words, and the names worth asking for where one of them is seen.
    poor: words whose classes show only a few kinds of what the word means.
    """

    names: tuple[str, ...]
    everyday: tuple[str, ...]
    scenes: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    poor: frozenset[str]

    @property
    def words(self) -> tuple[str, ...]:
        """Every everyday word once, in order of its first class."""
        return tuple(dict.fromkeys(self.everyday))


@lru_cache(maxsize=1)
def imagenet_names() -> ImageNetNames:
    """From ``imagenet_names.json``, which says where its names come from and how its groups are formed."""
    values = _file()
    names = tuple(values["names"])
    everyday = [readable(name) for name in names]
    for word, classes in values["groups"].items():
        for run in classes.split():
            first, _, last = run.partition("-")
            for number in range(int(first), int(last or first) + 1):
                everyday[number] = word
    scenes = tuple((tuple(scene["words"]), tuple(scene["names"])) for scene in values["scenes"].values())
    return ImageNetNames(names=names, everyday=tuple(everyday), scenes=scenes, poor=frozenset(values["poor"]))


def more_general(name: str) -> Iterator[str]:
    """The more general words for a name, nearest first.

    >>> list(more_general("jeans"))
    ['pants', 'clothing']
    """
    general: Mapping[str, str] = _file()["general"]
    word = plain(name)
    while word in general:
        word = general[word]
        yield word


def plain(name: str) -> str:
    """One word for all ways to say a name: readable, without "all" or "the", synonyms to the name they stand for.

    >>> plain("all the aeroplanes"), plain("the motorcar")
    ('airplane', 'car')
    """
    word = re.sub(r"^(?:all|the|a|an|every|any)\s+", "", re.sub(r"^all\s+", "", readable(name)))
    for way in (word, singular(word)):
        if way in SYNONYMS:
            return way
        if way in _names_of_synonyms():
            return _names_of_synonyms()[way]
    return word if word in _kept_plurals() else singular(word)


def same(name: str, other: str) -> bool:
    """Whether two names say the same: the aeroplane is an airplane."""
    return plain(name) == plain(other)


def compatible(name: str, other: str) -> bool:
    """Whether two names may be said of one mask: the same, or one more general than the other.

    >>> compatible("jeans", "clothing"), compatible("dog", "canine"), compatible("dog", "cat")
    (True, True, False)
    """
    first, second = plain(name), plain(other)
    return first == second or first in more_general(second) or second in more_general(first)


@lru_cache(maxsize=1)
def _file() -> dict:
    return json.loads((Path(__file__).parent / "imagenet_names.json").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _names_of_synonyms() -> dict[str, str]:
    return {way: name for name in SYNONYMS for way in synonyms(name)}


@lru_cache(maxsize=1)
def _kept_plurals() -> frozenset[str]:
    """Names that are plural, or only look so, as our names write them: "boots", "glasses", "bus"."""
    return frozenset(SYNONYMS) | frozenset(imagenet_names().words) | frozenset(_file()["general"])
