import json
import random

import numpy as np
import pytest
import torch
from tiny_model import tiny_model

from anygrain.train import checkpoint
from anygrain.train.distributed import Processes
from anygrain.train.log import Log, draw_curves, read
from anygrain.train.optim import OptimConfig, make_optimizer

ALONE = Processes(torch.device("cpu"))


def save(folder, model=None, step=3):
    model = model or tiny_model()
    optimizer, names = make_optimizer(model, OptimConfig())
    checkpoint.save(
        folder,
        step=step,
        model=model,
        optimizer=optimizer,
        names=names,
        average=None,
        record={"best": 1},
        processes=ALONE,
    )
    return folder


def load(folder, model=None):
    model = model or tiny_model()
    optimizer, names = make_optimizer(model, OptimConfig())
    return checkpoint.load(folder, model=model, optimizer=optimizer, names=names, average=None, processes=ALONE)


def test_random_states_come_back(tmp_path):
    save(tmp_path / "c")

    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

    wanted = draw()
    draw()
    assert load(tmp_path / "c") == (3, {"best": 1})
    assert draw() == wanted


def test_nothing_is_pickled(tmp_path):
    files = sorted(path.name for path in save(tmp_path / "c").iterdir())
    assert files == ["state.json", "state.safetensors"]
    json.loads((tmp_path / "c" / "state.json").read_text())


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    save(tmp_path / "c", step=1)
    monkeypatch.setattr(json, "dumps", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(tmp_path / "c", step=2)
    monkeypatch.undo()
    assert load(tmp_path / "c")[0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_latest_and_prune(tmp_path):
    for step in (5, 100, 20):
        save(tmp_path / checkpoint.name_of(step), step=step)
    save(tmp_path / "best")
    assert checkpoint.latest(tmp_path).name == "step-00000100"
    checkpoint.prune(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best", "step-00000020", "step-00000100"]
    assert checkpoint.latest(tmp_path / "none") is None


def test_another_model_a_missing_and_a_damaged_checkpoint_are_named(tmp_path):
    save(tmp_path / "c")
    other = tiny_model()
    other.head[0] = torch.nn.Linear(16, 33)
    with pytest.raises(ValueError, match=r"another model.*head.0.weight"):
        load(tmp_path / "c", other)
    with pytest.raises(OSError, match="no training checkpoint"):
        load(tmp_path / "d")
    file = tmp_path / "c" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        load(tmp_path / "c")


def test_a_parameter_frozen_since_is_named(tmp_path):
    model = tiny_model()
    optimizer, names = make_optimizer(model, OptimConfig())
    sum(p.square().sum() for p in model.parameters()).backward()
    optimizer.step()
    checkpoint.save(
        tmp_path / "c", step=1, model=model, optimizer=optimizer, names=names, average=None, record={}, processes=ALONE
    )
    frozen = tiny_model()
    frozen.text_encoder.requires_grad_(False)
    with pytest.raises(ValueError, match=r"text_encoder\.weight"):
        load(tmp_path / "c", frozen)


def test_log_drops_what_came_after_the_checkpoint(tmp_path):
    path = tmp_path / "log.jsonl"
    log = Log(path, 0)
    for step in (5, 10, 15):
        log.write(step, {"loss/total": 1 / step})
    with path.open("a") as file:
        file.write('{"step": 17, "loss')  # the machine died while writing
    Log(path, 10).write(12, {"loss/total": 0.5})
    assert [line["step"] for line in read(path)] == [5, 10, 12]
    assert read(path)[0]["loss/total"] == 0.2
    Log(path, 0)
    assert read(path) == []


def test_curves_show_every_number(tmp_path):
    log = Log(tmp_path / "log.jsonl", 0)
    for step in range(1, 4):
        log.write(step, {"loss/total": 1.0 / step, "loss/dice": 0.5, "lr": 1e-3, "note": "text is not drawn"})
    log.write(3, {"eval/miou": 0.5})
    draw_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    from PIL import Image

    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.height == 900  # three panels: loss, lr, eval
