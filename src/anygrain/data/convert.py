"""A public data set into shards: with progress, going on after an interruption, and checked before it counts."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from anygrain.data.datasets import read_dataset
from anygrain.data.shards import ShardReader, append_shards, check_replaceable, index_path, key_of, read_index
from anygrain.data.verify import problems
from anygrain.files import take_place
from anygrain.types import Sample

SAMPLES_PER_SHARD = 1000


@dataclass(frozen=True)
class Converted:
    """What a conversion did: all samples, how many of them an earlier, interrupted one had written, all regions."""

    samples: int
    resumed: int
    regions: int


def convert(
    name: str,
    root: str | Path,
    out: str | Path,
    split: str,
    *,
    limit: int | None = None,
    samples_per_shard: int = SAMPLES_PER_SHARD,
) -> Converted:
    """Write the shards of a data set's split into ``out``.

    name, split: as in `anygrain.data.datasets.DATASETS`. limit: only the first samples.
    Shards are written into a hidden folder beside ``out``, which takes that name, and an older one's place, when all
    are there and have been checked. When the same call was interrupted, finished shards are kept and it goes on behind
    them; the reader still walks past their samples, whose ids must be the same.
    Raises ValueError for an unknown name or split, other settings than those of the interrupted call, or a problem that
    the check finds; FileNotFoundError or ValueError for files that are missing or wrong.
    """
    out = Path(out)
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; take at least 1 sample")
    samples = islice(read_dataset(name, root, split), limit)
    check_replaceable(out)
    work = out.parent / f".{out.name}.part"
    settings = {"name": name, "root": str(Path(root).resolve()), "split": split, "limit": limit}
    keys = _begin(work, settings | {"samples_per_shard": samples_per_shard})
    try:
        seen = _append(samples, work, keys, samples_per_shard, f"{name} {split}")
    except BaseException:
        if not any(work.glob("*.npy")):  # nothing is worth keeping
            shutil.rmtree(work)
        raise
    if not seen:
        raise ValueError(f"{root}: no sample of {name} {split}")
    found = list(islice(problems(work), 3))
    if found:
        raise ValueError(f"{work}: the shards are not whole: {'; '.join(found)}")
    reader = ShardReader(work)
    regions = sum(len(reader.record(number)["regions"]) for number in range(len(reader)))
    reader.close()
    _settings_file(work).unlink()
    take_place(work, out)
    return Converted(seen, len(keys), regions)


def _append(samples: Iterator[Sample], work: Path, keys: Sequence[str], samples_per_shard: int, title: str) -> int:
    """Walk past the samples that are there and write the others; returns how many there are in all."""
    stream = _counted(samples, title)
    for number, key in enumerate(keys):
        found = next(stream, None)
        if found is None or key_of(found.id) != key:
            shown = "nothing" if found is None else found.id
            raise ValueError(f"{work}: sample {number} is {key}, the data set now has {shown}; remove the folder")
    seen = set(keys)
    append_shards(stream, work, samples_per_shard, seen, first=len(list(work.glob("*.tar"))))
    return len(seen)


def _settings_file(work: Path) -> Path:
    return work / "settings.json"


def _begin(work: Path, settings: dict) -> list[str]:
    """Make the folder, or take what an interrupted call left there: the keys of its finished shards, in order."""
    path = _settings_file(work)
    if path.exists() and (before := json.loads(path.read_text(encoding="utf-8"))) != settings:
        raise ValueError(f"{work}: holds the beginning of another conversion, {before}; finish it or remove the folder")
    work.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings), encoding="utf-8")
    keys: list[str] = []
    for tar in sorted(work.glob("*.tar")):
        try:
            read_index(tar)
        except (FileNotFoundError, ValueError, EOFError):  # it was being written
            tar.unlink()
            index_path(tar).unlink(missing_ok=True)
    if any(work.glob("*.tar")):
        reader = ShardReader(work)
        keys = [key_of(reader.record(number)["id"]) for number in range(len(reader))]
        reader.close()
    return keys


def _counted(samples: Iterator[Sample], title: str) -> Iterator[Sample]:
    from tqdm import tqdm

    yield from tqdm(samples, desc=title, unit="sample", file=sys.stderr, disable=None)
