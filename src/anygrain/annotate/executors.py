"""Where parts are worked on: in this process, or in local processes that are replaced when they die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from anygrain.annotate.step import Worker
from anygrain.annotate.work import Done, Event, Job, Task, Worked, Working

_EARLY_DEATHS = 3  # of workers before their first photograph, one after the other


class Executor(Protocol):
    """Runs a job's tasks. workers: how many parts are worked on at once."""

    workers: int

    def run(self, job: Job, tasks: Iterable[Task]) -> Iterator[Worked | Done]:
        """What happens, in any order. Takes tasks only as workers come free; each gives one ``Done``."""
        ...


class InProcess:
    """One worker: this process."""

    workers = 1

    def run(self, job: Job, tasks: Iterable[Task]) -> Iterator[Worked | Done]:
        """See ``Executor``; parts come in order."""
        worker = Worker(job.device)
        for task in tasks:
            for event in job.work(task, worker):
                if not isinstance(event, Working):
                    yield event


class Deaths:
    """What to do about workers that die."""

    def __init__(self):
        self._early = 0

    def alive(self) -> None:
        """A worker has said something."""
        self._early = 0

    def again(self, task: Task, ids: Iterable[str], cause: str) -> Task:
        """The task again, after its worker ended by ``cause`` with these photographs in hand.

        Raises ValueError when one worker after the other has died before its first photograph.
        """
        ids = tuple(ids)
        self._early += not ids
        if self._early >= _EARLY_DEATHS:
            raise ValueError(
                f"{self._early} workers ended by {cause} before their first photograph: probably the teachers do not "
                "fit into memory; use fewer workers or smaller teachers"
            )
        warnings.warn(f"a worker ended by {cause}; its part is done again", stacklevel=2)
        return replace(task, deaths={**task.deaths, **{name: task.deaths.get(name, 0) + 1 for name in ids}})


@dataclass
class _Process:
    """A worker process, its end of the pipe, and what it has in hand."""

    process: Any
    pipe: Connection
    task: Task | None = None
    ids: tuple[str, ...] = ()


class Processes:
    """Local worker processes, each with its own teachers. One that dies is replaced and its part done again."""

    def __init__(self, workers: int):
        if workers < 1:
            raise ValueError(f"workers is {workers}; give at least 1")
        self.workers, self._deaths = workers, Deaths()

    def run(self, job: Job, tasks: Iterable[Task]) -> Iterator[Worked | Done]:
        """See ``Executor``."""
        source, waiting = iter(tasks), deque[Task]()
        crew: list[_Process] = []
        try:
            while True:
                self._give_out(job, source, waiting, crew)
                busy = {worker.pipe: worker for worker in crew if worker.task}
                if not busy:
                    return
                if not waiting:  # read one part ahead, so that whoever is done first need not wait for the disk
                    waiting.extend(task for task in [next(source, None)] if task)
                for pipe in wait(list(busy)):
                    yield from self._hear(busy[pipe], waiting, crew)  # type: ignore[index]
        finally:
            for worker in crew:
                worker.process.kill()
                worker.process.join()
                worker.pipe.close()

    def _give_out(self, job: Job, source: Iterator[Task], waiting: deque[Task], crew: list[_Process]) -> None:
        """A task for everyone who has none; processes start only when there is work for them."""
        while sum(worker.task is not None for worker in crew) < self.workers:
            task = waiting.popleft() if waiting else next(source, None)
            if task is None:
                return
            worker = next((worker for worker in crew if worker.task is None), None)
            if worker is None:
                crew.append(worker := self._started(job))
            worker.task, worker.ids = task, ()
            with suppress(BrokenPipeError, ConnectionResetError):  # it has died: that is heard as the end of its pipe
                worker.pipe.send(task)

    def _started(self, job: Job) -> _Process:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        ours, theirs = context.Pipe()
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        process = context.Process(target=_serve, args=(theirs, threads), daemon=True, name="anygrain annotate worker")
        process.start()
        theirs.close()
        ours.send(job)
        return _Process(process, ours)

    def _hear(self, worker: _Process, waiting: deque[Task], crew: list[_Process]) -> Iterator[Worked | Done]:
        """One message of a worker, or its end."""
        try:
            event = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._replace(worker, waiting, crew)
            return
        if isinstance(event, _Failure):
            raise event.error from RuntimeError(event.text)
        self._deaths.alive()
        if isinstance(event, Working):
            worker.ids = event.ids
            return
        if isinstance(event, Done):
            worker.task, worker.ids = None, ()
        yield event

    def _replace(self, worker: _Process, waiting: deque[Task], crew: list[_Process]) -> None:
        worker.process.join()
        worker.pipe.close()
        crew.remove(worker)
        assert worker.task is not None
        code = worker.process.exitcode
        cause = signal.Signals(-code).name if code and code < 0 else f"exit status {code}"
        waiting.appendleft(self._deaths.again(worker.task, worker.ids, cause))


@dataclass
class _Failure:
    """What ended a worker's work: not a photograph's fault. text: its traceback."""

    error: Exception
    text: str


def _serve(pipe: Connection, threads: int) -> None:
    """A worker process: a job, then tasks, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, but only the parent answers
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported, with the job's steps
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        job: Job = pipe.recv()
        worker = Worker(job.device)
        while True:
            for event in _events(job, pipe.recv(), worker):
                pipe.send(event)


def _events(job: Job, task: Task, worker: Worker) -> Iterator[Event | _Failure]:
    try:
        yield from job.work(task, worker)
    except Exception as error:  # sent to the parent, which raises it
        yield _Failure(error, traceback.format_exc())
