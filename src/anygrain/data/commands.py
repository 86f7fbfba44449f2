"""What ``anygrain data build|verify|show`` do."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from anygrain.data.shards import write_shards
from anygrain.data.show import write_sheet
from anygrain.data.sources import SOURCES
from anygrain.data.verify import problems


def build(root: str | Path, out: str | Path, split: str, sources: Collection[str] | None = None) -> dict[str, int]:
    """Write the shards of one split, a folder a source: ``out/<source>/000000.tar``. Returns samples by source.

    root: the folder that holds the data sets. sources: names of `anygrain.data.sources.SOURCES`; None takes all that
    are not optional. A source without this split is passed over unless it was named.
    Raises ValueError for an unknown source or split, FileNotFoundError or ValueError for bad files.
    """
    counts = {}
    for name in _wanted(split, sources):
        counts[name] = write_shards(SOURCES[name].samples(Path(root), split), Path(out) / name)
    return counts


def _wanted(split: str, sources: Collection[str] | None) -> list[str]:
    if sources is None:
        wanted = [name for name, source in SOURCES.items() if split in source.splits and not source.optional]
        if not wanted:
            raise ValueError(f"no source has a split {split!r}; the splits are train and val")
        return wanted
    for name in sources:
        if name not in SOURCES:
            raise ValueError(f"no source is named {name!r}; the sources are {', '.join(SOURCES)}")
        if split not in SOURCES[name].splits:
            raise ValueError(f"{name} has no split {split!r}, only {', '.join(SOURCES[name].splits)}")
    return sorted(set(sources))


def verify(folder: str | Path) -> list[str]:
    """Every problem of the shards under a folder as one sentence; an empty list when they are whole."""
    return list(problems(folder))


def show(folder: str | Path, out: str | Path, count: int = 48, seed: int = 0) -> int:
    """Draw random triplets of the shards under a folder into ``out`` (.html, .png, .jpg ...); returns how many.

    One triplet a sample. The same seed gives the same sheet.
    """
    return write_sheet(folder, out, count=count, seed=seed)
