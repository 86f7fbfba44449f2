"""The tags a tagger knows: their names and the probability above which each is given."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from anygrain import config as configs

PUBLISHED = {
    "5d96d2f7225527480ad773aaac76b6e5c08a18adf6eae9ca7d2ab923d5e7bd8b": "the English list published with RAM",
    "c912657a0f30be7b2f5df6ccffa17e1d84561d0bea508528e38b6d0d711bcfbe": "the Chinese list published with RAM",
    "b6f81d0de1bc7f9c251af512c413eae976c77dbfbadf700d4e3d90510f4c6447": "the thresholds published with RAM",
}
"""SHA-256 of the text files in ``ram/data`` of RAM's repository (Apache-2.0) -> what each is."""


@dataclass(frozen=True, kw_only=True)
class TagList:
    """Names and thresholds by position: entry t belongs to row t of the network's tag embeddings."""

    names: tuple[str, ...]
    """What each tag is called; a name may occur twice."""
    thresholds: tuple[float, ...]
    """A tag is given when its probability is above its threshold; 1 means never."""

    def __post_init__(self):
        if len(self.names) != len(self.thresholds):
            raise ValueError(f"{len(self.names)} names but {len(self.thresholds)} thresholds: give one for each tag")
        if wrong := [value for value in self.thresholds if not 0 <= value <= 1]:
            raise ValueError(f"a threshold is a probability from 0 to 1, not {wrong[0]}")

    @classmethod
    def read(cls, path: Path) -> TagList:
        """Read ``tags.json``. Raises ValueError, naming the file, when it is not what ``write`` writes."""
        return configs.read(cls, path)

    def write(self, path: Path) -> None:
        """Write ``tags.json``."""
        path.write_text(json.dumps(configs.to_dict(self), ensure_ascii=False, indent=0) + "\n", encoding="utf-8")

    @classmethod
    def from_text(cls, names: Path, thresholds: Path, count: int) -> TagList:
        """Read two files of ``count`` lines each: a name a line, used as it stands, and a number a line.

        Raises OSError for a file that cannot be opened and ValueError, naming file and line, for any other fault.
        """
        values = []
        for number, line in enumerate(_lines(thresholds, count), 1):
            try:
                value = float(line)
            except ValueError:
                value = -1.0
            if not 0 <= value <= 1:
                raise ValueError(f"{thresholds}, line {number}: '{line}' is not a threshold, a number from 0 to 1")
            values.append(value)
        lines = _lines(names, count)
        if empty := [number for number, line in enumerate(lines, 1) if not line.strip()]:
            raise ValueError(f"{names}, line {empty[0]}: the name of a tag is missing")
        return cls(names=tuple(lines), thresholds=tuple(values))


def published(path: Path) -> str | None:
    """What a text file is, if it is one of ``PUBLISHED``; line ends may have become those of Windows."""
    return PUBLISHED.get(hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest())


def _lines(path: Path, count: int) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8") from None
    lines = text.removesuffix("\n").split("\n")
    if len(lines) != count:
        raise ValueError(f"{path}: {len(lines)} lines instead of {count}, one for each tag of the network")
    return lines
