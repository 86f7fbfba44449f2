"""Released checkpoints by name: downloaded once, checked against the first download, converted once, then kept.

Everything lies under ``$ANYGRAIN_HOME``, by default ``~/.cache/anygrain``: ``models/NAME`` are model folders,
``downloads.json`` holds the SHA-256 of every file that was ever downloaded.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anygrain import __version__
from anygrain.files import sha256
from anygrain.images import write_atomic

if TYPE_CHECKING:
    from anygrain.hub import Storage

_SEMANTIC_SAM = "https://github.com/UX-Decoder/Semantic-SAM/releases/download/checkpoint/"
ADDRESSES = {
    "semantic-sam-swint": _SEMANTIC_SAM + "swint_only_sam_many2many.pth",
    "semantic-sam-swinl": _SEMANTIC_SAM + "swinl_only_sam_many2many.pth",
}
"""Names for ``--model`` and where the released files are."""
REPOSITORIES = {"psalm": "EnmingZhang/PSALM"}
"""The same for models released as a repository on the Hugging Face Hub."""

_BLOCK = 1 << 20
_TIMEOUT = 30  # seconds without a byte


def home() -> Path:
    """Where downloads and converted models are kept."""
    return Path(os.environ.get("ANYGRAIN_HOME") or Path.home() / ".cache" / "anygrain")


def fetch(name: str) -> Path:
    """The model folder of a released model, made on first use. Raises ValueError or OSError with one sentence."""
    folder = home() / "models" / name
    if (folder / "config.json").is_file():
        return folder
    if name in REPOSITORIES:
        return convert_psalm(_snapshot(name), folder, source=REPOSITORIES[name])
    url = ADDRESSES[name]
    file = home() / "downloads" / url.rsplit("/", 1)[1]
    if not file.is_file():
        try:
            download(url, file)
        except (urllib.error.URLError, TimeoutError) as error:
            reason = getattr(error, "reason", None) or error
            raise ValueError(
                f"model '{name}' is downloaded on first use, but {url} cannot be reached ({reason}): connect to the "
                "network, or bring the file from elsewhere and run `anygrain convert semantic-sam FILE FOLDER`"
            ) from None
    check_known(url, file)
    convert_semantic_sam(file, folder, source=url)
    file.unlink()
    return folder


def _snapshot(name: str) -> Path:
    """All files of a repository, in the Hub's own cache, which goes on where a download was interrupted."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo = REPOSITORIES[name]
    try:
        return Path(snapshot_download(repo))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"model '{name}' is downloaded on first use, but {repo} cannot be reached on the Hugging Face Hub "
            f"({reason}): connect to the network, or bring the folder from elsewhere and run `anygrain convert psalm "
            "FOLDER OUT`"
        ) from None


def download(url: str, path: Path) -> None:
    """Fetch a file with progress on a terminal; a download that was interrupted goes on where it stopped.

    Until it is whole the file is called ``NAME.part``. Raises urllib's URLError when the address cannot be reached and
    OSError when the connection breaks; what has come by then stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, mark = path.with_name(path.name + ".part"), path.with_name(path.name + ".etag")
    request = urllib.request.Request(url, headers={"User-Agent": f"anygrain/{__version__}"})
    done = part.stat().st_size if part.is_file() and mark.is_file() else 0
    if done:  # only of the very same file
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", mark.read_text())
    with _open(request, part) as answer:
        resumed = answer.status == http.client.PARTIAL_CONTENT
        done = done if resumed else 0
        total = done + int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
        mark.unlink(missing_ok=True)
        if etag := answer.headers.get("ETag"):
            write_atomic(mark, etag.encode())
        with open(part, "ab" if resumed else "wb") as file:
            done += _copy(answer, file, path.name, done, total)
    if total is not None and done != total:
        raise OSError(
            f"the download of {url} broke off at {done:,} of {total:,} bytes: run it again to go on from there"
        )
    part.replace(path)
    mark.unlink(missing_ok=True)


def _open(request: urllib.request.Request, part: Path) -> Any:
    """The server's answer; a range that does not exist means that the part is not of this file."""
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        part.unlink()
        for header in ("Range", "If-range"):
            request.remove_header(header)
        return urllib.request.urlopen(request, timeout=_TIMEOUT)


