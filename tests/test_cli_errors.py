"""Bad input: one clear sentence, exit status 2, no traceback, and nothing half-written."""

import errno
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anygrain import outputs
from anygrain.__main__ import main


def refused(result, *words):
    """The result is one sentence that holds ``words``; returns it."""
    assert result.status == 2, result
    (line,) = result.err.splitlines()
    assert line.startswith("anygrain: error: ")
    assert "Traceback" not in line
    assert not re.search(r"\[Errno|Error:|Error\(", line), "a class name or number is no sentence"
    for word in words:
        assert word in line
    return line


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def png_header(width, height):
    """A PNG that promises a size and holds no pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    end = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + end


BAD_PHOTOS = {
    "missing": (None, "there is no file bad.jpg"),
    "truncated": ("cut", "damaged or cut short"),
    "empty": (b"", "0 bytes"),
    "text": (b"I am a text.\n", "is not an image"),
    "huge header": (png_header(20_000, 20_000), "400,000,000 pixels"),
}


@pytest.mark.parametrize("kind", BAD_PHOTOS)
def test_a_bad_photo_is_named_and_the_others_are_finished(segment, photos, folder, kind):
    content, words = BAD_PHOTOS[kind]
    if content is not None:
        content = (photos / "dog.jpg").read_bytes()[:9000] if content == "cut" else content
        (folder / "bad.jpg").write_bytes(content)
    result = segment("bad.jpg", photos / "kite.jpg", "-t", "it", "--out", "results")
    refused(result, "bad.jpg", words)
    assert files_in(folder / "results") == ["kite.json", "kite.overlay.png"]


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 2)])
def test_tiny_and_thin_pictures_work(segment, folder, size):
    Image.new("RGB", size, (200, 30, 30)).save(folder / "p.png")
    assert segment("p.png", "-t", "it").status == 0
    with Image.open(folder / "out" / "p.overlay.png") as overlay:
        assert overlay.size == size


def test_a_folder_without_images_and_a_pattern_without_matches(segment, folder):
    (folder / "void").mkdir()
    refused(segment("void", "-t", "it"), "void", "holds no images")
    refused(segment("void/*.jpg", "-t", "it"), "void/*.jpg", "matches no image")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photo.jpg"], "no text given"),
        (["photo.jpg", "-t", " "], "text of a prompt is empty"),
        (["photo.jpg", "-t", os.fsdecode(b"caf\xe9")], "not UTF-8"),
        (["-t", "it"], "no photo given"),
        (["photo.jpg", "-t", "it", "--threshold", "1.5"], "threshold must lie between 0 and 1"),
        (["photo.jpg", "-t", "it", "--device", "abacus"], "device 'abacus'"),
        (["--requests", "none.jsonl"], "none.jsonl: No such file"),
        (["--requests", "."], "Is a directory"),
        (["--requests", "r.jsonl", "-t", "it"], "give no others beside it"),
        (["--requests", "r.jsonl", "--out", "r.jsonl"], "both the requests and the results"),
        (["frames", "--as-video", "-t", "it", "--fps", "0"], "--fps is 0"),
    ],
)
def test_wrong_arguments(segment, photos, folder, arguments, words):
    (folder / "photo.jpg").write_bytes((photos / "dog.jpg").read_bytes())
    (folder / "frames").mkdir()
    (folder / "frames" / "0.jpg").write_bytes((photos / "dog.jpg").read_bytes())
    (folder / "r.jsonl").write_text('{"id": 1, "image": "photo.jpg", "text": "it"}\n')
    before = files_in(folder)
    refused(segment(*arguments), words)
    assert files_in(folder) == before


@pytest.mark.parametrize("arguments", [["segmnet"], ["data"], ["data", "bild"], ["convert", "sam", "x", "y"]])
def test_an_unknown_command_is_named(anygrain, arguments):
    refused(anygrain(*arguments), arguments[0])


def test_an_unknown_option_is_shown_with_its_like(anygrain):
    result = anygrain("segment", "photo.jpg", "-t", "it", "--treshold", "0.5")
    assert result.status == 2
    assert "--treshold" in result.err
    assert "--threshold" in result.err


# ------------------------------------------------------------------------------------------------ models


def model_errors(folder, tiny_model):
    """Model argument -> what the sentence says."""
    (folder / "empty").mkdir()
    (folder / "noweights").mkdir()
    config = (tiny_model / "config.json").read_text()
    (folder / "noweights" / "config.json").write_text(config)
    (folder / "other").mkdir()
    (folder / "other" / "config.json").write_text(config.replace('"mask_dim": 16', '"mask_dim": 24'))
    (folder / "other" / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes())
    (folder / "cut").mkdir()
    (folder / "cut" / "config.json").write_text(config)
    (folder / "cut" / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes()[:5000])
    (folder / "model.pth").write_bytes(b"weights")
    return {
        "nanoo": "unknown model 'nanoo'",
        "empty": "config.json is missing",
        "noweights": "model.safetensors is missing",
        "other": "do not fit the configuration",
        "cut": "not a readable safetensors file",
        "model.pth": "anygrain convert",
    }


def test_a_model_that_cannot_be_used_is_named(anygrain, tiny_model, photos, folder):
    for model, words in model_errors(folder, tiny_model).items():
        refused(anygrain("segment", photos / "dog.jpg", "-t", "it", "--model", model), model, words)
    assert not (folder / "out").exists()


def test_a_checkpoint_that_is_not_the_official_one(anygrain, folder):
    import torch

    torch.save({"state_dict": {"module.head.weight": torch.zeros(3)}}, folder / "other.pth")
    (folder / "text.pth").write_text("no checkpoint")
    refused(anygrain("convert", "unilseg", "other.pth", "model"), "other.pth", "not the checkpoint expected", "missing")
    refused(anygrain("convert", "unilseg", "text.pth", "model"), "text.pth", "cannot be read as a PyTorch checkpoint")
    refused(anygrain("convert", "unilseg", "none.pth", "model"), "none.pth: No such file")
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("three years of work")
    refused(anygrain("convert", "unilseg", "other.pth", "mine"), "holds other things than a model")
    assert files_in(folder) == ["mine/thesis.txt", "other.pth", "text.pth"]


# ------------------------------------------------------------------------------------------------ writing


def test_an_output_folder_that_cannot_be_made(segment, photos, folder):
    (folder / "file").write_text("in the way")
    refused(segment(photos / "dog.jpg", "-t", "it", "--out", "file/results"), "cannot write", "file/results")
    (folder / "r.jsonl").write_text("\n")
    refused(segment("--requests", "r.jsonl", "--out", "file/results.jsonl"), "cannot write file/results.jsonl")
    assert files_in(folder) == ["file", "r.jsonl"]


def test_a_full_disk_while_writing_a_photo_leaves_no_part(segment, photos, folder, monkeypatch):
    def full(path, data):
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    result = segment(photos / "dog.jpg", photos / "kite.jpg", "-t", "it", "--out", "results")
    refused(result, "cannot write results/dog.overlay.png: No space left on device")
    assert files_in(folder) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_while_writing_results(segment, photos, folder):
    (folder / "r.jsonl").write_text(f'{{"id": 1, "image": "{photos / "dog.jpg"}", "text": "it"}}\n')
    refused(segment("--requests", "r.jsonl", "--out", "/dev/full"), "cannot write /dev/full: No space left on device")


def test_a_full_disk_in_the_middle_of_a_line_cuts_that_line_off(folder, monkeypatch):
    with outputs.LineFile(folder / "r.jsonl") as lines:
        lines.write({"id": 1})
        real, lines._file = lines._file, Full(lines._file)
        with pytest.raises(OSError, match=r"cannot write .*r\.jsonl: No space left"):
            lines.write({"id": 2, "text": "long enough"})
        lines._file = real
        assert (folder / "r.jsonl").read_bytes() == b'{"id": 1}\n'
        lines.write({"id": 3})
    assert (folder / "r.jsonl").read_bytes() == b'{"id": 1}\n{"id": 3}\n'


class Full:
    """A file on a disk with room for three more bytes."""

    def __init__(self, file):
        self.file, self.room = file, 3

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.file.write(data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self.file, name)


# ------------------------------------------------------------------------------------------------ our own mistakes


def test_a_mistake_of_ours_keeps_its_traceback(tiny_model, photos, folder, monkeypatch):
    (folder / "r.jsonl").write_text(f'{{"id": 1, "image": "{photos / "dog.jpg"}", "text": "it"}}\n')
    command = ["segment", "--requests", "r.jsonl", "--model", str(tiny_model), "--device", "cpu"]
    monkeypatch.setattr("anygrain.types.Prediction.segments", lambda _: [{}, {}])
    with pytest.raises(ValueError, match="too many values to unpack"):  # in a line of anygrain that is no `raise`
        main(command)
    monkeypatch.setattr("anygrain.types.Prediction.segments", lambda _: np.zeros(2) + np.zeros(3))
    with pytest.raises(ValueError, match="broadcast"):
        main(command)


def test_a_closed_pipe_ends_quietly(tiny_model, photos, folder):
    command = [sys.executable, "-m", "anygrain", "segment", photos / "dog.jpg", "-t", "it", "--json", "-"]
    with subprocess.Popen(
        [*command, "--model", tiny_model], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.close()
        error = process.stderr.read() if process.stderr else ""
    assert process.returncode == 141
    assert error == ""
