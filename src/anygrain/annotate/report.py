"""What annotating has made, to look at: steps and drops, histograms, and contact sheets of best, median and worst."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from anygrain import markdown
from anygrain.annotate.parts import Part, Rejected, StepCount, read_manifest, read_parts
from anygrain.data.formats import from_record
from anygrain.data.shards import ShardReader
from anygrain.data.show import drawn, sheet
from anygrain.eval.page import STYLE
from anygrain.images import write_atomic
from anygrain.types import Region, Triplet

SIZES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Edges of the histogram of mask sizes, shares of the photograph."""
_SCORES = tuple(number / 10 for number in range(11))
_NAMES = 30  # most frequent names that are shown
Histogram = list[tuple[str, int]]


class _Place(NamedTuple):
    """Where a region with a mask and a score stands: sample and region by number."""

    score: float
    sample: int
    region: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """All figures; ``print`` it for the tables. histograms: bins by title. sheets: JPEGs by title."""

    folder: str
    samples: int
    regions: int
    teachers: dict[str, str]
    steps: dict[str, StepCount]
    rejected: tuple[Rejected, ...]
    histograms: dict[str, Histogram]
    sheets: dict[str, bytes]

    def rows(self) -> list[list[str]]:
        """The table of steps, its head first."""
        total = sum(count.seconds for count in self.steps.values()) or 1.0
        rows = [["step", "teacher", "photos in", "out", "regions in", "out", "left out", "failed tries", "s", "share"]]
        for label, count in self.steps.items():
            dropped = sorted(count.dropped.items(), key=lambda entry: -entry[1])
            rows.append(
                [
                    label,
                    self.teachers.get(label, ""),
                    *map(str, (count.photos_in, count.photos_out, count.regions_in, count.regions_out)),
                    ", ".join(f"{number} {reason}" for reason, number in dropped),
                    str(count.failures),
                    f"{count.seconds:.1f}",
                    f"{count.seconds / total:.0%}",
                ]
            )
        return rows

    def rejections(self) -> list[list[str]]:
        """Rejected photographs by step and reason, the most frequent first, below their head."""
        counts = Counter((entry.step, entry.reason) for entry in self.rejected)
        return [["rejected at", "reason", "photos"], *([s, r, str(n)] for (s, r), n in counts.most_common(20))]

    def summary(self) -> str:
        """One line."""
        each = self.regions / max(1, self.samples)
        return (
            f"{self.folder}: {self.samples:,} photographs with {self.regions:,} regions ({each:.1f} each), "
            f"{len(self.rejected):,} rejected"
        )

    def __str__(self) -> str:
        parts = [self.summary(), markdown.table(self.rows())]
        parts += [markdown.table(self.rejections())] if self.rejected else []
        parts += [markdown.table([[title, "regions"], *([n, str(c)] for n, c in b)]) for title, b in self._shown()]
        return "\n\n".join(parts)

    def _shown(self) -> Iterator[tuple[str, Histogram]]:
        return ((title, bins) for title, bins in self.histograms.items() if any(count for _, count in bins))

    def page(self) -> str:
        """One HTML file that holds everything, pictures included."""
        body = [
            f"<h1>{html.escape(Path(self.folder).name)} annotated</h1>",
            f'<p class="soft">{_text(self.summary())}</p>',
        ]
        body += ["<h2>Steps</h2>", _table(self.rows())]
        body += ["<h2>Rejected</h2>", _table(self.rejections())] if self.rejected else []
        body += [f"<h2>{_text(title)}</h2>{_bars(bins)}" for title, bins in self._shown()]
        body += [f"<h2>{_text(title)}</h2>{_picture(data)}" for title, data in self.sheets.items()]
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>annotated</title><style>{STYLE}</style></head>\n<body><main>\n"
            + "\n".join(body)
            + "\n</main></body></html>\n"
        )


def write_report(folder: str | Path, out: str | Path, *, count: int = 24) -> Report:
    """Write ``report.html`` and a JPEG of each contact sheet of ``count`` pictures into ``out``; returns the report."""
    if count < 1:
        raise ValueError(f"count is {count}; ask for at least 1 picture")
    report = read_report(Path(folder), count)
    for title, data in report.sheets.items():
        write_atomic(Path(out) / f"{title}.jpg", data)
    write_atomic(Path(out) / "report.html", report.page().encode())
    return report