def _copy(answer: Any, file: Any, name: str, done: int, total: int | None) -> int:
    """Bytes copied before the end or before the connection broke."""
    from tqdm import tqdm

    copied = 0
    with tqdm(
        desc=name, initial=done, total=total, unit="B", unit_scale=True, disable=None, file=sys.stderr, leave=False
    ) as bar:
        try:
            while block := answer.read(_BLOCK):
                file.write(block)
                copied += len(block)
                bar.update(len(block))
        except (http.client.IncompleteRead, ConnectionError, TimeoutError) as error:
            rest = getattr(error, "partial", b"")
            file.write(rest)
            copied += len(rest)
    return copied


def check_known(url: str, file: Path) -> None:
    """Record the SHA-256 of a file at its first download; refuse another file from the same address later.

    Raises ValueError, and removes the file, when it is not the one of the first download.
    """
    table = home() / "downloads.json"
    known = json.loads(table.read_text(encoding="utf-8")) if table.is_file() else {}
    digest = sha256(file)
    entry = {"sha256": digest, "bytes": file.stat().st_size}
    if url not in known:
        write_atomic(table, (json.dumps(known | {url: entry}, indent=1) + "\n").encode())
    elif known[url] != entry:
        file.unlink()
        raise ValueError(
            f"{url} gave another file than at first (SHA-256 {digest[:12]}..., not {known[url]['sha256'][:12]}...): "
            f"run it again, or remove the address from {table} if the new file is meant"
        )


def convert_semantic_sam(
    checkpoint: Path, folder: Path, *, storage: Storage = "float32", source: str | None = None
) -> Path:
    """Turn an official Semantic-SAM file into a model folder. Raises ValueError or OSError with one sentence."""
    import torch

    from anygrain import hub
    from anygrain.models import convert_semantic_sam as convert
    from anygrain.models.semantic_sam import SemanticSAM

    tensors = convert.read_semantic_sam(checkpoint)
    config = convert.released_config(tensors, where=str(checkpoint))
    weights = convert.semantic_sam(tensors, config, where=str(checkpoint))
    with torch.device("meta"):
        network = SemanticSAM(config)
    network.load_state_dict(weights, assign=True)
    card = (
        f"# Semantic-SAM, official weights\n\nConverted from `{source or checkpoint.name}` with anygrain "
        f"{__version__}; the numbers are those of the official file. Paper: arXiv 2307.04767. Ask its authors for "
        "the terms.\n"
    )
    return hub.save(network, folder, card=card, storage=storage)


def convert_psalm(official: Path, folder: Path, *, storage: Storage = "float32", source: str | None = None) -> Path:
    """Turn the released PSALM folder into a model folder. Raises ValueError or OSError with one sentence.

    Warns, naming them, of tensors that the official code does not define and that are left aside.
    """
    import torch

    from anygrain import hub
    from anygrain.models.layers import WithoutInit
    from anygrain.models.psalm import convert
    from anygrain.models.psalm.network import PSALM
    from anygrain.models.psalm.tokenizer import BPETokenizer

    if not official.is_dir():
        raise ValueError(f"{official} is not a folder: give the released PSALM with all its files")
    tensors = convert.read_released(official)
    config = convert.released_config(tensors)
    weights, unknown = convert.psalm(tensors, config, where=str(official))
    with torch.device("meta"), WithoutInit():
        network = PSALM(config, BPETokenizer.of_released(official))
    network.load_state_dict(weights, assign=True)
    if unknown:
        names = ", ".join(unknown)
        warnings.warn(
            f"{official}: {len(unknown)} tensors that PSALM's code does not define are left aside: {names}",
            stacklevel=2,
        )
    card = (
        f"# PSALM, official weights\n\nConverted from `{source or official.name}` with anygrain {__version__}; the "
        "numbers are those of the official files. Paper: arXiv 2403.14598. Ask its authors for the terms.\n"
    )
    return hub.save(network, folder, card=card, storage=storage)
