"""Three-valued attributes of the things of one category: who clearly has it, who clearly has not.

A phrase singles a thing out only when it clearly has the attribute and every other thing of its category clearly has
not; whatever lies between makes the phrase unsayable. n: things of the category. Distances are in parts of the view.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from anygrain.data.colours import COLOURS, DOMINANT, colours_of, shares
from anygrain.data.scene import Scene

ORDINALS = {2: ("second", "2nd"), 3: ("third", "3rd"), 4: ("fourth", "4th"), 5: ("fifth", "5th"), 6: ("sixth", "6th")}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# Of these the taller of two is the taller one, near or far, sitting or standing.
_UPRIGHT = frozenset({"bottle", "building", "giraffe", "pole", "potted plant", "tree", "vase", "wine glass"})
VISIBLE = 0.004  # part of the view below which a thing is not big, and its colour hard to tell


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribute:
    """One attribute of the things of a category.

    kind: "place", "size", "colour" or "relation".
    yes, no: bool [n], who clearly has it, who clearly has not; False in both: unclear.
    never: bool [n], who is so far from it that the attribute would be called false. Defaults to nobody.
    superlative: it compares the things with each other, as "the smallest" does.
    adjectives, afters, forms: how it is said: "the {adjective} car", "the car {after}", and whole forms with "{x}".
    """

    kind: str
    yes: np.ndarray
    no: np.ndarray
    never: np.ndarray | None = None
    superlative: bool = False
    adjectives: tuple[str, ...] = ()
    afters: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()

    @cached_property
    def holders(self) -> np.ndarray | None:
        """Positions (int64) of the things that have it, or None when it is unclear of anyone or nobody has it."""
        return np.flatnonzero(self.yes) if self.yes.any() and (self.yes | self.no).all() else None

    @property
    def false(self) -> bool:
        """Whether it can be called false of the whole category."""
        return self.never is not None and bool(self.never.all())

    def say(self, rng: np.random.Generator, article: str = "the ") -> str:
        """One of its forms, with "{x}" where the noun goes; without the article now and then when it is "the "."""
        forms = [f"{word} {{x}}" for word in self.adjectives] + [f"{{x}} {after}" for after in self.afters]
        forms += self.forms
        chosen = forms[rng.integers(len(forms))]
        return chosen if article == "the " and rng.random() < 0.35 else article + chosen


def _only(position: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    yes = np.zeros(count, bool)
    yes[position] = True
    return yes, ~yes


# ---------------------------------------------------------------------------------------------------- place


def before(boxes: np.ndarray, centres: np.ndarray, axis: int, length: float) -> np.ndarray:
    """bool [n, n]: [i, j] when thing i clearly comes before thing j along an axis (0: x, 1: y)."""
    low, high, centre = boxes[:, axis], boxes[:, axis + 2], centres[:, axis]
    extent = high - low
    margin = np.maximum(0.04 * length, 0.3 * np.minimum(extent[:, None], extent))
    clear = centre[None, :] - centre[:, None] > margin
    return clear & (low[:, None] < low[None, :]) & (high[:, None] < high[None, :])


def sided(name: str) -> bool:
    """Whether a name already speaks of a side (left mirror), seen from the driver's seat and not in the picture."""
    return bool({"left", "right"} & set(name.split()))


def places(scene: Scene, numbers: np.ndarray, name: str) -> list[Attribute]:
    """Where in the picture the things of a category are."""
    boxes, centres, plain = scene.boxes[numbers], scene.centres[numbers], scene.pointable[numbers]
    height, width = scene.size
    found: list[Attribute] = []
    if not sided(name):
        found += _along(boxes, centres, plain, 0, width, ("left", "right"))
    found += _along(boxes, centres, plain, 1, height, ("top", "bottom"))
    if not sided(name):
        found += _corners(boxes, centres, scene.size)
        found += _centre(boxes, centres, scene.size)
    found += _middle_of_three(boxes, centres, scene.size, sided(name))
    return found


