"""CLIP's text tower beyond its numbers (see parity/): padding, end token, length."""

import pytest
import torch

from anygrain.models.clip_text import CLIPText, CLIPTextConfig

CONFIG = CLIPTextConfig(vocab_size=60, context_length=9, width=16, heads=2, layers=2, embed_dim=12)
END = 59


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return CLIPText(CONFIG).eval()


def test_shapes(encoder):
    words, sentence = encoder(torch.tensor([[1, 2, END], [1, END, 0]]))
    assert words.shape == (2, 3, encoder.width) == (2, 3, 16)
    assert sentence.shape == (2, encoder.sentence_dim) == (2, 12)


def test_padding_changes_nothing_before_it(encoder):
    short, padded = torch.tensor([[1, 5, END]]), torch.tensor([[1, 5, END, 0, 0, 0]])
    words, sentence = encoder(short)
    padded_words, padded_sentence = encoder(padded)
    torch.testing.assert_close(padded_words[:, :3], words)
    torch.testing.assert_close(padded_sentence, sentence)


def test_the_first_of_two_end_tokens_is_the_sentence(encoder):
    words, sentence = encoder(torch.tensor([[1, END, 5, END]]))
    torch.testing.assert_close(sentence, words[:, 1] @ encoder.projection)


def test_a_text_beyond_the_context_is_an_error(encoder):
    with pytest.raises(ValueError, match="10 tokens does not fit the 9"):
        encoder(torch.ones(1, 10, dtype=torch.int64))


def test_exports_with_a_free_batch_size(encoder):
    batch, ids = torch.export.Dim("batch", min=1, max=64), torch.tensor([[1, 2, END], [1, END, 0], [3, 4, END]])
    program = torch.export.export(encoder, (ids[:2],), dynamic_shapes=({0: batch},))
    for exported, direct in zip(program.module()(ids), encoder(ids), strict=True):
        torch.testing.assert_close(exported, direct)
