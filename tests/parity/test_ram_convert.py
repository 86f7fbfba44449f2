"""Reading the released RAM checkpoint: its 366 used keys, strictly; what is known to be unused may be there or not."""

import re

import official_ram
import pytest
import torch

from anygrain.models.convert import read_official
from anygrain.models.convert_ram import ram, ram_keys, ram_tables
from anygrain.models.ram import RAM, RAMConfig

TABLES = ("relative_position_index", "attn_mask")
CONFIG = official_ram.tiny_config()


@pytest.fixture
def tiny():
    return official_ram.tiny_state()


def test_keys_are_those_of_the_released_file():
    released = official_ram.keys("ram_keys.json.gz")
    assert len(released) == 1042
    assert ram_keys(RAMConfig.released()) == {key: tuple(shape) for key, (shape, used) in released.items() if used}
    tables = {key: tuple(shape) for key, (shape, _) in released.items() if key.endswith(TABLES)}
    assert len(tables) == 35
    assert ram_tables(RAMConfig.released()) == tables


def test_a_file_of_the_released_form_fills_the_whole_released_network(tmp_path):
    file = tmp_path / "ram_swin_large_14m.pth"
    torch.save({"model": official_ram.empty_state(), "optimizer": {"state": {}}, "config": {}, "epoch": 4}, file)
    converted = ram(read_official(file, under="model"))
    with torch.device("meta"):
        model = RAM(RAMConfig.released())
    model.load_state_dict(converted, assign=True)  # strict
    assert sum(parameter.numel() for parameter in model.parameters()) == 212_117_045


def test_every_value_arrives_unchanged(tiny):
    converted = ram(tiny, CONFIG)
    used = {key: tensor for key, tensor in tiny.items() if not key.startswith(("tag_encoder", "text_decoder"))}
    used = {key: tensor for key, tensor in used.items() if not key.endswith(TABLES)}
    ours = sorted((t.double().sum().item(), t.numel()) for t in converted.values())
    assert ours == sorted((t.double().sum().item(), t.numel()) for t in used.values())
    assert RAM(CONFIG).load_state_dict(converted)


def test_unused_parts_may_be_absent_and_the_older_module_name_is_read(tiny):
    older = {
        key.replace("tagging_head", "vision_multi"): tensor
        for key, tensor in tiny.items()
        if not key.startswith("tag_encoder") and not key.endswith(TABLES)
    }
    assert any(key.startswith("vision_multi") for key in older)
    expected = ram(tiny, CONFIG)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in ram(older, CONFIG).items())
    tiny["text_decoder.anything"] = torch.zeros(3)
    assert ram(tiny, CONFIG).keys() == expected.keys()


def test_half_precision_becomes_float32(tiny):
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tiny.items()}
    assert {tensor.dtype for tensor in ram(half, CONFIG).values()} == {torch.float32}


