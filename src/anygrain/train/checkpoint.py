"""Training state on disk: a folder with ``state.safetensors`` and ``state.json``, complete or not there at all.

Nothing is pickled. Tensor names: ``model/<name>``, ``average/<name>``, ``optimizer/<parameter>/<key>``, ``rng/...``.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anygrain.files import whole_folder
from anygrain.train.distributed import Processes, part, whole
from anygrain.train.optim import Average

_NAME = re.compile(r"step-(\d{8})")


def save(
    folder: Path,
    *,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    names: list[str],
    average: Average | None,
    record: dict[str, Any],
    processes: Processes,
) -> None:
    """Write the state after ``step`` steps into ``folder``, replacing it; called by all processes together.

    names: of the optimizer's parameters, in its order. record: further JSON-ready values to keep.
    """
    from safetensors.torch import save_file

    processes.same_buffers(model)
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"optimizer/{key}": tensor for key, tensor in _optimizer_tensors(optimizer, names).items()}
    if average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in average.weights.items()}
    tensors = {name: whole(tensor).detach().contiguous().cpu().clone() for name, tensor in tensors.items()}
    tensors |= _numbered_states("rng/torch", processes.each(torch.get_rng_state()))
    if torch.cuda.is_available():
        tensors |= _numbered_states("rng/cuda", processes.each(torch.cuda.get_rng_state()))
    state = {
        "step": step,
        "average_updates": average.updates if average else 0,
        "numpy": _numpy_state(),
        "python": random.getstate(),
        "record": record,
    }
    if processes.first:
        with whole_folder(folder) as work:
            save_file(tensors, work / "state.safetensors")
            (work / "state.json").write_text(json.dumps(state), encoding="utf-8")
    processes.wait()


def load(
    folder: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    names: list[str],
    average: Average | None,
    processes: Processes,
) -> tuple[int, dict[str, Any]]:
    """Put the state of ``folder`` back; returns the step and the record.

    Raises ValueError when it does not fit, or when another number of processes wrote it.
    """
    tensors, state = _read(folder)
    _load_strictly(model, _below(tensors, "model/"), folder)
    _load_optimizer(optimizer, names, _below(tensors, "optimizer/"), folder)
    if average is not None:
        _load_average(average, _below(tensors, "average/"), folder)
        average.updates = state["average_updates"]
    states = _below(tensors, "rng/torch")
    if len(states) != processes.count:
        raise ValueError(
            f"{folder}: written by {len(states)} processes, and there are {processes.count}: start as many again"
        )
    own = _rank(processes.rank)
    torch.set_rng_state(states[own])
    if f"rng/cuda{own}" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors[f"rng/cuda{own}"])
    _set_numpy_state(state["numpy"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    return state["step"], state["record"]


def _rank(number: int) -> str:
    """How the random numbers of a process are called; those of the first have no number."""
    return f"/{number}" if number else ""


def _numbered_states(name: str, states: list[Tensor]) -> dict[str, Tensor]:
    return {f"{name}{_rank(number)}": state for number, state in enumerate(states)}


def load_weights(folder: str | Path, model: nn.Module) -> int:
    """Load the weights alone, averaged ones where the run kept an average; returns the step.

    Raises OSError when there is no checkpoint and ValueError when it belongs to another model.
    """
    tensors, state = _read(Path(folder))
    _load_strictly(model, _below(tensors, "model/") | _below(tensors, "average/"), Path(folder))
    return state["step"]


def latest(folder: Path) -> Path | None:
    """The checkpoint of the highest step in a folder of checkpoints, or None."""
    return max(_numbered(folder), default=None)


def prune(folder: Path, keep: int) -> None:
    """Remove all but the last ``keep`` numbered checkpoints."""
    for old in sorted(_numbered(folder))[:-keep]:
        shutil.rmtree(old)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed run left half-written."""
    for path in folder.glob(".*.tmp"):
        shutil.rmtree(path)


def _numbered(folder: Path) -> list[Path]:
    return [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)]


def name_of(step: int) -> str:
    """The folder name of a step's checkpoint; names sort as steps do."""
    return f"step-{step:08d}"


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / "state.json").is_file():
        raise FileNotFoundError(f"{folder}: no training checkpoint (state.json and state.safetensors) is there")
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return load_file(folder / "state.safetensors"), state
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{folder}: the training checkpoint is damaged ({error}); remove it to use an older") from None


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load_strictly(model: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    own = model.state_dict()
    try:
        model.load_state_dict({k: part(v, own[k]) if k in own else v for k, v in tensors.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{folder}: the checkpoint belongs to another model: {reason}") from None


def _optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    states = optimizer.state_dict()["state"]  # by the parameter's number; none for a parameter never moved yet
    return {f"{names[number]}/{key}": value for number, state in states.items() for key, value in state.items()}


def _load_optimizer(
    optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, Tensor], folder: Path
) -> None:
    numbers = {name: number for number, name in enumerate(names)}
    states: dict[int, dict[str, Tensor]] = {}
    for path, tensor in tensors.items():
        name, key = path.rsplit("/", 1)
        if name not in numbers:
            raise ValueError(f"{folder}: the checkpoint trained {name!r}, which this run freezes or does not have")
        states.setdefault(numbers[name], {})[key] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, state in optimizer.state.items():  # the fused step wants each moment laid out as its parameter
        for key, value in state.items():
            if value.shape == parameter.shape:
                state[key] = torch.empty_like(parameter).copy_(part(value, parameter))


def _load_average(average: Average, tensors: dict[str, Tensor], folder: Path) -> None:
    if tensors.keys() != average.weights.keys():
        raise ValueError(
            f"{folder}: the checkpoint has no fitting averaged weights; keep ema_decay and freezing as set"
        )
    for name, tensor in tensors.items():
        average.weights[name].copy_(part(tensor, average.weights[name]))


def _numpy_state() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()  # type: ignore[misc]
    return {"name": name, "keys": np.asarray(keys).tolist(), "rest": rest}


def _set_numpy_state(state: dict[str, Any]) -> None:
    np.random.set_state((state["name"], np.array(state["keys"], np.uint32), *state["rest"]))