def _along(
    boxes: np.ndarray, centres: np.ndarray, plain: np.ndarray, axis: int, length: float, sides: tuple[str, str]
) -> list[Attribute]:
    order = before(boxes, centres, axis, length)
    low, high, centre = boxes[:, axis] / length, boxes[:, axis + 2] / length, centres[:, axis] / length
    found: list[Attribute] = []
    for side, start, end, at, order_ in (
        (sides[0], low, high, centre, order),
        (sides[1], 1 - high, 1 - low, 1 - centre, order.T),
    ):
        found += _ranks(order_, at, plain, axis, side)
        found += _apart(order_, at, side)
        yes, no = (at < 0.34) & (end < 0.52), (at > 0.52) & (start > 0.3)
        found.append(Attribute(kind="place", yes=yes, no=no, never=(at > 0.68) & (start > 0.55), afters=_ON[side]))
    return found


_ON = {
    "left": ("on the left", "on the left side", "to the left", "at left"),
    "right": ("on the right", "on the right side", "to the right", "at right"),
    "top": ("at the top", "at the top of the picture", "in the upper part of the photo"),
    "bottom": ("at the bottom", "at the bottom of the picture", "in the lower part of the photo"),
}
_MOST = {
    "left": (("leftmost", "left-most"), ("furthest to the left",)),
    "right": (("rightmost", "right-most"), ("furthest to the right",)),
    "top": (("topmost", "highest", "uppermost"), ("closest to the top", "nearest the top")),
    "bottom": (("bottommost", "lowest"), ("closest to the bottom", "nearest the bottom")),
}
_OF_TWO = {"left": "left", "right": "right", "top": "upper", "bottom": "lower"}


def _ranks(order: np.ndarray, at: np.ndarray, plain: np.ndarray, axis: int, side: str) -> list[Attribute]:
    """First, second, ... from a side, as far as each clearly comes before all that follow.

    order: bool [n, n]; at: float [n], where each is, 0 at the side and 1 opposite; plain: bool [n], pointable.
    """
    count = len(order)
    followers = order.sum(1)  # how many clearly come after each
    found: list[Attribute] = []
    for rank in range(1, count):
        positions = np.flatnonzero(followers == count - rank)
        if len(positions) != 1 or rank > 4 or (rank > 1 and count > 8) or not plain[positions[0]]:
            break
        yes, no = _only(int(positions[0]), count)
        words = {"kind": "place", "yes": yes, "no": no, "superlative": True}
        if rank > 1:
            found.append(Attribute(**words, forms=_ordinal(rank, side)))
        else:
            adjectives, afters = _first(side, axis, count, float(at[positions[0]]))
            found.append(Attribute(**words, adjectives=adjectives, afters=afters))
    return found


