"""Reading the released checkpoint: its 931 keys, strictly, and nothing else."""

import gzip
import json
import pickle
import re

import pytest
import torch
from official import FIXTURES, state_dict, tiny_config

from anygrain.models.convert import read_official, unilseg, unilseg_keys
from anygrain.models.unilseg import UniLSeg, UniLSegConfig


@pytest.fixture
def tiny():
    return state_dict(tiny_config())


def test_keys_are_those_of_the_released_file():
    released = json.loads(gzip.decompress((FIXTURES / "unilseg_keys.json.gz").read_bytes()))
    expected = {key.removeprefix("module."): tuple(entry["shape"]) for key, entry in released.items()}
    assert len(expected) == 931
    assert unilseg_keys(UniLSegConfig.released()) == expected


def test_a_file_of_the_released_form_fills_the_whole_released_network(tmp_path):
    file = tmp_path / "UniLSeg20_no_finetune.pth"
    tensors = {f"module.{key}": tensor for key, tensor in state_dict(UniLSegConfig.released(), filled=False).items()}
    torch.save({"epoch": 15, "state_dict": tensors}, file)
    converted = unilseg(read_official(file))
    with torch.device("meta"):
        model = UniLSeg(UniLSegConfig.released())
    model.load_state_dict(converted, assign=True)  # strict
    # 283.3 M in the file, less the dead image tower (86,192,640) and logit_scale
    assert sum(parameter.numel() for parameter in model.parameters()) == 283_318_073 - 86_192_640 - 1


def test_every_value_arrives_unchanged(tiny):
    converted = unilseg(tiny, tiny_config())
    live = {key: tensor for key, tensor in tiny.items() if not key.startswith("backbone.visual.")}
    live = {key: tensor for key, tensor in live.items() if not key.endswith(("_index", "logit_scale"))}
    ours = sorted((t.double().sum().item(), t.numel()) for t in converted.values())
    assert ours == sorted((t.double().sum().item(), t.numel()) for t in live.values())
    assert UniLSeg(tiny_config()).load_state_dict(converted)


def test_half_precision_becomes_float32(tiny):
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tiny.items()}
    converted = unilseg(half, tiny_config())
    assert {t.dtype for name, t in converted.items() if not name.endswith("num_batches_tracked")} == {torch.float32}


FAULTS = {
    "missing": (lambda sd: sd.pop("fusion_proj.bias"), "1 missing (fusion_proj.bias)"),
    "unexpected": (lambda sd: sd.update(fusion_norm=torch.zeros(3)), "1 unexpected (fusion_norm)"),
    "shape": (
        lambda sd: sd.update({"fusion_proj.bias": torch.zeros(7)}),
        "1 of another shape (fusion_proj.bias is (7,) instead of (128,))",
    ),
    "type": (
        lambda sd: sd.update({"fusion_proj.bias": torch.zeros(128, dtype=torch.int64)}),
        "1 of another type (fusion_proj.bias is torch.int64)",
    ),
    "dead, yet checked": (lambda sd: sd.pop("backbone.visual.proj"), "1 missing (backbone.visual.proj)"),
    "index": (
        lambda sd: sd["backbone_visual.layers.1.blocks.1.attn.relative_position_index"].add_(1),
        "backbone_visual.layers.1.blocks.1.attn.relative_position_index is not Swin's index table",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(tiny, fault):
    spoil, message = FAULTS[fault]
    spoil(tiny)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        unilseg(tiny, tiny_config(), where="x.pth")
    assert str(raised.value).startswith("x.pth ")


def test_another_model_is_told_in_one_short_sentence():
    with pytest.raises(ValueError, match=r"931 missing .* 2 unexpected") as raised:
        unilseg({"conv.weight": torch.zeros(1), "conv.bias": torch.zeros(1)})
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)


class Malice:
    def __reduce__(self):
        return print, ("this must not run",)


BAD_FILES = {
    "text": lambda file: file.write_text("these are not weights"),
    "empty": lambda file: file.write_bytes(b""),
    "random bytes": lambda file: file.write_bytes(bytes(range(256)) * 9),
    "pickled code": lambda file: file.write_bytes(pickle.dumps({"state_dict": Malice()})),
    "truncated": lambda file: (torch.save({"state_dict": {}}, file), file.write_bytes(file.read_bytes()[:-30])),
    "bare tensor": lambda file: torch.save(torch.zeros(2), file),
    "no state_dict": lambda file: torch.save({"model": {"a": torch.zeros(2)}}, file),
    "state_dict of numbers": lambda file: torch.save({"state_dict": {"a": 1.0}}, file),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_of_another_kind_is_refused(tmp_path, capsys, kind):
    file = tmp_path / "bad.pth"
    BAD_FILES[kind](file)
    with pytest.raises(ValueError, match=r"bad\.pth (cannot be read|holds no tensors)") as raised:
        read_official(file)
    assert "\n" not in str(raised.value)
    assert "must not run" not in capsys.readouterr().out


def test_code_in_a_checkpoint_is_named_and_not_run(tmp_path, capsys):
    torch.save({"state_dict": {}, "args": Malice()}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=r"bad\.pth was not read: .* could run code \(builtins\.print\)"):
        read_official(tmp_path / "bad.pth")
    assert "must not run" not in capsys.readouterr().out


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_official(tmp_path / "nothing.pth")
    with pytest.raises(IsADirectoryError):
        read_official(tmp_path)


def test_the_old_file_format_is_read_too(tmp_path, tiny):
    file = tmp_path / "old.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in tiny.items()}}, file, _use_new_zipfile_serialization=False)
    tensors = read_official(file)
    assert tensors.keys() == tiny.keys()
    assert torch.equal(tensors["fusion_proj.weight"], tiny["fusion_proj.weight"])
