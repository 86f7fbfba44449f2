"""``anygrain evaluate``: how good a model is on shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from anygrain.commands.parse import parse


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Measure a model on shards: per source mIoU over categories, IoU for salient objects, number of prompts.

    Prints the table and writes report.json and report.html, a page of the worst and of random overlays. With --task
    click or granularity a model of clicks is measured instead, and only report.json is written.

    examples:
      anygrain evaluate --model nano --data shards/val --figures --out results/nano
      anygrain evaluate --task click --clicks 5 --model semantic-sam-swint --data shards/val
    """

    data: Annotated[Path, arg(metavar="DIR")]
    """Shards, a folder a source."""
    model: Annotated[str, arg(metavar="NAME|FOLDER|ORG/REPO")] = "nano"
    """The shipped model's name, a model folder, or a model on the Hugging Face Hub."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("out/evaluation")
    """Folder of the report."""
    limit: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Photos of each source, evenly spaced; by default all."""
    overlays: int = 12
    """How many of the worst and of the random answers of each source the page shows."""
    task: Literal["text", "click", "granularity"] = "text"
    """What is asked: texts; one click in the middle of each mask; or all granularities of a click at once."""
    clicks: Annotated[int, arg(metavar="N")] = 1
    """With --task click: how many simulated clicks on each mask, every further one on the largest mistake."""
    figures: bool = False
    """Also measure the table of target figures: referring, video, human phrases, paraphrases, unseen words and more."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""


def evaluate(arguments: Sequence[str]) -> int:
    """``anygrain evaluate``."""
    options = parse(EvaluateOptions, "evaluate", arguments)
    if options.task != "text":
        return _evaluate_clicks(options, options.task)
    from anygrain.eval import runner

    report = runner.evaluate(
        options.model,
        options.data,
        out=options.out,
        limit=options.limit,
        overlays=options.overlays,
        device=options.device,
        figures=options.figures,
    )
    print(report)
    print(f"-> {options.out / 'report.json'}, {options.out / 'report.html'}")
    return 0


def _evaluate_clicks(options: EvaluateOptions, task: Literal["click", "granularity"]) -> int:
    from anygrain.eval.clicks import evaluate_clicks
    from anygrain.hub import load

    if options.figures:
        raise ValueError(f"--figures are of texts: leave them out with --task {task}")
    segmenter = load(options.model, device=options.device)
    report = evaluate_clicks(segmenter, options.data, task, limit=options.limit, clicks=options.clicks)
    report.write(options.out)
    print(report)
    print(f"-> {options.out / 'report.json'}")
    return 0
