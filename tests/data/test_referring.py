"""The phrases are read back by a small parser of their own here, and checked against the masks alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anygrain.data.compose import false_claims, true_claims
from anygrain.data.held_out import holds_unseen_word
from anygrain.data.language import readable, synonyms
from anygrain.data.referring import Phrase, false_phrases, true_phrases
from anygrain.data.scene import Scene, Thing
from anygrain.nouns import plural
from anygrain.types import Mask
from small_photos import PLAIN

PHOTOS = Path(__file__).parents[1] / "fixtures" / "photos"
SIZE = (240, 320)
GROUND = (150, 120, 90)  # no name
SIDE = {"left": (1, 1), "right": (1, -1), "top": (0, 1), "upper": (0, 1), "bottom": (0, -1), "lower": (0, -1)}
NUMBER = {word: k for k, word in enumerate(("zero", "one", "two", "three", "four", "five", "six"))}
RANK = {"second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4, "4th": 4, "fifth": 5}


def build(*things, complete=None, hide=False, **options):
    """A Scene of ("dog", (x0, y0, x1, y1)[, colour]) with painted pixels."""
    pixels = np.full((*SIZE, 3), GROUND, np.uint8)
    built = []
    for name, (x0, y0, x1, y1), *rest in things:
        mask = np.zeros(SIZE, bool)
        mask[y0:y1, x0:x1] = True
        pixels[mask] = PLAIN[rest[0]] if rest and rest[0] in PLAIN else GROUND
        built.append(Thing(mask=mask, category=name, clipped="clipped" in rest, countable="stuff" not in rest))
    if hide:  # what is painted later covers what was painted before
        free = np.ones(SIZE, bool)
        for number, thing in reversed(list(enumerate(built))):
            built[number] = replace(thing, mask=thing.mask & free)
            free &= ~thing.mask
    if complete is None:
        complete = {thing.category for thing in built}
    return Scene(things=tuple(built), size=SIZE, complete=frozenset(complete), pixels=pixels, **options)


def everything(scene, claims=true_claims, draws=30):
    """Text -> Phrase of all that the generator may say."""
    found = {}
    rng = np.random.default_rng(0)
    for claim in claims(scene, rng):
        phrase = Phrase("", scene.union(claim.about), np.zeros(SIZE, bool), claim.kind)
        for text in {claim.say(rng) for _ in range(draws)}:
            if text in found:
                assert np.array_equal(found[text].mask, phrase.mask), f"{text!r} means two things"
            found[text] = phrase
    return found


def means(scene, found, text, *numbers):
    """The phrase is said, with or without "the", and means these things."""
    texts = [t for t in found if t.removeprefix("the ") == text]
    assert texts, f"{text!r} is not said"
    union = np.any([scene.things[i].mask for i in numbers], axis=0)
    assert all(np.array_equal(found[t].mask, union) for t in texts), text


def silent(found, pattern):
    said = [text for text in found if re.search(pattern, text)]
    assert not said, said


# ---------------------------------------------------------------------------------------------------- known answers


def test_left_to_right():
    scene = build(*[("dog", (x, 100, x + 40, 150)) for x in (200, 20, 110, 270)])
    found = everything(scene)
    means(scene, found, "leftmost dog", 1)
    means(scene, found, "far left dog", 1)
    means(scene, found, "dog furthest to the right", 3)
    means(scene, found, "second dog from the left", 2)
    means(scene, found, "2nd dog from the right", 0)
    means(scene, found, "dog third from the right", 2)
    means(scene, found, "four dogs", 0, 1, 2, 3)
    silent(found, "top|upper|lower|bottom|big|small|middle of|in the middle")


def test_top_and_bottom_and_middle():
    scene = build(*[("cup", (140, y, 180, y + 30)) for y in (10, 105, 200)])
    found = everything(scene)
    means(scene, found, "topmost cup", 0)
    means(scene, found, "lowest cup", 2)
    means(scene, found, "cup between the other two", 1)
    means(scene, found, "cup closest to the center", 1)
    means(scene, found, "cup at the top", 0)
    silent(found, "left|right")


def test_a_gap_makes_a_group():
    scene = build(*[("person", (x, 80, x + 30, 200)) for x in (10, 45, 80, 230, 275)])
    found = everything(scene)
    means(scene, found, "three people on the left", 0, 1, 2)
    means(scene, found, "two people on the right", 3, 4)
    means(scene, found, "five people", 0, 1, 2, 3, 4)
    silent(found, r"persons|the people on|one people")


def test_corners():
    scene = build(("kite", (10, 10, 50, 40)), ("kite", (250, 190, 300, 230)))
    found = everything(scene)
    means(scene, found, "kite in the top left corner", 0)
    means(scene, found, "kite in the lower right corner", 1)
    means(scene, found, "both kites", 0, 1)


def test_sizes_need_a_clear_margin():
    scene = build(("dog", (10, 50, 110, 150)), ("dog", (150, 50, 200, 90)), ("dog", (230, 50, 310, 120)))
    found = everything(scene)
    means(scene, found, "biggest dog", 0)
    means(scene, found, "smallest dog", 1)
    alike = everything(build(("dog", (10, 50, 110, 150)), ("dog", (150, 50, 240, 150))))
    silent(alike, "big|small|larg|little")


def test_tall_is_said_of_upright_things_only():
    two = ((10, 50, 40, 200), (100, 120, 140, 200))
    assert "tallest bottle" in {t.removeprefix("the ") for t in everything(build(*[("bottle", b) for b in two]))}
    silent(everything(build(*[("person", b) for b in two])), "tallest")


def test_colours_single_out_or_group():
    scene = build(
        ("car", (10, 50, 70, 90), "red"), ("car", (100, 50, 160, 90), "blue"), ("car", (220, 50, 280, 90), "blue")
    )
    found = everything(scene)
    means(scene, found, "red car", 0)
    means(scene, found, "two blue cars", 1, 2)
    means(scene, found, "blue car on the right", 2)
    silent(found, "^(the )?blue car$|black|white")


def test_a_car_of_doubtful_colour_stops_the_colour():
    found = everything(build(("car", (10, 50, 70, 90), "red"), ("car", (100, 50, 160, 90))))
    means_nothing = [t for t in found if "red" in t]
    assert means_nothing, "the ground's colour is clearly not red, so the red one can be told"
    silent(
        everything(build(("car", (10, 50, 70, 90), "red"), ("car", (100, 50, 112, 60), "red"))),
        "^(the )?(two )?red cars?$",
    )


def test_no_colour_without_pixels_or_of_a_person():
    silent(everything(build(("person", (10, 50, 70, 190), "red"), ("person", (100, 50, 160, 190), "blue"))), "red|blue")
    scene = build(("car", (10, 50, 70, 90), "red"))
    blind = Scene(things=scene.things, size=SIZE, complete=scene.complete)
    silent(everything(blind), "red")


def test_relations():
    scene = build(("dog", (60, 120, 100, 180)), ("dog", (200, 115, 250, 185)), ("chair", (105, 110, 160, 182)))
    found = everything(scene)
    means(scene, found, "dog to the left of the chair", 0)
    means(scene, found, "dog right of the chair", 1)
    silent(found, "(beside|next to|near|close to) the chair")  # the second is neither near nor far
    far = build(("dog", (60, 120, 100, 180)), ("dog", (270, 115, 315, 185)), ("chair", (105, 110, 160, 182)))
    means(far, everything(far), "dog next to the chair", 0)
    two = build(("dog", (60, 120, 100, 180)), ("chair", (105, 110, 160, 182)), ("chair", (200, 110, 260, 182)))
    silent(everything(two), "the chair$")  # which chair?


def test_on_the_table():
    scene = build(("cup", (140, 120, 160, 150)), ("cup", (20, 30, 40, 60)), ("dining table", (100, 100, 300, 220)))
    means(scene, everything(scene), "cup on the dining table", 0)


def test_exceptions():
    scene = build(*[("window", (x, 50, x + 40, 100)) for x in (10, 80, 150)], ("window", (220, 20, 310, 150)))
    found = everything(scene)
    assert any(re.match(r"all( the)? windows (except|but|other)", text) for text in found)
    for text, phrase in found.items():
        if "biggest one" in text:
            assert np.array_equal(phrase.mask, scene.union((0, 1, 2)))
            assert text.endswith("the biggest one")


def test_unions_and_parts():
    street = build(("road", (0, 160, 320, 240), "stuff"), ("car", (10, 100, 90, 170), "stuff"))
    found = everything(street)
    assert any(re.fullmatch(r"(the )?road and (the )?cars?", text) for text in found)
    assert all(np.array_equal(phrase.mask, street.union((0, 1))) for phrase in found.values())
    parts = build(("wheel", (10, 100, 60, 150)), ("wheel", (200, 100, 250, 150)), whole="car")
    found = everything(parts)
    means(parts, found, "wheels of the car", 0, 1)
    means(parts, found, "car's wheels", 0, 1)
    silent(everything(build(("dog", (60, 60, 200, 200)))), "background|everything")


# ---------------------------------------------------------------------------------------------------- say nothing


def test_nothing_singular_is_said_of_incomplete_categories_or_stuff():
    two = (("dog", (10, 100, 60, 150)), ("dog", (200, 100, 280, 190)))
    assert not everything(build(*two, complete=()))
    assert not everything(build(*[(*thing, "stuff") for thing in two]))


def test_ties_are_not_broken():
    silent(
        everything(build(("dog", (40, 20, 80, 60)), ("dog", (44, 120, 84, 160)))),
        "leftmost|furthest|far|left dog|from the left",
    )
    inside = build(("dog", (20, 20, 300, 200)), ("dog", (60, 80, 100, 120)))
    silent(everything(inside), "most|furthest|far left|the left dog")


def test_clipped_things_count_but_are_never_meant():
    things = [("dog", (0, 100, 50, 150), "clipped"), ("dog", (100, 100, 150, 150)), ("dog", (220, 100, 300, 180))]
    scene = build(*things)
    found = everything(scene)
    for phrase in found.values():
        assert phrase.kind == "except" or not phrase.mask[:, :50].any(), phrase.text
    silent(found, "leftmost|three dogs|far left")
    means(scene, found, "rightmost dog", 2)


def test_names_with_a_side_get_no_side():
    scene = build(
        ("left mirror", (20, 50, 60, 80)), ("left mirror", (250, 60, 290, 90)), ("wheel", (100, 60, 160, 120))
    )
    for text in [*everything(scene), *everything(scene, false_claims)]:
        said = text.replace("left mirror", "").replace("left side mirror", "").replace("left wing mirror", "")
        assert "mirror" not in text or not re.search("left|right", said), text


def test_an_empty_scene_says_nothing():
    scene = Scene(things=(), size=SIZE)
    assert true_phrases(scene, np.random.default_rng(0), 5) == false_phrases(scene, np.random.default_rng(0), 5) == []


# ---------------------------------------------------------------------------------------------------- false


def test_false_phrases_of_a_known_scene():
    scene = build(("car", (260, 180, 310, 230), "blue"), complete={"car", "bus"})
    found = everything(scene, false_claims)
    assert all(not phrase.mask.any() for phrase in found.values())
    texts = {text.removeprefix("the ") for text in found}
    assert {"red car", "car on the left", "second car from the left", "car in the top left corner"} <= texts
    assert any("bus" in text for text in texts)
    silent(found, r"blue car|car (on|at|to) the right( side)?$|car at the bottom$|rightmost car")


def test_no_wrong_colour_or_place_when_one_might_have_it():
    scene = build(("car", (260, 180, 310, 230), "blue"), ("car", (20, 20, 60, 50)))
    silent(everything(scene, false_claims), "car (on|at|to) the (left|right)|car at the top$|blue car|brown car")


# ---------------------------------------------------------------------------------------------------- any scene

NAMES = ("car", "dog", "umbrella", "bus")


def random_scene(seed):
    rng = np.random.default_rng(seed)
    things = []
    for _ in range(rng.integers(1, 9)):
        width, height = rng.integers(12, 110, 2)
        x0, y0 = rng.integers(0, SIZE[1] - width), rng.integers(0, SIZE[0] - height)
        colour = list(PLAIN)[rng.integers(len(PLAIN))]
        things.append((NAMES[rng.integers(2 if rng.random() < 0.7 else 4)], (x0, y0, x0 + width, y0 + height), colour))
    scene = build(*things, complete=set(NAMES), hide=True)
    shown = [i for i, thing in enumerate(scene.things) if thing.mask.any()]
    return replace(scene, things=tuple(scene.things[i] for i in shown)), [things[i][2] for i in shown]


def plain(text):
    """A text with the names of random scenes instead of their synonyms."""
    for name in NAMES:
        for other in sorted(synonyms(name), key=len, reverse=True):
            text = re.sub(rf"\b{plural(other)}\b", plural(name), re.sub(rf"\b{other}\b", name, text))
    return text


def centre(thing, axis):
    return np.nonzero(thing.mask)[axis].mean() + 0.5


def check(text, scene, paint, meant):
    """Read a phrase about one category and compare with what the masks say; meant: numbers of the things it means."""
    text = plain(text)
    bare = re.sub(r" (except|except for|but|other than) the .*", "", text)
    places = {n: found.start() for n in NAMES if (found := re.search(rf"\b({n}|{plural(n)})\b", bare))}
    name = min(places, key=lambda n: places[n])
    group = [i for i, thing in enumerate(scene.things) if thing.category == name]
    others = [i for i in group if i not in meant]
    assert set(meant) <= set(group), text
    if match := re.search("|".join(PLAIN), text):
        assert all(paint[i] == match[0] for i in meant), text
    if match := re.search(r"(left|right|top|bottom)-?most|furthest to the (left|right)|far (left|right)", text):
        axis, sign = SIDE[next(part for part in match.groups() if part)]
        assert all(sign * centre(scene.things[meant[0]], axis) < sign * centre(scene.things[i], axis) for i in others)
    if match := re.search(r"(second|third|fourth|2nd|3rd|4th).* from (?:the )?(left|right|top|bottom)", text):
        axis, sign = SIDE[match[2]]
        ranked = sorted(group, key=lambda i: sign * centre(scene.things[i], axis))
        assert ranked[RANK[match[1]] - 1] == meant[0], text
    area = [int(thing.mask.sum()) for thing in scene.things]
    if re.search("biggest|largest|bigger|larger", text):
        assert all(area[meant[0]] > 1.3 * area[i] for i in others), text
    if re.search("smallest|smaller", text):
        assert all(1.3 * area[meant[0]] < area[i] for i in others), text
    number = re.search(r"\b(two|three|four|five|six)\b(?! to| others)", text.replace("other two", ""))
    if number or "both" in text:
        assert len(meant) == (NUMBER[number[1]] if number else 2), text
    if match := re.search(r"(left|right) of the (\w+)$", text):
        anchor = next(thing for thing in scene.things if thing.category == match[2])
        sign = SIDE[match[1]][1]
        assert all(sign * centre(scene.things[i], 1) < sign * centre(anchor, 1) for i in meant), text
        assert sum(thing.category == match[2] for thing in scene.things) == 1
    if match := re.search(
        r"(?<!furthest )(?<!closest )(?:on|at|to) (?:the )?(left|right)(?: side)?$|at the (top|bottom)$", text
    ):
        axis, sign = SIDE[match[1] or match[2]]
        half = SIZE[axis] / 2
        assert all(sign * (centre(scene.things[i], axis) - half) < 0 for i in meant), text
        if not re.search("small|little|big|large|" + "|".join(PLAIN), text):
            nearest = min((sign * centre(scene.things[i], axis) for i in others), default=np.inf)
            assert all(sign * centre(scene.things[i], axis) < nearest for i in meant), text


@pytest.mark.parametrize("block", range(4))
def test_phrases_of_random_scenes_are_true(block):
    kinds = set()
    for seed in range(block * 12, block * 12 + 12):
        scene, paint = random_scene(seed)
        for phrase in true_phrases(scene, np.random.default_rng(seed), 40):
            kinds.add(phrase.kind)
            inside = [i for i, t in enumerate(scene.things) if (t.mask & phrase.mask).sum() == t.mask.sum()]
            if phrase.kind == "union" or len({scene.things[i].category for i in inside}) > 1:
                continue  # boxes of other things may lie wholly inside
            assert np.array_equal(scene.union(tuple(inside)), phrase.mask)
            if phrase.kind != "except":
                check(phrase.text, scene, paint, inside)
    assert {"place", "size", "colour", "except", "union", "count"} <= kinds


@pytest.mark.parametrize("block", range(4))
def test_false_phrases_are_never_true(block):
    for seed in range(block * 12, block * 12 + 12):
        scene, paint = random_scene(seed)
        there = {thing.category for thing in scene.things}
        said = {phrase.text.removeprefix("the ") for phrase in true_phrases(scene, np.random.default_rng(seed), 100)}
        for phrase in false_phrases(scene, np.random.default_rng(seed), 40):
            assert not phrase.mask.any()
            assert phrase.text.removeprefix("the ") not in said
            text = plain(phrase.text.removeprefix("the "))
            if match := re.fullmatch(rf"({'|'.join(PLAIN)}) (\w+)", text):
                pairs = {(colour, t.category) for colour, t in zip(paint, scene.things, strict=True)}
                assert (match[1], match[2]) not in pairs
            if match := re.match(r"(?:(\w+) (\w+)|(\w+) (\w+)) from the (?:left|right)$", text):
                rank, name = (match[1], match[2]) if match[1] in RANK else (match[2], match[1])
                assert sum(t.category == name for t in scene.things) < RANK[rank]
            if phrase.kind == "wrong place" and (
                match := re.search(r"^(\w+) (?:on|at|to) (?:the )?(left|right)$", text)
            ):
                sign = SIDE[match[2]][1]
                members = [t for t in scene.things if t.category == match[1]]
                assert all(sign * (centre(t, 1) - SIZE[1] / 2) > 0 for t in members)
            if phrase.kind.startswith("absent"):
                assert any(re.search(rf"\b({n}|{plural(n)})\b", text) for n in set(NAMES) - there)


def test_phrases_depend_only_on_the_scene_and_the_generator():
    scene, _ = random_scene(5)
    for function in (true_phrases, false_phrases):
        first, again = (function(scene, np.random.default_rng(3), 20) for _ in range(2))
        assert [p.text for p in first] == [p.text for p in again]
        assert len({p.text for p in first}) == len(first) <= 20
        other = function(scene, np.random.default_rng(4), 20)
        assert [p.text for p in other] != [p.text for p in first]


# ---------------------------------------------------------------------------------------------------- a real photo


@pytest.fixture(scope="module")
def facade():
    record = json.loads((PHOTOS / "facade.json").read_text())
    names = {entry["id"]: readable(entry["name"]) for entry in record["categories"]}
    size = (record["images"][0]["height"], record["images"][0]["width"])
    masks = [Mask.from_coco(a["segmentation"], size).to_array() for a in record["annotations"]]
    things = tuple(
        Thing(mask=mask, category=names[a["category_id"]])
        for mask, a in zip(masks, record["annotations"], strict=True)
        if mask.any()
    )
    pixels = np.asarray(Image.open(PHOTOS / "facade.jpg").convert("RGB"))
    return Scene(things=things, size=size, complete=frozenset(names.values()), pixels=pixels)


def test_phrases_about_a_real_facade(facade):
    found = everything(facade)
    windows = [thing.mask for thing in facade.things if thing.category == "window"]
    x = [np.nonzero(mask)[1].mean() for mask in windows]
    y = [np.nonzero(mask)[0].mean() for mask in windows]
    area = [int(mask.sum()) for mask in windows]
    best = {
        "leftmost window": np.argmin(x),
        "rightmost window": np.argmax(x),
        "topmost window": np.argmin(y),
        "lowest window": np.argmax(y),
        "biggest window": np.argmax(area),
        "smallest window": np.argmin(area),
    }
    checked = 0
    for text, phrase in found.items():
        if (key := text.removeprefix("the ")) in best:
            checked += 1
            assert np.array_equal(phrase.mask, windows[best[key]]), text
    assert checked
    assert {"except", "union", "place"} <= {phrase.kind for phrase in found.values()}


def test_no_held_out_word_is_ever_said(facade):
    scenes = [facade, *(random_scene(seed)[0] for seed in range(20))]
    for scene in scenes:
        texts = [*everything(scene, draws=3), *everything(scene, false_claims, draws=3)]
        assert texts
        assert not [text for text in texts if holds_unseen_word(text)]
        assert not [text for text in texts if text != " ".join(text.lower().split()) or "{" in text]
