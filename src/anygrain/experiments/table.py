"""Rows, seeds and figures as one table: Markdown to read, JSON to go on with."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anygrain import markdown
from anygrain.eval.report import total
from anygrain.experiments.rows import Row

Sources = Mapping[str, Mapping[str, float]]
"""Figures of a model by source, as ``anygrain.eval`` names them."""

GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "categories": ("category_miou", ("camvid", "car_parts", "clothing", "coco", "facade", "faces")),
    "salient": ("salient_iou", ("pets", "horses", "caltech_outlines")),
    "phrases": ("phrase_iou", ("davis", "coco_person")),
}
"""Task -> the figure that is taken, and of which sources; the table shows the mean over the sources."""

COLUMNS = {
    **{name: name for name in GROUPS},
    "mean": "mean",
    "absent_called_absent": "absent refused",
    "present_called_absent": "present missed",
}
SHARES = ("absent_called_absent", "present_called_absent")

DEFINITIONS = {
    **{name: f"{figure}, mean over {', '.join(sources)}" for name, (figure, sources) in GROUPS.items()},
    "mean": "of the figures of the tasks",
    "absent refused": "share of the prompts about something absent that are answered with no mask, over these sources",
    "present missed": "share of the prompts about something present that are answered with no mask",
    "±": "standard deviation over seeds (n - 1); none for a single seed",
}


def measured(sources: Sources) -> dict[str, float]:
    """Figures by task, their mean, and the shares of answers "not there"; what was not measured is left out."""
    figures = {}
    for group, (figure, names) in GROUPS.items():
        values = [sources[name][figure] for name in names if figure in sources.get(name, {})]
        if values:
            figures[group] = statistics.fmean(values)
    if figures:
        figures["mean"] = statistics.fmean(figures.values())
    overall = total(list(sources.values()))
    return figures | {name: overall[name] for name in SHARES if name in overall}


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the table. seeds: figures by seed, of the runs that are finished."""

    name: str
    steps: int
    note: str
    seeds: Mapping[int, Mapping[str, float]]

    def values(self, column: str) -> list[float]:
        """The figure of each seed that has it."""
        return [figures[column] for figures in self.seeds.values() if column in figures]

    def cell(self, column: str) -> str:
        """Mean ± spread; "-" without a value."""
        values = self.values(column)
        if not values:
            return "-"
        form = "{:.1%}" if column in SHARES else "{:.3f}"
        spread = f" ± {form.format(statistics.stdev(values))}" if len(values) > 1 else ""
        return form.format(statistics.fmean(values)) + spread

    def to_json(self) -> dict[str, Any]:
        """Mean, spread (None for a single seed) and every seed's figures."""
        columns = {name: values for name in COLUMNS if (values := self.values(name))}
        return {
            "run": self.name,
            "steps": self.steps,
            "note": self.note,
            "mean": {name: statistics.fmean(values) for name, values in columns.items()},
            "spread": {n: statistics.stdev(values) if len(values) > 1 else None for n, values in columns.items()},
            "seeds": {str(seed): dict(figures) for seed, figures in self.seeds.items()},
        }


@dataclass
class Table:
    """An experiment as far as it has come; ``print`` it for the Markdown.

    settings: what all rows share. sources: figures of the finished runs by row, seed and source.
    """

    experiment: str
    rows: Sequence[Row]
    settings: Mapping[str, Any]
    sources: dict[str, dict[int, Sources]] = field(default_factory=dict)

    def add(self, row: Row, seed: int, sources: Sources) -> None:
        """Take in a finished run."""
        self.sources.setdefault(row.name, {})[seed] = sources

    def lines(self) -> list[Line]:
        """One a row; after those of single tasks, one that takes each task's figure from its own model."""
        lines = [
            Line(
                name=row.name,
                steps=row.steps,
                note=row.note,
                seeds={seed: measured(sources) for seed, sources in self.sources.get(row.name, {}).items()},
            )
            for row in self.rows
        ]
        own = {row.stages[-1].task: line for row, line in zip(self.rows, lines, strict=True) if row.stages[-1].task}
        return [*lines[: len(own)], _together(own), *lines[len(own) :]] if own else lines

    def __str__(self) -> str:
        lines = self.lines()
        cells = [["run", "steps", "seeds", *COLUMNS.values()]]
        cells += [
            [line.name, str(line.steps), str(len(line.seeds)), *(line.cell(column) for column in COLUMNS)]
            for line in lines
        ]
        shared = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        notes = {line.name: line.note for line in lines} | DEFINITIONS
        return "\n".join(
            [
                markdown.table(cells),
                "",
                f"{self.experiment}: {shared}.",
                "",
                *(f"- {n}: {t}" for n, t in notes.items()),
            ]
        )

    def write(self, folder: Path) -> None:
        """``table.md`` and ``table.json``, each whole or not at all."""
        from anygrain.images import write_atomic

        record = {
            "experiment": self.experiment,
            "settings": dict(self.settings),
            "rows": [line.to_json() for line in self.lines()],
            "definitions": DEFINITIONS,
            "sources": {name: {str(s): v for s, v in seeds.items()} for name, seeds in self.sources.items()},
        }
        write_atomic(folder / "table.md", f"{self}\n".encode())
        write_atomic(folder / "table.json", (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())


def _together(own: Mapping[Any, Line]) -> Line:
    """All single-task models together, for the seeds that all of them have: the cost of all, each task's own figure."""
    seeds = set.intersection(*(set(line.seeds) for line in own.values()))
    figures = {}
    for seed in sorted(seeds):
        values = {task: line.seeds[seed][task] for task, line in own.items() if task in line.seeds[seed]}
        figures[seed] = values | ({"mean": statistics.fmean(values.values())} if values else {})
    return Line(
        name=f"single-task, all {len(own)}",
        steps=sum(line.steps for line in own.values()),
        note=f"each task measured on its own model, so {len(own)} models and {len(own)} times the cost.",
        seeds=figures,
    )
