"""``report.html`` of a benchmark: the table, the protocol and the worst answers in one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anygrain.eval.page import HEADINGS, colours, document, escaped, pictures

if TYPE_CHECKING:
    from anygrain.eval.benchmark_report import BenchmarkReport


def benchmark_page(report: BenchmarkReport) -> str:
    """The whole page."""
    loud = ' class="bad"' if report.trained_on else ""
    value = report.figures.get(report.headline)
    tiles = [(f"{value:.4f}", report.headline)] if value is not None else []
    tiles += [
        (f"{report.samples:,}", "samples"),
        (f"{report.prompts:,}", "prompts"),
        (f"{report.seconds:,.0f} s", "time"),
    ]
    facts = "".join(f"<dt>{name}</dt><dd>{_code(words)}</dd>" for name, words in report.facts().items())
    head, *rows = report.rows()
    body = [
        f"<h1>{escaped(report.model['name'])} on {escaped(report.task)} {escaped(report.split)}</h1>",
        f'<p class="soft">{escaped(report.title)}</p><p{loud}>{escaped(report.contamination)}</p>',
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{number}</b><span>{escaped(name)}</span></div>' for number, name in tiles)
        + "</div>",
        f'<div class="card plain"><table>{_row("th", head)}{"".join(_row("td", row) for row in rows)}</table></div>',
        f'<p class="soft">{escaped(report.cost)}</p><dl>{facts}</dl>',
        *([colours()] if any(report.examples.values()) else []),
        *(pictures(HEADINGS[which], examples) for which, examples in report.examples.items() if examples),
    ]
    return document(f"{report.task} {report.split}", body)


def _row(cell: str, values: list[str]) -> str:
    return "<tr>" + "".join(f"<{cell}>{escaped(value)}</{cell}>" for value in values) + "</tr>"


def _code(words: str) -> str:
    """Text; what stands between backticks is code."""
    parts = escaped(words).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
