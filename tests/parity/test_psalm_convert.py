"""Reading the released PSALM: its 935 keys strictly, eight more named and left aside, its tokenizer exactly."""

from __future__ import annotations

import gzip
import json
import re

import pytest
import torch
from psalm_golden import FIXTURES, official_state, tiny_config
from safetensors.torch import save_file

from anygrain import released
from anygrain.models.layers import WithoutInit
from anygrain.models.psalm import convert
from anygrain.models.psalm.config import PSALMConfig
from anygrain.models.psalm.network import PSALM
from anygrain.models.psalm.prompts import (
    CATEGORY,
    MASKS,
    PHRASE,
    about_categories,
    about_phrase,
    about_regions,
    conversation,
)
from anygrain.models.psalm.tokenizer import BPETokenizer


def read_gz(name):
    return json.loads(gzip.decompress((FIXTURES / name).read_bytes()))


def test_keys_and_shapes_are_those_of_the_official_code():
    expected = {key: tuple(shape) for key, (shape, _, _) in read_gz("psalm_keys.json.gz").items()}
    assert len(expected) == 935
    assert convert.psalm_keys(PSALMConfig.released()) == expected


def test_the_full_network_has_all_1587057208_parameters():
    keys = read_gz("psalm_keys.json.gz")
    with torch.device("meta"), WithoutInit():
        network = PSALM(PSALMConfig.released())
    parameters = sum(parameter.numel() for parameter in network.parameters())
    dead = sum(torch.Size(keys[f"predictor.{name}.weight"][0]).numel() for name in ("query_feat", "SEG_query_embed"))
    assert parameters + dead == 1_587_057_208
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert parts["image_encoder"] == 86_880_376
    assert parts["projector"] == 62_928_896
    assert parts["pixel_decoder"] == 5_544_896
    assert parts["language"] == 1_311_512_576 + 103_008_256


def test_a_full_forward_on_the_meta_device_has_the_right_shapes():
    """No numbers, but every size of every layer of the released network, image and prompt of full length."""
    from psalm_golden import ByteTokenizer

    with torch.device("meta"), WithoutInit():
        network = PSALM(PSALMConfig.released(), ByteTokenizer()).eval()
        questions = [about_phrase(network.tokenizer, ["a dog"]), about_phrase(network.tokenizer, ["the sky"])]
        hidden = network.language(torch.empty(2, 300, 2048), torch.empty(1, 24, 2, 32, 100, 64))
        assert hidden.shape == (2, 300, 2048)
        mask_features, maps, tokens = network.look(torch.empty(1, 3, 1024, 1024))
        assert mask_features.shape == (1, 256, 256, 256)
        assert [tuple(level.shape[2:]) for level in maps] == [(32, 32), (64, 64), (128, 128)]
        assert tokens.shape == (1, 256, 2048)
        memory = network.mask_decoder.remember(maps, mask_features)
        (level,) = network.mask_decoder(torch.empty(2, 100, 256), memory, mask_features)
        assert level.mask_logits.shape == (2, 100, 256, 256)
    assert len(questions[0].ids) > 200


def test_every_value_arrives_unchanged():
    state = official_state()
    converted, unknown = convert.psalm(state, tiny_config())
    assert unknown == []
    dead = ("predictor.query_feat.weight", "predictor.SEG_query_embed.weight")
    live = {key: t for key, t in state.items() if key not in dead and not key.endswith("position_index")}
    total = sum(t.double().sum() for t in live.values())
    assert sum(t.numel() for t in converted.values()) == sum(t.numel() for t in live.values())
    assert float(sum(t.double().sum() for t in converted.values())) == pytest.approx(float(total), abs=1e-9)
    fused = state["model.layers.1.self_attn.query_key_value.weight"].view(4, 3, 16, 64)
    for third, name in enumerate("qkv"):
        ours = converted[f"language.layers.1.self_attn.{name}_proj.weight"].view(4, 16, 64)
        assert torch.equal(ours, fused[:, third])  # head by head, not in three blocks


FAULTS = {
    "missing": (lambda state: state.pop("seg_query"), "1 missing (seg_query)"),
    "dead, yet checked": (
        lambda state: state.pop("predictor.query_feat.weight"),
        "1 missing (predictor.query_feat.weight)",
    ),
    "shape": (
        lambda state: state.update({"lm_head.weight": torch.zeros(7, 64)}),
        "1 of another shape (lm_head.weight is (7, 64) instead of (260, 64))",
    ),
    "index table": (
        lambda state: state["model.vision_tower.layers.1.blocks.1.attn.relative_position_index"].add_(1),
        "is not Swin's index table",
    ),
    "no statistics": (
        lambda state: (
            state["model.mm_projector.layer1.0.bn2.running_var"].fill_(1),
            state["model.mm_projector.layer1.0.bn2.running_mean"].fill_(0),
        ),
        "lacks the projector's BatchNorm statistics (model.mm_projector.layer1.0.bn2.running_var is 1 everywhere",
    ),
    "bad statistics": (
        lambda state: state["model.mm_projector.layer1.0.bn1.running_var"][0].fill_(float("nan")),
        "is damaged: model.mm_projector.layer1.0.bn1.running_var is not a variance",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault):
    state = official_state()
    spoil, message = FAULTS[fault]
    spoil(state)
    with pytest.raises(ValueError, match=re.escape(message)):
        convert.psalm(state, tiny_config(), where="PSALM")


def write_released(folder, state):
    """The released form: two shards with an index, and the tokenizer's three files."""
    folder.mkdir()
    names, half = sorted(state), len(state) // 2
    shards = {f"model-0000{i}-of-00002.safetensors": part for i, part in ((1, names[:half]), (2, names[half:]))}
    for shard, keys in shards.items():
        save_file({key: state[key] for key in keys}, folder / shard)
    weight_map = {key: shard for shard, keys in shards.items() for key in keys}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder):
    """Of GPT-2's vocabulary the part that the official prompts use, and all 40 added tokens, with their own ids."""
    part = read_gz("gpt2_part.json.gz")
    used = set(part["vocab"].values())
    fill = {f"<unused {i}>": i for i in range(50257) if i not in used}  # ids of added tokens follow the vocabulary
    (folder / "vocab.json").write_text(json.dumps(part["vocab"] | fill))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(part["merges"]) + "\n", encoding="utf-8")
    (folder / "added_tokens.json").write_text(json.dumps(part["added"]))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return BPETokenizer.of_released(folder)


