"""What a fault at every moment of a run does to the records, as a table: fault x place -> lost, doubled.

    python tests/annotate/faults.py                                  # all of it: some minutes
    python tests/annotate/faults.py --faults "kill -9" --stride 9    # every ninth moment

A moment is the beginning or the end of every call that reads, works or writes. At each one a run in a forked process is
killed (SIGKILL), or its disk is full from then on (half of what is written arrives), or it is interrupted. Then it is
run again, undisturbed, and what it holds is compared, bit for bit, with a run that was never disturbed. Two runs are
taken: into a new folder, and into one where a photograph has changed, two have come, and one was rejected.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import signal
import sys
import tarfile
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from stub_steps import STEPS, Find, Keep, Trouble, corrupt, records, write_photos

from anygrain import markdown
from anygrain.annotate.engine import EngineConfig, annotate
from anygrain.annotate.executors import Processes
from anygrain.annotate.photos import FilePhotos, Photo, open_photos
from anygrain.data.verify import problems

CONFIG = EngineConfig(part=3, batch=2)
FAULTS = ("kill -9", "full disk", "Ctrl-C")
WRITES = ("write bytes", "write text", "write tar", "write index", "make folder", "move", "flush")
PLACES: dict[str, tuple[Any, str]] = {
    "read": (FilePhotos, "read"),
    "open": (Photo, "open"),
    "step find": (Find, "__call__"),
    "step keep": (Keep, "__call__"),
    "make folder": (Path, "mkdir"),
    "write tar": (tarfile.TarFile, "addfile"),
    "write index": (np, "save"),
    "write text": (Path, "write_text"),
    "write bytes": (Path, "write_bytes"),
    "flush": (os, "fsync"),
    "move": (Path, "rename"),
    "replace": (Path, "replace"),
    "remove": (Path, "unlink"),
    "remove folder": (shutil, "rmtree"),
}


class Moments:
    """Counts moments, and at number ``fatal`` does ``fault``."""

    def __init__(self, fault: str = "", fatal: int = -1):
        self.fault, self.fatal, self.places = fault, fatal, []

    def watched(self) -> list[Any]:
        return [mock.patch.object(*where, self._wrapped(name, *where)) for name, where in PLACES.items()]

    def _wrapped(self, name: str, owner: Any, attribute: str) -> Callable:
        real = getattr(owner, attribute)

        def call(*args, **options):
            self._moment(name, args)
            result = real(*args, **options)
            self._moment(f"{name}, done", args)
            return result

        return call

    def _moment(self, place: str, args: tuple) -> None:
        number = len(self.places)
        self.places.append(place)
        if self.fault == "full disk" and number >= self.fatal and place in WRITES:
            if place == "write bytes":
                with open(args[0], "wb") as file:
                    file.write(args[1][: len(args[1]) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if number == self.fatal and self.fault == "kill -9":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self.fatal and self.fault == "Ctrl-C":
            raise KeyboardInterrupt


def forked(action: Callable[[], None]) -> int:
    """Do it in a copy of this process; returns how that ended, as ``os.waitstatus_to_exitcode``."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            action()
            status = 0
        except (OSError, KeyboardInterrupt):
            status = 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(photos: Path, out: Path, moments: Moments | None = None) -> None:
    """The engine, watched."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        for patch in moments.watched() if moments else ():
            stack.enter_context(patch)
        annotate(open_photos(photos), out, STEPS, config=CONFIG)


def compared(out: Path, expected: list) -> tuple[int, int, int]:
    """Records lost, doubled, and different from what they should be."""
    got = Counter(name for name, *_ in records(out))
    lost = sum(name not in got for name, *_ in expected)
    doubled = sum(got.values()) - len(got)
    return lost, doubled, len(set(records(out)) - set(expected))


def scenarios(work: Path) -> Iterator[tuple[str, Path, Path | None]]:
    """Name, photographs, and the folder that is there already."""
    photos = work / "photos"
    write_photos(photos, 7)
    corrupt(photos / "004.jpg")
    yield "new folder", photos, None
    before = work / "before"
    run(photos, before)
    write_photos(work / "more" / "photos", 9, size=44)
    for name in ("001", "007", "008"):  # 1 has changed
        shutil.copy(work / "more" / "photos" / f"{name}.jpg", photos)
    yield "changed folder", photos, before


def every_moment(fault: str, stride: int = 1) -> Iterator[tuple[str, str, int, int, int]]:
    """(scenario, place, lost, doubled, different) of each moment, or of each ``stride``-th."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, photos, before in scenarios(work):
            counting = Moments()
            _start(before, work / "whole")
            run(photos, work / "whole", counting)
            expected = list(records(work / "whole"))
            for moment in range(0, len(counting.places), stride):
                out = work / "out"
                _start(before, out)
                place = counting.places[moment]
                if fault == "full disk" and place not in WRITES:
                    continue
                status = forked(partial(run, photos, out, Moments(fault, moment)))
                if fault == "kill -9":
                    assert status == -signal.SIGKILL, (place, status)
                else:
                    assert status in (0, 1), (place, status)
                if before is None and list(out.glob("*.tar")):  # what is there already can be read, and is true
                    assert compared(out, expected)[1:] == (0, 0), place
                assert forked(partial(run, photos, out)) == 0, place
                assert not list(problems(out)), place
                assert len((out / "rejected.jsonl").read_text().splitlines()) == 1, place
                yield (name, place, *compared(out, expected))


