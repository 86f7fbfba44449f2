"""What a worker does with a part of the photographs: open, batch, step after step, and never lose one to another."""

from __future__ import annotations

import time
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from anygrain.annotate.parts import Rejected, StepCount
from anygrain.annotate.photos import Photo
from anygrain.annotate.settings import labels_of, teachers_of
from anygrain.annotate.step import Step, Worker
from anygrain.types import Sample

if TYPE_CHECKING:
    from PIL import Image

OPEN = "open"
_BATCH_TRIES = 2  # of a batch as a whole, before it is taken apart
_DEATHS_TOGETHER = 2  # after as many deaths of the worker a photograph is worked on alone


@dataclass(frozen=True, kw_only=True)
class Task:
    """A part to be annotated. deaths: how many workers died while they held a photograph, by id."""

    number: int
    photos: tuple[Photo, ...]
    deaths: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Working:
    """These photographs are in hand now; if the worker dies, one of them may be the cause."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class Worked:
    """A batch has passed all steps. photos: how many went in; regions: how many came out."""

    photos: int
    regions: int


@dataclass(kw_only=True)
class Done:
    """An annotated part, to be committed. inputs: checksum by id; steps: by label, "open" first."""

    number: int
    inputs: dict[str, str]
    samples: list[Sample] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    steps: dict[str, StepCount] = field(default_factory=dict)


Event = Working | Worked | Done


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every worker is told once.

    batch: photographs that steps get at once, at most. batch_pixels: and their pixels together, at most; a larger
        photograph is alone. Together they bound a worker's memory.
    tries: how often a photograph is tried before it is rejected.
    device: of the teachers, as for ``anygrain.load``.
    """

    steps: tuple[Step, ...]
    batch: int = 8
    batch_pixels: int = 16_000_000
    tries: int = 3
    device: str = "cpu"

    def __post_init__(self):
        for name in ("batch", "batch_pixels", "tries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least 1")

    def work(self, task: Task, worker: Worker) -> Iterator[Event]:
        """Annotate a part: what happens on the way, and at last ``Done``.

        A batch that fails is tried again, then photograph by photograph; what fails alone ``tries`` times is rejected.
        Raises what loading a teacher raises: that is no photograph's fault.
        """
        for teacher in teachers_of(self.steps):
            worker.teacher(teacher)
        done = Done(number=task.number, inputs={photo.id: photo.checksum for photo in task.photos})
        done.steps = {label: StepCount() for label in (OPEN, *labels_of(self.steps))}
        batch: list[tuple[Sample, Image.Image]] = []
        pixels = 0
        for photo in task.photos:
            deaths = task.deaths.get(photo.id, 0)
            if deaths >= self.tries:
                reason = f"the worker died {deaths} times with it in hand (out of memory?)"
                done.rejected.append(Rejected(id=photo.id, step="worker", reason=reason, tries=deaths))
                continue
            yield Working((*(sample.id for sample, _ in batch), photo.id))
            opened = self._open(photo, done)
            if opened is None:
                continue
            alone, size = deaths >= _DEATHS_TOGETHER, opened[1].width * opened[1].height
            if batch and (alone or len(batch) == self.batch or pixels + size > self.batch_pixels):
                yield from self._pass(batch, worker, done)
                batch, pixels = [], 0
            batch.append(opened)
            pixels += size
            if alone:
                yield from self._pass(batch, worker, done)
                batch, pixels = [], 0
        if batch:
            yield from self._pass(batch, worker, done)
        yield done

    def _open(self, photo: Photo, done: Done) -> tuple[Sample, Image.Image] | None:
        """Decode before any step does: a damaged photograph must not disturb its batch, and costs one try."""
        count = done.steps[OPEN]
        count.photos_in += 1
        start = time.perf_counter()
        try:
            sample, image = photo.open()
        except Exception as error:
            done.rejected.append(Rejected(id=photo.id, step=OPEN, reason=_reason(error), tries=1))
            return None
        finally:
            count.seconds += time.perf_counter() - start
        count.photos_out += 1
        count.regions_out += len(sample.regions)
        return sample, image

    def _pass(self, batch: list[tuple[Sample, Image.Image]], worker: Worker, done: Done) -> Iterator[Event]:
        """One batch through all steps."""
        for sample, image in batch:
            worker.keep_image(sample, image)
        samples = [sample for sample, _ in batch]
        for label, step in zip(labels_of(self.steps), self.steps, strict=True):
            if samples:
                samples = yield from self._through(label, step, samples, worker, done)
        worker.forget_photographs()
        done.samples += samples
        yield Worked(len(batch), sum(len(sample.regions) for sample in samples))

    def _through(
        self, label: str, step: Step, samples: list[Sample], worker: Worker, done: Done
    ) -> Generator[Event, None, list[Sample]]:
        """One batch through one step; returns what came out. Photographs that fail alone are gone."""
        count = done.steps[label]
        count.photos_in += len(samples)
        count.regions_in += sum(len(sample.regions) for sample in samples)
        start = time.perf_counter()
        yield Working(tuple(sample.id for sample in samples))
        together = min(_BATCH_TRIES, self.tries) if len(samples) > 1 else self.tries
        out, error = _tried(step, samples, worker, together, count)
        if out is None and len(samples) == 1:
            done.rejected.append(_rejected(samples[0], label, error, self.tries))
        elif out is None:
            out = []
            for sample in samples:
                yield Working((sample.id,))
                one, error = _tried(step, [sample], worker, self.tries, count)
                if one is None:
                    done.rejected.append(_rejected(sample, label, error, self.tries))
                out += one or []
        out = out or []
        count.seconds += time.perf_counter() - start
        count.photos_out += len(out)
        count.regions_out += sum(len(sample.regions) for sample in out)
        return out


