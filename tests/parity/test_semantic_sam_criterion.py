"""Matching, every loss and every gradient of Semantic-SAM's training against the official code's."""

import copy
from types import SimpleNamespace

import pytest
import semsam_formulas
import torch
from semsam_official import error, golden, pixels_of, tiny_network

from anygrain.data.clicks import ClickConfig, jitter_boxes
from anygrain.models.convert import official_name
from anygrain.models.convert_semantic_sam import NAMES, tied_keys
from anygrain.models.semantic_sam import LayerOutput, Prompts, TrainingOutput
from anygrain.models.semantic_sam_loss import (
    Answers,
    Pairs,
    PromptLossConfig,
    layer_losses,
    match,
    matching_costs,
    name_loss,
    prompt_losses,
)

COST, LOSS, TOTAL, GRADIENT = 2e-4, 2e-6, 2e-5, 2e-6  # largest absolute errors, as in the study's check
STEP_LOSS, STEP_NORM = 2e-4, 3e-4  # of a whole training step; the second is relative
ARRAYS, META = golden("criterion")
TINY, TINY_META = golden("tiny")
OFFICIAL = {  # our name of a loss -> the official one
    "cross_entropy": "loss_mask_bce",
    "dice": "loss_mask_dice",
    "box": "loss_bbox",
    "giou": "loss_giou",
    "iou": "iou_score_loss",
    "objects": "loss_mask_cls",
    "parts": "loss_mask_part_cls",
}
FIELDS = ("pred_masks", "pred_boxes", "pred_ious")


@pytest.fixture
def draws(monkeypatch):
    """Call with a base: the k-th ``torch.rand`` from then on is the goldens' k-th array; gives the shapes asked for."""

    def start(base, shapes=()):
        asked = list(shapes)

        def rand(*shape, device=None):
            asked.append(list(shape))
            return torch.from_numpy(semsam_formulas.rand(base + len(asked) - 1, shape))

        monkeypatch.setattr(torch, "rand", rand)
        return asked

    return start


def targets(masks, boxes, of_prompts, objects=None, parts=None):
    """All that the losses read, of prompts about one image: the masks of each, and the name of each mask, if any."""
    masks, count = torch.as_tensor(masks), len(of_prompts)

    def labels(names, number):
        rows = torch.zeros(len(masks), number, dtype=torch.uint8)
        for mask, name in zip([masks for (masks,) in of_prompts] if names else (), names or (), strict=True):
            rows[mask, name] = 1
        return rows

    return SimpleNamespace(
        image_index=torch.zeros(count, dtype=torch.long),
        masks=masks.to(torch.uint8),
        mask_boxes=torch.as_tensor(boxes),
        mask_image=torch.zeros(len(masks), dtype=torch.long),
        pair_prompt=torch.repeat_interleave(torch.tensor([len(rows) for rows in of_prompts])),
        pair_mask=torch.tensor([mask for rows in of_prompts for mask in rows]),
        object_labels=labels(objects, 5 if objects else 0),
        part_labels=labels(parts, 3 if parts else 0),
        object_others=torch.zeros(1, 5 if objects else 0, dtype=torch.uint8),
        part_others=torch.zeros(1, 3 if parts else 0, dtype=torch.uint8),
    )


def criterion_case(case):
    """The goldens' two layers, as a network whose pixel embeddings are the masks themselves: layers (last one last),
    mask features, and the leaves whose gradients the goldens hold."""
    names = ("pred_logits", "pred_logits_part") if case == "mo1" else ()
    leaves = {
        layer: {k: torch.from_numpy(ARRAYS[f"{case}.{layer}.{k}"]).requires_grad_() for k in (*FIELDS, *names)}
        for layer in ("aux", "out")
    }
    features = torch.cat([leaves[layer]["pred_masks"] for layer in ("aux", "out")])[None]  # [1, 48, h, w]
    layers = []
    for number, values in enumerate(leaves.values()):
        embeds = torch.eye(48)[24 * number : 24 * (number + 1)].view(4, 6, 48)
        output = LayerOutput(
            torch.zeros(4, 6, 1), embeds, values["pred_ious"].view(4, 6), values["pred_boxes"].view(4, 6, 4)
        )
        layers.append(Answers(output, *(values[name].view(4, 6, -1) for name in names)))
    return layers, features, leaves


