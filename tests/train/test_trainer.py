import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_model import TinyModel, tiny_model, tiny_run, write_photos

from anygrain.data.transforms import AugmentConfig
from anygrain.train import checkpoint
from anygrain.train.log import read
from anygrain.train.optim import OptimConfig
from anygrain.train.trainer import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos") / "tiny", 6)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"channels_last": False, "workers": 2},
        {"bf16": True, "optim": OptimConfig(ema_decay=0.9, warmup=4, weight_decay=0.1, grad_clip=0.5)},
        {"freeze_text": False, "freeze_image_steps": 12, "optim": OptimConfig(schedule="cosine")},
        {"text_mixing": 0.3},
    ],
)
def test_twenty_steps_equal_ten_and_resumed_ten_to_the_bit(data, tmp_path, fields):
    config = tiny_run(data, **fields)
    straight, resumed = tiny_model(), tiny_model()
    one = Trainer(config, straight, tmp_path / "one")
    assert one.train() == 20

    first = Trainer(config, resumed, tmp_path / "two")
    first.evaluate = lambda model, step: os.kill(os.getpid(), signal.SIGINT) or {}  # Ctrl-C during step 10
    assert first.train() == 10
    torch.manual_seed(12345)  # whatever happens between the two runs must not matter
    fresh = TinyModel(config.model)
    two = Trainer(config, fresh, tmp_path / "two")
    assert two.train() == 20

    assert same(weights(straight), weights(fresh))
    assert not same(weights(straight), weights(resumed))
    if one.average and two.average:
        assert same(one.average.weights, two.average.weights)
        assert not same(one.average.weights, {k: v for k, v in weights(fresh).items() if k in one.average.weights})
    assert timeless_log(tmp_path / "one") == timeless_log(tmp_path / "two")


def timeless_log(run):
    lines = [line for line in read(run / "log.jsonl") if "loss/total" in line]
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    return [{name: value for name, value in line.items() if "second" not in name} for line in lines]


def test_overfits_two_photos(tmp_path):
    still = AugmentConfig(scale=(1, 1), flip=0, jitter=0)
    config = tiny_run(
        write_photos(tmp_path / "two", 2), steps=150, eval_every=1000, optim=OptimConfig(lr=1e-2, image_lr_factor=1.0)
    )
    config = replace(config, batch=replace(config.batch, augment=still, prompts_per_image=3))
    Trainer(config, tiny_model(dropout=0.0), tmp_path / "run").train()
    losses = [line["loss/total"] for line in read(tmp_path / "run" / "log.jsonl")]
    assert losses[-1] < 0.25 * losses[0]
    assert losses[-1] < 0.3


def test_the_run_folder(data, tmp_path):
    config = tiny_run(data, steps=24, checkpoint_every=6, keep_checkpoints=2, eval_every=8, best_metric="score")
    scores = {8: 0.5, 16: 0.9, 24: 0.7}
    Trainer(config, tiny_model(), tmp_path, evaluate=lambda model, step: {"score": scores[step]}).train()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["best", "step-00000018", "step-00000024"]
    assert checkpoint.load_weights(tmp_path / "checkpoints" / "best", tiny_model()) == 16
    lines = read(tmp_path / "log.jsonl")
    assert [line["step"] for line in lines if "loss/total" in line] == [5, 10, 15, 20, 24]
    assert {line["step"]: line["eval/score"] for line in lines if "eval/score" in line} == scores
    train_line = lines[0]
    assert train_line["loss/total"] == pytest.approx(
        train_line["loss/dice"] + train_line["loss/cross_entropy"], rel=1e-4
    )
    assert train_line["images_per_second"] > 0
    assert train_line.keys() >= {"lr", "gradient_norm", "seconds/loader", "seconds/step"}
    with Image.open(tmp_path / "curves.png") as picture:
        assert min(picture.size) > 300
    assert json.loads((tmp_path / "config.json").read_text())["optim"]["lr"] == config.optim.lr


def test_a_finished_or_foreign_folder(data, tmp_path):
    config = tiny_run(data, steps=3)
    model = tiny_model()
    Trainer(config, model, tmp_path).train()
    done = weights(model)
    again = Trainer(config, tiny_model(), tmp_path)
    assert again.train() == 3
    assert same(weights(again.model), done)
    with pytest.raises(ValueError, match="earlier run"):
        Trainer(config, tiny_model(), tmp_path).train(resume=False)


