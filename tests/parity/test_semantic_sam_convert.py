"""Reading the released Semantic-SAM files: every key consumed, copies compared, and nothing else."""

import re

import pytest
import torch
from semsam_official import keys, state_dict, tiny_config

from anygrain.models.convert_semantic_sam import (
    read_semantic_sam,
    released_config,
    semantic_sam,
    semantic_sam_keys,
    tied_keys,
)
from anygrain.models.semantic_sam import SemanticSAM
from anygrain.models.semantic_sam_config import SemanticSAMConfig

RELEASED = {"swint": SemanticSAMConfig.released_tiny(), "swinl": SemanticSAMConfig.released_large()}


@pytest.fixture
def tiny():
    return state_dict(tiny_config())


@pytest.mark.parametrize("name", RELEASED)
def test_keys_and_copies_are_those_of_the_released_file(name):
    released = keys(name)
    assert {key: tuple(shape) for key, shape in released["keys"].items()} == semantic_sam_keys(RELEASED[name])
    assert released["tied"] == tied_keys(RELEASED[name])
    assert len(released["tied"]) == 110


@pytest.mark.parametrize("name", RELEASED)
def test_a_file_of_the_released_form_fills_the_whole_network(name, tmp_path):
    config, file = RELEASED[name], tmp_path / "model.pth"
    tensors = {f"model.{key}": tensor for key, tensor in state_dict(config, filled=False).items()}
    torch.save({"model": tensors | {"model.criterion.empty_weight": torch.ones(2)}, "iteration": 3}, file)
    official = read_semantic_sam(file)
    assert released_config(official) == config
    with torch.device("meta"):
        network = SemanticSAM(config)
    network.load_state_dict(semantic_sam(official, config), assign=True)  # strict
    # the released total, less lang_mapper and the two projections, which no text encoder feeds
    assert sum(p.numel() for p in network.parameters()) == keys(name)["parameters"] - 3 * 512 * 256


def test_the_text_encoder_has_the_official_keys():
    from dataclasses import replace

    from anygrain.models.clip_text import CLIPTextConfig

    text = CLIPTextConfig(context_length=18, norm_eps=1e-12)
    with_text = semantic_sam_keys(replace(SemanticSAMConfig.released_tiny(), text_encoder=text))
    without = semantic_sam_keys(SemanticSAMConfig.released_tiny())
    expected = {key: tuple(shape) for key, shape in keys("lang").items()}
    assert {key: shape for key, shape in with_text.items() if key not in without} == expected
    assert len(expected) == 150


def test_every_value_arrives_unchanged(tiny):
    converted = semantic_sam(tiny, tiny_config())
    dead = ("relative_position_index", "lang_mapper")
    live = {k: t for k, t in tiny.items() if k not in tied_keys(tiny_config()) and not k.endswith(dead)}
    ours = sorted((t.double().sum().item(), t.numel()) for t in converted.values())
    assert ours == sorted((t.double().sum().item(), t.numel()) for t in live.values())


def test_a_file_without_the_prefix_and_in_half_precision_is_read_too(tiny, tmp_path):
    torch.save({k: t.half() if t.is_floating_point() else t for k, t in tiny.items()}, tmp_path / "half.pth")
    converted = semantic_sam(read_semantic_sam(tmp_path / "half.pth"), tiny_config())
    assert {t.dtype for t in converted.values()} == {torch.float32}


HEAD = "sem_seg_head.predictor"
FAULTS = {
    "missing": (lambda sd: sd.pop(f"{HEAD}.mask_tokens.weight"), f"1 missing ({HEAD}.mask_tokens.weight)"),
    "foreign": (lambda sd: sd.update(fusion_norm=torch.zeros(3)), "1 unexpected (fusion_norm)"),
    "shape": (
        lambda sd: sd.update({f"{HEAD}.mask_tokens.weight": torch.zeros(3, 32)}),
        f"1 of another shape ({HEAD}.mask_tokens.weight is (3, 32) instead of (6, 32))",
    ),
    "copy": (
        lambda sd: sd.update({f"{HEAD}.decoder.norm.weight": torch.zeros(32)}),
        f"{HEAD}.decoder.norm.weight differs from the parameter that it must be a copy of",
    ),
    "copy of the box head": (
        lambda sd: sd[f"{HEAD}.bbox_embed.1.layers.2.bias"].add_(1),
        f"{HEAD}.bbox_embed.1.layers.2.bias differs",
    ),
    "dead, yet checked": (lambda sd: sd.pop(f"{HEAD}.lang_mapper"), f"1 missing ({HEAD}.lang_mapper)"),
    "index": (
        lambda sd: sd["backbone.layers.1.blocks.1.attn.relative_position_index"].add_(1),
        "backbone.layers.1.blocks.1.attn.relative_position_index is not Swin's index table",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(tiny, fault):
    spoil, message = FAULTS[fault]
    spoil(tiny)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        semantic_sam(tiny, tiny_config(), where="x.pth")
    assert str(raised.value).startswith("x.pth")


def test_another_network_is_told_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"^x\.pth is not a Semantic-SAM checkpoint with Swin-T or Swin-L"):
        released_config({"conv.weight": torch.zeros(1)}, where="x.pth")
    torch.save({"model": {}}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match=r"empty\.pth holds no tensors of a model"):
        read_semantic_sam(tmp_path / "empty.pth")
