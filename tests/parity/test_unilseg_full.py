"""The released network at full size against the official code's numbers: arrays at 480 px, and file + text -> mask.

Weights are synthetic (``fill.py``), 197 M of them, in the form of the released file. Prints the largest errors.
"""

import gc
import zlib

import fill
import numpy as np
import pytest
import torch
from official import FIXTURES, arrays_of, state_dict
from PIL import Image

from anygrain import hub
from anygrain.models.clip_tokenizer import ClipTokenizer
from anygrain.models.convert import unilseg
from anygrain.models.unilseg import UniLSeg, UniLSegConfig
from anygrain.types import Prompt

pytestmark = pytest.mark.slow
MAPS, LOGITS, PROBABILITY = 5e-5, 2e-4, 2e-5  # largest absolute error, README of the goldens
PIXELS, THRESHOLD, NEAR = 5, 0.35, 1e-4  # how many may differ, and only with a probability this near the threshold
STEP = {1: 6, 2: 4, 3: 2, 4: 1}  # every which row and column of a level the goldens keep


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):
        network = UniLSeg(UniLSegConfig.released(), ClipTokenizer())
    network.load_state_dict(unilseg(state_dict(UniLSegConfig.released())), assign=True)
    yield network.eval()
    del network
    gc.collect()


def thinned(name, array):
    """The part of an array that the goldens keep."""
    kind, _, level = name.partition("_")
    if name == "pixel_output":
        return array[:, ::8, ::6, ::6]
    if name == "visual_proj":
        return array[:, ::8]
    if kind in ("swin", "fused", "block", "fpn"):
        step = STEP[int(level)]
        return array[:2, :: 8 if kind == "swin" else 16, ::step, ::step]
    return array


def statistics(array):
    """[N, C, 3]: mean, standard deviation and largest value of each map."""
    flat = array.double().flatten(2)
    return torch.stack([flat.mean(2), flat.std(2, correction=0), flat.amax(2)], -1)


@pytest.mark.parametrize("image", ["A", "B"])
def test_arrays_equal_the_official_ones(network, image):
    golden = np.load(FIXTURES / "unilseg_golden.npz")
    picture = fill.image_u8(image, 480, 480)
    assert zlib.crc32(picture.tobytes()) == golden[f"{image}/image_crc32"]
    pixels = torch.from_numpy(fill.normalise(picture))[None]
    arrays = arrays_of(network, pixels, torch.from_numpy(golden["tokens"]))
    errors = {}
    for key in golden.files:
        name = key.split("/")[-1]
        if not key.startswith((f"{image}/", "words", "sentence", "text_proj")) or name == "image_crc32":
            continue
        if name.endswith("_stats"):
            actual = statistics(arrays[name.removesuffix("_stats")])
        elif name == "logits_fp64_row0":
            actual = arrays["logits"][:1]
        else:
            actual = thinned(name, arrays[name])
        expected = torch.from_numpy(golden[key])
        assert actual.shape == expected.shape, name
        errors[name] = (actual - expected).abs().max().item()
    print(f"\nlargest errors at full size, image {image}:", {name: f"{error:.1e}" for name, error in errors.items()})
    assert len(errors) == (29 if image == "A" else 15)
    assert {name: error for name, error in errors.items() if error > (LOGITS if "logits" in name else MAPS)} == {}


@pytest.fixture(scope="module")
def segmenter(network, tmp_path_factory):
    folder = hub.save(network, tmp_path_factory.mktemp("models") / "released", card="# Synthetic weights\n")
    return hub.load(folder, device="cpu")


@pytest.mark.filterwarnings("ignore:.*is longer than the model's 17 tokens")
@pytest.mark.parametrize("case", ["a_dogs", "a_salient", "a_long", "b_cats", "b_midzero"])
def test_a_file_and_a_text_give_the_official_mask(segmenter, tmp_path, case):
    file = np.load(FIXTURES / "unilseg_e2e_golden.npz")
    golden = {name: file[f"{case}/{name}"] for name in ("prompt", "tokens", "hw", "image", "mask_bits", "prob_s4")}
    text, size = str(golden["prompt"]), tuple(golden["hw"].tolist())
    np.testing.assert_array_equal(segmenter.model.tokenizer([text], 17), golden["tokens"])
    Image.fromarray(fill.image_u8(str(golden["image"]), *size)).save(tmp_path / "photo.png")

    (embedding,) = segmenter.embed([tmp_path / "photo.png"])
    (prediction,) = segmenter.segment([embedding], [Prompt(text=text)])
    probability = segmenter.model.probabilities(torch.from_numpy(prediction.low_res_logits), embedding.resize)[0]
    error = np.abs(probability[::4, ::4] - golden["prob_s4"]).max()
    expected = np.unpackbits(golden["mask_bits"], count=size[0] * size[1]).reshape(size).astype(bool)
    differs = prediction.masks[0] != expected
    print(f"\n{case}: probability off by {error:.1e} at most, {differs.sum()} of {differs.size} pixels differ")
    assert error <= PROBABILITY
    assert differs.sum() <= PIXELS
    assert (np.abs(probability[differs] - THRESHOLD) < NEAR).all()
