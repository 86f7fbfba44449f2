"""``anygrain evaluate``: how good a model is on shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from anygrain.commands.parse import parse


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Measure a model on shards: per source mIoU over categories, IoU for salient objects, number of prompts.

    Prints the table and writes report.json and report.html, a page of the worst and of random overlays.

    example:
      anygrain evaluate --model nano --data shards/val --figures --out results/nano
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
    figures: bool = False
    """Also measure the table of target figures: referring, video, human phrases, paraphrases, unseen words and more."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""


def evaluate(arguments: Sequence[str]) -> int:
    """``anygrain evaluate``."""
    options = parse(EvaluateOptions, "evaluate", arguments)
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