def criterion_targets(case):
    meta = META[case]
    masks, boxes = semsam_formulas.gt_masks(40, 56), ARRAYS["gt_boxes_cxcywh"]
    if case == "m2m":
        return targets(masks, boxes, meta["level_target_inds"])
    return targets(masks, boxes, [[mask] for mask in meta["gt_index"]], meta["whole"], meta["part"])


def test_many_to_many_costs_and_assignment(draws):
    asked, wanted = draws(META["m2m"]["rand_base"]), criterion_targets("m2m")
    layers, features, _ = criterion_case("m2m")
    config = PromptLossConfig(points=100)
    cost = matching_costs(layers[-1].output, features, wanted, config)
    assert asked == [META["m2m"]["rand_log"][0][1]]
    expected = torch.from_numpy(ARRAYS["m2m.cost"])  # [24, 14], 1e6 where a column is of another prompt
    start = 0
    for prompt, masks in enumerate(META["m2m"]["level_target_inds"]):
        block = expected[6 * prompt : 6 * (prompt + 1), start : start + len(masks)]
        assert error(cost[prompt, :, : len(masks)], block.numpy()) < COST
        start += len(masks)
    draws(META["m2m"]["rand_base"])
    pairs = match(layers[-1].output, features, wanted, config)
    assert (6 * pairs.prompt + pairs.token).tolist() == ARRAYS["m2m.src"].tolist()
    assert pairs.mask.tolist() == wanted.pair_mask[ARRAYS["m2m.tgt"]].tolist()


@pytest.mark.parametrize("case", ["m2m", "mo1"])
def test_every_loss_and_gradient(case, draws):
    meta, wanted = META[case], criterion_targets(case)
    layers, features, leaves = criterion_case(case)
    config = PromptLossConfig(points=100, matching="many_to_many" if case == "m2m" else "many_to_one")
    asked = draws(meta["rand_base"])
    pairs = Pairs(wanted.pair_prompt, None, wanted.pair_mask)
    if case == "m2m":
        pairs = match(layers[-1].output, features, wanted, config)
    for number, answers in enumerate((layers[-1], layers[0])):
        losses = layer_losses(answers, features, wanted, config, pairs)
        assert len(losses) == (5 if case == "m2m" else 7)
        for name, loss in losses.items():
            expected = meta["losses_unweighted"][f"{OFFICIAL[name]}_{number}"]
            assert abs(loss.item() - expected) < LOSS * max(1, expected), name
    assert asked == [shape for _, shape in meta["rand_log"]]

    draws(meta["rand_base"])
    total = torch.stack(list(prompt_losses(layers, features, wanted, config).values())).sum()
    assert abs(total.item() - meta["weighted_total"]) < TOTAL * max(1, meta["weighted_total"] / 10)
    total.backward()
    for layer, values in leaves.items():
        for name, value in values.items():
            assert error(value.grad, ARRAYS[f"{case}.{layer}.grad.{name}"]) < GRADIENT, (layer, name)


