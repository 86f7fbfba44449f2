"""Model folders: written whole, read strictly, found by name."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import anygrain
from anygrain import hub
from anygrain.models.clip_tokenizer import ClipTokenizer
from anygrain.models.unilseg import UniLSeg
from anygrain.vocabulary import Vocabulary
from tiny_unilseg import build, nano_config, official_config

TEXTS = ["all people", "the red car on the left", "犬 sky"]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return build(nano_config(), tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def folder(network, tmp_path):
    return hub.save(network, tmp_path / "model", card="# Tiny\n")


def logits(network):
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        text = network.encode_text(TEXTS)
        return network.decode(network.encode_image(pixels), text, torch.zeros(3, dtype=torch.int64)).mask_logits


def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8))


# ------------------------------------------------------------------------------------------- there and back


def test_float32_comes_back_to_the_bit(network, folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    back = hub.read_model(folder)
    assert back.config == network.config
    state = network.state_dict()
    assert back.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in back.state_dict().items())
    assert torch.equal(logits(back), logits(network))
    assert not back.training


def test_an_official_network_needs_no_tokenizer_file(tmp_path):
    network = build(official_config())
    folder = hub.save(network, tmp_path / "model", card="")
    assert not (folder / "tokenizer.json").exists()
    back = hub.read_model(folder)
    assert isinstance(back.tokenizer, ClipTokenizer)
    assert torch.equal(logits(back), logits(network))


@pytest.mark.parametrize(("storage", "error", "size"), [("float16", 2e-3, 0.65), ("int8", 0.05, 0.6)])
def test_smaller_storage_is_close(network, folder, tmp_path, storage, error, size):
    small = hub.save(network, tmp_path / storage, card="", storage=storage)
    back = hub.read_model(small)
    assert {value.dtype for value in back.state_dict().values()} == {torch.float32, torch.int64}
    difference = (logits(back) - logits(network)).abs().max()
    assert 0 < difference < error * logits(network).abs().max()
    weights, exact = small / "model.safetensors", folder / "model.safetensors"
    assert weights.stat().st_size < size * exact.stat().st_size
    vectors = {name: value for name, value in network.state_dict().items() if value.ndim < 2}
    assert all(torch.equal(back.state_dict()[name], value) for name, value in vectors.items())


def test_int8_keeps_the_scale_of_every_row():
    rows = torch.randn(5, 40) * torch.tensor([1e-3, 1.0, 50.0, 0.0, 7.0])[:, None]
    packed = hub.pack({"text_encoder.x.weight": rows, "adapters.x.weight": rows}, "int8")
    assert packed["text_encoder.x.weight"].dtype == torch.int8
    assert packed["adapters.x.weight"].dtype == torch.float16
    back = hub.unpack(packed)["text_encoder.x.weight"]
    assert ((back - rows).abs() <= rows.abs().amax(1, keepdim=True) / 254 * 1.001).all()
    assert set(hub.unpack(packed)) == {"text_encoder.x.weight", "adapters.x.weight"}


def test_an_older_model_is_replaced(network, folder):
    (folder / "model.safetensors").write_bytes(b"old")
    hub.save(network, folder, card="# New\n")
    assert (folder / "README.md").read_text() == "# New\n"
    assert torch.equal(logits(hub.read_model(folder)), logits(network))
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_nothing_but_a_model_is_ever_replaced(network, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"home holds other things than a model \(thesis.txt\)"):
        hub.save(network, tmp_path / "home", card="")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file is a file"):
        hub.save(network, tmp_path / "file", card="")
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


def test_a_save_that_fails_leaves_what_was_there(network, folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    for name in ("model", "new"):
        with pytest.raises(OSError, match="No space left"):
            hub.save(network, folder.parent / name, card="# Half\n")
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# ----------------------------------------------------------------------------------------------- strictness


def change_weights(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def change_config(folder, **fields):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **fields}))


BIAS = "language_path.norm.bias"
FAULTS = {
    "missing key": (
        lambda f: change_weights(f, lambda s: s.pop(BIAS)),
        f"the weights do not fit the configuration; 1 missing: {BIAS}",
    ),
    "extra keys": (
        lambda f: change_weights(f, lambda s: s.update({f"head.{i}": torch.zeros(1) for i in range(5)})),
        "5 unexpected: head.0, head.1, head.2 and 2 more",
    ),
    "shape": (
        lambda f: change_weights(f, lambda s: s.update({BIAS: torch.zeros(3)})),
        rf"1 wrong shape: {BIAS} \(3,\) instead of \(16,\)",
    ),
    "no scale": (
        lambda f: change_weights(f, lambda s: s.update({"text_encoder.x": torch.zeros(4, 2, dtype=torch.int8)})),
        r"cannot be unpacked: text_encoder.x.scale is missing or not of shape \(4,\)",
    ),
    "newer format": (lambda f: change_config(f, format_version=2), "format_version 2, but this anygrain reads 1"),
    "architecture": (
        lambda f: change_config(f, architecture="resnet"),
        "unknown architecture 'resnet'; known: unilseg",
    ),
    "config of another model": (lambda f: change_config(f, model={"width": 3}), "unknown field 'width'"),
    "no version": (lambda f: (f / "config.json").write_text("{}"), "not an anygrain model config"),
    "list for a config": (lambda f: (f / "config.json").write_text("[]"), "not an anygrain model config"),
    "broken config": (lambda f: (f / "config.json").write_text('{"a": '), "not an anygrain model config"),
    "no config": (lambda f: (f / "config.json").unlink(), "not a model folder, config.json is missing"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "not a model folder, model.safetensors is missing"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "not a complete model folder, tokenizer.json"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text('{"a": '), "not a readable tokenizer"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "not a readable safetensors file"),
    "cut weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-1000]),
        "not a readable safetensors file",
    ),
    "not weights": (lambda f: (f / "model.safetensors").write_text("<html>" * 90), "not a readable safetensors file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_folder_is_named_in_one_sentence(folder, fault):
    spoil, message = FAULTS[fault]
    spoil(folder)
    with pytest.raises(ValueError, match=message) as raised:
        hub.load(folder)
    assert str(raised.value).startswith(str(folder))
    assert "\n" not in str(raised.value)


# -------------------------------------------------------------------------------------------------- finding


def test_load_gives_a_model_that_is_ready(network, folder):
    segmenter = anygrain.load(folder, threshold=0.4, presence_threshold=0.3, memory_limit=123)
    assert (segmenter.threshold, segmenter.presence_threshold, segmenter.memory_limit) == (0.4, 0.3, 123)
    assert segmenter.info == {"name": str(folder), "architecture": "unilseg", "fingerprint": hub.fingerprint(folder)}
    assert not any(parameter.requires_grad for parameter in segmenter.model.parameters())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in segmenter.model.modules())
    torch.testing.assert_close(logits(segmenter.model), logits(network), atol=1e-5, rtol=1e-4)
    assert segmenter(picture(), TEXTS).masks.shape == (3, 60, 90)


def test_loading_leaves_the_compiler_out_and_the_file_closed(folder):
    """PyTorch's compiler is 80 MB; weights that share the mapped file's memory would keep all of it."""
    code = f"import sys, anygrain; segmenter = anygrain.load({str(folder)!r})\n"
    code += "assert 'torch._dynamo' not in sys.modules\n"
    code += "assert 'model.safetensors' not in open('/proc/self/maps').read()\n" if sys.platform == "linux" else ""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_models_that_answer_alike_share_a_fingerprint(network, folder, tmp_path):
    again = hub.save(network, tmp_path / "again", card="another card")
    other = hub.save(build(nano_config(), tmp_path, seed=1), tmp_path / "other", card="")
    threshold = hub.save(network, tmp_path / "threshold", card="")
    values = json.loads((threshold / "config.json").read_text())
    change_config(threshold, model={**values["model"], "threshold": 0.3})
    assert hub.fingerprint(again) == hub.fingerprint(folder)
    assert len({hub.fingerprint(each) for each in (folder, other, threshold)}) == 3


def test_a_vocabulary_goes_with_the_model_and_unknown_words_are_read_by_it(folder, monkeypatch, tmp_path):
    monkeypatch.setattr("anygrain.vocabulary.NEAR", -1.0)  # everything is near
    network = hub.read_model(folder)
    assert network.vocabulary is None
    network.vocabulary = Vocabulary(names={"dog": "dog"}, words=frozenset({"dog", "car"}))
    segmenter = hub.load(hub.save(network, tmp_path / "reader", card=""))
    assert segmenter.model.vocabulary == network.vocabulary
    assert hub.fingerprint(tmp_path / "reader") != hub.fingerprint(folder)
    assert [segmenter.reading(text) for text in ("all zebras", "the car")] == ["all dogs", "the car"]
    unknown, known = segmenter(picture(), ["zebra", "dog"]).low_res_logits
    np.testing.assert_allclose(unknown, known, atol=1e-5)
    plain = hub.load(folder)
    assert plain.reading("zebra") == "zebra"
    (apart,) = plain(picture(), "zebra").low_res_logits
    assert np.abs(apart - known).max() > 1e-3


def test_an_alias_names_a_shipped_model(folder, monkeypatch, tmp_path):
    monkeypatch.setitem(hub.ALIASES, "nano", folder)
    assert hub.find("nano") == folder
    assert anygrain.load().info["name"] == "nano"
    monkeypatch.setitem(hub.ALIASES, "nano", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="the shipped model 'nano' is missing from this installation"):
        hub.find("nano")


def test_other_names(folder, tmp_path):
    assert hub.find(folder) == hub.find(str(folder)) == folder
    with pytest.raises(ValueError, match="unknown model 'nanoo': not a folder; shipped models: nano"):
        hub.find("nanoo")
    with pytest.raises(ValueError, match="unknown model 'a/b/c'"):
        hub.find("a/b/c")
    checkpoint = tmp_path / "UniLSeg20.pth"
    checkpoint.write_bytes(b"x")
    with pytest.raises(ValueError, match="a model is a folder; a checkpoint file is turned into one by `anygrain conv"):
        hub.find(checkpoint)


def test_a_name_on_the_hub_is_downloaded(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, **_: asked.append(repo) or str(folder))
    assert anygrain.load("lab/grain-7").info["name"] == "lab/grain-7"
    assert asked == ["lab/grain-7"]


def test_without_a_network_the_hub_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ValueError, match="model 'lab/grain-7' is not a folder here and could not be downloaded"
    ) as raised:
        hub.find("lab/grain-7")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_an_unknown_repository_is_one_sentence(monkeypatch):
    response = SimpleNamespace(headers={}, request=None)

    def missing(*_, **__):
        raise huggingface_hub.errors.RepositoryNotFoundError("404\nlong", response=response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", missing)
    with pytest.raises(ValueError, match=r"unknown model 'lab/grain-7': .* or one that needs a login"):
        hub.find("lab/grain-7")


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "gpu", "mps", "cuda:x", ""])
def test_a_device_that_is_not_there_is_refused(folder, device):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(ValueError, match=f"device '{device}' is not available here; usable: auto, cpu"):
        hub.load(folder, device=device)


def test_auto_is_the_best_device():
    assert hub.pick_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert hub.pick_device("cpu") == "cpu"


# -------------------------------------------------------------------------------------------------- pushing


def test_only_a_folder_that_loads_is_pushed(folder, monkeypatch):
    pushed = []

    class Api:
        def create_repo(self, repo, **options):
            pushed.append((repo, options["private"]))

        def upload_folder(self, folder_path, repo_id):
            pushed.append((sorted(path.name for path in Path(folder_path).iterdir()), repo_id))
            return "https://hub/lab/grain"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert hub.push(folder, "lab/grain", private=True) == "https://hub/lab/grain"
    assert pushed[0] == ("lab/grain", True)
    assert pushed[1] == (["README.md", "config.json", "model.safetensors", "tokenizer.json"], "lab/grain")
    shutil.copy(folder / "README.md", folder / "model.safetensors")
    with pytest.raises(ValueError, match="not a readable safetensors"):
        hub.push(folder, "lab/grain")
    assert len(pushed) == 2


def test_a_network_without_tokenizer_is_saved_and_refused_on_reading(tmp_path):
    network = UniLSeg(nano_config()).eval()
    folder = hub.save(network, tmp_path / "model", card="")
    with pytest.raises(ValueError, match=r"tokenizer\.json is missing"):
        hub.read_model(folder)
