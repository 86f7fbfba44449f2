"""``anygrain calibrate-levels`` and ``calibrate-presence``: what a retrained model's outputs mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from anygrain.commands.parse import parse

if TYPE_CHECKING:
    from anygrain.calibrate import Evidence


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

    _check_writable(options.model, options.write)
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


@dataclass(frozen=True, kw_only=True)
class PresenceOptions:
    """Find how sure a PSALM must be of a phrase for it to mean something in the photo, from labelled phrases.

    A released PSALM always answers. This fits its score, so that a phrase with a score of 0.7 means something in 70 %
    of such cases, and what scores below 0.5 is answered "not there". Labelled phrases come from shards, or from a
    public data set in its official form, such as gRefCOCO. Prints how often what is there and what is not is told so,
    before and after, on the same phrases; with --write the fit goes into the model's config.json.

    examples:
      anygrain calibrate-presence --model models/psalm --dataset grefcoco --root refer/data --limit 500 --write
      anygrain calibrate-presence --model runs/mine/model --data shards/val
    """

    model: Annotated[str, arg(metavar="FOLDER")]
    """A model folder (any model that reads phrases without --write)."""
    data: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Shards, or a folder of shards a source."""
    dataset: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """A public data set that says what is not there: grefcoco."""
    root: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """The folder of the data set, as it is unpacked."""
    split: Annotated[str, arg(metavar="NAME")] = "val"
    """Of the data set. Figures on the same split flatter: calibrate on one, measure on another."""
    limit: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Photos of each source, evenly spaced, or the first of a data set; by default all."""
    write: bool = False
    """Put the fit into the model's config.json."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""


def calibrate_presence(arguments: Sequence[str]) -> int:
    """``anygrain calibrate-presence``."""
    options = parse(PresenceOptions, "calibrate-presence", arguments)
    if (options.data is None) == (options.dataset is None):
        raise ValueError("give either --data DIR (shards) or --dataset NAME --root DIR (a public data set)")
    if options.dataset is not None and options.root is None:
        raise ValueError(f"--dataset {options.dataset} needs --root DIR, the folder of the data set")
    _check_writable(options.model, options.write)
    from anygrain import calibrate, hub
    from anygrain.markdown import table

    segmenter = hub.load(options.model, device=options.device)
    evidence = calibrate.presence_evidence(segmenter, _labelled(options))
    slope, offset = calibrate.fit_presence(evidence)
    config = segmenter.model.config
    before = (getattr(config, "presence_slope", 1.0), getattr(config, "presence_offset", 0.0))
    head = ["", "slope", "offset", "told there, of what is", "told absent, of what is not", "calibration error"]
    rows = [
        [name, f"{pair[0]:.4g}", f"{pair[1]:.4g}", *_shares(evidence, pair)]
        for name, pair in (("before", before), ("fitted", (slope, offset)))
    ]
    there = int(evidence.there.sum())
    print(f"{len(evidence.there)} phrases, {there} of them mean something in their photo\n")
    print(table([head, *rows]))
    if options.write:
        calibrate.write_presence(Path(options.model), slope, offset)
        print(f"-> {Path(options.model) / 'config.json'}")
    return 0


def _labelled(options: PresenceOptions) -> Iterator[tuple[Any, list[tuple[str, bool]]]]:
    """Photos with their phrases: captions of regions, and what is known to be absent."""
    from itertools import islice

    from anygrain.data.datasets import read_dataset
    from anygrain.data.labels import open_photo
    from anygrain.data.shards import ShardReader
    from anygrain.eval.tasks import questions, spread
    from anygrain.recipes.sources import find_sources

    if options.data is not None:
        readers = [ShardReader(folder) for folder in find_sources(options.data)]
        samples = (reader[number] for reader in readers for number in spread(len(reader), options.limit))
    else:
        samples = islice(read_dataset(options.dataset or "", options.root or "", options.split), options.limit)
    for sample in samples:
        asked = [one for one in questions(sample) if one.kind != "salient"]
        yield open_photo(sample), [(one.text, one.kind != "absent") for one in asked]


def _shares(evidence: Evidence, pair: tuple[float, float]) -> list[str]:
    """Shares of phrases that are told right, of both kinds, and the calibration error."""
    from anygrain.eval.reliability import Reliability

    scores, bins = evidence.scores(*pair), Reliability()
    for score, there in zip(scores.tolist(), evidence.there.tolist(), strict=True):
        bins.update(score, there=there)
    told = scores >= 0.5
    shares = (told[evidence.there].mean(), 1 - told[~evidence.there].mean(), bins.error())
    return [f"{share:.3f}" for share in shares]


def _check_writable(model: str, write: bool) -> None:
    if write and not Path(model).is_dir():
        raise ValueError(f"--write changes a model folder, and {model} is none: convert or copy it first")
