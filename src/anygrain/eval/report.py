"""The result of an evaluation: a plain table, ``report.json`` with every figure, and ``report.html`` to look at."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anygrain import __version__
from anygrain.eval.gallery import Example, Gallery
from anygrain.eval.metrics import Scores, headline
from anygrain.eval.reliability import Reliability

if TYPE_CHECKING:
    from anygrain.eval.figures import Figures

COLUMNS = {
    "photos": "photos",
    "prompts": "prompts",
    "category_miou": "mIoU",
    "salient_iou": "salient",
    "phrase_iou": "phrases",
    "iou": "IoU/prompt",
    "absent_prompts": "absent",
    "absent_called_absent": "refused",
    "present_called_absent": "missed",
}
"""Figures of the table, and what stands above them."""

LEGEND = {
    "mIoU": 'mean over categories, asked as "all {name}"; for each category the sum of intersections over the sum of '
    "unions, of the photos where it is present",
    "salient": 'mean IoU of "the most salient object"',
    "phrases": "mean IoU of other natural captions",
    "IoU/prompt": "mean IoU of all prompts about something present",
    "refused": "share of the prompts about something absent that are answered with no mask",
    "missed": "share of the prompts about something present that are answered with no mask",
    "all": "mean over sources; of refused and missed the share of all prompts",
}
NUMBERS = ("photos", "prompts", "absent_prompts", "present_prompts")
POOLED = {"absent_called_absent": "absent_prompts", "present_called_absent": "present_prompts"}


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """One source.

    figures: by name. categories: IoU and number of photos of each. reliability: of its presence scores.
    examples: worst, invented, random.
    """

    figures: dict[str, float]
    reliability: Reliability
    categories: dict[str, dict[str, float]] = field(default_factory=dict)
    examples: dict[str, list[Example]] = field(default_factory=dict)

    @classmethod
    def of(cls, scores: Scores, gallery: Gallery) -> SourceReport:
        """Figures and pictures of a source, ready to be shown."""
        ious = scores.categories.per_category()
        return cls(
            figures=scores.compute(),
            reliability=scores.reliability,
            categories={name: {"iou": iou, "photos": scores.categories.sums[name][2]} for name, iou in ious.items()},
            examples={name: getattr(gallery, name).examples() for name in ("worst", "invented", "random")},
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """All of one evaluation; ``print`` it for the table.

    model: name and fingerprint. data: the folder. sources: by name. settings: what the figures depend on.
    figures: the table of target figures, when it was asked for.
    command, started (UTC), seconds: how they came about.
    """

    model: Mapping[str, str]
    data: str
    sources: Mapping[str, SourceReport]
    settings: Mapping[str, Any]
    command: str
    started: str
    seconds: float
    figures: Figures | None = None

    @property
    def total(self) -> dict[str, float]:
        """The figures of all sources together, see ``total``."""
        return total([source.figures for source in self.sources.values()])

    @property
    def reliability(self) -> Reliability:
        """Of the presence scores of all sources."""
        whole = Reliability()
        for source in self.sources.values():
            whole.merge(source.reliability)
        return whole

    def rows(self) -> list[tuple[str, dict[str, float]]]:
        """Name and figures of each source, and of all together."""
        return [*((name, source.figures) for name, source in self.sources.items()), ("all", self.total)]

    def table(self) -> str:
        """The figures as plain text, a line a source."""
        lines = [["source", *COLUMNS.values()]]
        lines += [[name, *(shown(figures, column) for column in COLUMNS)] for name, figures in self.rows()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        plain = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
        plain.insert(1, "-" * len(plain[0]))
        plain.insert(-1, plain[1])
        return "\n".join(line.rstrip() for line in plain)

    def __str__(self) -> str:
        notes = "\n".join(f"{name}: {text}" for name, text in LEGEND.items())
        figures = f"\n{self.figures}\n" if self.figures is not None else ""
        return f"{self.table()}\n\n{notes}\n{figures}{self.summary()}"

    def summary(self) -> str:
        """Model, data, amount and time in one sentence."""
        figures = self.total
        asked = figures["present_prompts"] + figures["absent_prompts"]
        return (
            f"model {self.model['name']} ({self.model['fingerprint']}) on {self.data}: "
            f"{asked:,.0f} prompts about {figures['photos']:,.0f} photos in {self.seconds:.0f} s"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures."""
        import torch

        return {
            "model": dict(self.model),
            "data": self.data,
            "settings": dict(self.settings),
            "command": self.command,
            "started": self.started,
            "seconds": round(self.seconds, 1),
            "versions": {"anygrain": __version__, "torch": torch.__version__, "python": platform.python_version()},
            "definitions": LEGEND,
            "total": self.total,
            "reliability": self.reliability.to_json(),
            **({"figures": self.figures.to_json()} if self.figures is not None else {}),
            "sources": {
                name: {"figures": source.figures, "categories": source.categories}
                for name, source in self.sources.items()
            },
        }

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write ``report.json`` and ``report.html``; returns their paths. Raises OSError when that cannot be done."""
        from anygrain.eval.page import page
        from anygrain.images import write_atomic

        record, shown_page = Path(folder) / "report.json", Path(folder) / "report.html"
        write_atomic(record, (json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n").encode())
        write_atomic(shown_page, page(self).encode())
        return record, shown_page


def total(sources: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Figures of several sources together.

    Numbers are sums; an IoU is the mean over the sources that have it, large or small; the shares of answers "not
    there" are of all prompts. ``headline`` is the mean of the sources' headlines.
    """
    figures: dict[str, float] = {name: sum(source[name] for source in sources) for name in NUMBERS}
    for name in COLUMNS:
        values = [source for source in sources if name in source]
        if name in POOLED and values:
            weights = [source[POOLED[name]] for source in values]
            figures[name] = sum(s[name] * w for s, w in zip(values, weights, strict=True)) / sum(weights)
        elif name not in NUMBERS and values:
            figures[name] = sum(source[name] for source in values) / len(values)
    heads = [value for source in sources if (value := headline(source)) is not None]
    return figures | ({"headline": sum(heads) / len(heads)} if heads else {})


def shown(figures: Mapping[str, float], column: str) -> str:
    """A figure as the table shows it: a number, a percentage, or an IoU with three digits; "-" for none."""
    if column not in figures:
        return "-"
    value = figures[column]
    if column in NUMBERS:
        return f"{value:,.0f}"
    return f"{value:.1%}" if column in POOLED else f"{value:.3f}"
