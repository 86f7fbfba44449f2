"""Every intermediate array of a small UniLSeg against the official code's, in execution order.

The first array that is off tells where the mistake is.
"""

import zlib

import fill
import numpy as np
import pytest
import torch
from official import FIXTURES, arrays_of, state_dict, tiny_config

from anygrain.models.convert import unilseg
from anygrain.models.unilseg import UniLSeg

MAPS, LOGITS = 2e-5, 4e-5  # largest absolute error; the official code in float32 is 3e-6 and 6e-6 from float64
CASES = {  # image, height, width
    "square": ("A", 96, 96),
    "wide": ("B", 96, 128),
    "tall": ("B", 128, 96),
    "odd": ("A", 100, 84),  # padding in windows, merging and shrinking
}


@pytest.fixture(scope="module")
def golden():
    return np.load(FIXTURES / "unilseg_tiny_golden.npz")


@pytest.fixture(scope="module")
def model():
    model = UniLSeg(tiny_config())
    model.load_state_dict(unilseg(state_dict(tiny_config()), tiny_config()))
    return model.eval()


def pixels_of(case):
    return torch.from_numpy(fill.normalise(fill.image_u8(*CASES[case])))[None]


def run(model, case, tokens):
    return arrays_of(model, pixels_of(case), tokens)


def execution_order(name):
    steps = ["swin", "words", "sentence", "fused", "adapter", "block", "fpn", "pixel", "visual", "text", "query"]
    return next((i for i, step in enumerate(steps) if name.startswith(step)), len(steps))


@pytest.mark.parametrize("case", CASES)
def test_this_machine_makes_the_same_image(golden, case):
    assert zlib.crc32(fill.image_u8(*CASES[case]).tobytes()) == golden[f"{case}/image_crc32"]


@pytest.mark.parametrize("case", CASES)
def test_arrays_equal_the_official_ones(model, golden, case):
    tokens = torch.from_numpy(golden[f"{case}/tokens"])
    arrays = run(model, case, tokens)
    names = [name.split("/")[1] for name in golden.files if name.startswith(case + "/")]
    names = [name for name in names if name not in ("tokens", "image_crc32", "logits_fp64")]
    assert len(names) == (27 if case == "square" else 7)
    for name in sorted(names, key=execution_order):
        expected = torch.from_numpy(golden[f"{case}/{name}"])
        actual = arrays[name] if name == "query_output" else arrays[name][: len(expected)]  # maps: the first rows only
        limit = LOGITS if name == "logits" else MAPS
        torch.testing.assert_close(actual, expected, atol=limit, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


def test_logits_are_near_those_of_double_precision(model, golden):
    tokens = torch.from_numpy(golden["square/tokens"])
    exact = torch.from_numpy(golden["square/logits_fp64"])
    assert (run(model, "square", tokens)["logits"] - exact).abs().max() < LOGITS


@pytest.mark.parametrize("row", range(4))
def test_a_prompt_alone_equals_its_row_of_the_batch(model, golden, row):
    tokens = torch.from_numpy(golden["square/tokens"])
    alone = run(model, "square", tokens[row : row + 1])["logits"]
    torch.testing.assert_close(alone[0], torch.from_numpy(golden["square/logits"])[row], atol=LOGITS, rtol=0)


def test_several_images_in_one_batch_equal_the_images_alone(model):
    tokens = torch.from_numpy(fill.TOKENS_TINY)
    pixels = [torch.from_numpy(fill.normalise(fill.image_u8(name, 84, 100)))[None] for name in "AB"]
    index = torch.tensor([1, 0, 1, 1])
    with torch.inference_mode():
        text = model.encode_tokens(tokens)
        together = model.decode(model.encode_image(torch.cat(pixels)), text, index).mask_logits
        for row, image in enumerate(index.tolist()):
            alone = model.decode(
                model.encode_image(pixels[image]), model.encode_tokens(tokens[row : row + 1]), torch.tensor([0])
            ).mask_logits
            torch.testing.assert_close(together[row : row + 1], alone, atol=LOGITS, rtol=0)
