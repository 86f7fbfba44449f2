"""The CLIP tokenizer against ids of the official one."""

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch

from anygrain.models.clip_tokenizer import MERGES_FILE, ClipTokenizer

CASES = json.loads((Path(__file__).parents[1] / "fixtures/parity/unilseg_tokenizer_golden.json").read_text())["cases"]


@pytest.fixture(scope="module")
def tokenizer():
    return ClipTokenizer()


def test_vocabulary_is_the_official_file():
    digest = hashlib.sha256(MERGES_FILE.read_bytes()).hexdigest()
    assert digest == "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:24] or "empty")
def test_ids_equal_the_official_ones(tokenizer, case):
    assert tokenizer.encode(case["text"]) == case["bpe"]
    assert tokenizer([case["text"]], length=17).tolist() == [case["ids17"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:24] or "empty")
def test_cut_reports_exactly_what_is_lost(tokenizer, case):
    assert bool(tokenizer.cut(case["text"], length=17)) == case["truncated"]


def test_cut_names_the_words(tokenizer):
    text = "the second person from the left, who wears a blue jacket and stands near the corner of the street"
    kept = tokenizer.decode(tokenizer.encode(text)[:15])
    assert kept == "the second person from the left , who wears a blue jacket and stands near"
    assert tokenizer.cut(text) == "the corner of the street"
    assert tokenizer.cut(text, length=30) == ""


def test_html_is_unescaped_twice_and_no_more(tokenizer):
    # a literal "<" keeps ftfy from unescaping on its own
    assert tokenizer.encode("<b> &amp;amp; x") == tokenizer.encode("<b> & x")
    assert tokenizer.decode(tokenizer.encode("<b> &amp;amp;amp; x")) == "< b > & amp ; x"


def test_a_batch_keeps_its_order_and_type(tokenizer):
    ids = tokenizer(["all dogs", "", "犬と猫"], length=8)
    assert ids.shape == (3, 8)
    assert ids.dtype == torch.int64
    assert torch.equal(ids, torch.cat([tokenizer([text], length=8) for text in ("all dogs", "", "犬と猫")]))
    assert tokenizer([], length=8).shape == (0, 8)


def test_survives_pickling(tokenizer):
    assert pickle.loads(pickle.dumps(tokenizer)).encode("all dogs") == tokenizer.encode("all dogs")
