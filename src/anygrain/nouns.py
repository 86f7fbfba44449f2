"""English nouns: one, several, and what is not counted."""

from __future__ import annotations

import re

# Irregular plurals, by the last word of a name.
_IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "mouse": "mice",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "knife": "knives",
    "shelf": "shelves",
    "leaf": "leaves",
    "loaf": "loaves",
    "scarf": "scarves",
    "wolf": "wolves",
    "bus": "buses",
    "octopus": "octopuses",
    "passerby": "passersby",
    "sheep": "sheep",
    "fish": "fish",
    "deer": "deer",
    "crayfish": "crayfish",
    "aircraft": "aircraft",
    "broccoli": "broccoli",
    "jamun": "jamun",
}
# Names, by their last word, that are plural already, or that stay as they are for one and for several.
_PLURAL_NAMES = """scissors skis pants jeans stockings socks boots loafers leggings sandals shorts heels sneakers pumps
    tights flats gloves wedges shoes glasses sunglasses goggles binoculars eyes accessories clothes shutters stairs
    slacks spectacles eyeglasses plants flames"""
_PLURAL = frozenset(_PLURAL_NAMES.split())
# Last words of names of stuff and masses: no plural, no "every".
_MASS_NAMES = """sky road grass skin hair vegetation rice fire smoke water street sidewalk pavement asphalt concrete
    dirt gravel mulch sand infrastructure tofu tempeh chicken bread ground snow mud luggage underwear
    reservation housing"""
_MASS = frozenset(_MASS_NAMES.split())


_MANY = frozenset(_IRREGULAR.values()) - frozenset(_IRREGULAR)  # not the sheep, of which one is called the same


def is_plural(name: str) -> bool:
    """Whether a name is plural already: "scissors", "eyes"."""
    return name.split()[-1] in _PLURAL


def may_be_one(noun: str) -> bool:
    """Whether a noun, as somebody may type it, can mean one thing: not "dogs", "people" or "glasses", nor "sky".

    >>> may_be_one("bus"), may_be_one("buses"), may_be_one("sheep"), may_be_one("people"), may_be_one("sky")
    (True, False, True, False, False)
    """
    return noun not in _MASS and not looks_plural(noun)


def looks_plural(noun: str) -> bool:
    """Whether a noun, as somebody may type it, is plural, to judge by its end where it is not known."""
    if noun in _PLURAL or noun in _MANY:
        return True
    return noun.endswith("s") and not noun.endswith(("ss", "us", "is"))


def plural(name: str) -> str | None:
    """The plural of a readable name, or None for stuff and masses, of which there is none (sky, hair, rice).

    >>> plural("person"), plural("bus"), plural("wine glass"), plural("scissors"), plural("sky")
    ('people', 'buses', 'wine glasses', 'scissors', None)
    """
    head, of, rest = name.partition(" of ")
    if of:
        many = plural(head)
        return many and f"{many} of {rest}"
    *front, last = name.split()
    if last in _PLURAL:
        return name
    if last in _MASS:
        return None
    return " ".join([*front, _IRREGULAR.get(last) or _regular(last)])


def singular(noun: str) -> str:
    """The one of which a noun is the plural, as ``plural`` makes it; other nouns as they are.

    >>> singular("wine glasses"), singular("glasses"), singular("people"), singular("bus")
    ('wine glass', 'glasses', 'person', 'bus')
    """
    front, _, last = noun.rpartition(" ")
    if noun in _PLURAL or not (looks_plural(last) or last in _IRREGULAR.values()):
        return noun
    regular = [last[: -len(end)] + one for end, one in (("ies", "y"), ("es", ""), ("s", "")) if last.endswith(end)]
    for one in [*(word for word, many in _IRREGULAR.items() if many == last), *regular]:
        if plural(one) == last:
            return f"{front} {one}".strip()
    return noun


def _regular(word: str) -> str:
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|z|ch|sh)$", word) else "s")
