"""Semantic-SAM's sizes, its input, its prompts, and what training needs; parity is in tests/parity."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from anygrain.models.bert import BertConfig
from anygrain.models.convnet import EfficientNetLiteConfig
from anygrain.models.semantic_sam import Prompts, SemanticSAM, inverse_sigmoid
from anygrain.models.semantic_sam_config import SemanticSAMConfig
from anygrain.resize import Resize
from anygrain.segmenter import Segmenter
from tiny_semantic_sam import build, tiny_config


def prompts(count=2, images=None):
    index = torch.zeros(count, dtype=torch.long) if images is None else torch.tensor(images)
    return Prompts(torch.rand(count, 4) * 0.5 + 0.2, torch.zeros(count, dtype=torch.long), index)


@pytest.mark.parametrize(
    ("config", "count"),
    [(SemanticSAMConfig.released_tiny(), 52_980_543), (SemanticSAMConfig.released_large(), 222_799_161)],
)
def test_the_released_networks_have_the_studys_number_of_parameters(config, count):
    with torch.device("meta"):
        network = SemanticSAM(config)
    dead = 3 * 512 * 256  # lang_mapper and two projections that no text encoder feeds
    assert sum(parameter.numel() for parameter in network.parameters()) == count - dead


def test_the_small_encoders_fit_too():
    """What the small model is made of: EfficientNet-Lite, MiniLM's form, a limited long side."""
    config = tiny_config(
        image_encoder=EfficientNetLiteConfig(width=0.25, depth=0.3),
        text_encoder=BertConfig(vocab_size=100, context_length=16, width=24, num_heads=2, layers=1, ffn_dim=32),
        resize="fit",
        input_size=128,
        templates=False,
    )
    network = SemanticSAM(config).eval()
    resize = network.make_resize((150, 100))
    assert resize.content == (128, 85)
    pixels = network.prepare([Image.new("RGB", (100, 150))], [resize])
    assert pixels.shape == (1, 3, 128, 96)
    with torch.no_grad():
        features = network.encode_image(pixels)
        (layer,) = network.decode(features, prompts())
        assert network.mask_logits(layer.mask_embeds.flatten(0, 1), features[0]).shape == (12, 32, 24)
        names = network.encode_tokens(torch.randint(1, 100, (3, 7)))
        assert network.object_logits(layer.states, names).shape == (2, 6, 3)
        torch.testing.assert_close(names.norm(dim=-1), torch.ones(3))


def test_the_margin_is_zero_after_the_normalisation():
    network = build()
    resizes = [network.make_resize((100, 150)), network.make_resize((101, 150))]
    assert {resize.canvas for resize in resizes} == {(96, 160)}
    images = [Image.new("RGB", (150, resize.source[0]), (200, 10, 90)) for resize in resizes]
    pixels = network.prepare(images, resizes)
    for row, resize in zip(pixels, resizes, strict=True):
        height, width = resize.content
        assert (row[:, height:] == 0).all()
        assert (row[:, :, width:] == 0).all()
        expected = (np.array((200, 10, 90)) - network.config.mean) / network.config.std
        np.testing.assert_allclose(row[:, height - 1, width - 1], expected, rtol=1e-5)


def test_the_short_side_is_fixed_and_panoramas_are_limited():
    assert Resize.short((480, 640), 640, 2560).content == (640, 853)
    assert Resize.short((480, 640), 640, 2560).canvas == (640, 864)
    assert Resize.short((640, 480), 640, 2560).content == (853, 640)
    assert Resize.short((500, 500), 640, 2560).content == (640, 640)
    assert Resize.short((100, 1000), 640, 2560).content == (256, 2560)
    with pytest.raises(ValueError, match="both must be at least 1"):
        Resize.short((0, 10), 640, 2560)


def test_clicks_and_boxes_of_the_photo_become_boxes_of_the_canvas():
    network = build(click_size=0.02, click_type=1)
    resize = Resize(source=(50, 100), canvas=(64, 128), content=(60, 120), kind="fit")
    boxes, types = network.clicks(np.array([[50, 25.0]]), resize)
    np.testing.assert_allclose(boxes[0], [60 / 128, 30 / 64, 0.02 * 120 / 128, 0.02 * 60 / 64], rtol=1e-6)
    assert types.tolist() == [1]
    boxes, types = network.boxes(np.array([[10, 5, 30, 45.0]]), resize)
    np.testing.assert_allclose(boxes[0], [24 / 128, 30 / 64, 24 / 128, 48 / 64], rtol=1e-6)
    assert types.tolist() == [0]


