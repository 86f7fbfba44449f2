"""A word that training never said is read as a near name."""

import json

import pytest
import torch
from torch.nn.functional import normalize

from anygrain.data.vocabulary import gather
from anygrain.types import Region, Sample
from anygrain.vocabulary import Reader, Vocabulary

# cosine 0.8 between what belongs together, 0 between the others
PLANES = {"dog": (1, 0, 0, 0), "labrador": (0.8, 0.6, 0, 0), "pants": (0, 0, 1, 0), "chinos": (0, 0, 0.8, 0.6)}
VOCABULARY = Vocabulary(
    names={"dog": "dog", "pooch": "dog", "pants": "pants"}, words=frozenset({"dog", "dogs", "pooch", "pants", "hose"})
)


def encode(texts):
    def one(text):
        word = text.removeprefix("all ")
        word = {"pooch": "dog", "labradors": "labrador"}.get(word, word)
        return PLANES.get(word, (0, 0, 0, 1))

    return normalize(torch.tensor([one(text) for text in texts], dtype=torch.float32), dim=-1)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("labrador", "dog"),
        ("all labrador", "all dog"),
        ("The Labradors", "The dogs"),
        ("the black labrador on the left", "the black dog on the left"),
        ("two labradors behind the pooch", "two dogs behind the pooch"),
        ("all of the chinos", "all of the pants"),
    ],
)
def test_the_nearest_name_stands_in_for_an_unknown_noun(text, read):
    assert Reader(VOCABULARY, encode)(text) == read


@pytest.mark.parametrize(
    "text",
    ["dog", "pooch", "the hose", "zeppelin", "rescue labrador", "the dog with a labrador", "all", "?", "all dogs"],
)
def test_known_words_far_words_and_parts_of_longer_names_stay(text):
    assert Reader(VOCABULARY, encode)(text) == text


def sample(*regions, **fields):
    return Sample(id="a", image=b"", size=(4, 4), regions=regions, source="s", **fields)


def test_gather_takes_names_synonyms_and_all_words_but_those_held_out():
    vocabulary = gather(
        [
            sample(
                Region(category="cell_phone"), Region(captions=("A puppy on Grass",)), exhaustive=frozenset({"car"})
            ),
            sample(Region(captions=("two zebras",)), absent=("the red kite",)),
        ]
    )
    assert vocabulary.names["car"] == vocabulary.names["motorcar"] == "car"
    assert vocabulary.names["mobile phone"] == "cell phone"
    assert {"cell", "phones", "motorcar", "zebras", "kite", "cars"} <= vocabulary.words
    assert (
        not {"puppy", "smartphone", "automobile", "grass"} & vocabulary.words
    )  # a text with a held out word is left out


def test_a_vocabulary_file_that_is_none_is_named(tmp_path):
    path = tmp_path / "vocabulary.json"
    VOCABULARY.write(path)
    assert Vocabulary.read(path) == VOCABULARY
    for text in ("{", "[]", json.dumps({"names": {}}), json.dumps({"names": {}, "words": 3})):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"vocabulary\.json: not a vocabulary"):
            Vocabulary.read(path)