def read_report(folder: Path, count: int) -> Report:
    """Read what the parts say of themselves, and every record once; images only of what is drawn.

    Memory: three numbers a region. Raises ValueError when the folder holds no annotations, or none yet.
    """
    settings = read_manifest(folder)["settings"]
    parts = read_parts(folder)
    if not parts:
        raise ValueError(f"{folder} has no annotations yet: run `anygrain annotate` to its first part")
    reader = ShardReader(folder)
    sizes, words, names, scores = Counter(), Counter(), Counter(), Counter()
    places: list[_Place] = []
    regions = 0
    for number in range(len(reader)):
        sample = from_record(reader.record(number), b"")
        for place, region in enumerate(sample.regions):
            regions += 1
            names[_said(region)] += 1
            words[len(_said(region).split())] += 1
            if region.mask is not None:
                sizes[_bin(region.mask.area / (sample.size[0] * sample.size[1]), SIZES)] += 1
            if region.score is not None:
                scores[_bin(region.score, _SCORES)] += 1
                if region.mask is not None:
                    places.append(_Place(region.score, number, place))
    common = names.most_common(_NAMES)
    rest = sum(names.values()) - sum(number for _, number in common)
    histograms: dict[str, Histogram] = {
        "mask size, share of the photograph": [(_edges(SIZES, i, "%"), sizes[i]) for i in range(len(SIZES) - 1)],
        "score": [(_edges(_SCORES, i), scores[i]) for i in range(len(_SCORES) - 1)],
        "words of a caption or name": [(str(n), words[n]) for n in range(1, 1 + max(words, default=0))],
        "captions and names": [*common, *([(f"{len(names) - _NAMES} others", rest)] if rest else [])],
    }
    return Report(
        folder=str(folder),
        samples=len(reader),
        regions=regions,
        teachers=_teachers(settings["steps"]),
        steps=_sums(parts),
        rejected=tuple(entry for part in parts for entry in part.rejected),
        histograms=histograms,
        sheets=_sheets(reader, places, count),
    )


def _said(region: Region) -> str:
    return next(iter(region.captions), None) or region.category or "(nothing)"


def _bin(value: float, edges: Sequence[float]) -> int:
    """Of the bins between edges the one that holds the value; values outside go to the first or last."""
    inner = edges[1:-1]
    return sum(value >= edge for edge in inner)


def _edges(edges: Sequence[float], number: int, unit: str = "") -> str:
    scale = 100 if unit else 1
    return f"{edges[number] * scale:g} to {edges[number + 1] * scale:g} {unit}".strip()


def _teachers(steps: Sequence[dict]) -> dict[str, str]:
    """Names of teachers by label of the step, as ``labels_of`` writes labels."""
    seen: Counter[str] = Counter()
    teachers = {}
    for step in steps:
        seen[step["name"]] += 1
        label = step["name"] if seen[step["name"]] == 1 else f"{step['name']} {seen[step['name']]}"
        teachers[label] = ", ".join(step["teachers"])
    return teachers


def _sums(parts: Sequence[Part]) -> dict[str, StepCount]:
    sums: dict[str, StepCount] = {}
    for part in parts:
        for label, count in part.steps.items():
            sums.setdefault(label, StepCount()).add(count)
    return sums


def _sheets(reader: ShardReader, places: list[_Place], count: int) -> dict[str, bytes]:
    """Best, median and worst by score, at most one region a photograph on each."""
    ranked = sorted(places, reverse=True)
    middle = len(ranked) // 2
    outward = sorted(range(len(ranked)), key=lambda place: abs(place - middle))
    orders = {"best": ranked, "median": [ranked[place] for place in outward], "worst": ranked[::-1]}
    return {title: _sheet(reader, order, count) for title, order in orders.items() if order}


def _sheet(reader: ShardReader, order: Sequence[_Place], count: int) -> bytes:
    chosen: dict[int, _Place] = {}
    for place in order:
        chosen.setdefault(place.sample, place)
        if len(chosen) == count:
            break
    pictures = []
    for place in chosen.values():
        sample = reader[place.sample]
        region = sample.regions[place.region]
        picture = drawn(sample, Triplet(sample.id, region.mask, _said(region)))
        pictures.append((picture, f"{place.score:.3f} {_said(region)}"))
    out = io.BytesIO()
    sheet(pictures).save(out, "JPEG", quality=85)
    return out.getvalue()


def _text(text: str) -> str:
    return html.escape(text)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    top = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    lines = "\n".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in body)
    return f'<div class="card plain"><table><tr>{top}</tr>\n{lines}</table></div>'


def _bars(bins: Histogram) -> str:
    most = max(count for _, count in bins)
    rows = (
        f'<div><span>{_text(name)}</span><i style="--share:{count / most:.1%}"></i><b>{count:,}</b></div>'
        for name, count in bins
    )
    return f'<div class="names">{"".join(rows)}</div>'


def _picture(data: bytes) -> str:
    return f'<img style="max-width:100%" alt="" src="data:image/jpeg;base64,{base64.b64encode(data).decode("ascii")}">'
