"""What can be said about a scene: claims, each a set of things and the ways to say it.

A claim's words are made only when it is chosen; making all claims costs a few milliseconds at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from anygrain.data.attributes import NUMBERS, ORDINALS, Attribute, colours, places, sided, sizes
from anygrain.data.colours import colours_of
from anygrain.data.language import synonyms
from anygrain.data.relations import anchors, relations
from anygrain.data.scene import Scene
from anygrain.nouns import is_plural, plural

Say = Callable[[np.random.Generator], str]
RELATED = 3  # things that those of one category are related to


@dataclass(frozen=True, kw_only=True, eq=False)
class Claim:
    """Something that may be said.

    kind: what sort of phrase it is.
    about: numbers of the things that it means; () when it is false.
    say: makes the words.
    """

    kind: str
    about: tuple[int, ...]
    say: Say


def true_claims(scene: Scene, rng: np.random.Generator) -> Iterator[Claim]:
    """The claims that are true of a scene; relations only to a few things, drawn at random."""
    fixed = anchors(scene)
    for name, numbers in scene.counted.items():
        attributes = describe(scene, name, numbers, _some(fixed, RELATED, rng))
        yield from _singles_and_groups(scene, name, numbers, attributes)
        yield from _combinations(scene, name, numbers, attributes)
        yield from _exceptions(scene, name, numbers, attributes)
        yield from _counts(scene, name, numbers)
    yield from _unions(scene)
    yield from _parts(scene)
    yield from _coloured_parts(scene)


def _some(values: list[int], count: int, rng: np.random.Generator) -> list[int]:
    return [values[i] for i in rng.permutation(len(values))[:count]]


def describe(scene: Scene, name: str, numbers: np.ndarray, fixed: list[int]) -> list[Attribute]:
    """Every attribute of the things of a category. fixed: things that others can be related to."""
    found = places(scene, numbers, name) + sizes(scene, numbers, name) + colours(scene, numbers, name)
    for anchor in fixed:
        if scene.things[anchor].category != name:
            found += relations(scene, numbers, name, anchor)
    return found


def noun(name: str, scene: Scene, rng: np.random.Generator) -> str:
    """The name, or rarely another word for it that is no other name of the scene."""
    others = [w for w in synonyms(name) if w not in scene.members and w not in scene.complete]
    return others[rng.integers(len(others))] if others and rng.random() < 0.06 else name


# ---------------------------------------------------------------------------------------------------- one category


def _singles_and_groups(scene: Scene, name: str, numbers: np.ndarray, attributes: list[Attribute]) -> Iterator[Claim]:
    for attribute in attributes:
        if attribute.holders is None:
            continue
        about = numbers[attribute.holders]
        if not scene.pointable[about].all():
            continue
        if len(about) == 1:
            yield Claim(kind=attribute.kind, about=tuple(about), say=_say_one(attribute, name, scene))
        elif len(about) <= 6 and _countable(name):
            yield Claim(kind="group", about=tuple(about), say=_say_some(attribute, name, len(about)))


def _countable(name: str) -> bool:
    return plural(name) is not None and not is_plural(name)


def _say_one(attribute: Attribute, name: str, scene: Scene) -> Say:
    return lambda rng: attribute.say(rng).format(x=noun(name, scene, rng))


def _say_some(attribute: Attribute, name: str, count: int) -> Say:
    return lambda rng: attribute.say(rng, f"{_the(rng)}{NUMBERS[count]} ").format(x=plural(name))


def _the(rng: np.random.Generator) -> str:
    return "the " if rng.random() < 0.75 else ""


def _combinations(scene: Scene, name: str, numbers: np.ndarray, attributes: list[Attribute]) -> Iterator[Claim]:
    """Two attributes together: "the black car on the left". Needs one said before and one said after the noun."""
    firsts = [a for a in attributes if a.kind in ("colour", "size") and not a.superlative and a.yes.any()]
    seconds = [a for a in attributes if a.kind in ("place", "relation") and a.afters and a.yes.any()]
    for first in firsts:
        for second in seconds:
            both = first.yes & second.yes
            if both.sum() != 1 or not (both | first.no | second.no).all():
                continue
            about = numbers[np.flatnonzero(both)]
            if scene.pointable[about].all():
                yield Claim(kind="combined", about=tuple(about), say=_say_both(first, second, name, scene))


def _say_both(first: Attribute, second: Attribute, name: str, scene: Scene) -> Say:
    def say(rng: np.random.Generator) -> str:
        word, after = (words[rng.integers(len(words))] for words in (first.adjectives, second.afters))
        return f"{_the(rng)}{word} {noun(name, scene, rng)} {after}"

    return say


def _exceptions(scene: Scene, name: str, numbers: np.ndarray, attributes: list[Attribute]) -> Iterator[Claim]:
    """All of a category but the one that an attribute singles out."""
    if len(numbers) < 2 or not _countable(name):
        return
    for attribute in attributes:
        if attribute.holders is None or len(attribute.holders) != 1:
            continue
        rest = np.delete(numbers, attribute.holders)
        if scene.pointable[numbers[attribute.holders]].all() and scene.pointable[rest].any():
            yield Claim(kind="except", about=tuple(rest), say=_say_except(attribute, name))


def _say_except(attribute: Attribute, name: str) -> Say:
    starts = (f"all {plural(name)}", f"all the {plural(name)}", f"the {plural(name)}", f"every {name}")

    def say(rng: np.random.Generator) -> str:
        one = "the " + attribute.say(rng, "").format(x="one")
        start = starts[rng.integers(len(starts))]
        link = ("except", "except for", "but", "other than")[rng.integers(4)]
        return f"{start} {link} {one}"

    return say


def _counts(scene: Scene, name: str, numbers: np.ndarray) -> Iterator[Claim]:
    """The exact number of a category: "both dogs", "the three cars"."""
    count = len(numbers)
    if 2 <= count <= 6 and _countable(name) and scene.pointable[numbers].all():
        many = plural(name)
        ways = [f"the {NUMBERS[count]} {many}", f"{NUMBERS[count]} {many}", f"all {NUMBERS[count]} {many}"]
        if count == 2:
            ways[2:] = [f"both {many}", f"both of the {many}", f"both the {many}"]
        yield Claim(kind="count", about=tuple(numbers), say=one_of(ways))


def one_of(ways: list[str]) -> Say:
    """Says one of these at random."""
    return lambda rng: ways[rng.integers(len(ways))]


# ---------------------------------------------------------------------------------------------------- several


def _visible(scene: Scene) -> list[str]:
    """Names of which at least one thing is large and whole enough to be meant."""
    return [name for name, numbers in scene.members.items() if scene.pointable[numbers].any()]


def as_whole(scene: Scene, name: str, rng: np.random.Generator) -> str:
    """All that a category holds, without "all" or "the": plural when there are several, either when that is unknown."""
    numbers, many = scene.members[name], plural(name)
    if many is None or (scene.whole is not None and len(numbers) == 1):
        return name
    if all(scene.things[i].countable for i in numbers):
        return many if len(numbers) > 1 else name
    return many if rng.random() < 0.5 else name


def _unions(scene: Scene) -> Iterator[Claim]:
    """Two or three categories together: "the road and the sidewalk", "all cars and buses"."""
    names = _visible(scene)
    for several in (*combinations(names, 2), *(combinations(names, 3) if len(names) <= 6 else ())):
        about = tuple(int(i) for name in several for i in scene.members[name])
        yield Claim(kind="union", about=about, say=_say_union(scene, several))


def _say_union(scene: Scene, several: tuple[str, ...]) -> Say:
    def say(rng: np.random.Generator) -> str:
        order = [several[i] for i in rng.permutation(len(several))]
        words = [as_whole(scene, name, rng) for name in order]
        style = rng.integers(4)
        if style == 0:
            words = [f"the {word}" for word in words]
        text = ", ".join(words[:-1]) + " and " + words[-1]
        if style == 1 and all(word == plural(name) for name, word in zip(order, words, strict=True)):
            return f"all {text}"
        return f"the {text}" if style == 2 else text

    return say


def _parts(scene: Scene) -> Iterator[Claim]:
    """Parts of the whole that the scene is about: "the wheels of the car", "the person's hair"."""
    if scene.whole is not None:
        ways = (f"the {{x}} of the {scene.whole}", f"the {scene.whole}'s {{x}}", f"{{x}} of the {scene.whole}")
        for name in _visible(scene):
            yield Claim(kind="part", about=tuple(scene.members[name]), say=_say_whole(scene, name, ways))


def _say_whole(scene: Scene, name: str, ways: tuple[str, ...]) -> Say:
    return lambda rng: ways[rng.integers(len(ways))].format(x=as_whole(scene, name, rng))


def _coloured_parts(scene: Scene) -> Iterator[Claim]:
    """What a person wears, by its colour, where all that is seen of it is one region: "the red dress"."""
    for name in _visible(scene) if scene.whole is not None else ():
        numbers = scene.members[name]
        if len(numbers) == 1 and name not in scene.counted and scene.pointable[numbers].all():
            for attribute in colours(scene, numbers, name):
                if attribute.yes.all():
                    yield Claim(kind="colour", about=tuple(numbers), say=_say_one(attribute, name, scene))


# ---------------------------------------------------------------------------------------------------- false


def false_claims(scene: Scene, rng: np.random.Generator) -> Iterator[Claim]:
    """Claims that nothing in the scene fits; relations only to a few things, drawn at random."""
    fixed = anchors(scene)
    for name, numbers in scene.counted.items():
        for attribute in describe(scene, name, numbers, _some(fixed, RELATED, rng)):
            if attribute.false and (attribute.adjectives or attribute.afters):
                kind = f"wrong {attribute.kind}"
                yield Claim(kind=kind, about=(), say=_say_one(attribute, name, scene))
        if not sided(name) and (scene.whole is None or len(numbers) > 1):
            yield from _wrong_counts(name, len(numbers))
        if scene.pointable[numbers].all() and not is_plural(name):
            for other in scene.absent:
                yield Claim(kind="absent anchor", about=(), say=_say_absent_anchor(name, other))
    for name in scene.absent:
        yield Claim(kind="absent thing", about=(), say=_say_absent_thing(name, scene, fixed))


def _wrong_counts(name: str, count: int) -> Iterator[Claim]:
    """An ordinal beyond the number there are, or clearly too many."""
    if count > 3 or not _countable(name):
        return
    for rank in range(count + 1, 6):
        word = ORDINALS[rank][0]
        ends = [(the, side) for the in ("the ", "") for side in ("left", "right")]
        ways = [f"{the}{word} {name} from the {side}" for the, side in ends]
        ways += [f"{the}{name} {word} from the {side}" for the, side in ends]
        yield Claim(kind="wrong count", about=(), say=one_of(ways))
    if count == 1:
        yield Claim(kind="wrong count", about=(), say=one_of([f"the {NUMBERS[k]} {plural(name)}" for k in (3, 4, 5)]))


_LINKS = ("next to", "beside", "near", "to the left of", "to the right of", "behind", "in front of", "above", "below")


def _say_absent_anchor(name: str, other: str) -> Say:
    def say(rng: np.random.Generator) -> str:
        return f"{_the(rng)}{name} {_LINKS[rng.integers(len(_LINKS))]} the {other}"

    return say


def _say_absent_thing(name: str, scene: Scene, fixed: list[int]) -> Say:
    def say(rng: np.random.Generator) -> str:
        nouns = [name, *synonyms(name)] if rng.random() < 0.06 else [name]
        word = nouns[rng.integers(len(nouns))]
        after = ("on the left", "on the right", "in the middle", "at the top", "at the bottom", "in the background")
        ways = [f"{word} {a}" for a in after if not sided(name)] or [f"{word} at the bottom"]
        ways += [f"{colour} {word}" for colour in sorted(colours_of(name))][:6]
        if plural(name) is not None and not is_plural(name):
            ways += [f"{adjective} {word}" for adjective in ("biggest", "largest", "smallest", "small", "big")]
            ways += [f"{NUMBERS[k]} {plural(word)}" for k in (2, 3, 4)]
        ways += [
            f"{word} {_LINKS[rng.integers(len(_LINKS))]} the {scene.things[anchor].category}" for anchor in fixed[:6]
        ]
        return _the(rng) + ways[rng.integers(len(ways))]

    return say
