"""Every array of a small Semantic-SAM against the official code's, in execution order."""

import numpy as np
import pytest
import torch
from semsam_official import FIXTURES, error, golden, pixels_of, prompts, tiny_network

from anygrain.models.convert_semantic_sam import semantic_sam
from anygrain.models.layers import sine_2d, to_map

FEATURES, LOGITS, NAMES, TEXT = 2e-5, 5e-5, 2e-5, 1e-5  # largest absolute errors, as in the study's check
ARRAYS, META = golden("tiny")
CLICKS, BOXES = META["clicks"], META["boxes"]
RUNS = {  # prompts, types, joint
    "clicks_joint": (CLICKS, None, True),
    "click0_alone": (CLICKS[:1], None, True),
    "boxes_joint": (BOXES, None, True),
    "mixed_blockmask": (CLICKS + BOXES, [1, 1, 1, 0, 0], False),
    "semantic": (CLICKS, None, True),
}


@pytest.fixture(scope="module")
def network():
    return tiny_network()


@pytest.fixture(scope="module")
def features(network):
    with torch.no_grad():
        return network.encode_image(pixels_of(network, 70, 90, 0.25))


@pytest.fixture(scope="module")
def names(network):
    """Unit vectors of the goldens' names, from their token ids: object names, part names."""
    vectors = []
    with torch.no_grad():
        for kind in ("object", "part"):
            ids = torch.from_numpy(ARRAYS[f"text.tokens_{kind}"]).long()  # [K, 81, 8]
            rows = network.encode_tokens(ids.flatten(0, 1)).view(*ids.shape[:2], -1).mean(1)
            vectors.append(torch.nn.functional.normalize(rows, dim=-1))
    return vectors


def test_the_weight_file_is_what_the_filling_rule_says():
    from safetensors.torch import load_file

    from anygrain.models.semantic_sam import SemanticSAM

    network = SemanticSAM(tiny_network().config)
    official = load_file(FIXTURES / "semsam_tiny_weights.safetensors")
    network.load_state_dict(semantic_sam(official, network.config))
    expected = tiny_network().state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())


def test_the_input_is_normalised_then_padded(network):
    assert error(pixels_of(network, 70, 90, 0.25)[0], ARRAYS["input_padded"]) < 1e-6


def test_the_image_encoder_and_the_pixel_decoder(network):
    kept = {}

    def keep(name):
        return lambda module, inputs, output: kept.update({name: output})

    watched = {"enc.layer0": network.pixel_decoder.layers[0], "enc.layer1": network.pixel_decoder.layers[1]}
    watched |= {"enc.attn0": network.pixel_decoder.layers[0].self_attn}
    hooks = [module.register_forward_hook(keep(name)) for name, module in watched.items()]
    with torch.no_grad():
        pyramid = network.image_encoder(pixels_of(network, 70, 90, 0.25))
        mask_features, levels = network.pixel_decoder(pyramid)
    for hook in hooks:
        hook.remove()
    kept |= {f"res{k}": level for k, level in enumerate(pyramid, 2)}
    kept |= {f"mem{k}": level for k, level in enumerate(levels)}
    table = sine_2d(32, 12, 12, mask_features.device, first=1.0)
    kept |= {"mask_features": mask_features, "pos_sine_mem0": to_map(table[None], (12, 12))}
    assert len(kept) == 13
    for name, value in kept.items():
        assert error(value[0], ARRAYS[name]) < (1e-6 if "pos" in name else FEATURES), name


@pytest.mark.parametrize("run", RUNS)
def test_masks_boxes_and_scores_of_all_layers(network, features, run):
    boxes, types, joint = RUNS[run]
    with torch.no_grad():
        layers = network.decode(features, prompts(boxes, types), joint=joint, all_layers=True)
        assert len(layers) == 2
        for layer, prefix in zip(layers, (f"{run}.aux0", run), strict=True):
            masks = network.mask_logits(layer.mask_embeds.flatten(0, 1), features[0])
            assert error(masks, ARRAYS[f"{prefix}.masks"]) < LOGITS
            assert error(layer.predicted_iou, ARRAYS[f"{prefix}.ious"]) < LOGITS
            assert error(layer.boxes.flatten(0, 1), ARRAYS[f"{prefix}.boxes"]) < LOGITS