def test_names_in_many_to_many():
    meta = META["m2m_part_cls"]
    logits = torch.from_numpy(ARRAYS["mo1.out.pred_logits_part"]).view(4, 6, 3)
    rows = torch.tensor(meta["src"])
    labels = torch.nn.functional.one_hot(torch.tensor(meta["classes"]), 3).to(torch.uint8)
    others = torch.zeros(4, 3, dtype=torch.uint8)
    loss = name_loss(logits, labels, others, rows // 6, rows % 6, "many_to_many")
    assert abs(loss.item() - meta["value"]) < LOSS


def test_a_whole_training_step(draws):
    meta = TINY_META["train"]
    network = copy.deepcopy(tiny_network()).train()
    network.config = copy.copy(network.config)
    object.__setattr__(network.config, "loss", PromptLossConfig(points=64))
    pixels = pixels_of(network, 96, 96, 0.75)
    numbers = semsam_formulas.rand(meta["rand_seed_base"], (len(TINY["train.pb"]), 4))
    boxes = torch.from_numpy(jitter_boxes(TINY["train.points_cxcywh"], ClickConfig().click_noise, numbers))
    prompts = Prompts(boxes, torch.from_numpy(TINY["train.pb"]).long(), torch.zeros(len(boxes), dtype=torch.long))
    wanted = targets(semsam_formulas.gt_masks(96, 96), TINY["train.image_gt_boxes_cxcywh"], meta["level_target_inds"])
    noise = meta["rand_log"][:1]  # the official step draws the noise of the boxes first
    asked = draws(meta["rand_seed_base"], [shape for _, shape in noise])
    features, layers = network(pixels, prompts)
    losses = network.loss(TrainingOutput(features, layers), wanted)
    assert asked == [shape for _, shape in meta["rand_log"]]
    expected = dict(zip(meta["loss_names"], TINY["train.losses_weighted"].tolist(), strict=True))
    for name, loss in losses.items():
        official = [value for key, value in expected.items() if key.startswith(f"sam.{OFFICIAL[name]}_")]
        assert len(official) == 2
        assert abs(loss.item() - sum(official)) < STEP_LOSS, name
    total = torch.stack(list(losses.values())).sum()
    assert abs(total.item() - float(TINY["train.total"][0])) < 2 * STEP_LOSS
    total.backward()

    norms = {official_name(name, NAMES): parameter.grad for name, parameter in network.named_parameters()}
    copies, compared = tied_keys(network.config), 0
    for name, norm in meta["grad_norms"].items():
        if name not in norms:
            assert name in copies or name.endswith("lang_mapper"), name
            continue
        mine = 0.0 if norms[name] is None else norms[name].norm().item()
        assert abs(mine - norm) < STEP_NORM * (norm + 1e-3), name
        compared += 1
    assert compared > 200


def test_photos_of_one_batch_are_matched_apart(monkeypatch):
    """Two photos together find the tokens that each finds alone."""
    (_, layer), features, _ = criterion_case("m2m")
    other = SimpleNamespace(**vars(criterion_targets("m2m")))
    config = PromptLossConfig(points=100)
    points = torch.from_numpy(semsam_formulas.rand(1, (1, 100, 2)))
    monkeypatch.setattr(torch, "rand", lambda count, *rest, device=None: points.expand(count, -1, -1))
    alone = match(layer.output, features, other, config)
    two = LayerOutput(*(torch.cat([field, field.flip(0)]) for field in layer.output))
    flipped = [[7 - mask for mask in masks] for masks in META["m2m"]["level_target_inds"][::-1]]
    second = targets(other.masks.flip(0), other.mask_boxes.flip(0), flipped)
    both = SimpleNamespace(
        image_index=torch.tensor([0] * 4 + [1] * 4),
        masks=torch.cat([other.masks, second.masks]),
        mask_boxes=torch.cat([other.mask_boxes, second.mask_boxes]),
        mask_image=torch.tensor([0] * 8 + [1] * 8),
        pair_prompt=torch.cat([other.pair_prompt, second.pair_prompt + 4]),
        pair_mask=torch.cat([other.pair_mask, second.pair_mask + 8]),
    )
    together = match(two, torch.cat([features, features]), both, config)
    assert torch.stack(together)[:, :14].equal(torch.stack(alone))
    mirrored = {(3 - p, t, 7 - m) for p, t, m in torch.stack(alone).T.tolist()}
    assert {(p - 4, t, m - 8) for p, t, m in torch.stack(together)[:, 14:].T.tolist()} == mirrored
