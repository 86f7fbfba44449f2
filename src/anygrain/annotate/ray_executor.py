"""Parts worked on by Ray actors, on this machine or a cluster (extra: ``pip install 'anygrain[ray]'``).

Each actor holds its teachers and streams what happens in its part. The stream waits until every event has been taken:
so this process knows what an actor had in hand when it died, and no actor runs ahead of what can be committed. Only
this process reads photographs and writes parts; no file system has to be shared. Steps may have actors of their own,
see ``ray_steps``.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from anygrain.annotate.executors import Deaths
from anygrain.annotate.ray_steps import Needs, Share, check_shares, start, with_shares
from anygrain.annotate.step import Worker
from anygrain.annotate.work import Done, Event, Job, Task, Worked, Working


class RayActors:
    """Actors on Ray, replaced when they die.

    needs: what each worker reserves. shares: actors besides, for steps that want other things than a worker has.
    address: of the cluster, as for ``ray.init``; None starts one on this machine and stops it at the end. A cluster's
    machines need the same anygrain and whatever defines the steps.
    """

    def __init__(
        self, workers: int, *, address: str | None = None, needs: Needs | None = None, shares: Sequence[Share] = ()
    ):
        """Raises ImportError when Ray is missing, ValueError without a worker."""
        if workers < 1:
            raise ValueError(f"workers is {workers}; give at least 1")
        _ray()
        self.workers, self.address, self.needs, self.shares = workers, address, needs or Needs(), tuple(shares)
        self._deaths = Deaths()

    def run(self, job: Job, tasks: Iterable[Task]) -> Iterator[Worked | Done]:
        """See ``Executor``."""
        ray = _ray()
        check_shares(self.shares, job.steps)
        mine = not ray.is_initialized()
        if mine:
            self._connect(ray)
        self.workers = self._room(ray)
        source, waiting = iter(tasks), deque[Task]()
        crew: list[_Actor] = []
        pools = start(ray, self.shares)
        try:
            while self._give_out(ray, job, source, waiting, crew, pools):
                ready, _ = ray.wait([actor.stream for actor in crew if actor.task])
                for actor in [actor for actor in crew if actor.task and actor.stream in ready]:
                    yield from self._hear(ray, actor, waiting, crew)
        finally:
            for handle in [*(actor.handle for actor in crew), *(one for _, actors in pools for one in actors)]:
                ray.kill(handle)
            if mine:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        if self.address is not None:
            try:
                ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, ValueError) as error:
                reason = " ".join(str(error).split())[:300]
                raise ValueError(f"there is no Ray cluster at {self.address}: {reason}") from None
            return
        path = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}}
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", runtime_env=path)

    def _room(self, ray: Any) -> int:
        """How many workers there is room for, at most those asked for: an actor without room would wait for ever."""
        whole = ray.cluster_resources()
        there: dict[str, float] = dict(whole)
        for share in self.shares:
            for name, need in share.needs.resources().items():
                there[name] = there.get(name, 0) - share.actors * need
        rooms = [int((there.get(name, 0) + 1e-6) / need) for name, need in self.needs.resources().items()]
        room = min([self.workers, *rooms])
        if room < 1 or min(there.values()) < -1e-6:
            shares = "".join(
                f", {share.actors} actors of {share.needs} for {'+'.join(share.steps)}" for share in self.shares
            )
            raise ValueError(
                f"Ray has {whole.get('CPU', 0):g} cores and {whole.get('GPU', 0):g} accelerators, too few for a worker "
                f"of {self.needs}{shares}: ask for less with --cpus, --gpus, --memory and --share"
            )
        if room < self.workers:
            warnings.warn(f"Ray has room for {room} workers of the {self.workers} asked for", stacklevel=2)
        return room

    def _give_out(
        self,
        ray: Any,
        job: Job,
        source: Iterator[Task],
        waiting: deque[Task],
        crew: list[_Actor],
        pools: Sequence[tuple[Share, list[Any]]],
    ) -> bool:
        """A task for every actor that has none; whether anyone is at work."""
        while sum(actor.task is not None for actor in crew) < self.workers:
            task = waiting.popleft() if waiting else next(source, None)
            if task is None:
                break
            actor = next((actor for actor in crew if actor.task is None), None)
            if actor is None:
                remote = ray.remote(**self.needs.options(), max_restarts=0)(_Held)
                number = next(n for n in range(self.workers) if n not in {other.number for other in crew})
                own = replace(job, steps=with_shares(job.steps, pools, number))
                crew.append(actor := _Actor(remote.remote(own), number))
            actor.task, actor.ids = task, ()
            streaming = {"num_returns": "streaming", "_generator_backpressure_num_objects": 1}
            actor.stream = actor.handle.work.options(**streaming).remote(task)
        return any(actor.task for actor in crew)

    def _hear(self, ray: Any, actor: _Actor, waiting: deque[Task], crew: list[_Actor]) -> Iterator[Worked | Done]:
        """One event of an actor, or its end."""
        assert actor.task is not None
        try:
            event = ray.get(next(actor.stream))
        except ray.exceptions.RayTaskError as error:  # raised by the work, not by Ray
            raise error.cause from error
        except (ray.exceptions.RayError, StopIteration) as error:
            crew.remove(actor)
            ray.kill(actor.handle)
            waiting.appendleft(self._deaths.again(actor.task, actor.ids, f"Ray's {type(error).__name__}"))
            return
        self._deaths.alive()
        if isinstance(event, Working):
            actor.ids = event.ids
            return
        if isinstance(event, Done):
            actor.task, actor.ids, actor.stream = None, (), None
        yield event


@dataclass
class _Actor:
    """An actor's handle, which of the workers it is, and what it has in hand."""

    handle: Any
    number: int
    task: Task | None = None
    ids: tuple[str, ...] = ()
    stream: Any = None


class _Held:
    """What lives in an actor: the job and one worker."""

    def __init__(self, job: Job):
        self.job, self.worker = job, Worker(job.device)

    def work(self, task: Task) -> Iterator[Event]:
        """What happens in a part."""
        yield from self.job.work(task, self.worker)


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.exceptions  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError("the Ray executor needs Ray: pip install 'anygrain[ray]'") from None
    return ray
