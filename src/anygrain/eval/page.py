"""``report.html``: one file that holds everything, pictures included, and needs no script."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from anygrain.draw import PALETTE
from anygrain.eval.chart import reliability_chart
from anygrain.eval.figures import Figures, number
from anygrain.eval.gallery import ANSWER, TRUTH
from anygrain.eval.report import COLUMNS, LEGEND, NUMBERS, POOLED, shown

if TYPE_CHECKING:
    from anygrain.eval.gallery import Example
    from anygrain.eval.reliability import Reliability
    from anygrain.eval.report import Report, SourceReport
    from anygrain.eval.targets import Target

HEADINGS = {
    "worst": "Worst answers",
    "invented": "Not there, and yet found",
    "random": "Taken at random",
}

STYLE = """
:root{--ink:#1d2430;--soft:#667085;--line:#e4e7ec;--paper:#f6f7f9;--card:#fff;--bar:#d8e6ff;--good:#0a8f63;--bad:#c9402a}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaee;--soft:#98a2b3;--line:#333a46;--paper:#14171c;--card:#1d2128;
--bar:#27405f;--good:#3ecf99;--bad:#ff8a70}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,
"Segoe UI",Roboto,"DejaVu Sans",sans-serif}main{max-width:1240px;margin:0 auto;padding:40px 24px 80px}
h1{font-size:28px;margin:0;letter-spacing:-.02em}h2{font-size:21px;margin:56px 0 4px;letter-spacing:-.01em}
h3{font-size:14px;margin:24px 0 10px;color:var(--soft);font-weight:600}.soft{color:var(--soft);margin:2px 0}
a{color:inherit;text-decoration-color:var(--soft);text-underline-offset:3px}code{font-size:13px;overflow-wrap:anywhere}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:24px 0}.tile{background:var(--card);border:1px solid var(--line);
border-radius:12px;padding:14px 20px;min-width:150px}.tile b{display:block;font-size:27px;letter-spacing:-.02em}
.tile span{color:var(--soft);font-size:13px}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th{font-size:13px;color:var(--soft);
font-weight:600}th,td{padding:7px 14px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}tr:last-child td{border-bottom:0;font-weight:650}
td.bar{background:linear-gradient(to right,var(--bar) var(--share),transparent var(--share)) no-repeat 6px 4px/
calc(100% - 12px) calc(100% - 8px)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;font-size:13px;color:var(--soft);margin:16px 0}
dt{font-weight:600}dd{margin:0}
.names{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:2px 24px;margin:12px 0;font-size:13px}
.names div{display:grid;grid-template-columns:1fr 90px 40px;gap:8px;align-items:center}
.names i{display:block;height:8px;border-radius:4px;background:linear-gradient(to right,#5b93e8 var(--share),
var(--line) var(--share))}.names b{font-weight:500;text-align:right;font-variant-numeric:tabular-nums}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(370px,1fr));gap:14px}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:12px;overflow:hidden}
figure img{display:block;width:100%;height:210px;object-fit:contain;background:#101216}
figcaption{padding:8px 12px 10px;display:grid;grid-template-columns:1fr auto;gap:0 12px;font-size:14px}
figcaption small{color:var(--soft);font-size:12px;overflow-wrap:anywhere}figcaption b{font-variant-numeric:tabular-nums}
figcaption>:nth-child(even){text-align:right}
.below{color:var(--bad)}.chart{font-size:11px;fill:var(--soft);max-width:100%}
.chart .frame{fill:none;stroke:var(--line)}.chart .curve{fill:none;stroke:#5b93e8;stroke-width:2}
.chart circle{fill:#5b93e8}.plain tr:last-child td{font-weight:400}
.good{color:var(--good)}.bad{color:var(--bad)}.key{display:inline-block;width:11px;height:11px;border-radius:3px;
margin:0 5px 0 12px;vertical-align:-1px}
"""


def page(report: Report) -> str:
    """The whole page."""
    title = f"{report.model['name']} evaluated"
    body = [
        f"<h1>{escaped(title)}</h1>",
        f'<p class="soft">{escaped(report.summary())}, {escaped(report.started[:10])}</p>',
        _tiles(report),
        _table(report),
        _definitions(report),
        *([_figures(report.figures)] if report.figures is not None else []),
        _reliability(report.reliability),
        colours(),
        *(_source(name, source) for name, source in report.sources.items()),
    ]
    return document(title, body)


def document(title: str, body: Sequence[str]) -> str:
    """A page of its own: title and parts of the body."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def colours() -> str:
    """What the colours of the pictures mean."""
    return (
        f'<p class="soft">Pictures: on the left the truth{_key(TRUTH)}, on the right the answer{_key(ANSWER)}; '
        "grey places are unknown and not counted.</p>"
    )


def _key(row: int) -> str:
    """A spot of the colour that a row of the palette has."""
    return f'<span class="key" style="background:rgb{PALETTE[row]}"></span>'


def _tiles(report: Report) -> str:
    """The figures that matter most, large."""
    figures = report.total
    names = {
        "category_miou": "mIoU over categories",
        "salient_iou": "IoU of the salient object",
        "phrase_iou": "IoU of phrases",
        "absent_called_absent": "of absent things refused",
        "present_called_absent": "of present things missed",
    }
    tiles = (
        f'<div class="tile"><b>{shown(figures, name)}</b><span>{label}</span></div>'
        for name, label in names.items()
        if name in figures
    )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _table(report: Report) -> str:
    head = "".join(f"<th>{escaped(label)}</th>" for label in ("source", *COLUMNS.values()))
    rows = (
        f"<tr><td>{_link(name, name in report.sources)}</td>{''.join(_cell(figures, c) for c in COLUMNS)}</tr>"
        for name, figures in report.rows()
    )
    return f'<div class="card"><table><tr>{head}</tr>\n' + "\n".join(rows) + "</table></div>"


def _cell(figures: Mapping[str, float], column: str) -> str:
    """An IoU has a bar behind it."""
    if column in figures and column not in NUMBERS and column not in POOLED:
        return f'<td class="bar" style="--share:{figures[column]:.1%}">{shown(figures, column)}</td>'
    return f"<td>{shown(figures, column)}</td>"


def _definitions(report: Report) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in report.settings.items())
    entries = {**LEGEND, "settings": settings.replace("_", " "), "command": report.command}
    return f"<dl>{''.join(f'<dt>{escaped(name)}</dt><dd>{escaped(text)}</dd>' for name, text in entries.items())}</dl>"


def _figures(figures: Figures) -> str:
    """The table of targets, and each pair of an unseen word and the name that training says."""
    rows = "".join(_target(target, measured) for target, measured in figures.rows())
    parts = [
        "<h2>Figures</h2>",
        '<div class="card plain"><table><tr><th>figure</th><th>measured</th><th>at least</th><th>aim</th></tr>',
        f"{rows}</table></div>",
    ]
    if pairs := figures.details.get("unseen"):
        lines = "".join(
            f"<tr><td>{escaped(pair)}</td><td>{iou['word']:.3f}</td><td>{iou['name']:.3f}</td></tr>"
            for pair, iou in pairs.items()
        )
        head = "<tr><th>word never trained on</th><th>IoU</th><th>IoU of the known name</th></tr>"
        parts += ["<h3>Unseen words</h3>", f'<div class="card plain"><table>{head}{lines}</table></div>']
    return "\n".join(parts)


def _target(target: Target, measured: float | None) -> str:
    """A value below what is asked at least is red, one that reaches the aim green."""
    kind = ""
    if measured is not None and target.at_least is not None and not target.met(measured, target.at_least):
        kind = ' class="below"'
    elif measured is not None and target.aim is not None and target.met(measured, target.aim):
        kind = ' class="good"'
    wanted = "".join(f"<td>{number(value, target)}</td>" for value in (target.at_least, target.aim))
    return f"<tr><td>{escaped(target.figure)}</td><td{kind}>{number(measured, target)}</td>{wanted}</tr>"


def _reliability(reliability: Reliability) -> str:
    error = reliability.error()
    if error is None:
        return ""
    note = (
        "Of all prompts with about this presence score, the share truly about something in the photo. "
        f"Expected calibration error {error:.3f}."
    )
    return f'<h2>Presence scores</h2><p class="soft">{note}</p>{reliability_chart(reliability.curve())}'


def _source(name: str, source: SourceReport) -> str:
    figures = source.figures
    asked = f"{figures['photos']:,.0f} photos, {figures['prompts']:,.0f} prompts"
    asked += f" and {figures['absent_prompts']:,.0f} about something absent"
    parts = [f'<h2 id="{escaped(name)}">{escaped(name)}</h2><p class="soft">{asked}</p>']
    if source.categories:
        parts.append(_categories(source.categories))
    parts += [pictures(HEADINGS[which], examples) for which, examples in source.examples.items() if examples]
    return "\n".join(parts)


def _categories(categories: Mapping[str, Mapping[str, float]]) -> str:
    """Each category with its IoU as a bar, the best first."""
    ranked = sorted(categories.items(), key=lambda item: -item[1]["iou"])
    rows = (
        f'<div title="{values["photos"]} photos"><span>{escaped(name)}</span>'
        f'<i style="--share:{values["iou"]:.1%}"></i><b>{values["iou"]:.3f}</b></div>'
        for name, values in ranked
    )
    return f'<div class="names">{"".join(rows)}</div>'


def pictures(heading: str, examples: Sequence[Example]) -> str:
    """A heading and the pictures below it."""
    return f'<h3>{heading}</h3><div class="pictures">' + "\n".join(map(_figure, examples)) + "</div>"


def _figure(example: Example) -> str:
    if example.iou is None:
        verdict = '<b class="bad">absent</b>'
    else:
        verdict = f'<b class="{"good" if example.iou >= 0.5 else "bad"}">IoU {example.iou:.3f}</b>'
    answer = f"score {example.score:.2f}" if example.answered else f"no mask, score {example.score:.2f}"
    picture = base64.b64encode(example.picture).decode("ascii")
    return (
        f'<figure><img src="data:image/jpeg;base64,{picture}" alt="truth and answer">'
        f"<figcaption><span>{escaped(example.text)}</span>{verdict}"
        f"<small>{escaped(example.sample)}</small><small>{answer}</small></figcaption></figure>"
    )


def _link(name: str, there: bool) -> str:
    return f'<a href="#{escaped(name)}">{escaped(name)}</a>' if there else escaped(name)


def escaped(words: str) -> str:
    """For HTML."""
    return html.escape(words, quote=True)