def test_a_released_folder_becomes_a_model_folder_and_unknown_tensors_are_named(tmp_path, monkeypatch):
    state = official_state()
    extra = [f"{name}.{kind}" for name in ("a_proj", "b_proj", "c_proj") for kind in ("weight", "bias")]
    extra += ["scale_one", "scale_two"]
    folder = write_released(tmp_path / "PSALM", state | {key: torch.zeros(1) for key in extra})
    monkeypatch.setattr(convert, "released_config", lambda tensors: tiny_config())
    with pytest.warns(UserWarning, match=r"8 tensors that PSALM's code does not define are left aside: a_proj\.bias"):
        model = released.convert_psalm(folder, tmp_path / "model")
    from anygrain import hub

    network = hub.read_model(model)
    assert isinstance(network, PSALM)
    assert network.config == tiny_config()
    assert network.tokenizer.seg == 50296
    weights, _ = convert.psalm(state, tiny_config())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())


def test_the_sizes_are_the_released_ones_but_for_the_vocabulary():
    config = convert.released_config({"model.embed_tokens.weight": torch.empty(50300, 2048, device="meta")})
    assert config.language.vocab_size == 50300
    assert convert.released_config({}) == PSALMConfig.released()


BAD_FOLDERS = {
    "no such folder": (lambda folder: None, "is not a folder"),
    "empty": (lambda folder: folder.mkdir(), "model.safetensors is missing; download all its files"),
    "index of another kind": (
        lambda folder: (folder.mkdir(), (folder / "model.safetensors.index.json").write_text("[]")),
        "is not the index of a checkpoint in shards",
    ),
    "shard missing": (
        lambda folder: (
            folder.mkdir(),
            (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}'),
        ),
        "model-1.safetensors is missing",
    ),
    "no weights": (
        lambda folder: (folder.mkdir(), (folder / "model.safetensors").write_bytes(b"nonsense")),
        "not a readable safetensors file",
    ),
}


@pytest.mark.parametrize("kind", BAD_FOLDERS)
def test_a_folder_of_another_kind_is_refused_in_one_sentence(tmp_path, kind):
    make, message = BAD_FOLDERS[kind]
    make(tmp_path / "PSALM")
    with pytest.raises(ValueError, match=message) as raised:
        released.convert_psalm(tmp_path / "PSALM", tmp_path / "model")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "model").exists()


def test_offline_the_released_model_is_refused_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("ANYGRAIN_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"EnmingZhang/PSALM cannot be reached.*anygrain convert psalm FOLDER OUT"):
        released.fetch("psalm")


QUESTIONS = {
    "panoptic_coco133": lambda t, names: about_categories(t, names[:133]),
    "semantic_coco133": lambda t, names: about_categories(t, names[:133], semantic=True),
    "instance_coco80": lambda t, names: about_categories(t, names[:80]),
    "referring": lambda t, _: about_phrase(t, ["the lady with the blue shirt", "lady with back to us"]),
    "region_1": lambda t, _: about_regions(t, 1),
    "region_3": lambda t, _: about_regions(t, 3),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_ids_of_the_official_prompts_are_exact(tokenizer, name):
    """With the real ids of GPT-2 and CodeGen; the fixture holds the part of the vocabulary that these prompts use."""
    prompts = read_gz("prompts.json.gz")
    entry = prompts[name]
    numbers, ids = entry.get("cls_indices", []), entry.get("class_name_ids", [])
    conditions = iter([[i for i, n in zip(ids, numbers, strict=True) if n == k] for k in sorted(set(numbers))])
    expected = []
    for token in entry["input_ids"][: entry["input_ids"].index(MASKS) + 1]:
        expected += next(conditions) if token == CATEGORY else entry["token_refer_id"] if token == PHRASE else [token]
    question = QUESTIONS[name](tokenizer, prompts["coco133_names"])
    assert list(question.ids) == expected
    length = sum({-200: 256, -201: 100}.get(token, 1) for token in question.ids)
    assert length + 2 == entry["llm_sequence_length_at_full_size"]  # theirs goes on behind the mask tokens
    assert conversation((entry["human"], entry["gpt"])) == entry["prompt"]


def test_added_tokens_that_do_not_follow_the_vocabulary_are_refused(tmp_path):
    write_tokenizer(tmp_path)
    added = json.loads((tmp_path / "added_tokens.json").read_text())
    (tmp_path / "added_tokens.json").write_text(json.dumps(added | {"[SEG]": 60000}))
    with pytest.raises(ValueError, match=r"token '\[SEG\]' would get id 50296 instead of 60000"):
        BPETokenizer.of_released(tmp_path)
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(ValueError, match=r"vocab\.json is not JSON"):
        BPETokenizer.of_released(tmp_path)
