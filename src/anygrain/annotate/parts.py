"""The folder that annotations grow in: parts that are there whole or not at all, and know how they were made.

A part is ``000003.tar`` with ``000003.index.npy`` (``data.shards``) and ``000003.json``, its provenance. All three are
written and flushed in a hidden folder; index and provenance move first, and renaming the tar commits the part: until
then nobody counts it. ``manifest.json`` and ``rejected.jsonl`` repeat what the parts say and are made anew from them.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anygrain import __version__, config
from anygrain.annotate.settings import difference, digest
from anygrain.data.shards import ShardReader, index_path, write_shard
from anygrain.files import sha256
from anygrain.images import write_atomic
from anygrain.types import Sample

MANIFEST, REJECTED = "manifest.json", "rejected.jsonl"
FORMAT_VERSION = 1
_MANIFEST_EVERY = 10.0  # seconds: it grows with the parts, and rewriting it for each would be quadratic


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A photograph that could not be annotated. step: where; tries: how often it was tried."""

    id: str
    step: str
    reason: str
    tries: int


@dataclass(kw_only=True)
class StepCount:
    """What went through a step: photographs and regions in and out, seconds, tries that failed, reasons of drops."""

    photos_in: int = 0
    photos_out: int = 0
    regions_in: int = 0
    regions_out: int = 0
    seconds: float = 0.0
    failures: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def add(self, other: StepCount) -> None:
        """Take in another part's count."""
        for name in ("photos_in", "photos_out", "regions_in", "regions_out", "seconds", "failures"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, count in other.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count


@dataclass(frozen=True, kw_only=True)
class Part:
    """The provenance of a part, beside its tar.

    samples, bytes, sha256: of the tar.
    settings: their digest; teachers: version by name; version: of anygrain.
    inputs: checksum by id of every photograph that was taken in, also of rejected ones.
    steps: what went through each step.
    replaces: the part that this one is a thinned copy of, to be removed.
    """

    number: int
    samples: int
    bytes: int
    sha256: str
    settings: str
    teachers: dict[str, str]
    version: str
    inputs: dict[str, str]
    rejected: tuple[Rejected, ...] = ()
    steps: dict[str, StepCount] = field(default_factory=dict)
    replaces: int | None = None


def tar_of(folder: Path, number: int) -> Path:
    """Where the tar of a part lies."""
    return folder / f"{number:06d}.tar"


def read_parts(folder: Path) -> list[Part]:
    """The committed parts, by number. Raises ValueError naming the part that is not as it was written."""
    parts = [_read_part(tar) for tar in sorted(folder.glob("*.tar"))]
    replaced = {part.replaces for part in parts}
    return [part for part in parts if part.number not in replaced]


def _read_part(tar: Path) -> Part:
    path = tar.with_suffix(".json")
    if not path.is_file():
        raise ValueError(f"{tar} has no {path.name} beside it: it is not a part of an annotation")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); remove the part, and it is annotated again") from None
    part = config.from_dict(Part, values, where=str(path))
    if tar.stat().st_size != part.bytes:
        raise ValueError(
            f"{tar} has {tar.stat().st_size} bytes, but {part.bytes} were committed: remove it, and it is made again"
        )
    return part


