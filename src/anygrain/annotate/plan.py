"""What a run would load and how long it would take, from a few photographs, without writing anything."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from anygrain import markdown
from anygrain.annotate.engine import EngineConfig
from anygrain.annotate.parts import MANIFEST, read_parts
from anygrain.annotate.photos import Photo, Photos
from anygrain.annotate.settings import teachers_of
from anygrain.annotate.step import Step, Worker
from anygrain.annotate.work import Done, Task


def contents(photos: Photos, out: Path, steps: Sequence[Step]) -> str:
    """The photographs, the steps, and the teachers with what loading each costs. Loads nothing."""
    there = sum(len(part.inputs) for part in read_parts(out)) if (out / MANIFEST).is_file() else 0
    rows = [["step", "teacher", "to load"]]
    for step in steps:
        rows += [[step.name, teacher.name, teacher.size] for teacher in step.teachers] or [[step.name, "none", ""]]
    teachers = len(teachers_of(steps))
    return (
        f"{len(photos):,} photographs, {there:,} already in {out}; {len(steps)} steps with {teachers} teachers, each "
        f"loaded once a worker\n\n{markdown.table(rows)}"
    )


def estimate(photos: Photos, steps: Sequence[Step], config: EngineConfig, *, sample: int, workers: int) -> str:
    """Annotate ``sample`` photographs, evenly spaced, throw the result away, and say what all would take.

    Raises ValueError when a teacher cannot be loaded or none of the photographs can be read.
    """
    total = min(len(photos), config.limit or len(photos))
    numbers = sorted({place * total // sample for place in range(sample)})
    read = [photo for number in numbers if (photo := _read(photos, number)) is not None]
    if not read:
        raise ValueError(f"none of the {len(numbers)} photographs of the sample can be read: check the first of them")
    job, worker = config.job(steps), Worker(config.device)
    start = time.perf_counter()
    for teacher in teachers_of(steps):
        worker.teacher(teacher)
    loading = time.perf_counter() - start
    done = next(event for event in job.work(Task(number=0, photos=tuple(read)), worker) if isinstance(event, Done))
    spent = sum(count.seconds for count in done.steps.values())
    rows = [["step", "seconds a photo", "share", "regions a photo"]]
    for label, count in done.steps.items():
        regions = count.regions_out / max(1, count.photos_out)
        rows.append([label, f"{count.seconds / len(read):.3f}", f"{count.seconds / spent:.0%}", f"{regions:.1f}"])
    seconds = loading + spent / len(read) * total / workers
    return (
        f"{markdown.table(rows)}\n\nteachers loaded in {loading:.1f} s; {len(read) - len(done.samples)} of {len(read)} "
        f"photographs rejected\nall {total:,} photographs: about {_duration(seconds)} with {workers} "
        f"worker{'s' * (workers > 1)}, if workers do not slow each other down"
    )


def _read(photos: Photos, number: int) -> Photo | None:
    try:
        return photos.read(number)
    except (OSError, ValueError):  # the run itself says which and why
        return None


def _duration(seconds: float) -> str:
    """A time for a person: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
