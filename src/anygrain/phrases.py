"""What a phrase asks for, by its grammar: one thing among others, or all there is."""

from __future__ import annotations

import re

from anygrain.nouns import may_be_one

_ARTICLES = frozenset({"the", "a", "an", "this", "that"})
# A phrase that begins with one of these, after its article, asks for all or for several.
_SEVERAL_WORDS = """all every each any both some several many few everything everyone everybody group pair row crowd
    two three four five six seven eight nine ten dozen"""
_SEVERAL = frozenset(_SEVERAL_WORDS.split())
# The noun stands before them.
_LINK_WORDS = """on in at to from by with without near next beside behind above below under underneath over between
    across around inside outside left right closest nearest furthest farthest lower higher first second third fourth
    fifth sixth last is was has wears holds who that which whose not"""
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


def points_at_one(text: str) -> bool:
    """Whether an English phrase singles out one thing: "the left dog", "person riding a horse"; not "dog", "all dogs".

    A singular noun with words that tell it from others of its name. Stuff ("the sky above the road"), what belongs to
    something ("the door of the car") and several names ("the road and the car") are not said to be one thing.
    """
    words = re.findall(r"[a-z0-9'-]+", text.lower())
    if words and words[0] in _ARTICLES:
        words = words[1:]
    if not words or words[0] in _SEVERAL or words[0].isdigit():
        return False
    end = next((at for at in range(1, len(words)) if _ends_noun(words, at)), len(words))
    before, noun, after = words[: end - 1], words[end - 1], words[end:]
    if {"and", "or"} & set(before) or noun in _VAGUE or not may_be_one(noun):
        return False
    return (bool(after) and after[0] != "of") or not _POINTING.isdisjoint(before)


def _ends_noun(words: list[str], at: int) -> bool:
    """Whether the noun is the last of the words before this one: "red car | on", but not "second | left car"."""
    word = words[at]
    if word in _LINKS:
        return not _POINTING.issuperset(words[:at])
    return word == "of" or (word.endswith("ing") and word not in _THINGS)
