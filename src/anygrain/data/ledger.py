"""Which images a model was trained on: hashes beside the model, so that a benchmark can tell.

``trained_on.npy`` in a model folder is a sorted uint64 [N] of the first eight bytes of SHA-256: of each image file, and
of its public name where it has one ("coco 217285", whether the file was called 000000217285.jpg or COCO_train2014_...).
So a picture is found in another data set of the same images, and by its name also when it was resized or saved again.
A picture that was encoded anew and renamed is not found.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from anygrain.data.shards import ShardReader
from anygrain.images import write_atomic
from anygrain.types import Sample

NAME = "trained_on.npy"


# How the files of sets are called whose images other sets take over.
PUBLIC_NAMES = {
    "coco": re.compile(r"(?<!\d)(\d{12})(?!\d)"),
    "ade20k": re.compile(r"(ADE_(?:train|val)_\d{8})"),
    "voc": re.compile(r"(?<!\d)(20(?:07|08|09|10|11|12)_\d{6})(?!\d)"),
    "imagenet": re.compile(r"(n\d{8}_\d+|ILSVRC2012_(?:val|test)_\d{8})"),
    "sa1b": re.compile(r"(?<![a-z])(sa_\d+)"),
}


def image_hashes(sample: Sample) -> list[int]:
    """Of the sample's image file, and of its public name if the sample's id has one."""
    data = sample.image if isinstance(sample.image, bytes) else sample.image.read_bytes()
    stem = sample.id.rpartition("/")[2]
    found = ((name, pattern.search(stem)) for name, pattern in PUBLIC_NAMES.items())
    names = [f"{name} {match[1].lstrip('0')}".encode() for name, match in found if match]
    return [int.from_bytes(hashlib.sha256(content).digest()[:8], "big") for content in (data, *names)]


def add_to_ledger(shards: Iterable[str | Path], model: str | Path) -> tuple[int, int]:
    """Record the images of shard folders in a model folder's ledger; returns hashes added and hashes in all.

    Raises FileNotFoundError when a folder holds no shards or ``model`` is no model folder.
    """
    path = Path(model) / NAME
    if not (Path(model) / "config.json").is_file():
        raise FileNotFoundError(f"{model}: not a model folder, config.json is missing")
    before = read_ledger(model)
    known = np.zeros(0, np.uint64) if before is None else before
    seen = np.fromiter(_hashes(shards), np.uint64)
    ledger, buffer = np.union1d(known, seen), io.BytesIO()
    np.save(buffer, ledger)
    write_atomic(path, buffer.getvalue())
    return len(ledger) - len(known), len(ledger)


def _hashes(shards: Iterable[str | Path]) -> Iterator[int]:
    for folder in shards:
        reader = ShardReader(folder)
        for number in range(len(reader)):
            yield from image_hashes(reader[number])
        reader.close()


def read_ledger(model: str | Path) -> np.ndarray | None:
    """The ledger of a model folder, uint64 [N]; None when it has none. Raises ValueError for a file of another form."""
    path = Path(model) / NAME
    if not path.is_file():
        return None
    try:
        ledger = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{path}: not a ledger of images ({error}); write it again with `anygrain data ledger`"
        ) from None
    if ledger.dtype != np.uint64 or ledger.ndim != 1 or np.any(ledger[1:] <= ledger[:-1]):
        raise ValueError(f"{path}: not a ledger of images (sorted uint64); write it again with `anygrain data ledger`")
    return ledger


def in_ledger(ledger: np.ndarray, sample: Sample) -> bool:
    """Whether a sample's image is in a ledger, by its file or its public name."""
    return bool(np.isin(np.array(image_hashes(sample), np.uint64), ledger).any())
