from __future__ import annotations

import numpy as np
import pytest

from anygrain.data.language import SALIENT, all_category, readable, triplets
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