@pytest.mark.parametrize("run", ["clicks_joint", "mixed_blockmask"])
def test_the_inside_of_the_decoder(network, features, run):
    kept = {}

    def keep(name):
        return lambda module, inputs, output: kept.update({name: output.flatten(0, 1)})

    hooks = []
    for number, layer in enumerate(network.layers):
        parts = {"self": layer.self_attn, "cross": layer.cross_attn, "layer": layer}
        hooks += [part.register_forward_hook(keep(f"{run}.dec.{name}{number}")) for name, part in parts.items()]
    boxes, types, joint = RUNS[run]
    with torch.no_grad():
        network.decode(features, prompts(boxes, types), joint=joint)
    for hook in hooks:
        hook.remove()
    for number in range(2):
        for name in ("self", "cross", "layer"):
            key = f"{run}.dec.{name}{number}"
            assert error(kept[key], ARRAYS[key]) < FEATURES, key


def test_names(network, features, names):
    for kind, vectors in zip(("object", "part"), names, strict=True):
        assert error(vectors, ARRAYS[f"text.emb_{kind}"]) < TEXT
    with torch.no_grad():
        layers = network.decode(features, prompts(CLICKS), joint=True, all_layers=True)
        for layer, prefix in zip(layers, ("semantic.aux0", "semantic"), strict=True):
            states = layer.states.flatten(0, 1)
            assert error(network.object_logits(states, names[0]), ARRAYS[f"{prefix}.cls_object"]) < NAMES
            assert error(network.part_logits(states, names[1]), ARRAYS[f"{prefix}.cls_part"]) < NAMES


def test_prompts_alone_equal_prompts_together(network, features):
    boxes, types = CLICKS + BOXES, [0, 0, 1, 1, 0]
    with torch.no_grad():
        (together,) = network.decode(features, prompts(boxes, types))
        for row, (box, kind) in enumerate(zip(boxes, types, strict=True)):
            (alone,) = network.decode(features, prompts([box], [kind]))
            for ours, expected in zip(alone, together, strict=True):
                torch.testing.assert_close(ours[0], expected[row], atol=FEATURES, rtol=0)


def test_prompts_about_several_images_equal_the_images_alone(network):
    pixels = [pixels_of(network, 70, 90, phase) for phase in (0.25, 0.9)]
    index = torch.tensor([1, 0, 1])
    with torch.no_grad():
        features = network.encode_image(torch.cat(pixels))
        (together,) = network.decode(features, prompts(CLICKS)._replace(image_index=index))
        for row, image in enumerate(index.tolist()):
            alone = network.encode_image(pixels[image])
            (expected,) = network.decode(alone, prompts(CLICKS[row : row + 1]))
            torch.testing.assert_close(together.mask_embeds[row], expected.mask_embeds[0], atol=FEATURES, rtol=0)
            torch.testing.assert_close(features[0][image], alone[0][0], atol=FEATURES, rtol=0)


def test_the_resize_gives_the_official_demo(network, features):
    """Clicks on the image before padding, masks of its size."""
    from anygrain.resize import Resize

    resize = Resize(source=(70, 90), canvas=(96, 96), content=(70, 90), kind="fit")
    points = np.array(CLICKS)[:, :2] * (90, 70)
    boxes, types = network.clicks(points, resize)
    assert error(boxes, ARRAYS["demo.points_scaled"]) < 1e-6
    with torch.no_grad():
        (layer,) = network.decode(features, prompts(boxes.tolist(), types.tolist()), joint=True)
        logits = network.mask_logits(layer.mask_embeds.flatten(0, 1), features[0])
    maps = resize.maps_back(logits.numpy())
    assert error(maps[:, ::2, ::2], ARRAYS["demo.masks"]) < LOGITS
    assert error(layer.predicted_iou, ARRAYS["demo.ious"]) < LOGITS
    areas = resize.masks_back(logits.numpy(), 0.0).sum((1, 2))
    assert np.abs(areas - ARRAYS["demo.area"]).max() <= 1
    tokens = [3, 0, 5]
    assert error(layer.predicted_iou[:, tokens], ARRAYS["demo_l305.ious"]) < LOGITS
    assert np.abs(areas.reshape(3, 6)[:, tokens].ravel() - ARRAYS["demo_l305.area"]).max() <= 1
