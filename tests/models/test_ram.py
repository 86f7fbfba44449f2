"""RAM beyond its numbers (see parity/): sizes, independence of the tags, memory of its folder, bad input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from anygrain.models.ram import RAM, RAMConfig
from anygrain.models.swin import Swin
from anygrain.models.tags import TagList
from tiny_ram import build, tiny_config


@pytest.fixture
def network():
    return build()


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_the_released_sizes():
    with torch.device("meta"):
        network = RAM(RAMConfig.released())
    assert network.config.image_encoder.channels == (192, 384, 768, 1536)
    assert network.label_embed.shape == (4585, 512)
    assert [name for name, _ in network.image_encoder.norms.named_parameters()] == ["3.weight", "3.bias"]


@torch.inference_mode()
def test_a_tag_scored_alone_has_the_same_logit(network, pixels):
    image, queries = network.encode_image(pixels), network.tag_queries()
    every = network.decode(image, queries)
    assert every.shape == (2, 6)
    assert every.std(1).min() > 0.01  # the tags differ
    for tag in range(6):
        torch.testing.assert_close(network.decode(image, queries[:, tag : tag + 1])[:, 0], every[:, tag])


@torch.inference_mode()
def test_the_first_token_is_the_mean_of_the_others(network, pixels):
    tokens = network.encode_image(pixels)
    assert tokens.shape == (2, 1 + 2 * 2, 16)
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1:].mean(1))  # the projection is linear


def test_another_size_is_refused(network):
    with pytest.raises(ValueError, match=r"pixels must be \[B, 3, 64, 64\], got \[1, 3, 64, 96\]"):
        network.encode_image(torch.zeros(1, 3, 64, 96))


def test_any_picture_is_squashed_to_the_input(network):
    for mode, size in (("RGB", (7, 300)), ("L", (64, 64)), ("P", (90, 20)), ("RGBA", (5, 5)), ("1", (40, 90))):
        squashed = network.squash(Image.new(mode, size))
        assert (squashed.shape, squashed.dtype) == ((64, 64, 3), np.uint8)


@torch.inference_mode()
def test_a_map_of_one_window_is_not_shifted_but_larger_ones_are():
    torch.manual_seed(0)
    dense = Swin(
        replace(tiny_config().image_encoder, shift_single_window=True, out_levels=(3, 4), depths=(2, 2, 2, 2))
    ).eval()
    for block in (block for stage in dense.stages for block in stage.blocks):
        torch.nn.init.normal_(block.attn.bias_table)
    plain = Swin(replace(dense.config, shift_single_window=False)).eval()
    plain.load_state_dict(dense.state_dict())
    pixels = torch.randn(1, 3, 64, 64)  # maps of 16, 8, 4 and 2 tokens a side, windows of 2
    third, fourth = zip(dense(pixels), plain(pixels), strict=True)
    torch.testing.assert_close(*third)
    assert (fourth[0] - fourth[1]).abs().max() > 1e-3


def test_tags_are_one_name_and_one_threshold_each(tmp_path):
    tags = TagList(names=("dog", "犬"), thresholds=(0.5, 1.0))
    tags.write(tmp_path / "tags.json")
    assert TagList.read(tmp_path / "tags.json") == tags
    with pytest.raises(ValueError, match="1 names but 2 thresholds"):
        TagList(names=("dog",), thresholds=(0.5, 0.6))
    with pytest.raises(ValueError, match="from 0 to 1, not 2"):
        TagList(names=("dog",), thresholds=(2.0,))
    (tmp_path / "tags.json").write_text('{"names": ["dog"], "thresholds": [0.5, 0.6]}')
    with pytest.raises(ValueError, match=r"tags\.json: .*1 names but 2 thresholds"):
        TagList.read(tmp_path / "tags.json")
