"""The command line as people use it: photos, folders, patterns and requests in, overlays and JSON out."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import anygrain as package
from anygrain import hub
from anygrain.cli import COMMANDS
from anygrain.images import decode_image
from anygrain.inputs import expand, images_in, natural, result_names
from anygrain.segmenter import Segmenter
from anygrain.types import Mask
from tiny_unilseg import build, nano_config


@pytest.fixture
def encoded(monkeypatch):
    """Every image that is encoded from now on."""
    images: list = []
    embed = Segmenter.embed

    def watched(self, these, **options):
        images.extend(these)
        return embed(self, these, **options)

    monkeypatch.setattr(Segmenter, "embed", watched)
    return images


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_requests(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------------------ photos


def test_a_photo_gives_an_overlay_and_a_record_equal_to_the_python_result(segment, tiny_model, photos, folder):
    texts = ["the dog", "the sky and the sea"]
    result = segment(photos / "dog.jpg", "-t", texts[0], "--text", texts[1])
    assert (result.status, result.err) == (0, "")
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["dog.json", "dog.overlay.png"]
    expected = package.load(tiny_model, device="cpu")(photos / "dog.jpg", texts)
    assert json.loads((folder / "out" / "dog.json").read_text()) == expected.to_json()
    first, second = expected.to_json()["segments"]
    assert first["segmentation"] != second["segmentation"], "the model of this test must tell the phrases apart"
    with Image.open(folder / "out" / "dog.overlay.png") as overlay, Image.open(photos / "dog.jpg") as photo:
        assert overlay.size == photo.size
        assert np.asarray(overlay).tobytes() != np.asarray(photo).tobytes()
    assert "the dog" in result.out
    assert "dog.json" in result.out


def test_json_dash_prints_records_and_writes_nothing_unless_out_is_given(segment, photos, folder):
    result = segment(photos / "dog.jpg", photos / "kite.jpg", "-t", "the dog", "--json", "-")
    assert [json.loads(line)["image"]["file"] for line in result.out.splitlines()] == ["dog.jpg", "kite.jpg"]
    assert list(folder.iterdir()) == []
    result = segment(photos / "dog.jpg", "-t", "the dog", "--json", "-", "--out", "both")
    assert json.loads(result.out) == json.loads((folder / "both" / "dog.json").read_text())


def test_thresholds_reach_the_model(segment, photos, folder):
    areas = [
        json.loads(segment(photos / "dog.jpg", "-t", "x", "--json", "-", "--threshold", t).out)["segments"][0]["area"]
        for t in ("0.3", "0.5", "0.9")
    ]
    assert areas[0] > areas[1] > areas[2]


def test_the_presence_threshold_decides_what_is_there(anygrain, photos, folder):
    model = hub.save(build(nano_config(threshold=0.3), folder), folder / "model", card="")
    asked = (
        "segment",
        "--model",
        model,
        "--device",
        "cpu",
        photos / "dog.jpg",
        "--json",
        "-",
        "-t",
        "dog",
        "-t",
        "sky",
    )

    def segments(limit):
        return json.loads(anygrain(*asked, "--presence-threshold", limit).out)["segments"]

    first, second = segments("0.001")
    assert first["present"]
    assert second["present"]
    low, high = sorted((first, second), key=lambda segment: segment["score"])
    between = {one["prompt"]["text"]: one for one in segments(str((low["score"] + high["score"]) / 2))}
    assert between[high["prompt"]["text"]]["area"] == high["area"] > 0
    missing = between[low["prompt"]["text"]]
    assert (missing["present"], missing["area"], missing["box"], missing["score"]) == (False, 0, None, low["score"])


@pytest.mark.parametrize("option", ["--threshold", "--presence-threshold"])
@pytest.mark.parametrize("value", ["0", "1.5"])
def test_a_threshold_that_is_no_probability_is_one_sentence(segment, photos, folder, option, value):
    result = segment(photos / "dog.jpg", "-t", "x", option, value)
    name = option.strip("-").replace("-", "_")
    assert result.status == 2
    assert result.err == f"anygrain: error: {name} must lie between 0 and 1, got {float(value)}\n"


def test_each_photo_is_encoded_once_for_all_its_prompts(segment, photos, folder, encoded):
    texts = [part for i in range(9) for part in ("-t", f"thing {i}")]
    assert segment(photos / "dog.jpg", photos / "kite.jpg", *texts).status == 0
    assert encoded == [photos / "dog.jpg", photos / "kite.jpg"]


def test_folders_and_patterns_name_their_photos(segment, photos, folder):
    (folder / "in" / "deep").mkdir(parents=True)
    shutil.copy(photos / "dog.jpg", folder / "in" / "one.JPG")
    shutil.copy(photos / "pet.jpg", folder / "in" / "deep" / "two.jpg")
    (folder / "in" / "notes.txt").write_text("not a photo")
    assert segment("in", "-t", "it", "--out", "a").status == 0
    assert sorted(p.name for p in (folder / "a").iterdir()) == ["one.json", "one.overlay.png"]
    assert segment("in/**/*", "-t", "it", "--out", "b").status == 0
    assert sorted(p.name for p in (folder / "b").glob("*.json")) == ["one.json", "two.json"]


def test_photos_of_one_name_get_results_of_their_own_and_it_is_said(segment, photos, folder):
    for name in ("left", "right"):
        (folder / name).mkdir()
        shutil.copy(photos / f"{'dog' if name == 'left' else 'kite'}.jpg", folder / name / "a.jpg")
    result = segment("left/a.jpg", "right/a.jpg", "-t", "it")
    assert result.status == 0
    assert sorted(p.name for p in (folder / "out").glob("*.json")) == ["left-a.jpg.json", "right-a.jpg.json"]
    assert result.err.startswith("anygrain: warning: 2 files share their name")
    records = [json.loads((folder / "out" / f"{name}-a.jpg.json").read_text()) for name in ("left", "right")]
    assert records[0]["image"]["height"] == 216 != records[1]["image"]["width"]


def test_a_photo_named_twice_is_segmented_once(segment, photos, folder):
    result = segment(photos / "dog.jpg", f"{photos}/../photos/dog.jpg", "-t", "it")
    assert result.out.count("dog.json") == 1
    assert result.err == ""


def test_a_file_name_that_is_not_utf8_works(segment, photos, folder):
    name = os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(photos / "dog.jpg", folder / name)
    result = segment(name, "-t", "it")
    assert result.status == 0
    record = json.loads((folder / "out" / os.fsdecode(b"caf\xe9.json")).read_bytes())
    assert record["image"]["file"] == "caf\ufffd.jpg"


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/a.jpg", "y/b.jpg"], ["a", "b"]),
        (["x/a.jpg", "x/a.png"], ["a.jpg", "a.png"]),
        (["x/a.jpg", "y/a.jpg", "y/b.jpg"], ["x-a.jpg", "y-a.jpg", "b"]),
        (["x/A.jpg", "y/a.png"], ["A.jpg", "a.png"]),
        (["1/x/a.jpg", "2/x/a.jpg", "x-a.jpg-2.png"], ["x-a.jpg", "x-a.jpg-3", "x-a.jpg-2"]),
        (["a.jpg", "a.png", "a.jpg.png"], None),
    ],
)
def test_result_names_are_all_different(paths, names):
    found = result_names([Path(path) for path in paths])
    assert len({name.casefold() for name in found}) == len(paths)
    if names:
        assert found == names


def test_folders_are_read_in_natural_order_without_overlays_of_before(folder):
    for name in ("f10.png", "f2.png", "f1.overlay.png", "F1.png"):
        Image.new("RGB", (2, 2)).save(folder / name)
    assert [path.name for path in images_in(folder)] == ["F1.png", "f2.png", "f10.png"]
    assert sorted(["10", "9", "a1", "a"], key=natural) == ["9", "10", "a", "a1"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder):
    Image.new("RGB", (2, 2)).save(folder / "a[1].png")
    Image.new("RGB", (2, 2)).save(folder / "a1.png")
    assert [path.name for path in expand("a[1].png")] == ["a[1].png"]
    assert [path.name for path in expand("a?.png")] == ["a1.png"]


def test_a_phrase_longer_than_the_models_window_warns_in_one_line(segment, photos, folder):
    result = segment(photos / "dog.jpg", photos / "kite.jpg", "-t", "a very long phrase " * 5)
    assert result.status == 0
    (line,) = result.err.splitlines()
    assert line.startswith("anygrain: warning: ")
    assert "ignored" in line


# ------------------------------------------------------------------------------------------------ requests


def test_requests_keep_their_order_and_encode_each_image_once(segment, tiny_model, photos, folder, encoded):
    asked = [("dog", "the dog"), ("kite", "the sea"), ("dog", "the grass"), ("kite", "a man"), ("dog", "日本の犬")]
    rows = [{"id": n, "image": str(photos / f"{image}.jpg"), "text": text} for n, (image, text) in enumerate(asked)]
    result = segment("--requests", write_requests(folder / "in.jsonl", rows), "--out", "results.jsonl")
    assert (result.status, result.out, result.err) == (0, "", "")
    assert len(encoded) == 2
    got = lines_of(folder / "results.jsonl")
    segmenter = package.load(tiny_model, device="cpu")
    for row, line in zip(rows, got, strict=True):
        (expected,) = segmenter(row["image"], row["text"]).segments()
        assert line["id"] == row["id"]
        assert {key: line[key] for key in expected if key != "id"} == {k: v for k, v in expected.items() if k != "id"}
        assert line["image"] == {"file": row["image"], "width": 384, "height": line["segmentation"]["size"][0]}


def test_windows_change_nothing_but_memory(segment, photos, folder, monkeypatch):
    rows = [
        {"id": f"r{n}", "image": str(photos / f"{('dog', 'kite', 'pet')[n % 3]}.jpg"), "text": f"thing {n}"}
        for n in range(8)
    ]
    write_requests(folder / "in.jsonl", rows)
    whole = segment("--requests", "in.jsonl").out
    monkeypatch.setattr("anygrain.requests.WINDOW", 3)
    assert segment("--requests", "in.jsonl").out == whole
    assert [json.loads(line)["id"] for line in whole.splitlines()] == [row["id"] for row in rows]


def test_bad_requests_give_error_lines_and_the_others_are_answered(segment, photos, folder):
    dog = str(photos / "dog.jpg")
    (folder / "cut.jpg").write_bytes((photos / "dog.jpg").read_bytes()[:9000])
    good = json.dumps({"id": "good", "image": dog, "text": "the dog", "note": "other fields are passed over"}).encode()
    bad = [
        (b'\xff\xfe{"id": 1}', None, "not UTF-8"),
        (b"{'id': 1}", None, "not JSON"),
        (b"[1, 2]", None, "not an object"),
        (b'{"id": 4, "image": "x.jpg"}', 4, "no 'text'"),
        (b'{"image": "x.jpg", "text": "it"}', None, "no 'id'"),
        (b'{"id": "e", "image": "x.jpg", "text": " "}', "e", "'text' is empty"),
        (b'{"id": {}, "image": "x.jpg", "text": "it"}', None, "'id' must be"),
        (b'{"id": 7, "image": ["x.jpg"], "text": "it"}', 7, "'image' must be"),
        (b'{"id": 8, "image": "x.jpg", "text": "\\ud800"}', 8, "do not exist"),
        (b'{"id": 9, "image": "none.jpg", "text": "it"}', 9, "there is no file none.jpg"),
        (b'{"id": 10, "image": "cut.jpg", "text": "it"}', 10, "cut.jpg is damaged"),
        (b'{"id": 11, "image": "' + b"x" * (1 << 20) + b'", "text": "it"}', None, "longer than"),
    ]
    (folder / "in.jsonl").write_bytes(b"\n".join([good, *(line for line, *_ in bad), b"", good]))
    result = segment("--requests", "in.jsonl", "--out", "results.jsonl")
    assert result.status == 1
    assert result.err.strip() == 'anygrain: error: 12 of 14 requests failed; their lines say why under "error"'
    first, *errors, last = lines_of(folder / "results.jsonl")
    assert first == last
    assert first["id"] == "good"
    assert first["area"] > 0
    for number, ((_, id, words), row) in enumerate(zip(bad, errors, strict=True), 2):
        assert (row["id"], row["line"], set(row)) == (id, number, {"id", "line", "error"})
        assert words in row["error"]
        assert "\n" not in row["error"]


def test_requests_without_any_line_give_an_empty_file(segment, folder):
    (folder / "in.jsonl").write_bytes(b"\n\n")
    assert segment("--requests", "in.jsonl", "--out", "results.jsonl").status == 0
    assert (folder / "results.jsonl").read_bytes() == b""


# ------------------------------------------------------------------------------------------------ interruption


def test_ctrl_c_keeps_the_photos_that_are_finished(segment, photos, folder, monkeypatch):
    answer = Segmenter.answer

    def interrupted(self, embedding, prompts):
        if embedding.name == "kite.jpg":
            raise KeyboardInterrupt
        return answer(self, embedding, prompts)

    monkeypatch.setattr(Segmenter, "answer", interrupted)
    result = segment(photos / "dog.jpg", photos / "kite.jpg", photos / "pet.jpg", "-t", "it")
    assert result.status == 130
    assert "Traceback" not in result.err
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["dog.json", "dog.overlay.png"]


def test_a_real_ctrl_c_leaves_whole_lines(tiny_model, photos, folder):
    rows = [{"id": n, "image": str(photos / "dog.jpg"), "text": f"thing {n}"} for n in range(20_000)]
    write_requests(folder / "in.jsonl", rows)
    command = [sys.executable, "-m", "anygrain", "segment", "--requests", "in.jsonl", "--out", "results.jsonl"]
    with subprocess.Popen([*command, "--model", tiny_model, "--device", "cpu"], stderr=subprocess.PIPE) as process:
        results, deadline = folder / "results.jsonl", time.monotonic() + 300
        while not (results.exists() and results.stat().st_size > 0) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert results.read_bytes().endswith(b"\n")
    ids = [row["id"] for row in lines_of(results)]
    assert ids == list(range(len(ids)))
    assert 0 < len(ids) < len(rows)


# ------------------------------------------------------------------------------------------------ help, other commands


def test_every_command_has_help_with_an_example_that_names_it(anygrain):
    listed = anygrain("--help")
    assert listed.status == 0
    for name in COMMANDS:
        assert name.split()[-1] in listed.out
        result = anygrain(*name.split(), "--help")
        assert result.status == 0, name
        assert re.search(rf"^  anygrain {name} ", result.out, re.MULTILINE), name


def test_version(anygrain):
    assert anygrain("--version").out == f"anygrain {package.__version__}\n"


def test_a_checkpoint_in_the_official_form_becomes_a_model_folder(anygrain, folder, monkeypatch):
    import torch

    from anygrain import hub
    from anygrain.models.unilseg import UniLSegConfig

    monkeypatch.syspath_prepend(str(Path(__file__).parent / "parity"))
    from official import state_dict, tiny_config

    config = tiny_config()
    monkeypatch.setattr(UniLSegConfig, "released", classmethod(lambda cls: config))
    official = state_dict(config)
    torch.save({"state_dict": {f"module.{key}": value for key, value in official.items()}}, folder / "official.pth")
    result = anygrain("convert", "unilseg", "official.pth", "models/unilseg")
    assert (result.status, result.err) == (0, "")
    weights = hub.read_model(folder / "models" / "unilseg").state_dict()
    key = "image_encoder.patch_embed.weight"
    assert torch.equal(weights[key], official["backbone_visual.patch_embed.proj.weight"])
    assert "official" in (folder / "models" / "unilseg" / "README.md").read_text()


def test_data_is_verified_and_shown(anygrain, folder, photos):
    from anygrain.data.shards import write_shards
    from anygrain.types import Region, Sample

    mask = Mask.from_array(np.asarray(decode_image(photos / "dog.png")) == 1)
    region = Region(mask=mask, category="dog")
    sample = Sample(id="s/1", image=photos / "dog.jpg", size=mask.size, regions=(region,), source="s")
    write_shards([sample], folder / "shards" / "s")
    assert anygrain("data", "verify", "shards/s").status == 0
    assert anygrain("data", "show", "shards/s", "sheet.png").status == 0
    assert (folder / "sheet.png").read_bytes().startswith(b"\x89PNG")
    tar = folder / "shards" / "s" / "000000.tar"
    content = bytearray(tar.read_bytes())
    content[2000] ^= 1
    tar.write_bytes(content)
    result = anygrain("data", "verify", "shards/s")
    assert result.status == 1
    assert "CRC-32" in result.out