def _first(side: str, axis: int, count: int, at: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    adjectives, afters = _MOST[side]
    if count == 2 and at < 0.52:
        adjectives = (*adjectives, _OF_TWO[side])
    if axis == 0 and at < 0.35:
        adjectives, afters = (*adjectives, f"far {side}"), (*afters, f"on the far {side}", f"closest to the {side}")
    return adjectives, afters


def _ordinal(rank: int, side: str) -> tuple[str, ...]:
    forms = ("{rank} {x} from the {side}", "{x} {rank} from the {side}", "{rank} {x} from {side}")
    return tuple(form.format(rank=word, side=side, x="{x}") for word in ORDINALS[rank] for form in forms)


def _middle_of_three(boxes: np.ndarray, centres: np.ndarray, size: tuple[int, int], flat: bool) -> list[Attribute]:
    """The one between two others, from left to right or from top to bottom, where no other could be meant by it."""
    if len(boxes) != 3:
        return []
    across, down = (_between(before(boxes, centres, axis, size[1 - axis])) for axis in (0, 1))
    if across is not None and down is not None and across != down:
        return []
    middle = down if across is None else across
    distance = np.linalg.norm(centres / (size[1], size[0]) - 0.5, axis=1)
    if middle is None or distance[middle] > distance.min():
        return []
    yes, no = _only(middle, 3)
    plain = across is None or flat  # from top to bottom, or of names that speak of no side
    return [
        Attribute(
            kind="place",
            yes=yes,
            no=no,
            superlative=True,
            adjectives=() if plain else ("middle", "center"),
            afters=("between the other two",) if plain else ("in the middle", "between the other two"),
        )
    ]


def _between(order: np.ndarray) -> int | None:
    """The second of three that clearly follow each other, or None. order: bool [3, 3]."""
    followers = order.sum(1).tolist()
    return followers.index(1) if sorted(followers) == [0, 1, 2] else None


def _apart(order: np.ndarray, at: np.ndarray, side: str) -> list[Attribute]:
    """Those that a clear gap separates from all the rest: the k nearest to a side. at: float [n], 0 at the side."""
    count = len(at)
    sequence = np.argsort(at)
    gaps = np.diff(at[sequence])  # [n - 1]
    found = []
    for k in range(1, min(count, 7)):
        inner = gaps[: k - 1].max(initial=0.0)
        first, rest = sequence[:k], sequence[k:]
        if gaps[k - 1] < max(0.12, 1.6 * inner) or at[first].max() > 0.42 or at[rest].min() < 0.45:
            continue
        if order[np.ix_(first, rest)].all():
            yes = np.zeros(count, bool)
            yes[first] = True
            found.append(Attribute(kind="place", yes=yes, no=~yes, afters=_ON[side]))
    return found


def _corners(boxes: np.ndarray, centres: np.ndarray, size: tuple[int, int]) -> list[Attribute]:
    height, width = size
    found = []
    for vertical, words in (("top", ("top", "upper")), ("bottom", ("bottom", "lower"))):
        y = centres[:, 1] / height if vertical == "top" else 1 - centres[:, 1] / height
        far_y = boxes[:, 3] / height if vertical == "top" else 1 - boxes[:, 1] / height
        for side in ("left", "right"):
            x = centres[:, 0] / width if side == "left" else 1 - centres[:, 0] / width
            far_x = boxes[:, 2] / width if side == "left" else 1 - boxes[:, 0] / width
            found.append(
                Attribute(
                    kind="place",
                    yes=(x < 0.28) & (y < 0.28) & (far_x < 0.5) & (far_y < 0.5),
                    no=(x > 0.45) | (y > 0.45),
                    never=(x > 0.6) | (y > 0.6),
                    afters=tuple(form for word in words for form in _corner(word, side)),
                )
            )
    return found


def _corner(word: str, side: str) -> tuple[str, ...]:
    return f"in the {word} {side} corner", f"at the {word} {side}", f"in the {word} {side}"


def _centre(boxes: np.ndarray, centres: np.ndarray, size: tuple[int, int]) -> list[Attribute]:
    """Nearest to the centre of the picture, and simply at the centre."""
    middle = np.array([size[1], size[0]]) / 2
    distance = np.linalg.norm((centres - middle) / middle, axis=1)  # [n]; 1 at the middle of an edge
    holds = np.all((boxes[:, :2] < middle) & (boxes[:, 2:] > middle), axis=1)
    words = ("at the center", "at the centre", "in the center of the picture", "in the middle of the photo")
    far = (distance > 0.55) & ~holds
    found = [
        Attribute(kind="place", yes=(distance < 0.25) & holds, no=far, never=(distance > 0.8) & ~holds, afters=words)
    ]
    if len(distance) > 1:
        nearest, second = np.argsort(distance)[:2]
        if distance[second] - distance[nearest] > 0.2 and not holds[second]:
            yes, no = _only(int(nearest), len(distance))
            afters = ("closest to the middle", "nearest to the center", "closest to the center", "nearest the middle")
            found.append(Attribute(kind="place", yes=yes, no=no, superlative=True, afters=afters))
    return found


# ---------------------------------------------------------------------------------------------------- size


def sizes(scene: Scene, numbers: np.ndarray, name: str) -> list[Attribute]:
    """Biggest, smallest, tallest, with clear margins; "big" and "small" among things of clearly two sizes."""
    count = len(numbers)
    if count < 2 or len({scene.things[i].boxed for i in numbers}) > 1:  # a box is larger than what is in it
        return []
    area = scene.areas[numbers]
    width, height = (scene.boxes[numbers, 2:] - scene.boxes[numbers, :2]).T
    clipped = np.array([scene.things[i].clipped for i in numbers])
    # Of two that cover each other the hidden one is not the smaller for that: the boxes must agree with the areas.
    found = _most((area * np.where(clipped, 1.5, 1), width * height), (1.5, 1.3), _MORE + _MORE_OF_TWO * (count == 2))
    found += _most((1 / area, 1 / (width * height)), (1.5, 1.3), _LESS + _LESS_OF_TWO * (count == 2))
    if name in _UPRIGHT and not clipped.any():
        found += _most((height,), (1.25,), ("tallest",)) + _most((1 / height,), (1.25,), ("shortest",))
    parts = np.stack([area / area.max(), width * height / (width * height).max()])  # [2, n] of the largest
    view = area / (scene.size[0] * scene.size[1])
    big = (parts.min(0) > 0.7) & ~clipped & (view > VISIBLE)
    small = (parts.max(0) < 0.4) & ~clipped & (view < 0.05)
    if big.any() and small.any():
        found.append(Attribute(kind="size", yes=big, no=small, adjectives=("big", "large")))
        found.append(Attribute(kind="size", yes=small, no=parts.min(0) > 0.7, adjectives=("small", "little")))
    return found


_MORE, _MORE_OF_TWO = ("biggest", "largest"), ("bigger", "larger")
_LESS, _LESS_OF_TWO = ("smallest",), ("smaller",)


def _most(values: tuple[np.ndarray, ...], margins: tuple[float, ...], adjectives: tuple[str, ...]) -> list[Attribute]:
    """The one that leads the next in each of the values, float [n], by these factors."""
    first = int(np.argmax(values[0]))
    for value, margin in zip(values, margins, strict=True):
        if value[first] < margin * np.delete(value, first).max():
            return []
    yes, no = _only(first, len(values[0]))
    return [Attribute(kind="size", yes=yes, no=no, superlative=True, adjectives=adjectives)]


# ---------------------------------------------------------------------------------------------------- colour


def colours(scene: Scene, numbers: np.ndarray, name: str) -> list[Attribute]:
    """What colour the things are, where a category is one that people name by colour."""
    allowed = colours_of(name)
    if scene.pixels is None or not allowed or any(scene.things[i].boxed for i in numbers):
        return []
    strict, wide = np.zeros((len(numbers), len(COLOURS))), np.ones((len(numbers), len(COLOURS)))
    for row, number in enumerate(numbers):
        x0, y0, x1, y1 = scene.things[number].box
        if scene.areas[number] < VISIBLE * scene.size[0] * scene.size[1]:
            continue
        found = shares(scene.pixels[y0:y1, x0:x1], scene.things[number].crop)
        if found is not None:
            strict[row], wide[row] = found
    top = strict.max(1)
    return [
        Attribute(
            kind="colour",
            yes=strict[:, k] >= DOMINANT,
            no=wide[:, k] < 0.2,
            never=(wide[:, k] < 0.06) & (top > 0.45) & (strict[:, k] < top),
            adjectives=_SHADES.get(colour, (colour,)),
        )
        for k, colour in enumerate(COLOURS)
        if colour in allowed
    ]


_SHADES = {"gray": ("gray", "grey")}
