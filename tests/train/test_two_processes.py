"""Two processes that share the weights (FSDP2 over gloo) train as one process does, and resume."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from psalming import psalm_model, zoo

from anygrain.data.shards import write_shards
from anygrain.train import checkpoint
from anygrain.train.log import read

SCRIPT = Path(__file__).parent / "two_processes.py"
gloo = torch.distributed.is_available() and torch.distributed.is_gloo_available()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not gloo, reason="this torch has no gloo")]


def run(processes, *arguments):
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(start if processes > 1 else []), str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def curve(folder, name):
    return [row[name] for row in read(folder / "log.jsonl") if name in row]


@pytest.mark.parametrize(("task", "tolerance"), [("chat", 1e-5), ("referring", 0.02)])
def test_two_processes_equal_one(task, tolerance, tmp_path):
    """Each process sees the same photo, so that their mean is that of one; random points of masks differ."""
    dog = zoo()[0]
    write_shards([dog, dataclasses.replace(dog, id="zoo/again")], tmp_path / "zoo")
    run(1, tmp_path / "zoo", tmp_path / "one", task, 4)
    run(2, tmp_path / "zoo", tmp_path / "two", task, 2)
    run(2, tmp_path / "zoo", tmp_path / "two", task, 4)  # resumed
    one, two = (curve(tmp_path / name, "loss/total") for name in ("one", "two"))
    assert len(one) == len(two) == 4
    assert two == pytest.approx(one, rel=tolerance)
    assert json.loads((tmp_path / "two" / "seen.json").read_text()) == {"evaluated": [4], "processes": 2}
    assert curve(tmp_path / "two", "eval/width") == [64.0] * 2  # whole weights when it is measured
    models = [psalm_model() for _ in range(2)]
    for model, name in zip(models, ("one", "two"), strict=True):
        checkpoint.load_weights(tmp_path / name / "checkpoints" / checkpoint.name_of(4), model)
    if task == "chat":
        for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)  # Adam's first steps are of 1e-3 each
