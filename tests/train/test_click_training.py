"""Semantic-SAM under the same trainer as UniLSeg: exact resume, the three kinds of data, and that it learns."""

from dataclasses import replace

import pytest
import torch
from clicking import clicking_config, clicking_model, clicking_run, write_nested

from anygrain.images import decode_image
from anygrain.segmenter import Segmenter
from anygrain.train.log import read
from anygrain.train.optim import OptimConfig
from anygrain.train.trainer import Trainer
from nested_photos import nested


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Drawing takes longer than these runs, and test_trainer.py looks at it."""
    monkeypatch.setattr("anygrain.train.trainer._draw", lambda out_dir: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_nested(tmp_path_factory.mktemp("nested"))


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    "fields",
    [
        {"optim": OptimConfig(ema_decay=0.9, weight_decay=0.05, grad_clip=0.01)},
        {"freeze_text": False, "optim": OptimConfig(schedule="step", drop_at=(0.5, 0.75))},
    ],
)
def test_eight_steps_equal_four_and_resumed_four_to_the_bit(data, tmp_path, fields):
    config = clicking_run(data, **fields)
    straight = clicking_model()
    assert Trainer(config, straight, tmp_path / "one").train() == 8
    first = Trainer(config, clicking_model(), tmp_path / "two")
    save = first._save
    first._save = lambda name, step: (save(name, step), exec("raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):  # killed right after the checkpoint of step 4
        first.train()
    torch.manual_seed(12345)
    fresh = clicking_model()
    assert Trainer(config, fresh, tmp_path / "two").train() == 8
    assert same(weights(straight), weights(fresh))
    assert not same(weights(straight), weights(first.model))


def test_every_kind_of_loss_reaches_its_weights(data, tmp_path):
    model = clicking_model()
    before = weights(model)
    Trainer(clicking_run(data, steps=2), model, tmp_path).train()
    (line,) = read(tmp_path / "log.jsonl")
    names = {"cross_entropy", "dice", "box", "giou", "iou", "objects", "parts"}
    assert line.keys() >= {f"loss/{name}" for name in names}
    moved = {name for name, value in model.state_dict().items() if not torch.equal(before[name], value)}
    assert moved >= {"object_projection", "part_projection", "logit_scale", "prompt_types.weight", "mask_tokens.weight"}
    assert not any(name.startswith("text_encoder.") for name in moved)
    alone = clicking_model(text_encoder=None)  # masks only, as released: no text encoder, no names
    config = clicking_run(data[2:], steps=2, model=alone.config)
    Trainer(config, alone, tmp_path / "alone").train()
    (line,) = read(tmp_path / "alone" / "log.jsonl")
    assert {key for key in line if key.startswith("loss/")} == {
        "loss/total",
        *(f"loss/{name}" for name in names - {"objects", "parts"}),
    }
    with pytest.raises(ValueError, match="text_mixing is for a text encoder's prompts"):
        clicking_run(data, text_mixing=0.5)


def test_it_learns_the_masks_and_names_of_a_click(data, tmp_path):
    image = replace(clicking_config().image_encoder, drop_path=0.0)
    model = clicking_model(image_encoder=image, templates=False)
    torch.nn.init.constant_(model.logit_scale, 2.7)
    rate = OptimConfig(lr=4e-3, image_lr_factor=1.0, schedule="cosine", warmup=5)
    config = clicking_run(data[:1], steps=80, optim=rate, model=model.config, log_every=10, checkpoint_every=100)
    Trainer(config, model, tmp_path).train()
    lines = read(tmp_path / "log.jsonl")
    assert lines[-1]["loss/total"] < 0.5 * lines[0]["loss/total"]
    segmenter = Segmenter(model.eval(), {"name": "tiny", "fingerprint": "tiny"})
    house, car, wheels = nested(0).regions
    x, y = wheels.mask.box[:2]
    names = {"categories": ("car", "house"), "part_categories": ("wheel",)}
    prediction = segmenter(decode_image(nested(0).image), points=[(x + 4, y + 4)], granularity="all", **names)
    for region, least, called in ((house, 0.85, "house"), (car, 0.85, "car"), (wheels, 0.5, "car")):
        mask = region.mask.to_array()
        ious = [(mask & found).sum() / (mask | found).sum() for found in prediction.masks]
        assert max(ious) > least, called
        assert prediction.categories[ious.index(max(ious))].name == called
