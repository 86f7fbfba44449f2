"""Steps whose answers are known, small photographs for them, and ways to fail at a chosen photograph."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from anygrain.annotate.origin import changed
from anygrain.annotate.step import Worker
from anygrain.data.shards import ShardReader
from anygrain.types import Mask, Region, Sample

PHOTOS = Path(__file__).parents[1] / "fixtures" / "photos"


@dataclass(frozen=True, kw_only=True)
class Level:
    """A teacher that knows one number, and where it was loaded."""

    name: str = "level"
    size: str = "1 byte"
    value: int = 100

    def version(self) -> str:
        return f"v{self.value}"

    def load(self, device: str) -> int:
        return self.value


@dataclass(frozen=True, kw_only=True)
class Missing(Level):
    """A teacher without weights."""

    name: str = "missing"

    def load(self, device: str) -> int:
        raise ValueError("teacher missing (9 GB) is not here and cannot be downloaded: use --teachers small")


@dataclass(frozen=True, kw_only=True)
class Find:
    """Two regions a photograph: where it is dark and where it is bright."""

    name: ClassVar[str] = "find"
    level: Level = field(default_factory=Level)

    @property
    def teachers(self):
        return (self.level,)

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        level = worker.teacher(self.level)
        return [self._found(sample, np.asarray(worker.image(sample).convert("L")), level) for sample in samples]

    def _found(self, sample: Sample, grey: np.ndarray, level: int) -> Sample:
        origin = {"step": self.name, self.name: f"{self.level.name}@{self.level.version()}"}
        masks = {"dark": grey < level, "bright": grey >= level}
        found = [
            Region(mask=Mask.from_array(mask), category=name, score=round(float(mask.mean()), 4), origin=origin)
            for name, mask in masks.items()
            if mask.any()
        ]
        return changed(sample, (*sample.regions, *found))


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Leaves out regions of a small share of the photograph."""

    name: ClassVar[str] = "keep"
    share: float = 0.3
    teachers: ClassVar[tuple] = ()

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        out = []
        for sample in samples:
            kept = tuple(r for r in sample.regions if r.score is None or r.score >= self.share)
            worker.drop(self.name, "too small", len(sample.regions) - len(kept))
            out.append(changed(sample, kept))
        return out


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Fails at the photograph ``photo``: "raise" or "kill" or "memory", the first ``times`` times (all: 10**9).

    flags: a folder that remembers how often it has happened, whatever dies.
    """

    name: ClassVar[str] = "trouble"
    photo: str
    how: str
    times: int
    flags: Path
    teachers: ClassVar[tuple] = ()

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        if any(sample.id == self.photo for sample in samples):
            happened = len(list(self.flags.iterdir()))
            if happened < self.times:
                (self.flags / str(happened)).touch()
                if self.how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise MemoryError("no memory left") if self.how == "memory" else RuntimeError("the teacher is confused")
        return samples


@dataclass(frozen=True, kw_only=True)
class Slow:
    """Takes a while for a batch, so that there is something to kill, and leaves its process's number in ``flags``."""

    name: ClassVar[str] = "slow"
    flags: Path
    teachers: ClassVar[tuple] = ()

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        (self.flags / str(os.getpid())).touch()
        time.sleep(0.3)
        return samples


STEPS = (Find(), Keep())
SLOW = (*STEPS, Slow(flags=Path(os.environ.get("FLAGS", "."))))


def write_photos(folder: Path, count: int, *, size: int = 48) -> list[str]:
    """Crops of real photographs as small JPEGs; returns their ids."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("*.jpg"))]
    for number in range(count):
        source = sources[number % len(sources)]
        x, y = 7 * number % (source.width - size), 11 * number % (source.height - size)
        source.crop((x, y, x + size, y + size - number % 5)).save(folder / f"{number:03d}.jpg", quality=90)
    return [f"{folder.name}/{number:03d}.jpg" for number in range(count)]


def corrupt(path: Path) -> None:
    """Cut a file in the middle of its pixels."""
    path.write_bytes(path.read_bytes()[:-200])


def records(out: Path) -> Iterator[tuple[str, str, bytes]]:
    """(id, record as it stands in the shard, image) of every sample, in shard order."""
    reader = ShardReader(out)
    for number in range(len(reader)):
        sample = reader[number]
        yield sample.id, str(reader.record(number)), bytes(sample.image)  # type: ignore[arg-type]


def as_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
