"""Released checkpoints by name: download with resume, checksum of the first download, conversion, cache."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from anygrain import hub, released
from anygrain.models import convert_semantic_sam
from anygrain.models.convert_semantic_sam import semantic_sam_keys
from tiny_semantic_sam import tiny_config

CONFIG = tiny_config(text_encoder=None)


class Server:
    """An HTTP server of one file, that may break off, know no ranges, or give another file."""

    def __init__(self, data: bytes):
        self.data, self.tag, self.breaks_at, self.ranges, self.asked = data, '"first"', None, True, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_address[1]}/files/model.pth"

    def answer(self, request):
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        if "/files/" not in request.path:
            request.send_error(404)
            return
        start = 0
        if wanted and self.ranges and request.headers.get("If-Range") == self.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start > len(self.data):
            request.send_error(416)
            return
        body = self.data[start:]
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("ETag", self.tag)
        request.end_headers()
        sent = body if self.breaks_at is None else body[: self.breaks_at - start]
        request.wfile.write(sent)
        request.wfile.flush()
        if len(sent) < len(body):
            request.close_connection = True

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An official file of a small network."""
    torch.manual_seed(0)
    tensors = {}
    for key, shape in semantic_sam_keys(CONFIG).items():
        tensors[f"model.{key}"] = torch.randn(shape)
    copies = convert_semantic_sam.tied_keys(CONFIG)
    tensors |= {f"model.{copy}": tensors[f"model.{key}"] for copy, key in copies.items()}
    window = CONFIG.image_encoder.window_size
    at = torch.arange(window)
    rows, columns = at.repeat_interleave(window), at.repeat(window)
    index = (rows[:, None] - rows + window - 1) * (2 * window - 1) + columns[:, None] - columns + window - 1
    tensors |= {key: index for key in tensors if key.endswith("relative_position_index")}
    path = tmp_path_factory.mktemp("official") / "model.pth"
    torch.save({"model": tensors}, path)
    return path.read_bytes()


@pytest.fixture
def server(checkpoint, tmp_path, monkeypatch):
    server = Server(checkpoint)
    monkeypatch.setenv("ANYGRAIN_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(released.ADDRESSES, "semantic-sam-swint", server.url)
    monkeypatch.setattr(convert_semantic_sam, "released_config", lambda *_, **__: CONFIG)
    yield server
    server.close()


def test_the_addresses_are_those_of_the_authors():
    assert set(released.ADDRESSES) == {"semantic-sam-swint", "semantic-sam-swinl"}
    for name, url in released.ADDRESSES.items():
        assert url.startswith("https://github.com/UX-Decoder/Semantic-SAM/releases/download/")
        assert url.endswith(f"{name.removeprefix('semantic-sam-')}_only_sam_many2many.pth")


def test_a_model_is_downloaded_and_converted_once(server, tmp_path, photos):
    segmenter = hub.load("semantic-sam-swint", device="cpu")
    assert segmenter.info["architecture"] == "semantic_sam"
    assert segmenter(photos / "dog.jpg", points=[(50, 50)]).masks.shape[0] >= 1
    home = tmp_path / "home"
    known = json.loads((home / "downloads.json").read_text())
    assert known[server.url]["bytes"] == len(server.data)
    assert list((home / "downloads").iterdir()) == []  # the official file is not kept beside its conversion
    assert server.url in (home / "models" / "semantic-sam-swint" / "README.md").read_text()
    server.close()  # from here on offline
    again = hub.load("semantic-sam-swint", device="cpu")
    assert again.info["fingerprint"] == segmenter.info["fingerprint"]
    assert server.asked == [None]


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    server.breaks_at = 100_000
    with pytest.raises(OSError, match=r"broke off at 100,000 of [\d,]+ bytes: run it again to go on"):
        hub.find("semantic-sam-swint")
    home = tmp_path / "home"
    assert (home / "downloads" / "model.pth.part").stat().st_size == 100_000
    assert not (home / "downloads" / "model.pth").exists()
    assert not (home / "models").exists()
    server.breaks_at = None
    folder = hub.find("semantic-sam-swint")
    assert (folder / "model.safetensors").is_file()
    assert server.asked == [None, "bytes=100000-"]
    assert list((home / "downloads").iterdir()) == []


@pytest.mark.parametrize("change", ["no ranges", "another file"])
def test_a_part_that_does_not_fit_is_thrown_away(server, change):
    server.breaks_at = 100_000
    with pytest.raises(OSError, match="broke off"):
        hub.find("semantic-sam-swint")
    server.breaks_at = None
    if change == "no ranges":
        server.ranges = False
    else:
        server.tag = '"second"'
    assert (hub.find("semantic-sam-swint") / "model.safetensors").is_file()


def test_a_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    folder = tmp_path / "home" / "downloads"
    folder.mkdir(parents=True)
    (folder / "model.pth.part").write_bytes(bytes(len(server.data) + 1))
    (folder / "model.pth.etag").write_text(server.tag)
    assert (hub.find("semantic-sam-swint") / "model.safetensors").is_file()


def test_another_file_than_at_first_is_refused(server, tmp_path):
    import shutil

    hub.find("semantic-sam-swint")
    shutil.rmtree(tmp_path / "home" / "models")
    server.data = server.data[:-1] + b"x"
    with pytest.raises(ValueError, match=r"gave another file than at first \(SHA-256 [0-9a-f]{12}"):
        hub.find("semantic-sam-swint")
    assert not (tmp_path / "home" / "models").exists()
    assert list((tmp_path / "home" / "downloads").iterdir()) == []


def test_offline_is_said_in_one_sentence(server, anygrain, photos):
    server.close()
    result = anygrain("segment", photos / "dog.jpg", "--point", "5,5", "--model", "semantic-sam-swint")
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert "is downloaded on first use" in result.err
    assert "`anygrain convert semantic-sam FILE FOLDER`" in result.err


def test_an_address_that_has_gone_is_said_in_one_sentence(server, monkeypatch):
    monkeypatch.setitem(released.ADDRESSES, "semantic-sam-swint", server.url.replace("files", "nothing"))
    with pytest.raises(ValueError, match=r"cannot be reached \(Not Found\)"):
        hub.find("semantic-sam-swint")


def test_a_wrong_file_leaves_no_model_behind(server, tmp_path):
    server.data = b"this is no checkpoint"
    with pytest.raises(ValueError, match="cannot be read as a PyTorch checkpoint"):
        hub.find("semantic-sam-swint")
    assert not (tmp_path / "home" / "models" / "semantic-sam-swint").exists()


def test_convert_by_hand(server, anygrain, tmp_path):
    (tmp_path / "model.pth").write_bytes(server.data)
    result = anygrain("convert", "semantic-sam", tmp_path / "model.pth", tmp_path / "out")
    assert (result.status, result.err) == (0, "")
    assert hub.read_model(tmp_path / "out").config == CONFIG
    result = anygrain("convert", "semantic-sam", tmp_path / "missing.pth", tmp_path / "out2")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert not (tmp_path / "out2").exists()
