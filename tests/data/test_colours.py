from __future__ import annotations

import numpy as np
import pytest

from anygrain.data.colours import COLOURS, colours_of, shares, to_lab
from small_photos import PLAIN


def patch(*colours, noise=0, side=40):
    rng = np.random.default_rng(0)
    rows = [np.broadcast_to(colour, (side // len(colours), side, 3)) for colour in colours]
    pixels = np.concatenate(rows).astype(int) + rng.integers(-noise, noise + 1, (side, side, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), np.ones((side, side), bool)


def test_lab_of_known_colours():
    lab = to_lab(np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    assert lab == pytest.approx(np.array(expected), abs=0.1)


@pytest.mark.parametrize("name", COLOURS)
def test_plain_colours_are_named(name):
    strict, wide = shares(*patch(PLAIN[name], noise=4))
    assert strict[COLOURS.index(name)] > 0.9
    assert strict.sum() <= 1 + 1e-9, "a pixel is strictly of one colour at most"
    assert (wide >= strict).all()


@pytest.mark.parametrize("rgb", [(150, 120, 90), (60, 20, 22), (90, 150, 160), (200, 200, 200), (200, 90, 110)])
def test_doubtful_colours_have_no_name(rgb):
    strict, _ = shares(*patch(rgb))
    assert strict.max() == 0


def test_the_rim_and_small_things_do_not_count():
    pixels, mask = patch(PLAIN["red"])
    pixels[:2] = pixels[-2:] = pixels[:, :2] = pixels[:, -2:] = PLAIN["green"]
    strict, _ = shares(pixels, mask)
    assert strict[COLOURS.index("red")] == 1
    assert shares(pixels[:12, :12], mask[:12, :12]) is None


def test_two_halves_share():
    strict, _ = shares(*patch(PLAIN["red"], PLAIN["white"]))
    assert strict[COLOURS.index("red")] == pytest.approx(0.5, abs=0.05)
    assert strict[COLOURS.index("white")] == pytest.approx(0.5, abs=0.05)


def test_colours_are_said_only_of_things_that_people_name_by_colour():
    assert "red" in colours_of("car")
    assert colours_of("dog") == {"black", "white", "brown"}
    assert colours_of("person") == colours_of("sky") == colours_of("road") == frozenset()
