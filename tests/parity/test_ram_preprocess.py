"""Pictures squashed and normalised as the official RAM does, to the bit, by any Pillow."""

import zlib

import fill
import numpy as np
import pytest
import torch
from official import FIXTURES
from PIL import Image

from anygrain.models.ram import RAM, RAMConfig

SIZES = {"375x500": "A", "640x427": "B", "97x131": "A", "384x900": "B"}


@pytest.fixture(scope="module")
def golden():
    return np.load(FIXTURES / "ram_preprocess_golden.npz")


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):
        network = RAM(RAMConfig.released())
    network.label_embed = torch.nn.Parameter(torch.zeros(1, 1))  # says which device pixels go to
    return network


def picture(case):
    return fill.image_u8(SIZES[case], *map(int, case.split("x")))


@pytest.mark.parametrize("case", SIZES)
def test_four_sizes(network, golden, case):
    source = picture(case)
    assert zlib.crc32(source.tobytes()) == golden[f"{case}/image_crc32"]
    squashed = network.squash(Image.fromarray(source))
    assert squashed.shape == (384, 384, 3)
    np.testing.assert_array_equal(squashed[::6, ::6], golden[f"{case}/u8_s6"])
    assert zlib.crc32(squashed.tobytes()) == golden[f"{case}/u8_crc32"]
    pixels = network.normalise(squashed[None])[0]
    error = np.abs(pixels[:, ::12, ::12].numpy() - golden[f"{case}/input_s12"]).max()
    print(f"\n{case}: bytes equal, pixels off by {error:.1e} at most (limit 1e-6)")
    assert error <= 1e-6
    flat = pixels.double().flatten(1)
    statistics = torch.stack([flat.mean(1), flat.std(1, correction=0), flat.amin(1), flat.amax(1)])
    np.testing.assert_allclose(statistics.numpy(), golden[f"{case}/input_stats"], atol=1e-6, rtol=0)


def test_grey_is_repeated_and_transparency_dropped(network, golden):
    source = picture("97x131")
    grey = network.squash(Image.fromarray(source[..., 1]))
    assert zlib.crc32(grey.tobytes()) == golden["grey/u8_crc32"]
    ramp = np.broadcast_to(np.linspace(0, 255, 131).astype(np.uint8), (97, 131))
    clear = network.squash(Image.fromarray(np.dstack([source, ramp])))
    for name, squashed in (("grey", grey), ("rgba", clear)):
        pixels = network.normalise(squashed[None])[0, :, ::12, ::12].numpy()
        assert np.abs(pixels - golden[f"{name}/input_s12"]).max() <= 1e-6, name
