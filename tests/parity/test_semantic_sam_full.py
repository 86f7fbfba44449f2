"""The released Swin-T network at full size against the official code's numbers, with synthetic weights."""

import gc
from functools import cache

import numpy as np
import pytest
import torch
from semsam_official import error, golden, pixels_of, prompts, state_dict

from anygrain.models.convert_semantic_sam import semantic_sam
from anygrain.models.semantic_sam import SemanticSAM
from anygrain.models.semantic_sam_config import SemanticSAMConfig
from anygrain.resize import Resize

pytestmark = pytest.mark.slow
FEATURES, LOGITS, BOXES, SCORES = 5e-5, 3e-4, 5e-6, 2e-5  # largest absolute errors, the study's §8
AREA, DEMO_AREA = 3, 8  # pixels
ARRAYS, META = golden("swint")
STEPS = {
    "res2": (12, 12, 12),
    "res3": (12, 6, 6),
    "res4": (16, 3, 3),
    "res5": (16, 2, 2),
    "mask_features": (16, 10, 10),
}
STEPS |= {"mem0": (16, 6, 6), "mem1": (16, 3, 3), "mem2": (16, 2, 2), "mem3": (16, 1, 1)}
IMAGES = {"A": (480, 640, 0.0), "B": (470, 630, 0.5)}


@pytest.fixture(scope="module")
def network():
    config = SemanticSAMConfig.released_tiny()
    with torch.device("meta"):
        network = SemanticSAM(config)
    network.load_state_dict(semantic_sam(state_dict(config), config), assign=True)
    yield network.eval().requires_grad_(False)
    del network
    gc.collect()


@pytest.fixture(scope="module")
def encode(network):
    """Name of an image -> all its maps, and its features; each is encoded once."""

    @cache
    def encoded(name):
        pyramid, refined = [], []
        hooks = [network.image_encoder.register_forward_hook(lambda m, i, output: pyramid.extend(output))]
        hooks += [network.pixel_decoder.register_forward_hook(lambda m, i, output: refined.extend(output.levels))]
        with torch.inference_mode():
            features = network.encode_image(pixels_of(network, *IMAGES[name]))
        for hook in hooks:
            hook.remove()
        maps = {f"res{k}": level for k, level in enumerate(pyramid, 2)} | {"mask_features": features[0]}
        return maps | {f"mem{k}": level for k, level in enumerate(refined)}, features

    yield encoded
    encoded.cache_clear()


@pytest.mark.parametrize("name", IMAGES)
def test_features(encode, name):
    maps, _ = encode(name)
    errors = {}
    for key, (channel, row, column) in STEPS.items():
        if f"{name}.{key}" in ARRAYS:
            errors[key] = error(maps[key][0, ::channel, ::row, ::column], ARRAYS[f"{name}.{key}"])
        if f"{name}.{key}.stat" in ARRAYS:  # mean, standard deviation, largest absolute value of the whole map
            flat = maps[key].double()
            stat = torch.stack([flat.mean(), flat.std(), flat.abs().max()])
            errors[f"{key}.stat"] = error(stat, ARRAYS[f"{name}.{key}.stat"])
    print(f"\nimage {name}:", {key: f"{value:.1e}" for key, value in errors.items()})
    assert len(errors) == (18 if name == "A" else 2)
    assert {key: value for key, value in errors.items() if value > FEATURES} == {}


@pytest.mark.parametrize("run", META["runs"])
def test_runs_at_all_layers(network, encode, run):
    _, features = encode("A")
    asked = META["runs"][run]
    with torch.inference_mode():
        question = prompts(asked["prompts"], asked["pb"])
        layers = network.decode(features, question, joint="block" not in asked["path"], all_layers=True)
        masks = [network.mask_logits(layer.mask_embeds.flatten(0, 1), features[0]) for layer in layers]
    limits = {"mask_logits": LOGITS, "layer_ious": SCORES, "layer_boxes": BOXES, "mask_area": AREA}
    actual = {
        "mask_logits": masks[-1][:, ::4, ::4],
        "layer_ious": torch.stack([layer.predicted_iou for layer in layers]),
        "layer_boxes": torch.stack([layer.boxes.flatten(0, 1) for layer in layers]),
        "mask_area": (masks[-1] > 0).flatten(1).sum(1),
    }
    if f"A.{run}.layer_mask_logits_s16" in ARRAYS:
        actual["layer_mask_logits_s16"] = torch.stack([layer[:, ::16, ::16] for layer in masks[:-1]])
        limits["layer_mask_logits_s16"] = LOGITS
    errors = {key: error(value, ARRAYS[f"A.{run}.{key}"]) for key, value in actual.items()}
    print(f"\n{run}:", {key: f"{value:.1e}" for key, value in errors.items()})
    assert {key: value for key, value in errors.items() if value > limits[key]} == {}


@pytest.mark.parametrize("name", IMAGES)
def test_the_demo(network, encode, name):
    _, features = encode(name)
    height, width, _ = IMAGES[name]
    canvas = (-(-height // 32) * 32, -(-width // 32) * 32)
    resize = Resize(source=(height, width), canvas=canvas, content=(height, width), kind="fit")
    boxes, types = network.clicks(np.array(META["clicks"])[:, :2] * (width, height), resize)
    if name == "B":
        assert error(boxes, ARRAYS["B.points_after_padding_scale"]) < 1e-7
    with torch.inference_mode():
        (layer,) = network.decode(features, prompts(boxes.tolist(), types.tolist()), joint=True)
        logits = network.mask_logits(layer.mask_embeds.flatten(0, 1), features[0]).numpy()
    step = 16 if name == "A" else 15
    areas = resize.masks_back(logits, 0.0).sum((1, 2))
    errors = {
        "masks": error(resize.maps_back(logits)[:, ::step, ::step], ARRAYS[f"{name}.demo.masks"]) / LOGITS,
        "ious": error(layer.predicted_iou, ARRAYS[f"{name}.demo.ious"]) / SCORES,
        "area": error(areas, ARRAYS[f"{name}.demo.area"]) / DEMO_AREA,
        "level32 ious": error(layer.predicted_iou[:, [3, 2]], ARRAYS[f"{name}.demo_level32.ious"]) / SCORES,
        "level32 area": error(areas.reshape(3, 6)[:, [3, 2]].ravel(), ARRAYS[f"{name}.demo_level32.area"]) / DEMO_AREA,
    }
    print(f"\ndemo {name}, errors over limits:", {key: f"{value:.1e}" for key, value in errors.items()})
    assert max(errors.values()) <= 1
