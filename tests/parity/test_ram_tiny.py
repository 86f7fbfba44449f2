"""Every intermediate array of a small RAM against the official code's, in execution order.

The first array that is off tells where the mistake is. Three mistakes hardly show in the logits, so their arrays have
tighter limits: the eps of the norms (``patch_embed``, ``dec0/cross``) and the place of the mean token (``tokens``).
"""

import re
import zlib

import fill
import numpy as np
import official_ram
import pytest
import torch
from official import FIXTURES

from anygrain.models.convert_ram import ram
from anygrain.models.ram import RAM

# Largest absolute error by name, first match wins; README of the goldens.
LIMITS = [
    (r"patch_embed", 5e-6),
    (r"dec0/cross", 1.2e-5),
    (r"dec\d/q", 2e-4),  # these span +-42
    (r"dec\d/.*|.*/attn", 3e-5),
    (r"prob", 1e-5),
    (r".*", 2e-5),
]
CASES = ("A", "B")


def limit(name):
    return next(value for pattern, value in LIMITS if re.fullmatch(pattern, name))


@pytest.fixture(scope="module")
def golden():
    return np.load(FIXTURES / "ram_tiny_golden.npz")


@pytest.fixture(scope="module")
def model():
    model = RAM(official_ram.tiny_config())
    model.load_state_dict(ram(official_ram.tiny_state(), official_ram.tiny_config()))
    return model.eval()


@pytest.fixture(scope="module")
def pixels():
    return torch.cat([official_ram.normalise(fill.image_u8(name, 96, 96)) for name in CASES])


@pytest.fixture(scope="module")
def arrays(model, pixels):
    arrays = official_ram.arrays_of(model, pixels)
    for name in ("block_0_0", "block_0_1", "block_3_1"):
        stage, index = map(int, name.split("_")[1:])
        block = model.image_encoder.stages[stage].blocks[index]
        arrays[f"{name}/attn"] = official_ram.window_attention(arrays[f"{name}/qkv"], block, 24 // 2**stage)
    return arrays


def test_this_machine_makes_the_same_images(golden):
    assert [zlib.crc32(fill.image_u8(name, 96, 96).tobytes()) for name in CASES] == golden["image_crc32"].tolist()


def test_all_arrays_equal_the_official_ones(golden, arrays):
    names = [name for name in golden.files if name not in ("image_crc32", "logits_fp64", "positive")]
    assert len(names) == 54
    errors = {}
    for name in names:  # in execution order but for "wordvec"
        expected = torch.from_numpy(golden[name])
        assert arrays[name].shape == expected.shape, name
        errors[name] = (arrays[name] - expected).abs().max().item()
    print("\nlargest errors, tiny:", {name: f"{error:.1e} / {limit(name):.1e}" for name, error in errors.items()})
    assert {name: error for name, error in errors.items() if not error <= limit(name)} == {}


def test_attention_made_here_is_what_the_network_uses(golden, arrays, model):
    """The goldens' attention is compared with softmax written out in the tests: tie it to what the network computed."""
    for name, heads in (("block_0_1", 1), ("block_3_1", 8)):
        stage, index = map(int, name.split("_")[1:])
        v = arrays[f"{name}/qkv"].unflatten(2, (3, heads, -1))[:, :, 2].transpose(1, 2)
        found = (torch.from_numpy(golden[f"{name}/attn"]) @ v).transpose(1, 2).flatten(2)
        projection = model.image_encoder.stages[stage].blocks[index].attn.proj
        with torch.inference_mode():
            torch.testing.assert_close(projection(found), arrays[f"{name}/proj"], atol=3e-5, rtol=0)
    for layer in range(2):
        v = arrays[f"dec{layer}/v"].unflatten(-1, (4, -1)).transpose(1, 2)
        found = (torch.from_numpy(golden[f"dec{layer}/attn"]) @ v).transpose(1, 2).flatten(2)
        torch.testing.assert_close(found, arrays[f"dec{layer}/context"], atol=3e-5, rtol=0)


def test_logits_are_near_those_of_double_precision(golden, arrays):
    assert np.abs(arrays["logits"].numpy() - golden["logits_fp64"]).max() < 2e-5


def test_an_image_alone_equals_its_row_of_the_batch(model, pixels, arrays):
    with torch.inference_mode():
        for row in range(2):
            torch.testing.assert_close(model(pixels[row : row + 1])[0], arrays["logits"][row], atol=2e-5, rtol=0)


def test_the_queries_of_the_tags_can_be_kept(model, pixels, arrays):
    with torch.inference_mode():
        kept = model.decode(model.encode_image(pixels), model.tag_queries())
    assert torch.equal(kept, arrays["logits"])


def test_a_folder_of_it_gives_the_official_tags(model, golden, tmp_path):
    """Through the model folder, the tagger's fast layers and per-tag thresholds, with the official deletions."""
    from anygrain import hub

    model.tags = official_ram.tiny_tags()
    tagger = hub.load_tagger(hub.save(model, tmp_path / "ram", card="# Synthetic\n"), device="cpu")
    pictures = [fill.image_u8(name, 96, 96) for name in CASES]
    assert np.abs(tagger.probabilities(pictures) - golden["prob"]).max() <= 1e-5
    without = [tagger.names[index] for index in official_ram.settings()["delete_tag_index"]]
    for row, tags in enumerate(tagger.tags(pictures, without=without)):
        expected = np.flatnonzero(golden["positive"][row])
        assert len(expected) > 0
        assert [name for name, _ in tags] == [tagger.names[index] for index in expected]
        np.testing.assert_allclose([score for _, score in tags], golden["prob"][row][expected], atol=1e-5, rtol=0)
    every = {name for tags in tagger.tags(pictures) for name, _ in tags}
    assert every & set(without), "a deleted tag is above its threshold: the deletion is seen"
