"""Shards: webdataset-format tars (``<key>.jpg`` + ``<key>.json``), each with an index of offsets beside it.

``000000.tar`` is what the field's tools read. ``000000.index.npy`` is int64 [samples, 6]: offset, length and CRC-32 of
the image member, then of the JSON member, so that sample number i is two ``pread`` calls on a file that stays open.
"""

from __future__ import annotations

import json
import os
import tarfile
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import accumulate, chain, islice
from pathlib import Path

import numpy as np

from anygrain.data.formats import from_record, to_record
from anygrain.files import whole_folder
from anygrain.types import Sample

SUFFIX_OF = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp"}
COLUMNS = 6
_BLOCK = 512  # tar pads every member to this


def write_shards(samples: Iterable[Sample], folder: str | Path, samples_per_shard: int = 1000) -> int:
    """Write samples into ``folder`` as numbered tars with their indices; returns how many samples were written.

    The image's bytes go in as they are. The folder appears, or is replaced, only when everything is written.
    Raises ValueError for a repeated id or an image that is not JPEG, PNG or WebP, and FileExistsError when the folder
    holds anything but shards.
    """
    folder = Path(folder)
    check_replaceable(folder)
    with whole_folder(folder) as work:
        return _write_all(samples, work, samples_per_shard)


def check_replaceable(folder: Path) -> None:
    """Raises FileExistsError when a folder holds anything but shards."""
    if folder.exists() and (
        not folder.is_dir() or any(not p.name.endswith((".tar", ".index.npy")) for p in folder.iterdir())
    ):
        raise FileExistsError(f"{folder}: holds other things than shards; name a new folder")


def _write_all(samples: Iterable[Sample], work: Path, samples_per_shard: int) -> int:
    keys: set[str] = set()
    append_shards(samples, work, samples_per_shard, keys)
    return len(keys)


def append_shards(
    samples: Iterable[Sample], work: Path, samples_per_shard: int, keys: set[str], first: int = 0
) -> None:
    """Write shards number ``first`` and on straight into a folder; a tar without its index is not finished.

    keys: those of the samples written before; those of these join them. Raises as `write_shards`.
    """
    if samples_per_shard < 1:
        raise ValueError(f"samples_per_shard is {samples_per_shard}; give at least 1")
    stream = iter(samples)
    for number, sample in enumerate(stream, start=first):
        shard = chain([sample], islice(stream, samples_per_shard - 1))
        _write_shard(shard, work / f"{number:06d}.tar", keys)


def _write_shard(samples: Iterator[Sample], path: Path, keys: set[str]) -> None:
    rows = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            image = sample.image if isinstance(sample.image, bytes) else sample.image.read_bytes()
            key = key_of(sample.id)
            if key in keys:
                raise ValueError(f"{sample.id}: the id comes twice (as shard key {key}); ids must differ")
            keys.add(key)
            record = json.dumps(to_record(sample), ensure_ascii=False, separators=(",", ":")).encode()
            row = _add(tar, f"{key}.{_suffix(sample, image)}", image)
            rows.append(row + _add(tar, f"{key}.json", record))
    np.save(index_path(path), np.array(rows, np.int64).reshape(-1, COLUMNS))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> tuple[int, int, int]:
    """Append a member; returns offset, length and CRC-32 of its data."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, BytesIO(data))
    padded = -(-len(data) // _BLOCK) * _BLOCK
    return int(tar.offset) - padded, len(data), zlib.crc32(data)


def _suffix(sample: Sample, image: bytes) -> str:
    for magic, suffix in SUFFIX_OF.items():
        if image.startswith(magic):
            return suffix
    raise ValueError(f"{sample.id}: the image is not JPEG, PNG or WebP; convert it first")


def key_of(sample_id: str) -> str:
    """The member name of a sample. webdataset ends a key at the first dot, so dots become underscores."""
    return sample_id.replace(".", "_")


def index_path(tar: Path) -> Path:
    """Where the index of a tar lies."""
    return tar.with_suffix(".index.npy")


class ShardReader(Sequence[Sample]):
    """Samples of every shard under a folder (also in subfolders), by number, in order of path and place.

    Only the indices stay in memory. May be pickled, and used by forked or spawned processes and by threads at once:
    ``pread`` has no file position to share.
    """

    def __init__(self, folder: str | Path):
        """Read the indices. Raises FileNotFoundError when there is no shard or a shard has no index."""
        self.folder = Path(folder)
        self.tars = find_tars(self.folder)
        self.indices = tuple(read_index(tar) for tar in self.tars)
        self._ends = list(accumulate(len(index) for index in self.indices))
        self._files: dict[int, int] = {}

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int) -> Sample:  # type: ignore[override]  # no slices: they would read everything
        shard, row = self._place(number)
        image = self._read(shard, self.indices[shard][row, :3], number)
        return from_record(self._record(shard, row, number), image)

    def record(self, number: int) -> dict:
        """The sample's JSON record alone, without reading its image."""
        return self._record(*self._place(number), number)

    def _place(self, number: int) -> tuple[int, int]:
        if not -len(self) <= number < len(self):
            raise IndexError(f"{self.folder}: sample {number} asked for, but there are {len(self)}")
        number %= len(self)
        shard = bisect_right(self._ends, number)
        return shard, number - (self._ends[shard - 1] if shard else 0)

    def _record(self, shard: int, row: int, number: int) -> dict:
        return json.loads(self._read(shard, self.indices[shard][row, 3:], number))

    def _read(self, shard: int, span: np.ndarray, number: int) -> bytes:
        offset, length, checksum = span.tolist()
        if shard not in self._files:
            # setdefault keeps one descriptor when two threads open the same tar; the loser is closed again.
            opened = os.open(self.tars[shard], os.O_RDONLY)
            if self._files.setdefault(shard, opened) != opened:
                os.close(opened)
        data = os.pread(self._files[shard], length, offset)
        if len(data) != length or zlib.crc32(data) != checksum:
            raise ValueError(f"{self.tars[shard]}: sample {number} differs from its index; build the shards again")
        return data

    def close(self) -> None:
        """Close the open tars; reading opens them again."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_files": {}}

    def __del__(self):
        if hasattr(self, "_files"):
            self.close()


def find_tars(folder: Path) -> tuple[Path, ...]:
    """Every finished shard under a folder, sorted. Raises FileNotFoundError when there is none."""
    tars = (tar.relative_to(folder) for tar in folder.rglob("*.tar"))
    # A folder that starts with a dot is being written.
    found = sorted(folder / tar for tar in tars if not any(part.startswith(".") for part in tar.parts))
    if not found:
        raise FileNotFoundError(f"{folder}: no shards (*.tar); make them with `anygrain data build`")
    return tuple(found)


def read_index(tar: Path) -> np.ndarray:
    """int64 [samples, 6] of a tar. Raises FileNotFoundError or ValueError naming the index."""
    path = index_path(tar)
    if not path.exists():
        raise FileNotFoundError(f"{path}: not found; expected the index of {tar.name}, build the shards again")
    index = np.load(path, allow_pickle=False)
    if index.ndim != 2 or index.shape[1] != COLUMNS or index.dtype != np.int64:
        raise ValueError(f"{path}: not an index of shards (int64 [samples, {COLUMNS}]); build the shards again")
    return index
