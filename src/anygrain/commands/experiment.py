"""``anygrain experiment``: train, measure and tabulate what the paper compares."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional, arg

from anygrain.commands.parse import MARKERS

if TYPE_CHECKING:
    from anygrain.train.trainer import TrainConfig


@dataclass(frozen=True, kw_only=True)
class ExperimentOptions:
    """Train every row of one of the paper's comparisons at equal cost, measure it, and print one table.

    fig5: pseudo-labels not at all, mixed with the true ones, or first. fig6: a model for each task against one for all.
    table8: pre-fusion, vision path and language path on and off. Each row and seed has its folder below --out, beside
    table.md and table.json. Ctrl-C stops; the same command goes on, and repeats nothing that is finished.
    Fields of the recipe's configuration are options too, as in `anygrain train`: --batch.size 256, --optim.lr 1e-4.

    examples:
      anygrain experiment fig5 --data shards/train --val shards/val --out runs/fig5 --seeds 0 1 2
      anygrain experiment fig5 --data shards/train --val shards/val --out runs/mine --pseudo shards/mine --init nano
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
    """Sources whose labels a machine has made, or folders of shards, e.g. from `anygrain annotate`: then nothing else
    is pseudo-labelled."""
    only: Annotated[tuple[str, ...], arg(metavar="ROW [ROW ...]")] = ()
    """Rows that are run; by default all of the table."""
    init: Annotated[str | None, arg(metavar="MODEL", help_behavior_hint="")] = None
    """Start every row from the weights of this model instead of the recipe's own."""


def experiment(arguments: Sequence[str]) -> int:
    """``anygrain experiment``."""
    options, fields = tyro.cli(
        ExperimentOptions,
        prog="anygrain experiment",
        description=inspect.cleandoc(ExperimentOptions.__doc__ or ""),
        args=list(arguments),
        return_unknown_args=True,
        config=MARKERS,
    )
    from anygrain.experiments import runner

    def change(config: TrainConfig) -> TrainConfig:
        prog = f"anygrain experiment {options.name} ..."
        return tyro.cli(type(config), prog=prog, default=config, args=fields, config=MARKERS)

    table, stopped = runner.run(runner.Experiment(**vars(options), change=change))
    print(table)
    if stopped is not None:
        print(f"\n{stopped}; the same command goes on from there")
        return 130
    print(f"-> {options.out / 'table.md'}, {options.out / 'table.json'}")
    return 0
