"""Folders that appear whole or not at all, and what tells one file from another."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside ``folder`` to write into; it takes that name, and the old one's place, at the end.

    An older folder is moved away first and removed last, so that one of them is always whole. When the block raises,
    nothing is left of the new one and the old one stays.
    """
    work = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp"
    work.mkdir(parents=True)
    try:
        yield work
        take_place(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def take_place(work: Path, folder: Path) -> None:
    """Give a finished folder its name. An older one of that name is moved away first and removed last."""
    old = work.with_suffix(".old.tmp")
    if folder.exists():
        folder.rename(old)
    work.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def sha256(*files: Path) -> str:
    """SHA-256 of what the files hold, one after the other, as 64 hexadecimal digits; read in blocks."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
