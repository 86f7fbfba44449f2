from __future__ import annotations

import numpy as np
import pytest

from anygrain.data.held_out import holds_unseen_word
from anygrain.data.language import (
    SALIENT,
    all_category,
    plural,
    readable,
    say_category,
    say_salient,
    synonyms,
    triplets,
)
from anygrain.data.synonyms import SYNONYMS
from anygrain.types import Mask, Region, Sample


@pytest.mark.parametrize(
    ("category", "words"),
    [
        ("left_mirror", "left mirror"),
        ("balcony-fence", "balcony fence"),
        ("rock-bed", "rock bed"),
        ("t-shirt", "t-shirt"),
        ("T-shirt", "t-shirt"),
        ("non-building-infrastructure", "non-building infrastructure"),
        ("  hot   dog ", "hot dog"),
        ("bat (animal)", "bat"),
        ('"sign"', "sign"),
        ("café_table", "café table"),
        ("car", "car"),
    ],
)
def test_readable(category, words):
    assert readable(category) == words
    assert readable(words) == words


@pytest.mark.parametrize("category", ["", "  ", "(unused)", "_-_"])
def test_a_category_without_words_is_an_error(category):
    with pytest.raises(ValueError, match="no readable name"):
        readable(category)


def test_captions_of_table_1():
    assert all_category("left_mirror") == "all left mirror"
    assert SALIENT == "the most salient object"


def test_triplets_of_a_sample(rectangle):
    size = (12, 16)
    a, b, c = rectangle(size, 0, 0, 4, 4), rectangle(size, 2, 2, 9, 9), rectangle(size, 12, 0, 16, 12)
    sample = Sample(
        id="set/1",
        image=b"",
        size=size,
        source="set",
        regions=(
            Region(mask=Mask.from_array(a), category="left_mirror", captions=("the small one", "the top one")),
            Region(mask=Mask.from_array(c), captions=(SALIENT,)),
            Region(mask=Mask.from_array(b), category="left_mirror"),
            Region(mask=Mask.from_array(c), category="left_mirror", captions=("a crowd",), ignore=True),
            Region(box=(0, 0, 3, 3), category="left_mirror", captions=("only a box",)),
            Region(mask=Mask.from_array(c), category="wheel"),
        ),
    )
    got = list(triplets(sample))
    assert got == list(sample.triplets())
    wanted = [
        ("the small one", a),
        ("the top one", a),
        (SALIENT, c),
        ("all left mirror", a | b),  # neither the ignored crowd nor the box
        ("all wheel", c),
    ]
    assert [t.caption for t in got] == [caption for caption, _ in wanted]
    for triplet, (_, mask) in zip(got, wanted, strict=True):
        assert triplet.image == "set/1"
        assert np.array_equal(triplet.mask.to_array(), mask)


@pytest.mark.parametrize(
    ("name", "many"),
    [
        ("person", "people"),
        ("bus", "buses"),
        ("knife", "knives"),
        ("wine glass", "wine glasses"),
        ("bench", "benches"),
        ("cherry", "cherries"),
        ("toy", "toys"),
        ("sheep", "sheep"),
        ("mouse", "mice"),
        ("scissors", "scissors"),
        ("skis", "skis"),
        ("balcony fence", "balcony fences"),
        ("slice of bread", "slices of bread"),
        ("sky", None),
        ("road", None),
        ("skin", None),
        ("hair", None),
        ("vegetation", None),
        ("traffic infrastructure", None),
        ("rice", None),
    ],
)
def test_plural(name, many):
    assert plural(name) == many


def test_no_synonym_and_no_salient_phrase_holds_a_held_out_word():
    rng = np.random.default_rng(0)
    words = {word for others in SYNONYMS.values() for word in others} | {say_salient(rng) for _ in range(300)}
    words |= {plural(word) or word for word in words}
    assert not [word for word in words if holds_unseen_word(word)]


def test_nothing_stands_in_for_a_person():
    assert synonyms("person") == ()
    assert not {"man", "woman", "person", "pedestrian"} & {word for others in SYNONYMS.values() for word in others}


def _said(name, regions, draws=600):
    rng = np.random.default_rng(0)
    return [say_category(name, rng, regions) for _ in range(draws)]


def test_a_category_is_mostly_said_as_in_table_1():
    said = _said("person", 3)
    assert 0.3 < said.count("all person") / len(said) < 0.5
    assert {"person", "the people", "all of the people", "every person", "any person", "all people"} <= set(said)
    assert "the person" not in said


def test_one_and_several_and_stuff():
    one, stuff, pair = set(_said("dog", 1)), set(_said("sky", None)), set(_said("shoes", 1))
    assert "the dog" in one
    assert "the dogs" not in one
    plain = {"all sky", "sky", "the sky", "all the sky", "all of the sky"}
    assert stuff == plain | {"firmament", "all firmament", "the firmament"}
    assert not any(text.startswith(("every", "any")) for text in pair)
    unknown = set(_said("pole", None))
    assert "the poles" in unknown
    assert "the pole" not in unknown


def test_synonyms_are_said_now_and_then():
    said = _said("airplane", 1)
    part = sum("aeroplane" in text or "aircraft" in text for text in said) / len(said)
    assert 0.12 < part < 0.27  # 0.65 of the ways are not the paper's, and 0.3 of those say another word


def test_the_salient_object_is_mostly_said_as_in_table_1():
    rng = np.random.default_rng(0)
    said = [say_salient(rng) for _ in range(400)]
    assert 0.4 < said.count(SALIENT) / 400 < 0.6
    assert len(set(said)) > 10
