"""Folders that appear whole or not at all."""

from __future__ import annotations

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
    old = work.with_suffix(".old.tmp")
    work.mkdir(parents=True)
    try:
        yield work
        if folder.exists():
            folder.rename(old)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
