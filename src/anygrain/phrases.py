"""The grammar of English phrases, as far as it says what is asked for."""

from __future__ import annotations

import re
from typing import NamedTuple

from anygrain.nouns import may_be_one

# They stand before everything else, and ask for all or for several.
_SEVERAL_WORDS = """all every each any both some several many few everything everyone everybody group pair row crowd
    two three four five six seven eight nine ten dozen"""
_SEVERAL = frozenset(_SEVERAL_WORDS.split())
_ARTICLES = frozenset({"the", "a", "an", "this", "that", "these", "those"})
# The noun stands before them.
_LINK_WORDS = """on in at to from by with without near next beside behind above below under underneath over between
    across around inside outside left right closest nearest furthest farthest lower higher first second third fourth
    fifth sixth last is are was were has have wears holds who that which whose not except"""
_LINKS = frozenset(_LINK_WORDS.split())
# They stand before the noun and single one out.
_POINTING_WORDS = """left right leftmost left-most rightmost right-most top topmost uppermost upper bottom bottommost
    lower lowest highest middle center central centre first second third fourth fifth sixth 2nd 3rd 4th 5th 6th last far
    near nearest closest furthest farthest big bigger biggest large larger largest small smaller smallest little tallest
    shortest taller shorter tall short red orange yellow green blue purple pink brown black white gray grey beige tan
    gold golden silver dark light blond blonde"""
_POINTING = frozenset(_POINTING_WORDS.split())
# Words in -ing that are nouns, or stand before one.
_THING_WORDS = """building railing ceiling clothing painting string ring king wing swing awning sling spring earring
    molding moulding fencing dining crossing parking living wedding flying sewing swimming washing"""
_THINGS = frozenset(_THING_WORDS.split())
# What may well be several things, whatever is said of it.
_VAGUE = frozenset({"object", "thing", "subject", "foreground", "background", "area", "region", "part"})


class Phrase(NamedTuple):
    """Lower-case words of a phrase without those of its beginning ("all of the"), around its noun.

    several: the beginning asks for more than one. before, after: the words on both sides of the noun.
    start, end: where the noun stands in the text.
    """

    several: bool
    before: tuple[str, ...]
    noun: str
    after: tuple[str, ...]
    start: int
    end: int


def parse(text: str) -> Phrase | None:
    """A phrase around its first noun; None when it has no words but those that begin one."""
    found = [(match[0], *match.span()) for match in re.finditer(r"[a-z0-9'-]+", text.lower())]
    several = False
    while found and (found[0][0] in _ARTICLES or found[0][0] in _SEVERAL or found[0][0].isdigit()):
        word = found.pop(0)[0]
        several |= word not in _ARTICLES
        if several and found and found[0][0] == "of":
            del found[0]
    if not found:
        return None
    words = [word for word, _, _ in found]
    at = next((at for at in range(1, len(words)) if _ends_noun(words, at)), len(words)) - 1
    noun, start, end = found[at]
    return Phrase(several, tuple(words[:at]), noun, tuple(words[at + 1 :]), start, end)


def _ends_noun(words: list[str], at: int) -> bool:
    """Whether the noun is the last of the words before this one: "red car | on", but not "second | left car"."""
    word = words[at]
    if word in _LINKS:
        return not _POINTING.issuperset(words[:at])
    return word == "of" or (word.endswith("ing") and word not in _THINGS)


def points_at_one(text: str) -> bool:
    """Whether an English phrase singles out one thing: "the left dog", "person riding a horse"; not "dog", "all dogs".

    A singular noun with words that tell it from others of its name. Stuff ("the sky above the road"), what belongs to
    something ("the door of the car") and several names ("the road and the car") are not said to be one thing.
    """
    phrase = parse(text)
    if phrase is None or phrase.several or {"and", "or"} & set(phrase.before):
        return False
    if phrase.noun in _VAGUE or not may_be_one(phrase.noun):
        return False
    return (bool(phrase.after) and phrase.after[0] != "of") or not _POINTING.isdisjoint(phrase.before)


def lone_noun(phrase: Phrase) -> bool:
    """Whether the noun stands alone or after words of place, size and colour: it is no part of a longer name."""
    return _POINTING.issuperset(phrase.before)
