"""Deformable attention against ``grid_sample`` level by level, and the forms of the pixel decoder."""

import pytest
import torch
from torch.nn import functional as F

from anygrain.models.pixel_decoder import DeformableAttention, PixelDecoder, PixelDecoderConfig, gather

SIZES = [(9, 13), (5, 7), (3, 4), (2, 2)]
HEADS, WIDTH = 4, 32


def sampled(value, places, weights):
    """What ``gather`` must give, one image at a time, by PyTorch's own bilinear sampling."""
    channels, start, parts = value.shape[-1] // HEADS, 0, []
    for level, (height, width) in enumerate(SIZES):
        here = value[:, start : start + height * width].unflatten(2, (HEADS, channels))
        here = here.permute(0, 2, 3, 1).reshape(-1, channels, height, width)
        grid = 2 * places[:, :, :, level] / torch.tensor([width, height]) - 1
        grid = grid.transpose(1, 2).flatten(0, 1)
        parts.append(F.grid_sample(here, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
        start += height * width
    found = torch.stack(parts, -2) * weights.transpose(1, 2).flatten(0, 1)[:, None]
    return found.sum((-1, -2)).unflatten(0, (-1, HEADS)).permute(0, 3, 1, 2).flatten(2)


def random_questions(images=2, queries=11):
    torch.manual_seed(0)
    total = sum(height * width for height, width in SIZES)
    value = torch.randn(images, total, WIDTH, dtype=torch.float32)
    extent = torch.tensor([[width, height] for height, width in SIZES])
    places = (torch.rand(images, queries, HEADS, 4, 3, 2) * 1.6 - 0.3) * extent[:, None]  # many of them outside
    places[0, 0] = torch.tensor([0.0, 0.0])
    places[0, 1] = torch.tensor([0.5, 1.5])  # a cell's very centre
    weights = torch.rand(images, queries, HEADS, 4, 3)
    return value, places, weights


def test_gathering_equals_bilinear_sampling_with_zeros_around():
    value, places, weights = random_questions()
    torch.testing.assert_close(gather(value, places, weights, SIZES), sampled(value, places, weights))


def test_gradients_are_those_of_bilinear_sampling():
    results = []
    for function in (lambda *inputs: gather(*inputs, SIZES), sampled):
        value, places, weights = (tensor.requires_grad_() for tensor in random_questions())
        places_off = places + 0.013  # at a cell's centre the slope has a step
        (function(value, places_off, weights) * torch.arange(WIDTH)).sum().backward()
        results.append((value.grad, places.grad, weights.grad))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-3)


def test_rows_look_into_the_image_they_belong_to():
    value, places, weights = random_questions()
    swapped = gather(value, places.flip(0), weights.flip(0), SIZES, torch.tensor([1, 0]))
    torch.testing.assert_close(swapped.flip(0), gather(value, places, weights, SIZES))


def test_a_place_that_is_no_number_gives_no_number_and_does_not_crash():
    value, places, weights = random_questions()
    places[0, 3] = torch.nan
    found = gather(value, places, weights, SIZES)
    assert found[0, 3].isnan().all()
    assert found[0, 2].isfinite().all()


def test_attention_in_pieces_equals_attention_at_once(monkeypatch):
    torch.manual_seed(1)
    attention = DeformableAttention(WIDTH, HEADS, 4, 3)
    torch.nn.init.normal_(attention.sampling_offsets.weight)
    torch.nn.init.normal_(attention.attention_weights.weight)
    queries, reference = torch.randn(2, 11, WIDTH), torch.rand(1, 11, 4)
    value = attention.project_value(torch.randn(2, 168, WIDTH))
    with torch.no_grad():
        whole = attention(queries, reference, value, SIZES)
        monkeypatch.setattr("anygrain.models.pixel_decoder._PLACES_AT_ONCE", 300)
        torch.testing.assert_close(attention(queries, reference, value, SIZES), whole)


@pytest.mark.parametrize("config", [PixelDecoderConfig(), PixelDecoderConfig.psalm()])
def test_both_official_forms_give_a_map_of_stride_4_and_levels_in_their_order(config):
    from dataclasses import replace

    small = replace(config, hidden_dim=32, mask_dim=24, num_layers=1, ffn_dim=16)
    decoder = PixelDecoder(small, (8, 16, 32, 64)).eval()
    pyramid = [torch.randn(2, 8 * 2**k, 24 // 2**k, 40 // 2**k) for k in range(4)]
    with torch.no_grad():
        features = decoder(pyramid)
    assert features.mask_features.shape == (2, 24, 24, 40)
    sizes = [(12, 20), (6, 10), (3, 5), (2, 3)][: small.num_levels]
    if config.order == "coarse_to_fine":
        sizes = sizes[::-1]
    assert [tuple(level.shape[-2:]) for level in features.levels] == sizes
    names = set(decoder.state_dict())
    assert ("lateral.0.bias" in names) == config.top_down_bias


def test_a_width_that_cannot_be_normed_is_refused():
    with pytest.raises(ValueError, match="multiple of 32, got 40"):
        PixelDecoder(PixelDecoderConfig(hidden_dim=40), (8, 16, 32, 64))
