"""Which images a model was trained on: hashes of their files beside the model, so that a benchmark can tell.

``trained_on.npy`` in a model folder is a sorted uint64 [N]: the first eight bytes of the SHA-256 of each image file.
The file is compared, not its name or number: RefCOCO's images are found whether training read them as COCO's or as
RefCOCO's. A picture that was encoded anew (resized, saved again) is another file and is not found.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from anygrain.data.shards import ShardReader
from anygrain.images import write_atomic
from anygrain.types import Sample

NAME = "trained_on.npy"


def image_hash(sample: Sample) -> int:
    """The first eight bytes of the SHA-256 of the sample's image file."""
    data = sample.image if isinstance(sample.image, bytes) else sample.image.read_bytes()
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def add_to_ledger(shards: Iterable[str | Path], model: str | Path) -> tuple[int, int]:
    """Record the images of shard folders in a model folder's ledger; returns images added and images in all.

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
            yield image_hash(reader[number])
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


def in_ledger(ledger: np.ndarray, number: int) -> bool:
    """Whether an image's hash is in a ledger."""
    place = int(np.searchsorted(ledger, np.uint64(number)))
    return place < len(ledger) and int(ledger[place]) == number
