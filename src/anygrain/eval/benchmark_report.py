"""What a benchmark measured: Markdown, JSON, and a page with the worst answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from anygrain.eval.gallery import Example
from anygrain.eval.papers import sources
from anygrain.images import write_atomic
from anygrain.markdown import table


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """The figures of one benchmark, and all that is needed to repeat them.

    figures: by name, shares in 0..1. headline: the name of the one that papers compare. published: what papers report,
    by model and figure. samples, prompts: how many. trained_on: of how many samples the model's ledger has the image;
    None when the model has no ledger. notes: the protocol. model: name and fingerprint. settings: threshold and the
    like. seconds: of all samples, also those that an earlier run answered; resumed: how many these are.
    examples: the worst answers and some by chance, as pictures; they are on the page and not in the JSON.
    """

    task: str
    split: str
    root: str
    headline: str
    figures: dict[str, float]
    published: dict[str, dict[str, float]]
    samples: int
    prompts: int
    trained_on: int | None
    notes: str
    model: dict[str, Any]
    settings: dict[str, Any]
    command: str
    version: str
    seconds: float
    resumed: int = 0
    examples: Mapping[str, Sequence[Example]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.title}\n\n{self.contamination}\n\n{table(self.rows())}\n\n{self.cost}\n"

    @property
    def title(self) -> str:
        """Task, split and how much of it."""
        limit = self.settings["limit"]
        part = "" if limit is None else f" (only the first {limit}: not comparable with published figures)"
        return f"{self.task} {self.split}{part}, {self.samples} samples, {self.prompts} prompts"

    @property
    def contamination(self) -> str:
        """What is known of the benchmark's images in the model's training."""
        if self.trained_on is None:
            return "It is not known whether the model was trained on these images: it has no ledger (trained_on.npy)."
        if self.trained_on:
            return f"WARNING: the model was TRAINED ON {self.trained_on} of these {self.samples} samples' images."
        return "None of these images is in the ledger of the model's training."

    @property
    def cost(self) -> str:
        """The time, and what it comes to."""
        per_prompt = f", {1000 * self.seconds / self.prompts:.0f} ms a prompt" if self.prompts else ""
        before = f"; {self.resumed} samples were answered by an earlier run" if self.resumed else ""
        rate = self.samples / max(self.seconds, 1e-9)
        return f"Time: {self.seconds:.1f} s, {rate:.2f} samples/s{per_prompt}{before}."

    def rows(self) -> list[list[str]]:
        """The table: figure, our value, and a column a paper."""
        papers = list(self.published)
        head = ["figure", self.model["name"], *papers]
        lines = (
            [name, f"{value:.4g}", *(self._paper(p, name) for p in papers)] for name, value in self.figures.items()
        )
        return [head, *lines]

    def _paper(self, model: str, figure: str) -> str:
        value = self.published[model].get(figure)
        return "-" if value is None else f"{value:.4g}"

    def facts(self) -> dict[str, str]:
        """What stands below the table, by heading."""
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items() if value is not None)
        read = sources(self.task, self.split)
        papers = "; ".join(f"{model}: {read[model]}" for model in self.published if model in read)
        return {
            "Protocol": self.notes,
            "Published figures": f"{papers}." if papers else "None that could be verified.",
            "Model": f"{self.model['name']} ({self.model['fingerprint']})",
            "Settings": f"{settings}. anygrain {self.version}.",
            "Command": f"`{self.command}`",
        }

    def markdown(self) -> str:
        """The report as a page of Markdown."""
        return f"# {self}\n" + "\n\n".join(f"{name}: {text}" for name, text in self.facts().items()) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "examples"}

    def write(self, folder: str | Path) -> tuple[Path, Path, Path]:
        """Write ``report.md``, ``report.json`` and ``report.html`` into a folder; returns their paths."""
        from anygrain.eval.benchmark_page import benchmark_page

        paths = Path(folder) / "report.md", Path(folder) / "report.json", Path(folder) / "report.html"
        record = json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"
        for path, content in zip(paths, (self.markdown(), record, benchmark_page(self)), strict=True):
            write_atomic(path, content.encode())
        return paths
