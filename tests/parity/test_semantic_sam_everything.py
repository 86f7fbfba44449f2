"""The automatic generator, the predictor's clean-up and the clicks of the evaluation against the official code's."""

import math

import numpy as np
import pytest
import semsam_fill
import semsam_formulas
import torch
from semsam_official import error, golden, pixels_of, prompts, tiny_network, tiny_segmenter

from anygrain.eval.click_meters import middle
from anygrain.eval.metrics import overlap
from anygrain.everything import Clicked, EverythingOptions, clean, everything, extent
from anygrain.resize import Resize
from anygrain.types import Prompt

ARRAYS, META = golden("amg")
LEVELS = (3, 2, 0, 4, 1, 5)  # token of level 1..6


class Formulas:
    """Masks by formula in the place of a network: a code is a click and a token."""

    size = final_size = (60, 80)

    def __init__(self, levels):
        self.levels = levels

    def click(self, points):
        tokens = [LEVELS[level - 1] for level in self.levels]
        for start in range(0, len(points), 7):
            part = points[start : start + 7]
            _, ious = semsam_formulas.amg_masks(part.astype(np.float32), tokens, *self.size)
            codes = [(x, y, token) for x, y in part.astype(np.float32) for token in tokens]
            yield part, Clicked(np.array(codes), ious.ravel())

    def logits(self, codes):
        for x, y, token in codes:
            yield semsam_formulas.amg_masks(np.array([(x, y)]), [int(token)], *self.size)[0]

    def masks(self, codes):
        for logits in self.logits(codes):
            yield logits[0] > 0

    def names(self, codes):
        return [(None, None)] * len(codes)


def compare(found, prefix, size):
    """A list of proposals with a golden, field by field."""
    height, width = size
    boxes = np.array([extent(one.mask.to_array()) for one in found])
    boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    points = np.array([one.point for one in found]) / (width, height)
    assert error([one.mask.area for one in found], ARRAYS[f"{prefix}.area"]) == 0
    assert error(boxes, ARRAYS[f"{prefix}.bbox"]) == 0
    assert error([one.predicted_iou for one in found], ARRAYS[f"{prefix}.predicted_iou"]) < 1e-5
    assert error([one.stability for one in found], ARRAYS[f"{prefix}.stability_score"]) < 1e-6
    assert error(points, ARRAYS[f"{prefix}.point"][:, :2]) < 1e-6


OPTIONS = {
    "all": {},
    "lv36": {"max_overlap": 0.5},
    "nofilter": {"min_predicted_iou": 0.0, "min_stability": 0.5, "min_area": 0},
}


@pytest.mark.parametrize("case", OPTIONS)
def test_the_generator_on_masks_by_formula(case):
    levels = META[case]["level"]
    assert [LEVELS[level - 1] for level in levels] == META[case]["tokens"]
    options = EverythingOptions(points_per_side=5, **OPTIONS[case])
    found = everything(Formulas(levels), options, dict.fromkeys(levels, "object"))
    assert len(found) == META[case]["n"]
    compare(found, case, (60, 80))
    packed = np.stack([np.packbits(one.mask.to_array()) for one in found])
    np.testing.assert_array_equal(packed, ARRAYS[f"{case}.seg_packed"])


def test_the_generator_on_the_tiny_network():
    segmenter = tiny_segmenter(70)
    (embedding,) = segmenter.embed([semsam_fill.image_formula(70, 90, 0.25).transpose(1, 2, 0)])
    case = META["tiny"]
    options = EverythingOptions(
        points_per_side=case["points_per_side"],
        min_predicted_iou=case["pred_iou_thresh"],
        min_stability=case["stability"],
        stability_offset=case["stability_offset"],
        max_overlap=case["nms"],
        min_area=case["min_mask_region_area"],
        joint=case["points_per_batch"],
    )
    compare(segmenter.propose(embedding, options), "tiny", (70, 90))