def test_training_gives_all_layers_and_gradients_everywhere():
    network = build().train()
    pixels = torch.randn(2, 3, 96, 96)
    mask_features, layers = network(pixels, prompts(3, [0, 1, 1]))
    assert len(layers) == network.config.num_layers
    masks = torch.einsum("ntc,nchw->nthw", layers[-1].mask_embeds, mask_features[torch.tensor([0, 1, 1])])
    names = network.encode_tokens(torch.randint(1, 49408, (4, 6)))
    terms = [masks.square().mean()]
    for layer in layers:
        terms += [layer.boxes.sum(), layer.predicted_iou.sum()]
        terms += [network.object_logits(layer.states, names).sum(), network.part_logits(layer.states, names).sum()]
    sum(terms).backward()
    unused = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert unused == set()
    assert network.content.weight.grad[1].abs().sum() == 0  # the official table's second row is never used


def test_a_box_passes_its_gradient_to_the_layer_before():
    """Look forward twice: the last box depends on the step before, though its reference there is detached."""
    network = build()
    with torch.no_grad():
        features = network.encode_image(torch.randn(1, 3, 96, 96))
    first, last = network.decode(features, prompts(), all_layers=True)
    (gradient,) = torch.autograd.grad(last.boxes.sum(), first.states, allow_unused=True)
    assert gradient is None  # the step is made from un-normed tokens, not from the head's states
    layer = network.layers[0].norm3
    (gradient,) = torch.autograd.grad(last.boxes.sum(), layer.bias)
    assert gradient.abs().sum() > 0


def test_joint_prompts_are_of_one_image():
    network = build()
    with torch.no_grad():
        features = network.encode_image(torch.randn(2, 3, 96, 96))
        with pytest.raises(ValueError, match="prompts that see each other must be of one image"):
            network.decode(features, prompts(2, [0, 1]), joint=True)


def test_levels_by_word_and_number():
    config = tiny_config()
    assert config.levels_of("all") == config.levels_of(None) == (1, 2, 3, 4, 5, 6)
    assert (config.levels_of("scene"), config.levels_of("object"), config.levels_of("part")) == (
        (1, 2),
        (3,),
        (4, 5, 6),
    )
    assert config.levels_of(6) == config.levels_of("6") == (6,)
    for wrong in ("whole", 0, 7, "-1", ""):
        with pytest.raises(ValueError, match="granularity must be all, part, object, scene or a level from 1 to 6"):
            config.levels_of(wrong)
    three = replace(config, num_tokens=3, levels=(2, 0, 1), scene=(1,), object=(2,), part=(3,))
    assert three.levels_of("all") == (1, 2, 3)


def test_without_a_text_encoder_or_tokenizer_names_are_refused():
    with pytest.raises(ValueError, match="no text encoder"):
        build(text_encoder=None).encode_tokens(torch.ones(1, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="without a tokenizer"):
        SemanticSAM(tiny_config()).encode_names(["dog"])


def test_the_inverse_sigmoid_stays_away_from_the_ends():
    values = inverse_sigmoid(torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0])).sigmoid()
    torch.testing.assert_close(values, torch.tensor([1e-5, 1e-5, 0.5, 1 - 1e-5, 1 - 1e-5]), atol=1e-6, rtol=0)


def test_the_smallest_photos_have_a_coarsest_map_of_one_cell():
    """One channel a group there: a norm of single numbers."""
    network = build(resize="fit", input_size=64)
    segmenter = Segmenter(network, {"name": "tiny", "fingerprint": "tiny"})
    for size in ((64, 64), (3, 5), (1, 1)):
        image = np.zeros((*size, 3), np.uint8)
        prediction = segmenter(image, points=[(size[1] / 2, size[0] / 2)])
        assert prediction.masks.shape[1:] == size
        assert np.isfinite(prediction.low_res_logits).all()
    assert network.memory_sizes(segmenter.embed([image])[0].features[0])[0] == (1, 1)