INDEX = "visual_encoder.layers.3.blocks.1.attn.relative_position_index"
MASK = "visual_encoder.layers.2.blocks.3.attn_mask"
QUERY = "tagging_head.encoder.layer.1.crossattention.self.query.weight"
FAULTS = {
    "missing": (lambda sd: sd.pop("fc.bias"), "keys, 1 missing (fc.bias)"),
    "unexpected": (lambda sd: sd.update({"visual_encoder.head.bias": torch.zeros(3)}), "(visual_encoder.head.bias)"),
    "mask where none belongs": (
        lambda sd: sd.update({MASK.replace("3.attn_mask", "2.attn_mask"): sd[MASK]}),
        "1 unexpected (visual_encoder.layers.2.blocks.2.attn_mask)",
    ),
    "shape": (
        lambda sd: sd.update({QUERY: torch.zeros(7, 3)}),
        f"1 of another shape ({QUERY} is (7, 3) instead of (32, 32))",
    ),
    "type": (
        lambda sd: sd.update({"fc.bias": torch.zeros(1, dtype=torch.int64)}),
        "1 of another type (fc.bias is torch.int64)",
    ),
    "index": (lambda sd: sd[INDEX].add_(1), f"{INDEX} is not Swin's index table"),
    "mask": (lambda sd: sd[MASK].neg_(), f"{MASK} is not Swin's mask"),
    "both names": (
        lambda sd: sd.update({QUERY.replace("tagging_head", "vision_multi"): sd[QUERY]}),
        f"it holds both {QUERY.replace('tagging_head', 'vision_multi')} and {QUERY}",
    ),
    "RAM++": (lambda sd: sd.update({"reweight_scale": torch.zeros(())}), "is a RAM++ checkpoint"),
    "RAM++ by its rows": (lambda sd: sd.update({"label_embed": torch.zeros(51 * 40, 512)}), "is a RAM++ checkpoint"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(tiny, fault):
    spoil, message = FAULTS[fault]
    spoil(tiny)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        ram(tiny, CONFIG, where="x.pth")
    assert str(raised.value).startswith("x.pth is ")
    assert "\n" not in str(raised.value)


def test_a_checkpoint_of_another_form_is_refused(tmp_path, tiny):
    torch.save({"state_dict": tiny}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth holds no tensors under 'model'"):
        read_official(tmp_path / "other.pth", under="model")


# ------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def released(folder, monkeypatch):
    """A working directory with files of the released form, only small: checkpoint, names and thresholds."""
    monkeypatch.setattr(RAMConfig, "released", classmethod(lambda cls: CONFIG))
    torch.save({"model": official_ram.tiny_state(), "epoch": 4}, folder / "ram.pth")
    (folder / "ram_tag_list.txt").write_text("\n".join(official_ram.tiny_tags().names))
    lines = "".join(f"{value}\n" for value in official_ram.tiny_tags().thresholds)
    (folder / "ram_tag_list_threshold.txt").write_text(lines)
    return folder


def test_the_command_makes_a_folder_that_tags(anygrain, released, photos):
    from anygrain import load_tagger

    result = anygrain("convert", "ram", "ram.pth", "models/ram")
    assert (result.status, result.out) == (0, "models/ram\n")
    assert len(re.findall("is not a file published with RAM", result.err)) == 2  # which these are not
    tagger = load_tagger("models/ram", device="cpu")
    assert tagger.info["architecture"] == "ram"
    assert tagger.names == official_ram.tiny_tags().names
    assert tagger.probabilities([photos / "dog.jpg"]).shape == (1, 40)
    card = (released / "models" / "ram" / "README.md").read_text()
    assert "`ram_tag_list.txt`, not a file published with RAM" in card
    assert "2306.03514" in card


def test_the_published_lists_are_known_and_their_licence_is_noted(anygrain, released, monkeypatch):
    import hashlib

    from anygrain.models import tags

    known = {hashlib.sha256((released / "ram_tag_list.txt").read_bytes()).hexdigest(): "the list of this test"}
    monkeypatch.setattr(tags, "PUBLISHED", known)
    names = released / "names" / "n.txt"
    names.parent.mkdir()
    names.write_bytes((released / "ram_tag_list.txt").read_bytes().replace(b"\n", b"\r\n"))  # as Windows has them
    result = anygrain("convert", "ram", "ram.pth", "models/ram", "--tags", "names/n.txt", "--storage", "float16")
    assert result.status == 0
    assert len(result.err.splitlines()) == 1  # of the thresholds
    card = (released / "models" / "ram" / "README.md").read_text()
    assert "names of the tags: `n.txt`, the list of this test, Apache-2.0" in card


def cut_tags(folder):
    (folder / "ram_tag_list.txt").write_text("dog\ncat\n")


def empty_name(folder):
    (folder / "ram_tag_list.txt").write_text("\n".join([*official_ram.tiny_tags().names[:-2], " ", "end"]))


BAD_INPUT = {
    "no names": (lambda f: (f / "ram_tag_list.txt").unlink(), "get ram_tag_list.txt from ram/data of https://"),
    "no thresholds": (lambda f: (f / "ram_tag_list_threshold.txt").unlink(), "or name such a file with --thresholds"),
    "too few names": (cut_tags, "ram_tag_list.txt: 2 lines instead of 40"),
    "a name is missing": (empty_name, "ram_tag_list.txt, line 39: the name of a tag is missing"),
    "names for thresholds": (
        lambda f: (f / "ram_tag_list_threshold.txt").write_bytes((f / "ram_tag_list.txt").read_bytes()),
        "line 1: 'tag 00' is not a threshold, a number from 0 to 1",
    ),
    "not a number": (
        lambda f: (f / "ram_tag_list_threshold.txt").write_text("0.5\n" * 39 + "nan\n"),
        "line 40: 'nan' is not a threshold",
    ),
    "not text": (lambda f: (f / "ram_tag_list.txt").write_bytes(b"\xff\xfe\0"), "not a text file in UTF-8"),
    "UniLSeg's form": (
        lambda f: torch.save({"state_dict": {}}, f / "ram.pth"),
        "ram.pth holds no tensors under 'model'",
    ),
    "no checkpoint": (lambda f: (f / "ram.pth").unlink(), "ram.pth: No such file"),
}


@pytest.mark.parametrize("fault", BAD_INPUT)
def test_bad_input_is_one_sentence_and_leaves_nothing(anygrain, released, fault):
    spoil, message = BAD_INPUT[fault]
    spoil(released)
    result = anygrain("convert", "ram", "ram.pth", "models/ram")
    (line,) = result.err.splitlines()
    assert (result.status, line.startswith("anygrain: error: ")) == (2, True)
    assert message in line
    assert not (released / "models").exists()