def corrupted() -> tuple[int, int, int]:
    """Records lost, doubled, different among the neighbours of two photographs that are cut short."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        names = write_photos(work / "photos", 7)
        run(work / "photos", work / "whole")
        for number in (0, 4):
            corrupt(work / "photos" / f"{number:03d}.jpg")
        run(work / "photos", work / "out")
        assert len((work / "out" / "rejected.jsonl").read_text().splitlines()) == 2
        return compared(work / "out", [row for row in records(work / "whole") if row[0] not in (names[0], names[4])])


def _start(before: Path | None, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    if before is not None:
        shutil.copytree(before, out)


def troubled(place: int, how: str, times: int, executor=None) -> tuple[int, int, int]:
    """Records lost, doubled, different when the step at ``place`` of three fails: "raise", "memory" or "kill"."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_photos(work / "photos", 7)
        run(work / "photos", work / "whole")
        (work / "flags").mkdir()
        steps: list[Any] = list(STEPS)
        steps.insert(place, Trouble(photo="photos/004.jpg", how=how, times=times, flags=work / "flags"))
        annotate(open_photos(work / "photos"), work / "out", steps, config=CONFIG, executor=executor)
        poison = times > 100
        expected = [row for row in records(work / "whole") if not (poison and row[0] == "photos/004.jpg")]
        assert len((work / "out" / "rejected.jsonl").read_text().splitlines()) == poison
        return compared(work / "out", expected)


def main() -> int:
    parser = argparse.ArgumentParser(description="Faults at every moment: records lost and doubled.")
    parser.add_argument("--faults", nargs="+", default=[*FAULTS, "others"], choices=[*FAULTS, "others"])
    parser.add_argument("--stride", type=int, default=1, help="take only every n-th moment")
    options = parser.parse_args()
    rows = []
    for fault in FAULTS:
        if fault not in options.faults:
            continue
        sums: dict[tuple[str, str], list[int]] = {}
        for scenario, place, *counts in every_moment(fault, options.stride):
            where = (scenario, place.removesuffix(", done"))
            sums[where] = [a + b for a, b in zip(sums.get(where, [0] * 4), (1, *counts), strict=True)]
        rows += [[fault, *where, *numbers] for where, numbers in sums.items()]
    if "others" in options.faults:
        rows += others()
    print(
        markdown.table(
            [["fault", "run", "place", "moments", "lost", "doubled", "different"]] + [[*map(str, row)] for row in rows]
        )
    )
    return 1 if any(any(row[4:]) for row in rows) else 0


def others() -> Iterator[list]:
    """What goes wrong in a step or in a worker, rows of the table."""
    yield ["corrupt photograph", "in process", "open", 2, *corrupted()]
    kinds = {
        "raise": ("teacher raises", (None,)),
        "memory": ("MemoryError", (None,)),
        "kill": ("worker killed", (1, 2)),
    }
    for how, (fault, crews) in kinds.items():
        for times, often in ((1, "once"), (10**9, "always")):
            for place, name in enumerate(("before find", "after find", "after keep")):
                for workers in crews:
                    where = f"{workers} process{'es' * (workers > 1)}" if workers else "in process"
                    counts = troubled(place, how, times, Processes(workers) if workers else None)
                    yield [f"{fault} {often}", where, name, 1, *counts]


if __name__ == "__main__":
    sys.exit(main())
