"""``--task all``: every benchmark whose data set lies below a folder, one after another, and one table of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from anygrain.data.datasets import read_dataset
from anygrain.data.ledger import read_ledger
from anygrain.eval.benchmark import ready, run_benchmark, unfit
from anygrain.eval.benchmark_report import BenchmarkReport
from anygrain.eval.benchmarks import BENCHMARKS
from anygrain.hub import find as folder_of
from anygrain.images import write_atomic
from anygrain.markdown import table

# Where people unpack sets that are parts of a larger one.
FAMILIES = {"refc": ("refer", "refer/data"), "gref": ("refer", "refer/data"), "coco": ("coco",), "paco": ("coco",)}
FAMILIES |= {"lvis": ("coco",), "city": ("cityscapes",)}
FAMILIES |= {"voc2": ("VOCdevkit",), "pasc": ("VOCdevkit",), "ade2": ("ADEChallengeData2016", "ade20k")}


@dataclass(frozen=True)
class Summary:
    """reports: of the benchmarks that ran. missing: of the others, why not, by task."""

    reports: tuple[BenchmarkReport, ...]
    missing: dict[str, str]

    def __str__(self) -> str:
        head = ["task", "split", "figure", "value", "published", "samples", "trained on", "seconds"]
        ran = table([head, *map(_row, self.reports)]) if self.reports else "No benchmark ran."
        lost = "".join(f"- {task}: {why}\n" for task, why in self.missing.items())
        return f"{ran}\n" + (f"\nMissing:\n\n{lost}" if lost else "")

    def write(self, folder: str | Path) -> None:
        """Write ``summary.md`` and ``summary.json``."""
        record = {"reports": [report.to_json() for report in self.reports], "missing": self.missing}
        commands = "".join(f"- {r.task}: `{r.command}`\n" for r in self.reports[:1])
        page = f"# All benchmarks\n\n{self}\n{commands}"
        write_atomic(Path(folder) / "summary.md", page.encode())
        write_atomic(Path(folder) / "summary.json", (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


def _row(report: BenchmarkReport) -> list[str]:
    value = report.figures.get(report.headline)
    papers = [f"{figures[report.headline]:.3f}" for figures in report.published.values() if report.headline in figures]
    trained = "unknown" if report.trained_on is None else str(report.trained_on)
    shown = "-" if value is None else f"{value:.4f}"
    cells = [report.task, report.split, report.headline, shown, " / ".join(papers) or "-"]
    return [*cells, str(report.samples), trained, f"{report.seconds:.1f}"]


def run_all(
    model: Any, root: str | Path, out: str | Path, *, say: Callable[[str], None] | None = None, **options: Any
) -> Summary:
    """Run every benchmark that fits the model and of which ``root`` has the data, on the split that papers report, each
    into ``out/<task>``.

    say: told what is missing before the first one starts, and each report. options: of ``run_benchmark``.
    With ``resume`` a run that was interrupted anywhere goes on there. Raises ValueError when nothing is there.
    """
    places: dict[str, Path] = {}
    missing: dict[str, str] = {}
    find = cache(partial(find_data, root))  # several tasks share a data set
    segmenter = ready(model, options.get("device", "auto"), options.get("threshold"))  # once for all
    ledger = read_ledger(folder_of(model)) if isinstance(model, (str, Path)) else None
    for task, benchmark in BENCHMARKS.items():
        if why := unfit(task, segmenter):
            missing[task] = why
            continue
        found = find(benchmark.data or task, benchmark.splits[0], own_folder=benchmark.own_folder)
        if isinstance(found, Path):
            places[task] = found
        else:
            missing[task] = found
    if not places:
        raise ValueError(f"{root}: the data of no benchmark are below it; docs/datasets.md says what they look like")
    if say is not None:
        say("".join(f"missing: {task}: {why}\n" for task, why in missing.items()) + f"to run: {', '.join(places)}")
    reports, clicks = [], options.pop("clicks", 1)
    for task, place in places.items():
        more = options | ({"clicks": clicks} if task.endswith("_clicks") else {})
        reports.append(run_benchmark(segmenter, task, place, out=Path(out) / task, ledger=ledger, **more))
        if say is not None:
            say(f"\n{reports[-1]}")
    summary = Summary(tuple(reports), missing)
    if int(os.environ.get("RANK", 0)) == 0:
        summary.write(out)
    return summary


def find_data(root: str | Path, task: str, split: str, *, own_folder: bool) -> Path | str:
    """The folder of a task's data set, or the sentence that says what is missing.

    Looked for in folders named like the task (whatever case, hyphens and underscores) or its family, and, unless
    ``own_folder``, in ``root`` itself: a folder is right when its first sample can be read.
    Raises NotADirectoryError when ``root`` is not a folder.
    """
    why = f"no folder named {task} in {root}"
    for place in _candidates(Path(root), task, own_folder):
        try:
            if next(read_dataset(task, place, split), None) is not None:
                return place
            why = f"{place}: no sample of {split}"
        except (OSError, ValueError) as error:
            why = str(error)
    return why


def _candidates(root: Path, task: str, own_folder: bool) -> Iterator[Path]:
    """``root`` first and the likeliest last: its sentence is the one that is told."""
    named = [child for child in sorted(root.iterdir()) if child.is_dir() and _plain(child.name) == _plain(task)]
    if not own_folder:
        yield root
    yield from (root / name for name in FAMILIES.get(task[:4], ()) if (root / name).is_dir())
    yield from named


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter == "+")
