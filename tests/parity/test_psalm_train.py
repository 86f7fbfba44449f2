"""Training a small PSALM for one step against the official code: matches, losses and gradients of all four task types.

Every random number is the one that the official run drew, in its order.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict

import numpy as np
import pytest
import torch
from psalm_golden import ByteTokenizer, golden, official_state, pixels_of, tiny_config
from test_psalm_tiny import CONFIG, NAMES

from anygrain.models.convert import official_name
from anygrain.models.psalm.convert import NAMES as RULES
from anygrain.models.psalm.convert import psalm
from anygrain.models.psalm.loss import LossConfig, Target, segmentation_losses, text_loss
from anygrain.models.psalm.network import PSALM
from anygrain.models.psalm.prompts import Question, about_categories, about_phrase, about_regions

LOSSES, GRADIENTS = 2e-5, 1e-3  # relative; the gradients' to the largest number of the array


@pytest.fixture
def model():
    model = PSALM(dataclasses.replace(tiny_config(), region_sampling="random"), ByteTokenizer())
    model.load_state_dict(psalm(official_state(), tiny_config())[0])
    return model.eval()


@pytest.fixture
def replay(monkeypatch):
    """Random numbers of a golden file in place of PyTorch's; a draw of another kind or shape is an error."""

    def start(arrays):
        drawn = [(name, torch.from_numpy(arrays[name])) for name in sorted(arrays) if name.startswith("rng.")]

        def take(kind, shape):
            name, numbers = drawn.pop(0)
            assert name.split(".")[-1] == kind
            assert tuple(numbers.shape) == tuple(shape)
            return numbers

        monkeypatch.setattr(torch, "rand", lambda *shape, device=None: take("rand", shape))
        monkeypatch.setattr(torch, "randperm", lambda count: take("randperm", (count,)))
        return drawn

    return start


def questions_of(task, arrays, tokenizer):
    if task == "panoptic":  # the official code shuffles the names; random_idx says where each is said
        return [about_categories(tokenizer, NAMES, order=np.argsort(row).tolist()) for row in arrays["in.random_idx"]]
    if task == "referring":
        return [
            about_phrase(tokenizer, ["the large cat on the left", "cat near wall"]),
            about_phrase(tokenizer, ["dark blob"]),
        ]
    return [about_regions(tokenizer, len(arrays[f"in.seg_info.{i}.region_masks"])) for i in range(2)]


def targets_of(task, arrays):
    targets = []
    for i in range(2):
        masks = torch.from_numpy(arrays[f"in.seg_info.{i}.gt_masks"])
        numbers = {
            "panoptic": torch.from_numpy(arrays[f"in.seg_info.{i}.gt_classes"]),
            "referring": torch.zeros(len(masks), dtype=torch.long),
            "region": torch.arange(len(masks)),
        }
        targets.append(Target(masks, numbers[task]))
    return targets


def check_gradients(model, arrays):
    """Every gradient of the golden, and that no other parameter has one."""
    ours = defaultdict(list)
    for name, parameter in model.named_parameters():
        ours[official_name(name, RULES)].append(parameter.grad)
    checked = 0
    for name, expected in arrays.items():
        kind, _, key = name.partition(".")
        if kind == "grad":
            (found,) = ours[key]
            error = np.abs(found.numpy() - expected).max() / np.abs(expected).max()
        elif kind == "gradnorm":
            parts = ours[key] if key != "__all__" else [g for grads in ours.values() for g in grads if g is not None]
            error = abs(float(sum(part.square().sum() for part in parts)) ** 0.5 / expected - 1)
        else:
            continue
        assert error < GRADIENTS, f"{key}: {error}"
        checked += 1
    assert checked >= 8
    without = {key for key, grads in ours.items() if grads[0] is None}
    dead = {"predictor.query_feat.weight", "predictor.SEG_query_embed.weight"}  # ours has no such parameters
    assert without == set(arrays["grad_none"].tolist()) - dead


KINDS = {
    "panoptic": ("categories", "class_name_class"),
    "referring": ("phrase", "SEG_class"),
    "region": ("regions", "region_class"),
}


@pytest.mark.parametrize("task", KINDS)
def test_matches_losses_and_gradients_equal_the_official_ones(model, replay, task):
    arrays, (kind, name) = golden(f"train_{task}"), KINDS[task]
    questions = questions_of(task, arrays, model.tokenizer)
    masks = [torch.from_numpy(arrays[f"in.seg_info.{i}.region_masks"]) for i in range(2)] if task == "region" else ()
    config = LossConfig(points=CONFIG["loss"]["num_points"])
    left = replay(arrays)
    levels = model.levels(model.image_encoder(pixels_of(arrays["in.images_u8"])), questions, masks)
    losses, matches = segmentation_losses(levels, targets_of(task, arrays), kind, config)
    assert left == []
    for level, pairs in zip(("last", "aux0", "aux1", "aux2", "aux3"), matches, strict=True):
        for row, pair in enumerate(pairs):
            assert np.array_equal(torch.stack(pair), arrays[f"match.{level}.{row}"]), f"{level}, picture {row}"
    for ours, theirs in {"class": name, "mask": "mask", "dice": "dice"}.items():
        expected = arrays[f"loss.total.loss_{theirs}"]
        assert losses[ours].item() == pytest.approx(float(expected), rel=LOSSES)
    total = torch.stack(list(losses.values())).sum()
    assert total.item() == pytest.approx(float(arrays["loss.total.loss"]), rel=LOSSES)
    total.backward()
    check_gradients(model, arrays)


def test_a_chat_equals_the_official_one(model):
    arrays = golden("train_mm_conv")
    lengths = arrays["in.attention_mask"].sum(1)
    rows = range(2)
    ids = [arrays["in.input_ids"][row, : lengths[row]].tolist() for row in rows]
    questions = [Question(tuple(row), (-1,) * len(row), "text") for row in ids]
    labels = model.labels(questions, [arrays["in.labels"][row, : lengths[row]].tolist() for row in rows])
    logits = model.next_words(model.image_encoder(pixels_of(arrays["in.images_u8"])), questions)
    added = logits.shape[1] - len(ids[0])  # the picture's tokens but one
    for row in rows:
        real = np.arange(0, logits.shape[1], 12) < lengths[row] + added
        error = np.abs(logits.detach()[row, ::12].numpy() - arrays["out.lm_logits"][row])[real].max()
        assert error < 3e-5
    loss = text_loss(logits, labels)
    assert loss.item() == pytest.approx(float(arrays["loss.total.loss"]), rel=LOSSES)
    loss.backward()
    check_gradients(model, arrays)


def test_gradient_checkpointing_changes_no_gradient(model):
    arrays = golden("train_referring")
    pixels, questions = pixels_of(arrays["in.images_u8"][:1]), questions_of("referring", arrays, model.tokenizer)[:1]
    grads = []
    for checkpointing in (False, True):
        model.zero_grad()
        model.language.train()  # the rest stays in eval mode: no dropped path, no new statistics
        model.language.checkpointing = checkpointing
        answer = model.levels(model.image_encoder(pixels), questions)[-1][0]
        (answer.logits.sum() + answer.mask_logits.mean()).backward()
        grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    assert all(torch.allclose(grads[0][name], grads[1][name], atol=1e-6) for name in grads[0])


def test_a_batch_without_an_object_is_refused(model):
    with pytest.raises(ValueError, match="no picture of the batch has an object"):
        segmentation_losses([], [Target(torch.zeros(0, 8, 8), torch.zeros(0, dtype=torch.long))], "phrase")
