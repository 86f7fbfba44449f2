"""``anygrain experiment``: train, measure and tabulate what the paper compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from anygrain.commands.parse import parse


@dataclass(frozen=True, kw_only=True)
class ExperimentOptions:
    """Train every row of one of the paper's comparisons at equal cost, measure it, and print one table.

    fig5: pseudo-labels not at all, mixed with the true ones, or first. fig6: a model for each task against one for all.
    table8: pre-fusion, vision path and language path on and off. Each row and seed has its folder below --out, beside
    table.md and table.json. Ctrl-C stops; the same command goes on, and repeats nothing that is finished.

    example:
      anygrain experiment fig5 --data shards/train --val shards/val --out runs/fig5 --seeds 0 1 2
    """

    name: Annotated[Positional[str], arg(metavar="fig5|fig6|table8")]
    """What is compared."""
    data: Annotated[Path, arg(metavar="DIR")]
    """Shards to train on, a folder a source."""
    val: Annotated[Path, arg(metavar="DIR")]
    """Shards to measure on."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The folder of the runs and the table."""
    scale: Annotated[str, arg(metavar="nano|base")] = "nano"
    """nano is the shipped model's network, base the paper's (for accelerators)."""
    steps: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Steps of each row, both stages together; by default 300 for nano, and for base as many as its recipe has."""
    seeds: Annotated[tuple[int, ...], arg(metavar="N [N ...]")] = (0, 1)
    """Each row is trained once for each."""
    val_photos: Annotated[int, arg(metavar="N")] = 20
    """Photos of each source that are measured, evenly spaced."""
    pseudo: Annotated[tuple[str, ...], arg(metavar="SOURCE [SOURCE ...]")] = ("pseudo_voc",)
    """Sources whose labels a machine has made."""


def experiment(arguments: Sequence[str]) -> int:
    """``anygrain experiment``."""
    options = parse(ExperimentOptions, "experiment", arguments)
    from anygrain.experiments import runner

    table, stopped = runner.run(runner.Experiment(**vars(options)))
    print(table)
    if stopped is not None:
        print(f"\n{stopped}; the same command goes on from there")
        return 130
    print(f"-> {options.out / 'table.md'}, {options.out / 'table.json'}")
    return 0