def test_the_predictor_and_its_clean_up():
    """One click, all masks above a very low threshold, best first, each without small holes and islands."""
    segmenter = tiny_segmenter(70)
    point = np.array(META["pred"]["point"]) * (90, 70)
    image = semsam_fill.image_formula(70, 90, 0.25).transpose(1, 2, 0)
    prediction = segmenter(image, points=[tuple(point)])
    order = np.argsort(-prediction.predicted_iou, kind="stable")
    masks = prediction.masks[order]
    assert error(prediction.predicted_iou[order], np.sort(ARRAYS["pred.ious"])[::-1]) < 5e-5
    assert sorted(masks.sum((1, 2))) == sorted(ARRAYS["pred.raw_area"])
    cleaned = np.stack([np.packbits(clean(mask, 100)[0]) for mask in masks])
    np.testing.assert_array_equal(cleaned, ARRAYS["pred.clean_masks_packed"])


def test_clicks_asked_together_see_each_other_only_when_told_to():
    arrays, meta = golden("tiny")
    image = semsam_fill.image_formula(70, 90, 0.25).transpose(1, 2, 0)
    points = np.array(meta["clicks"])[:, :2] * (90, 70)
    prompts = [Prompt(points=(tuple(point),)) for point in points.tolist()]
    joint = tiny_segmenter(70, joint=True)
    answers = list(joint.answer(joint.embed([image])[0], prompts))
    found = np.stack([ious_by_level(answer) for answer in answers])
    expected = arrays["demo.ious"][:, list(LEVELS)]
    assert np.nanmax(np.abs(found - expected)) < 5e-5
    assert np.isfinite(found).mean() > 0.5
    alone = tiny_segmenter(70)
    (embedding,) = alone.embed([image])
    together = list(alone.answer(embedding, prompts))
    for prompt, answer in zip(prompts, together, strict=True):
        (single,) = alone.answer(embedding, [prompt])
        np.testing.assert_allclose(single.predicted_iou, answer.predicted_iou, atol=1e-5)
        np.testing.assert_allclose(single.low_res_logits, answer.low_res_logits, atol=5e-5)
    apart = np.stack([ious_by_level(answer) for answer in together])
    assert np.nanmax(np.abs(apart - expected)) > 1e-2


def ious_by_level(prediction):
    """Predicted IoU of each of the six levels, nan where a mask was merged into another."""
    values = np.full(6, math.nan)
    for levels, iou in zip(prediction.levels, prediction.predicted_iou, strict=True):
        if len(levels) == 1:
            values[levels[0] - 1] = iou
    return values


def test_the_golden_file_is_read_whole():
    assert torch.is_inference_mode_enabled() is False
    assert {name.split(".")[0] for name in ARRAYS} == {"all", "lv36", "nofilter", "tiny", "pred", "eval"}


def test_the_clicks_of_the_evaluation():
    arrays, _ = golden("criterion")
    masks = semsam_formulas.gt_masks(64, 80)
    masks = [*masks, masks[0] & ~masks[4], masks[3] & ~masks[1]]
    found = np.array([middle(mask) for mask in masks])
    np.testing.assert_array_equal(found, arrays["center_click_xy"])


def test_the_evaluation_on_the_tiny_network():
    """One click in the middle of each mask, a box of 6 pixels; the IoU of the surest and of the best of six masks."""
    network = tiny_network()
    truths = semsam_formulas.gt_masks(96, 96)
    clicks = np.array([middle(mask) for mask in truths]) / 96
    boxes = np.concatenate([clicks, np.full_like(clicks, 6 / 96)], 1).tolist()
    with torch.no_grad():
        features = network.encode_image(pixels_of(network, 96, 96, 0.75))
        (layer,) = network.decode(features, prompts(boxes))
        logits = network.mask_logits(layer.mask_embeds.flatten(0, 1), features[0])
    masks = Resize(source=(96, 96), canvas=(96, 96), content=(96, 96), kind="fit").masks_back(logits.numpy(), 0.0)
    pairs = zip(masks.reshape(8, 6, 96, 96), truths, strict=True)
    ious = np.array([[overlap(mask, truth.astype(np.uint8)).iou for mask in six] for six, truth in pairs])
    surest = layer.predicted_iou.argmax(1).numpy()
    assert error(ious[np.arange(8), surest], ARRAYS["eval.max_iou"]) < 1e-5
    assert error(ious.max(1), ARRAYS["eval.oracle_iou"]) < 1e-5