def test_frozen_parts_stay_and_frozen_texts_are_encoded_once(data, tmp_path):
    model = tiny_model()
    before = weights(model)
    Trainer(tiny_run(data, steps=6, freeze_image_steps=6), model, tmp_path / "a").train()
    after = weights(model)
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"head"}  # not even the statistics of the frozen BatchNorm
    assert len(model.encoded) == len(set(model.encoded)) == 3

    model = tiny_model()
    Trainer(tiny_run(data, steps=6, freeze_text=False, freeze_image_norm=True), model, tmp_path / "b").train()
    after = weights(model)
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"head", "text_encoder", "image_encoder"}
    assert torch.equal(before["image_encoder.1.running_mean"], after["image_encoder.1.running_mean"])
    assert not torch.equal(before["image_encoder.0.weight"], after["image_encoder.0.weight"])


def test_mixed_texts_are_trained_on_when_asked_for(data, tmp_path):
    plain, mixed = tiny_model(), tiny_model()
    Trainer(tiny_run(data, steps=3), plain, tmp_path / "a").train()
    Trainer(tiny_run(data, steps=3, text_mixing=0.4), mixed, tmp_path / "b").train()
    assert not same(weights(plain), weights(mixed))
    assert len(mixed.encoded) == len(set(mixed.encoded))  # what is remembered is the text as it is
    assert mixed.encoded[:3] == ["all zebra", "all weather", "all seven"]  # not the puppy, which is held out
    with pytest.raises(ValueError, match="text_mixing must lie between 0 and 1, got 1"):
        tiny_run(data, text_mixing=1)
    with pytest.raises(ValueError, match="text_mixing needs a text encoder that stays as it is"):
        tiny_run(data, text_mixing=0.4, freeze_text=False)


def test_evaluation_sees_the_averaged_weights_in_evaluation_mode(data, tmp_path):
    model, seen = tiny_model(), {}

    def evaluate(model, step):
        seen[step] = model.training, weights(model)
        return {}

    config = tiny_run(data, optim=OptimConfig(lr=1e-2, ema_decay=0.99))
    trainer = Trainer(config, model, tmp_path, evaluate=evaluate)
    trainer.train()
    training, last = seen[20]
    assert not training
    assert torch.equal(last["head.0.weight"], trainer.average.weights["head.0.weight"])
    assert not torch.equal(last["head.0.weight"], model.head[0].weight)
    alone = tiny_model()
    checkpoint.load_weights(tmp_path / "checkpoints" / checkpoint.name_of(20), alone)
    assert same(weights(alone), last)


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_checkpoint(data, tmp_path):
    model = tiny_model()
    honest = model.loss

    def loss(output, batch):
        losses = honest(output, batch)
        return losses | {"dice": losses["dice"] * float("nan")} if len(calls) == 13 else losses

    calls = []
    model.loss = lambda output, batch: (calls.append(1), loss(output, batch))[1]
    with pytest.raises(ValueError, match=r"step 13: the loss is not finite.*dice nan"):
        Trainer(tiny_run(data), model, tmp_path).train()
    assert checkpoint.load_weights(checkpoint.latest(tmp_path / "checkpoints"), tiny_model()) == 10
    assert all(torch.isfinite(tensor).all() for tensor in weights(model).values())


def test_a_run_that_failed_leaves_no_worker_waiting(data, tmp_path):
    model = tiny_model()
    model.loss = lambda output, batch: {}["no such loss"]
    with pytest.raises(KeyError, match="no such loss") as failure:
        Trainer(tiny_run(data, workers=1), model, tmp_path).train()
    assert failure.traceback  # which holds the stream of batches
    assert not multiprocessing.active_children()


def test_a_missing_best_metric_is_named(data, tmp_path):
    config = tiny_run(data, eval_every=2, best_metric="miou")
    with pytest.raises(ValueError, match=r"'miou'.*'iou'"):
        Trainer(config, tiny_model(), tmp_path, evaluate=lambda model, step: {"iou": 0.5}).train()


def test_without_matplotlib_training_goes_on_and_says_what_to_install(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert Trainer(tiny_run(data, steps=2), tiny_model(), tmp_path).train() == 2
    assert "anygrain[train]" in capsys.readouterr().err
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_stopping_the_process_group_leaves_a_checkpoint_and_no_traceback(data, tmp_path, number):
    out = tmp_path / "run"
    script = Path(__file__).with_name("tiny_model.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(data), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (out / "log.jsonl").exists() or not (out / "log.jsonl").read_text():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, number)  # as a terminal and a job manager do: the loader's workers get it too
        printed, complaints = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 0, complaints
    assert "Traceback" not in complaints
    reached = int(printed.split()[-1])
    assert reached >= 5
    assert checkpoint.load_weights(checkpoint.latest(out / "checkpoints"), tiny_model()) == reached


@pytest.mark.parametrize("field", ["batch_images", "steps", "log_every", "keep_checkpoints"])
def test_impossible_settings_are_named(data, field):
    with pytest.raises(ValueError, match=field):
        tiny_run(data, **{field: 0})