def read_manifest(folder: Path) -> dict[str, Any]:
    """``manifest.json``. Raises ValueError when the folder holds no annotations."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} holds no annotations: name the OUT of an `anygrain annotate`")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a manifest of annotations ({type(error).__name__}: {error})") from None
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: format_version {version}, but this anygrain reads {FORMAT_VERSION}; update anygrain")
    return manifest


class PartFolder:
    """A folder of parts, opened for writing by one process at a time, with what a killed run left cleaned away.

    parts: the committed ones. Use as a context manager: it holds the lock.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]):
        """Raises ValueError when the folder holds other things, other settings, or another run is at work in it."""
        self.folder, self.settings = Path(folder), dict(settings)
        _check(self.folder, self.settings)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder)
        try:
            self.parts = self._recovered()
        except BaseException:
            self.close()
            raise
        self.unread: tuple[Rejected, ...] = ()
        self._next = 1 + max((part.number for part in self.parts), default=-1)
        self._written = 0.0
        self.write_manifest()

    def __enter__(self) -> PartFolder:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another run in."""
        os.close(self._lock)

    def _recovered(self) -> list[Part]:
        for left in [*self.folder.glob(".*.tmp"), *self.folder.glob(".*.part")]:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        for replaced in {part.replaces for part in map(_read_part, sorted(self.folder.glob("*.tar")))} - {None}:
            self._remove(replaced)  # type: ignore[arg-type]
        for path in [*self.folder.glob("??????.index.npy"), *self.folder.glob("??????.json")]:
            if not tar_of(self.folder, int(path.name[:6])).exists():  # not committed
                path.unlink()
        return read_parts(self.folder)

    def new_number(self) -> int:
        """A number no part has had in this run."""
        self._next += 1
        return self._next - 1

    def commit(
        self,
        number: int,
        samples: Sequence[Sample],
        inputs: Mapping[str, str],
        rejected: Sequence[Rejected] = (),
        steps: Mapping[str, StepCount] | None = None,
        replaces: int | None = None,
    ) -> Part:
        """Write a part and make it count. When anything fails, nothing of it does."""
        work = self.folder / f".{number:06d}.{secrets.token_hex(4)}.tmp"
        work.mkdir()
        try:
            tar = tar_of(work, number)
            write_shard(samples, tar, set())
            part = Part(
                number=number,
                samples=len(samples),
                bytes=tar.stat().st_size,
                sha256=sha256(tar),
                settings=digest(self.settings),
                teachers=dict(self.settings["teachers"]),
                version=__version__,
                inputs=dict(inputs),
                rejected=tuple(rejected),
                steps=dict(steps or {}),
                replaces=replaces,
            )
            record = tar.with_suffix(".json")
            record.write_text(json.dumps(config.to_dict(part), ensure_ascii=False), encoding="utf-8")
            for path in (tar, index_path(tar), record):
                _flush(path)
            for path in (index_path(tar), record):
                path.rename(self.folder / path.name)
            tar.rename(self.folder / tar.name)  # from here on the part is there
            _flush(self.folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self.parts.append(part)
        if time.monotonic() - self._written > _MANIFEST_EVERY:
            self.write_manifest()
        return part

    def forget(self, ids: Collection[str]) -> None:
        """Take photographs out: every part that has one is replaced by a copy without it."""
        for part in [part for part in self.parts if not part.inputs.keys().isdisjoint(ids)]:
            inputs = {name: checksum for name, checksum in part.inputs.items() if name not in ids}
            if inputs:
                kept = [sample for sample in _samples(tar_of(self.folder, part.number)) if sample.id not in ids]
                rejected = [entry for entry in part.rejected if entry.id not in ids]
                self.commit(self.new_number(), kept, inputs, rejected, part.steps, replaces=part.number)
            self._remove(part.number)
            self.parts.remove(part)

    def _remove(self, number: int) -> None:
        tar = tar_of(self.folder, number)
        for path in (tar, index_path(tar), tar.with_suffix(".json")):
            path.unlink(missing_ok=True)

    def write_manifest(self) -> None:
        """``manifest.json`` and ``rejected.jsonl``, each whole or not at all."""
        parts = sorted(self.parts, key=lambda part: part.number)
        rejected = [*(entry for part in parts for entry in part.rejected), *self.unread]
        manifest = {
            "format_version": FORMAT_VERSION,
            "version": __version__,
            "settings_digest": digest(self.settings),
            "settings": self.settings,
            "samples": sum(part.samples for part in parts),
            "rejected": len(rejected),
            "parts": [
                {"file": tar_of(self.folder, part.number).name}
                | {name: getattr(part, name) for name in ("samples", "bytes", "sha256", "settings", "version")}
                for part in parts
            ],
        }
        lines = (json.dumps(config.to_dict(entry), ensure_ascii=False) + "\n" for entry in rejected)
        # The manifest first: it is what makes a folder ours.
        write_atomic(self.folder / MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
        write_atomic(self.folder / REJECTED, "".join(lines).encode("utf-8", "replace"))
        self._written = time.monotonic()


def _check(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a file, a folder of other things, and one that was annotated in another way."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a new folder")
    if not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir()):
        return
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} holds other things than annotations: name a new folder")
    if where := difference(read_manifest(folder)["settings"], json.loads(json.dumps(settings))):
        raise ValueError(f"{folder} was annotated with other settings ({where}): name a new folder")


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock until it is closed or the process ends."""
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ValueError(
            f"another `anygrain annotate` is at work in {folder}: wait for it, or name a new folder"
        ) from None
    return lock


def _samples(tar: Path) -> Iterable[Sample]:
    reader = ShardReader(tar.parent)
    place = reader.tars.index(tar)
    first = sum(len(index) for index in reader.indices[:place])
    return (reader[first + row] for row in range(len(reader.indices[place])))


def _flush(path: Path) -> None:
    """Ask the disk itself: a rename may else outlive what it names when the power fails."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
