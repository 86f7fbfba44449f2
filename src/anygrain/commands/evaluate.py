"""``anygrain evaluate``: how good a model is on shards, or by a benchmark of the field."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from anygrain.commands.parse import parse


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Measure a model, on shards or by a benchmark of the field.

    With --data: per source mIoU over categories, IoU for salient objects, number of prompts. Prints the table and
    writes report.json and report.html, a page of the worst and of random overlays.

    With --task and --root: a public data set in its official form, by the accepted protocol. Prints the figures and
    writes report.md, report.json, report.html and predictions.jsonl. docs/benchmarks.md says which tasks there are.
    --task all runs every one whose data lie below --root and names the others.

    With --data and --task click or granularity: a model of clicks on shards, by a click in the middle of every mask.
    Prints the table and writes report.json.

    examples:
      anygrain evaluate --model nano --data shards/val --figures --out results/nano
      anygrain evaluate --task refcoco --split testA --root refer/data --out results/refcoco
      anygrain evaluate --task all --root datasets --out results --resume
      anygrain evaluate --task click --clicks 5 --model semantic-sam-swint --data shards/val
    """

    data: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Shards, a folder a source."""
    task: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """A benchmark, for instance refcoco, grefcoco, duts, ade20k_150, or all; or click, granularity on shards."""
    root: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """The folder of the benchmark's data set, as it is unpacked."""
    split: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Of the benchmark; by default the one that papers report."""
    threshold: Annotated[float | None, arg(metavar="P", help_behavior_hint="")] = None
    """Of a benchmark or task: probability above which a pixel is inside; by default the model's own."""
    clicks: Annotated[int, arg(metavar="N")] = 1
    """Of tasks of clicks: how many simulated clicks on each mask, every further one on the largest mistake."""
    model: Annotated[str, arg(metavar="NAME|FOLDER|ORG/REPO")] = "nano"
    """The shipped model's name, a model folder, or a model on the Hugging Face Hub."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("out/evaluation")
    """Folder of the report."""
    limit: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Photos of each source, evenly spaced, or the first of a benchmark; by default all."""
    overlays: int = 12
    """How many of the worst and of the random answers of each source the page shows."""
    strict: bool = False
    """Refuse a benchmark when the model was trained on one of its images, or when that is not known."""
    resume: bool = False
    """Go on with an interrupted benchmark in the same --out: what it answered is not asked again."""
    figures: bool = False
    """Also measure the table of target figures: referring, video, human phrases, paraphrases, unseen words and more."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""


def evaluate(arguments: Sequence[str]) -> int:
    """``anygrain evaluate``."""
    options = parse(EvaluateOptions, "evaluate", arguments)
    if options.resume and options.root is None:
        raise ValueError("--resume belongs to --task with --root; an evaluation on shards starts anew")
    if options.task == "click" or options.task == "granularity":
        return _clicks(options, options.task)
    if (options.data is None) == (options.task is None):
        raise ValueError("give either --data DIR (shards) or --task NAME --root DIR (a benchmark)")
    if options.task is not None:
        return _benchmark(options, options.task)
    from anygrain.eval import runner

    assert options.data is not None

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


def _benchmark(options: EvaluateOptions, task: str) -> int:
    if options.root is None:
        raise ValueError(f"--task {task} needs --root DIR, the folder of its data set; see docs/datasets.md")
    if options.figures:
        raise ValueError("--figures belongs to --data; a task has its own figures")
    if task == "all" and options.split is not None:
        raise ValueError("--split belongs to one task; --task all takes the splits that papers report")
    settings: dict[str, Any] = {
        "limit": options.limit,
        "device": options.device,
        "threshold": options.threshold,
        "strict": options.strict,
        "resume": options.resume,
        "overlays": options.overlays,
        "clicks": options.clicks,
    }
    first = int(os.environ.get("RANK", 0)) == 0
    if task == "all":
        from anygrain.eval.every import run_all

        summary = run_all(options.model, options.root, options.out, say=print if first else None, **settings)
        if first:
            print(summary)
            print(f"-> {options.out / 'summary.md'}, {options.out / 'summary.json'}")
        return 0
    from anygrain.eval.benchmark import run_benchmark

    report = run_benchmark(options.model, task, options.root, options.split, out=options.out, **settings)
    if first:
        print(report)
        print(f"-> {options.out / 'report.md'}, {options.out / 'report.json'}, {options.out / 'report.html'}")
    return 0


def _clicks(options: EvaluateOptions, task: Literal["click", "granularity"]) -> int:
    if options.data is None:
        raise ValueError(f"--task {task} needs --data DIR, the folder of its shards")
    if options.figures:
        raise ValueError(f"--figures are of texts: leave them out with --task {task}")
    if options.resume:
        raise ValueError(f"--resume belongs to benchmarks; --task {task} is repeated")
    from anygrain.eval.click_tasks import evaluate_clicks
    from anygrain.hub import load

    segmenter = load(options.model, device=options.device, threshold=options.threshold)
    report = evaluate_clicks(segmenter, options.data, task, limit=options.limit, clicks=options.clicks)
    report.write(options.out)
    print(report)
    print(f"-> {options.out / 'report.json'}")
    return 0
