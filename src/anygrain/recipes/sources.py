"""What all recipes ask of a data folder."""

from __future__ import annotations

from pathlib import Path


def find_sources(data: str | Path) -> tuple[str, ...]:
    """The shard folders inside ``data``, one a source, by name; ``data`` itself when it holds shards.

    Raises ValueError when there are none.
    """
    data = Path(data)
    if not data.is_dir():
        raise ValueError(f"{data}: no such folder; make shards with `anygrain data build`")
    if any(data.glob("*.tar")):
        return (str(data),)
    folders = sorted(str(folder) for folder in data.iterdir() if any(folder.glob("*.tar")))
    if not folders:
        raise ValueError(f"{data}: no folders of shards inside; make them with `anygrain data build`")
    return tuple(folders)
