"""Steps with Ray actors of their own: a teacher that wants an accelerator need not have one for every worker.

A worker hands such a step its batch and waits for the answer, so at most as many batches wait for a step as there are
workers. An actor that dies is started again; what it had in hand counts as a failed try, so a photograph that kills it
is found out and rejected as one that makes a teacher raise.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from anygrain.annotate.settings import labels_of
from anygrain.annotate.step import Step, Teacher, Worker
from anygrain.annotate.work import check
from anygrain.types import Sample

_RESTART = 120.0  # seconds that an actor may take to be there again


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What an actor reserves: cores and accelerators, also parts of one, and bytes of memory."""

    cpus: float = 1
    gpus: float = 0
    memory: int = 0

    def __post_init__(self):
        if min(self.cpus, self.gpus, self.memory) < 0:
            raise ValueError(f"an actor cannot have {self}: give 0 or more")

    def __str__(self) -> str:
        memory = f" and {self.memory / 2**30:g} GiB" if self.memory else ""
        return f"{self.cpus:g} cores, {self.gpus:g} accelerators{memory}"

    def options(self) -> dict[str, Any]:
        """For ``ray.remote``."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus} | ({"memory": self.memory} if self.memory else {})

    def resources(self) -> dict[str, float]:
        """As a cluster names them."""
        return {name: n for name, n in (("CPU", self.cpus), ("GPU", self.gpus), ("memory", self.memory)) if n}


@dataclass(frozen=True, kw_only=True)
class Share:
    """Actors that some steps share among all workers.

    steps: labels, as the report shows them ("refer", "rank"); those that use the same photographs' embeddings belong
        together. actors: how many.
    """

    steps: tuple[str, ...]
    needs: Needs = field(default_factory=Needs)
    actors: int = 1

    def __post_init__(self):
        if self.actors < 1 or not self.steps:
            raise ValueError("a share has one or more steps and one or more actors")

    @staticmethod
    def parse(text: str) -> Share:
        """ "refer+rank:gpus=0.5,actors=2"; cpus, gpus, memory (GiB) and actors, each at most once.

        Raises ValueError with one sentence.
        """
        steps, _, rest = text.partition(":")
        pairs = [part.split("=") for part in rest.split(",") if part]
        values = {pair[0]: pair[-1] for pair in pairs}
        number = re.compile(r"\d+(\.\d+)?")
        known = len(values) == len(pairs) and values.keys() <= {"cpus", "gpus", "memory", "actors"}
        if not all(steps.split("+")) or not known or not all(number.fullmatch(value) for value in values.values()):
            raise ValueError(f"cannot read the share '{text}': give STEP+STEP:cpus=1,gpus=0.5,memory=4,actors=2")
        needs = Needs(
            cpus=float(values.get("cpus", 1)),
            gpus=float(values.get("gpus", 0)),
            memory=round(float(values.get("memory", 0)) * 2**30),
        )
        return Share(steps=tuple(steps.split("+")), needs=needs, actors=int(float(values.get("actors", 1))))


def check_shares(shares: Sequence[Share], steps: Sequence[Step]) -> None:
    """Every share's steps are in the route, none in two shares. Raises ValueError."""
    labels, named = labels_of(steps), [name for share in shares for name in share.steps]
    for name in named:
        if name not in labels:
            raise ValueError(f"there is no step '{name}' to share actors for; the steps are {', '.join(labels)}")
        if named.count(name) > 1:
            raise ValueError(f"step '{name}' stands in two shares: name it once")


def start(ray: Any, shares: Sequence[Share]) -> list[tuple[Share, list[Any]]]:
    """The actors of every share."""
    return [(share, [_remote(ray, share) for _ in range(share.actors)]) for share in shares]


def _remote(ray: Any, share: Share) -> Any:
    device = "cuda" if share.needs.gpus else "cpu"
    return ray.remote(**share.needs.options(), max_restarts=-1, max_task_retries=0)(_Steps).remote(device)


def with_shares(steps: Sequence[Step], pools: Sequence[tuple[Share, list[Any]]], worker: int) -> tuple[Any, ...]:
    """The steps of a worker, by its number: those with a share are asked of one of its actors."""
    actors = {name: crew[worker % len(crew)] for share, crew in pools for name in share.steps}
    return tuple(
        Elsewhere(step=step, actor=actors[label]) if label in actors else step
        for label, step in zip(labels_of(steps), steps, strict=True)
    )


class _Steps:
    """What lives in a share's actor: one worker, whose photographs stay until those of another batch come."""

    def __init__(self, device: str):
        self.worker, self.ids = Worker(device), set[str]()

    def ready(self) -> None:
        """Answers when the actor is there."""

    def load(self, teacher: Teacher[Any]) -> None:
        """Load a teacher before it is needed."""
        self.worker.teacher(teacher)

    def run(self, step: Step, samples: list[Sample]) -> tuple[list[Sample], dict[tuple[str, str], int]]:
        """What the step makes of the samples, without their photographs, and what it left out."""
        ids = {sample.id for sample in samples}
        if not ids <= self.ids:
            self.worker.forget_photographs()
            self.ids = ids
        self.worker.drops.clear()
        out = step(list(samples), self.worker)
        check(step, samples, out)
        return [replace(sample, image=b"") for sample in out], dict(self.worker.drops)


@dataclass(frozen=True)
class _Far:
    """A teacher that an actor holds; loading it here loads it there."""

    teacher: Teacher[Any]
    actor: Any = field(compare=False)

    def load(self, device: str) -> None:  # noqa: ARG002  the actor has its own
        """Raises what the teacher's own ``load`` raises."""
        _ask(self.actor, "load", self.teacher)


@dataclass(frozen=True)
class Elsewhere:
    """A step that is asked of an actor. Photographs go with the batch, regions come back."""

    step: Step
    actor: Any = field(compare=False)

    @property
    def name(self) -> str:
        """The step's."""
        return self.step.name

    @property
    def teachers(self) -> tuple[Any, ...]:
        """Those of the step, which the actor holds."""
        return tuple(_Far(teacher, self.actor) for teacher in self.step.teachers)

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        """Raises what the step raises, and RuntimeError when the actor has died, once it is there again."""
        out, drops = _ask(self.actor, "run", self.step, samples)
        worker.drops.update(drops)
        return [replace(after, image=before.image) for before, after in zip(samples, out, strict=True)]


def _ask(actor: Any, method: str, *arguments: Any) -> Any:
    import ray  # pyright: ignore[reportMissingImports]
    import ray.exceptions  # pyright: ignore[reportMissingImports]

    try:
        return ray.get(getattr(actor, method).remote(*arguments))
    except ray.exceptions.RayTaskError as error:  # raised by the step, not by Ray
        raise error.cause from error
    except ray.exceptions.RayActorError as error:
        end = time.monotonic() + _RESTART
        while True:
            try:
                ray.get(actor.ready.remote())
                break
            except ray.exceptions.RayActorError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
        raise RuntimeError(f"its actor ended by Ray's {type(error).__name__} (out of memory?)") from error
