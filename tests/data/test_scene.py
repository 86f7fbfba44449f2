from __future__ import annotations

import numpy as np
import pytest

from anygrain.data.scene import Scene, Thing, split_apart

SIZE = (60, 80)


def test_a_thing_measures_its_mask(rectangle):
    thing = Thing(mask=rectangle(SIZE, 10, 20, 30, 24), category="dog")
    assert thing.box == (10, 20, 30, 24)
    assert thing.area == 80
    assert thing.centroid == (20.0, 22.0)
    assert thing.crop.shape == (4, 20)


def test_an_empty_mask_is_an_error():
    with pytest.raises(ValueError, match="'dog' of a scene has an empty mask"):
        _ = Thing(mask=np.zeros(SIZE, bool), category="dog").box


def test_only_complete_and_countable_names_are_counted(rectangle):
    def thing(category, countable=True):
        return Thing(mask=rectangle(SIZE, 10, 20, 30, 40), category=category, countable=countable)

    scene = Scene(
        things=(thing("dog"), thing("cat"), thing("tree", countable=False), thing("sky"), thing("dog")),
        size=SIZE,
        complete=frozenset({"dog", "tree", "sky", "bus", "car"}),
    )
    assert {name: list(numbers) for name, numbers in scene.counted.items()} == {"dog": [0, 4]}
    assert scene.absent == ("bus", "car")


def test_clipped_tiny_and_slivers_at_the_edge_are_not_pointed_at(rectangle):
    boxes = [(10, 10, 30, 30), (40, 40, 42, 42), (0, 30, 2, 34), (50, 10, 70, 30)]
    things = tuple(Thing(mask=rectangle(SIZE, *b), category="dog", clipped=b[0] == 50) for b in boxes)
    assert list(Scene(things=things, size=SIZE).pointable) == [True, False, False, False]


def test_several_instances_in_one_region_are_split(rectangle):
    left, right = rectangle(SIZE, 5, 40, 20, 55), rectangle(SIZE, 50, 40, 62, 55)
    speck = rectangle(SIZE, 70, 10, 72, 12)
    pieces = split_apart(Thing(mask=left | right | speck, category="wheel"))
    assert len(pieces) == 2
    assert np.array_equal(pieces[0].mask, left | speck)
    assert np.array_equal(pieces[1].mask, right)
    doubtful = Thing(mask=left | rectangle(SIZE, 50, 40, 56, 46), category="wheel")
    assert [piece.countable for piece in split_apart(doubtful)] == [False]
    whole = Thing(mask=left, category="wheel")
    assert split_apart(whole) == (whole,)
