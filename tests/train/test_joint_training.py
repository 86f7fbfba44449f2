"""Semantic-SAM trained on every kind of data at once, from the official files to a model folder by the command line."""

from __future__ import annotations

import shlex
from dataclasses import replace

import numpy as np
import pytest
import torch
from clicking import WordTokenizer, clicking_config

import official_sets
from anygrain import hub
from anygrain.data.clicks import ClickConfig, ClickDataset
from anygrain.data.mixture import MixtureConfig
from anygrain.data.shards import ShardReader
from anygrain.data.transforms import AugmentConfig
from anygrain.models.clip_text import CLIPTextConfig
from anygrain.models.clip_tokenizer import ClipTokenizer
from anygrain.models.pixel_decoder import PixelDecoderConfig
from anygrain.models.semantic_sam import SemanticSAM
from anygrain.models.semantic_sam_loss import PromptLossConfig
from anygrain.models.swin import SwinConfig
from anygrain.recipes import semantic_sam_swint
from anygrain.train.log import read

MASKS = {"cross_entropy", "dice", "iou"}
BOXES = {"box", "giou"}
LOSSES = {
    "masks": MASKS | BOXES,
    "objects": MASKS | BOXES | {"objects"},
    "boxes": BOXES | {"objects"},
    "parts": MASKS | BOXES | {"objects", "parts"},
}
"""Which losses each kind of data may move (the study of the released code, §4.5)."""
OPTIONS = """
--steps 4 --batch-images 4 --batch.size 64 --batch.prompts-per-image 4 --workers 0 --device cpu --log-every 1
--checkpoint-every 2 --optim.lr 1e-3 --optim.ema-decay 0.9 --model.loss.points 128
--model.image-encoder.embed-dim 16 --model.image-encoder.depths 1 1 1 1
--model.image-encoder.num-heads 1 2 2 2 --model.image-encoder.window-size 4 --model.image-encoder.drop-path 0.1
--model.text-encoder.context-length 18 --model.text-encoder.width 16 --model.text-encoder.heads 2
--model.text-encoder.layers 1 --model.text-encoder.embed-dim 16
--model.pixel-decoder.hidden-dim 64 --model.pixel-decoder.mask-dim 32 --model.pixel-decoder.num-layers 1
--model.pixel-decoder.ffn-dim 32 --model.num-layers 2 --model.ffn-dim 32
"""
"""A tiny network of the recipe, and a few steps."""
NAMES = [write.__name__ for writers in official_sets.KINDS.values() for write in writers]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Shards of all sets, made from their official files by ``anygrain data convert``."""
    from anygrain.__main__ import main

    root = tmp_path_factory.mktemp("sets")
    official_sets.write_all(root / "downloads")
    for name in NAMES:
        folder = "coco" if name == "coco_instances" else name
        assert main(["data", "convert", name, str(root / "downloads" / folder), str(root / "shards")]) == 0
    return root / "shards" / "train"


def batch_of(shards, names, images, step=0, **changes):
    still = AugmentConfig(scale=(1, 1), flip=0, jitter=0)
    fields = {"size": 64, "prompts_per_image": 6, "box_ratio": 0.3, "augment": still, "templates": False, **changes}
    config = ClickConfig(**fields)
    sources = {name: ShardReader(shards / name) for name in names}
    return ClickDataset(sources, MixtureConfig(), config, images=images, seed=0)[step]


def loss_of(model, batch):
    """Each loss, and what the network answered."""
    texts = model.encode_text(batch.texts) if batch.texts else None
    output = batch.decode(model, model.encode_image(batch.pixels), texts)
    return model.loss(output, batch), output


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SemanticSAM(clicking_config(templates=False), WordTokenizer()).eval()


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, write.__name__) for kind, writers in official_sets.KINDS.items() for write in writers]
)
def test_each_data_set_teaches_what_it_has_and_nothing_else(shards, model, kind, name):
    batch = batch_of(shards, [name], 2)
    losses, output = loss_of(model, batch)
    moving = {loss for loss, value in losses.items() if value.requires_grad and gradient(value, output).any()}
    assert moving == LOSSES[kind]
    assert all(losses[loss] > 0 for loss in moving)
    for loss in losses.keys() - moving:  # of a photo with boxes alone, masks and their IoU are nothing to learn from
        assert losses[loss] == 0
    projections = {"objects": model.object_projection, "parts": model.part_projection}
    for loss, projection in projections.items():
        if loss in losses:
            (mine,) = torch.autograd.grad(losses[loss], projection, retain_graph=True)
            assert mine.any() == (loss in moving)


def gradient(loss, output):
    """How much a loss moves what all layers predict: one number a prompt [N]."""
    parts = [part for layer in output.layers for part in layer]
    found = torch.autograd.grad(loss, parts, retain_graph=True, allow_unused=True)
    return sum(part.abs().flatten(1).sum(1) for part in found if part is not None)


def test_in_one_batch_each_photo_keeps_to_the_losses_of_its_kind(shards, model):
    batch = batch_of(shards, ["coco_instances", "objects365", "paco", "sa1b"], 8)
    losses, output = loss_of(model, batch)
    found = {kind: set() for kind in LOSSES}
    for loss, value in losses.items():
        moved = gradient(value, output)
        for image, kind in enumerate(kinds_of(batch)):
            if moved[batch.image_index == image].any():
                found[kind].add(loss)
    assert found == LOSSES


def kinds_of(batch):
    """The kind of each photo, told from its targets alone."""
    kinds = []
    for image in range(len(batch.pixels)):
        mine = batch.mask_image == image
        if not (batch.masks[mine] == 1).any():
            kinds.append("boxes")
        elif (batch.part_labels[mine] == 1).any():
            kinds.append("parts")
        else:
            kinds.append("objects" if (batch.object_labels[mine] == 1).any() else "masks")
    return kinds


def test_parts_are_split_into_the_whole_and_the_part(shards):
    expected = {
        "paco": ({"car"}, {"wheel"}),
        "pascal_part": ({"car"}, {"front wheel", "back licence plate"}),
        "partimagenet": ({"car"}, {"body", "tier"}),
        "ade20k_full": ({"house", "car", "wheel"}, {"wheel", "hub"}),
    }
    for name, (objects, parts) in expected.items():
        batch = batch_of(shards, [name], 2)
        count = batch.object_labels.shape[1]
        assert (set(batch.texts[:count]), set(batch.texts[count:])) == (objects, parts), name


def test_a_photo_with_boxes_alone_is_asked_by_boxes(shards):
    batch = batch_of(shards, ["objects365"], 2, box_type=1, box_noise=0.0)
    assert set(batch.types.tolist()) == {1}
    assert (batch.masks == 255).all()
    assert batch.masks.shape == (4, 64, 64)
    torch.testing.assert_close(batch.boxes[batch.pair_prompt], batch.mask_boxes[batch.pair_mask])
    x0, y0, x1, y1 = 8 / 64, 14 / 64, 44 / 64, 36 / 64  # the car of the first photo, which is as wide as the square
    car = torch.tensor([(x0 + x1) / 2, x1 - x0, y1 - y0])
    assert (batch.mask_boxes[:, [0, 2, 3]] - car).abs().sum(1).min() < 1e-6
    with pytest.raises(ValueError, match=r"samples in a row up to .* have nothing"):
        batch_of(shards, ["objects365"], 1, box_ratio=0.0)


def test_many_to_one_takes_the_token_whose_box_fits_where_only_boxes_are_known(shards):
    torch.manual_seed(0)
    loss = PromptLossConfig(points=128, matching="many_to_one", objects=1.0, parts=1.0)
    model = SemanticSAM(clicking_config(templates=False, loss=loss), WordTokenizer()).eval()
    torch.nn.init.normal_(model.box_head.layers[-1].weight, std=0.2)  # at first all tokens have the prompt's own box
    batch = batch_of(shards, ["objects365"], 2, max_targets=1, box_noise=1.0)
    losses, output = loss_of(model, batch)
    expected = 0.0
    for layer in output.layers:
        distance = (layer.boxes[batch.pair_prompt] - batch.mask_boxes[batch.pair_mask][:, None]).abs().sum(-1)
        expected += distance.amin(1).mean()
    torch.testing.assert_close(losses["box"], 5 * expected)
    assert losses["iou"] == losses["dice"] == losses["cross_entropy"] == 0


def test_one_run_over_all_kinds_by_the_recipe(anygrain, shards, tmp_path, monkeypatch):
    monkeypatch.setattr("anygrain.train.trainer._draw", lambda out_dir: None)  # test_trainer.py looks at it
    recipe = semantic_sam_swint.config(shards).model
    swin = SwinConfig(embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2), window_size=4, drop_path=0.1)
    tiny = replace(
        recipe,
        image_encoder=swin,
        text_encoder=CLIPTextConfig(context_length=18, width=16, heads=2, layers=1, embed_dim=16),
        pixel_decoder=PixelDecoderConfig(hidden_dim=64, mask_dim=32, num_layers=1, ffn_dim=32),
        num_layers=2,
        ffn_dim=32,
        loss=replace(recipe.loss, points=128),
    )
    torch.manual_seed(0)
    start = hub.save(SemanticSAM(tiny, ClipTokenizer()), tmp_path / "start", card="# tiny\n")
    mixture = ["--mixture.weights", *(word for name in NAMES for word in (name, "3" if name == "sa1b" else "1"))]
    run = tmp_path / "run"
    result = anygrain(
        "train", "semantic_sam_swint", "--data", shards, "--out", run, "--init", start, *shlex.split(OPTIONS), *mixture
    )
    assert result.status == 0, result.err
    lines = read(run / "log.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 5))
    seen = {key.removeprefix("loss/") for line in lines for key in line if key.startswith("loss/")}
    assert seen == {*LOSSES["parts"], "total"}
    assert all(np.isfinite(line["loss/total"]) for line in lines)
    trained = hub.read_model(run / "model")
    before = hub.read_model(start).state_dict()
    moved = {name for name, value in trained.state_dict().items() if not torch.equal(value, before[name])}
    assert {"object_projection", "part_projection", "mask_tokens.weight", "prompt_types.weight"} <= moved
    assert any(name.startswith("text_encoder.") for name in moved)
