"""``anygrain calibrate-levels``: the order of a model's masks from large to small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from anygrain.commands.parse import parse


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """Find which of the six masks of a click is level 1 (large) to 6 (small), by their mean area on photos.

    The order emerges when a Semantic-SAM is trained, so a retrained model needs this once. Prints the areas and the
    order; with --write it goes into the model's config.json.

    example:
      anygrain calibrate-levels --model runs/mine/model --data shards/val --limit 50 --write
    """

    model: Annotated[str, arg(metavar="FOLDER")]
    """A model folder (any model without --write)."""
    data: Annotated[Path, arg(metavar="DIR")]
    """Shards, or a folder of shards a source; only the photos are used."""
    limit: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Photos of each source, evenly spaced; by default all."""
    points_per_side: int = 4
    """Clicks along each side of every photo."""
    write: bool = False
    """Put the order into the model's config.json."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""


def calibrate_levels(arguments: Sequence[str]) -> int:
    """``anygrain calibrate-levels``."""
    options = parse(CalibrateOptions, "calibrate-levels", arguments)
    from anygrain import calibrate, hub
    from anygrain.data.shards import ShardReader
    from anygrain.eval.tasks import spread
    from anygrain.markdown import table
    from anygrain.recipes.sources import find_sources

    if options.write and not Path(options.model).is_dir():
        raise ValueError(f"--write changes a model folder, and {options.model} is none: convert or copy it first")
    folders = find_sources(options.data)
    segmenter = hub.load(options.model, device=options.device)
    readers = [ShardReader(folder) for folder in folders]
    photos = (reader[number].image for reader in readers for number in spread(len(reader), options.limit))
    areas = calibrate.mean_areas(segmenter, photos, points_per_side=options.points_per_side)
    levels = calibrate.levels_by_area(areas)
    rows = [[str(level), str(token), f"{areas[token]:.2%}"] for level, token in enumerate(levels, 1)]
    print(table([["level", "token", "mean area"], *rows]))
    if options.write:
        calibrate.write_levels(Path(options.model), levels)
        print(f"-> {Path(options.model) / 'config.json'}")
    return 0