def _tried(
    step: Step, samples: list[Sample], worker: Worker, times: int, count: StepCount
) -> tuple[list[Sample] | None, Exception | None]:
    """What the step makes of the samples, or None and the last error after as many tries."""
    error: Exception | None = None
    for _ in range(times):
        worker.drops.clear()
        try:
            out = step(list(samples), worker)
            check(step, samples, out)
        except Exception as failure:  # whatever a teacher raises: it is counted, and said in rejected.jsonl
            error = failure
            count.failures += 1
            continue
        for (_name, reason), number in worker.drops.items():
            count.dropped[reason] = count.dropped.get(reason, 0) + number
        return out, None
    return None, error


def check(step: Step, samples: Sequence[Sample], out: Sequence[Sample]) -> None:
    """A step gives back the same photographs, and masks that training can use. Raises ValueError."""
    if [sample.id for sample in out] != [sample.id for sample in samples]:
        raise ValueError(f"step {step.name} must return the samples it was given, in their order, with other regions")
    for before, after in zip(samples, out, strict=True):
        if after.size != before.size or after.image is not before.image:
            raise ValueError(f"step {step.name} changed the photograph of {before.id}; it may only change regions")
        for region in after.regions:
            if region.mask is not None and (region.mask.size != after.size or region.mask.area == 0):
                raise ValueError(
                    f"step {step.name} made a mask of size {region.mask.size} with {region.mask.area} pixels for "
                    f"{before.id} of size {after.size}; masks have the photograph's size and at least one pixel"
                )


def _rejected(sample: Sample, label: str, error: Exception | None, tries: int) -> Rejected:
    return Rejected(id=sample.id, step=label, reason=_reason(error), tries=tries)


def _reason(error: Exception | None) -> str:
    """The error in one line, with the place in the code unless the sentence speaks for itself."""
    if error is None:
        return ""
    sentence = " ".join(str(error).split())[:500]
    if isinstance(error, ValueError) and type(error) is not ValueError:  # ImageError
        return sentence
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {sentence}{place}"
