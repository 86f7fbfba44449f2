"""The annotation engine on the small route: photographs a second, the share of each step, the engine against the bare
loop over the same steps (in turns, teachers loaded, in one process), one worker process against two. Prints rates,
ratios and peak memory; every crew runs in a process of its own.

    python benchmarks/annotate.py ../shared/data/unlabelled/images --photos 96 --repeats 3
    python benchmarks/annotate.py photos/ --photos 32 --route masks --crews 1 2 4
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

CONFIG = {"part": 8, "batch": 4}


@dataclass(frozen=True)
class Nothing:
    """A step that costs nothing: what is left is the engine."""

    name: ClassVar[str] = "nothing"
    teachers: ClassVar[tuple] = ()

    def __call__(self, samples, worker):  # noqa: ARG002
        return samples


class Chosen:
    """The first photographs of a folder."""

    def __init__(self, photos, count):
        self.photos, self.count = photos, min(count, len(photos))
        self.name, self.read = photos.name, photos.read

    def __len__(self):
        return self.count


class Warm:
    """An executor whose worker has its teachers already."""

    workers = 1

    def __init__(self, worker):
        self.worker = worker

    def run(self, job, tasks):
        from anygrain.annotate.work import Working

        for task in tasks:
            for event in job.work(task, self.worker):
                if not isinstance(event, Working):
                    yield event


class Timed:
    """An executor that notes when batches are done, so that loading does not count."""

    def __init__(self, executor):
        self.executor, self.workers, self.batches = executor, executor.workers, []

    def run(self, job, tasks):
        from anygrain.annotate.work import Worked

        for event in self.executor.run(job, tasks):
            if isinstance(event, Worked):
                self.batches.append((time.perf_counter(), event.photos))
            yield event

    def rate(self):
        """Photographs a second from the end of every worker's first batch on."""
        start = self.batches[self.workers - 1][0]
        return sum(photos for _, photos in self.batches[self.workers :]) / (self.batches[-1][0] - start)


def bare(photos, steps, worker):
    """The loop that a person would write: decode, steps, next batch."""
    for first in range(0, len(photos), CONFIG["batch"]):
        samples = []
        for number in range(first, min(first + CONFIG["batch"], len(photos))):
            sample, image = photos.read(number).open()
            worker.keep_image(sample, image)
            samples.append(sample)
        for step in steps:
            samples = step(samples, worker)
        worker.forget_photographs()


def engine(photos, steps, executor, out):
    from anygrain.annotate.engine import EngineConfig, annotate

    shutil.rmtree(out, ignore_errors=True)
    return annotate(photos, out, steps, config=EngineConfig(**CONFIG), executor=executor)


def timed(action, *arguments):
    start = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - start


def against_bare(options, photos, steps):
    from anygrain.annotate.report import read_report
    from anygrain.annotate.settings import teachers_of
    from anygrain.annotate.step import Worker

    with tempfile.TemporaryDirectory() as folder:
        out, worker = Path(folder) / "out", Worker("cpu")
        for teacher in teachers_of(steps):
            worker.teacher(teacher)
        bare(Chosen(photos, CONFIG["batch"]), steps, worker)  # warm up
        pairs = []
        for turn in range(options.repeats):
            runs = [lambda: timed(bare, photos, steps, worker), lambda: timed(engine, photos, steps, Warm(worker), out)]
            first, second = (run() for run in runs[:: 1 if turn % 2 == 0 else -1])
            pairs.append((first, second) if turn % 2 == 0 else (second, first))
        loops, engines = zip(*pairs, strict=True)
        ratio = statistics.median(e / b for b, e in pairs)
        print(f"bare loop       {len(photos) / min(loops):8.3f} photos/s (best of {options.repeats})")
        print(
            f"engine          {len(photos) / min(engines):8.3f} photos/s, {ratio - 1:+.1%} time (median of the turns)"
        )
        report = read_report(out, 1)
        total = sum(count.seconds for count in report.steps.values())
        for label, count in report.steps.items():
            print(f"  {label:12s} {count.seconds / len(photos) * 1000:9.1f} ms a photo {count.seconds / total:7.1%}")
        nothing = (Nothing(),)
        idle = min(timed(bare, photos, nothing, worker) for _ in range(3))
        alone = min(timed(engine, photos, nothing, Warm(worker), out) for _ in range(3))
        print(f"engine itself   {(alone - idle) / len(photos) * 1000:8.2f} ms a photo, with steps that do nothing")


def crew(options, photos, steps):
    """One row, in a process of its own: rate and memory of worker processes."""
    from anygrain.annotate.executors import Processes

    with tempfile.TemporaryDirectory() as folder:
        executor = Timed(Processes(options.crew))
        summary = engine(photos, steps, executor, Path(folder) / "out")
    here, worker = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(json.dumps({"rate": executor.rate(), "all": summary.seconds, "parent": here, "worker": worker}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--photos", dest="count", type=int, default=96)
    parser.add_argument("--route", default="none")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--crews", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--crew", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()

    from anygrain.annotate.photos import open_photos
    from anygrain.annotate.routes import route

    photos = Chosen(open_photos(options.photos, known=options.route != "none"), options.count)
    steps = route(options.route, "small")
    if options.crew:
        return crew(options, photos, steps)
    print(f"{len(photos)} photographs, route {options.route}, parts of {CONFIG['part']}, batches of {CONFIG['batch']}")
    rates = {}
    for workers in options.crews:
        command = [sys.executable, __file__, *sys.argv[1:], "--crew", str(workers)]
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        rates[workers] = row["rate"]
        ratio = f", {row['rate'] / rates[options.crews[0]]:.2f} x" if workers != options.crews[0] else ""
        print(
            f"{workers} worker(s)     {row['rate']:8.3f} photos/s once loaded{ratio}; {row['all']:.1f} s with loading; "
            f"peak {row['parent']:.0f} MB here, {row['worker']:.0f} MB in the largest worker"
        )
    return against_bare(options, photos, steps)


if __name__ == "__main__":
    sys.exit(main())
