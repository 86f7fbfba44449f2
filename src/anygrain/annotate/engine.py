"""The annotation engine: photographs in, parts of annotated samples out, none lost and none twice.

This process reads photographs and commits parts; executors only work on what they are handed. So whatever dies, a part
is either there or will be done again, and nothing else has to be agreed between processes or machines.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anygrain.annotate.executors import Executor, InProcess
from anygrain.annotate.parts import PartFolder, Rejected
from anygrain.annotate.photos import Photo, Photos
from anygrain.annotate.settings import settings_of
from anygrain.annotate.step import Step
from anygrain.annotate.work import OPEN, Done, Job, Task, Worked
from anygrain.data.shards import key_of

_SAMPLE_OF_FAILURE = 4  # a part of as many photographs that all fail in one step: the step is wrong, not they


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How the work is cut. None of it changes what comes out.

    part: photographs in a part, at most. part_bytes: and their files together; a larger one is alone.
    batch, batch_pixels, tries, device: see ``work.Job``.
    limit: take only the first photographs of the input.
    retry_rejected: try those again that an earlier run rejected.
    """

    part: int = 64
    part_bytes: int = 64_000_000
    batch: int = 8
    batch_pixels: int = 16_000_000
    tries: int = 3
    device: str = "cpu"
    limit: int | None = None
    retry_rejected: bool = False

    def __post_init__(self):
        for name in ("part", "part_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least 1")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}; give at least 1")

    def job(self, steps: Sequence[Step]) -> Job:
        """What workers are told."""
        return Job(
            steps=tuple(steps),
            batch=self.batch,
            batch_pixels=self.batch_pixels,
            tries=self.tries,
            device=self.device,
        )


@dataclass(kw_only=True)
class Summary:
    """What a run has done. photos: looked at; skipped: annotated before; samples: new; rejected: new ones."""

    photos: int = 0
    skipped: int = 0
    samples: int = 0
    regions: int = 0
    rejected: int = 0
    parts: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        rate = f" in {self.seconds:.1f} s, {self.samples / self.seconds:.2f} a second" if self.samples else ""
        return (
            f"{self.photos:,} photographs: {self.samples:,} annotated with {self.regions:,} regions{rate}; "
            f"{self.skipped:,} were there already, {self.rejected:,} rejected"
        )


def annotate(
    photos: Photos,
    out: str | Path,
    steps: Sequence[Step],
    *,
    config: EngineConfig | None = None,
    executor: Executor | None = None,
    progress: bool = False,
) -> Summary:
    """Take photographs through ``steps`` into shards in ``out``, and go on there where an earlier run stopped.

    Photographs whose file, annotations and settings are those of a committed part are passed over; one that has
    changed replaces its old record. progress: show a bar on standard error.
    Raises ValueError when ``out`` holds other things or settings, when a teacher cannot be loaded, and when a step
    fails for every photograph of a part; OSError when a part cannot be written. Parts that were committed stay.
    """
    config, executor = config or EngineConfig(), executor or InProcess()
    job = config.job(steps)
    with PartFolder(out, settings_of(steps)) as folder:
        return _Run(photos, folder, config, progress).run(executor, job)


class _Run:
    """One run: what is known of the folder, and what has been done."""

    def __init__(self, photos: Photos, folder: PartFolder, config: EngineConfig, progress: bool):
        self.photos, self.folder, self.config, self.progress = photos, folder, config, progress
        if config.retry_rejected:
            folder.forget({entry.id for part in folder.parts for entry in part.rejected})
        self.known = {name: checksum for part in folder.parts for name, checksum in part.inputs.items()}
        self.keys: set[str] = set()
        self.unread: list[Rejected] = []
        self.summary = Summary()
        self.bar: Any = None

    def run(self, executor: Executor, job: Job) -> Summary:
        """All of it. Ctrl-C leaves a true manifest."""
        start = time.perf_counter()
        with _bar(self._total(), shown=self.progress) as self.bar:
            try:
                for event in executor.run(job, self._tasks()):
                    self._take(event)
            finally:
                if not isinstance(sys.exc_info()[1], OSError):  # a full disk has no room for a manifest either
                    self.folder.unread = tuple(self.unread)
                    self.folder.write_manifest()
        self.summary.rejected += len(self.unread)
        self.summary.seconds = time.perf_counter() - start
        return self.summary

    def _total(self) -> int:
        return min(len(self.photos), self.config.limit or len(self.photos))

    def _tasks(self) -> Iterator[Task]:
        """Parts of what is new, read only when a worker wants them."""
        part: list[Photo] = []
        size = 0
        for number in range(self._total()):
            photo = self._read(number)
            if photo is None:
                continue
            if part and (len(part) == self.config.part or size + len(photo.image) > self.config.part_bytes):
                yield self._task(part)
                part, size = [], 0
            part.append(photo)
            size += len(photo.image)
        if part:
            yield self._task(part)

    def _task(self, part: list[Photo]) -> Task:
        return Task(number=self.folder.new_number(), photos=tuple(part))

    def _read(self, number: int) -> Photo | None:
        """The photograph if it is to be annotated."""
        self.summary.photos += 1
        try:
            photo = self.photos.read(number)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._cannot(self.photos.name(number), " ".join(reason.split()))
            return None
        key = key_of(photo.id)
        if key in self.keys:
            self._cannot(photo.id, f"another photograph has the id {photo.id} or shard key {key}; rename one of them")
            return None
        self.keys.add(key)
        if self.known.get(photo.id) == photo.checksum:
            self.summary.skipped += 1
            self.bar.update()
            return None
        return photo

    def _cannot(self, name: str, reason: str) -> None:
        """Not read, so not part of any part: the next run tries again."""
        self.unread.append(Rejected(id=name, step="read", reason=reason, tries=1))
        self.bar.update()

    def _take(self, event: Worked | Done) -> None:
        if isinstance(event, Worked):
            self.bar.update(event.photos)
            return
        _check_not_all_failed(event)
        changed = self.known.keys() & event.inputs.keys()
        if changed:  # the old record is of another file
            self.folder.forget(changed)
        part = self.folder.commit(event.number, event.samples, event.inputs, event.rejected, event.steps)
        self.summary.parts += 1
        self.summary.samples += part.samples
        self.summary.rejected += len(part.rejected)
        self.summary.regions += sum(len(sample.regions) for sample in event.samples)
        self.bar.update(sum(entry.step in (OPEN, "worker") for entry in event.rejected))
        self.bar.set_postfix_str(_yields(event), refresh=False)


def _check_not_all_failed(done: Done) -> None:
    """A step that fails for every photograph is broken, or its teacher is: better to stop than to reject everything."""
    steps = {entry.step for entry in done.rejected}
    if len(done.rejected) >= _SAMPLE_OF_FAILURE and not done.samples and len(steps) == 1 and OPEN not in steps:
        first = done.rejected[0]
        raise ValueError(
            f"step {first.step} failed for all {len(done.rejected)} photographs of a part, first for {first.id}: "
            f"{first.reason}"
        )


def _yields(done: Done) -> str:
    """Regions a photograph after each step, as the bar shows them: "tag 4.2, refer 3.1"."""
    counts = ((label, count) for label, count in done.steps.items() if label != OPEN)
    return ", ".join(f"{label} {count.regions_out / max(1, count.photos_out):.1f}" for label, count in counts)


def _bar(total: int, *, shown: bool) -> Any:
    """Photographs done, the rate, the time left; on a terminal only."""
    from tqdm import tqdm

    return tqdm(total=total, unit="photo", disable=None if shown else True, file=sys.stderr, smoothing=0.1)
