"""``anygrain data build|convert|verify|ledger|show``: shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from anygrain.commands.parse import Many, parse


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Turn downloaded data sets into shards: OUT/SPLIT/SOURCE/000000.tar, each with an index beside it.

    examples:
      anygrain data build downloads shards --split train
      anygrain data build downloads shards --split val --source coco --source camvid
    """

    root: Annotated[Positional[Path], arg(metavar="ROOT")]
    """The folder that holds the data sets."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder of the shards."""
    split: Literal["train", "val"] = "train"
    """Which part."""
    source: Annotated[Many, arg(metavar="NAME")] = ()
    """A data set to take, once for each; by default all."""


def build_shards(arguments: Sequence[str]) -> int:
    """``anygrain data build``."""
    options = parse(BuildOptions, "data build", arguments)
    from anygrain.data.commands import build

    counts = build(options.root, options.out / options.split, options.split, options.source or None)
    for name, count in counts.items():
        print(f"{name}: {count} samples -> {options.out / options.split / name}")
    return 0


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Turn a public data set in its official form into shards: OUT/SPLIT/NAME/000000.tar, each with an index beside it.

    Every shard is checked at the end, and only then takes its place. A conversion that was interrupted goes on where
    it stopped when the same command is given again. docs/datasets.md says which names there are, and for each where to
    get it, how its folder looks, and its licence.

    examples:
      anygrain data convert refcoco refer/data shards --split testA
      anygrain data convert ade20k_150 downloads shards --split val
    """

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """The data set, for instance refcoco, refcocog_umd, ade20k_150, davis2017."""
    root: Annotated[Positional[Path], arg(metavar="ROOT")]
    """Its folder, as it is unpacked."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder of the shards."""
    split: str = "train"
    """Which part, as the data set calls it: train, val, testA ..."""
    limit: int | None = None
    """Take only the first samples."""


def convert_dataset(arguments: Sequence[str]) -> int:
    """``anygrain data convert``."""
    options = parse(ConvertOptions, "data convert", arguments)
    from anygrain.data.convert import convert

    out = options.out / options.split / options.name
    done = convert(options.name, options.root, out, options.split, limit=options.limit)
    earlier = f" ({done.resumed} of them before)" if done.resumed else ""
    print(f"{options.name} {options.split}: {done.samples} samples{earlier}, {done.regions} regions, checked -> {out}")
    return 0


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Check shards: index, checksums, images, masks and ids. Prints one sentence a problem.

    Exit status: 0 whole; 1 problems were found; 2 there are no shards.

    example:
      anygrain data verify shards/train
    """

    folder: Annotated[Positional[Path], arg(metavar="DIR")]
    """A folder with shards in it, at any depth."""


def verify_shards(arguments: Sequence[str]) -> int:
    """``anygrain data verify``."""
    options = parse(VerifyOptions, "data verify", arguments)
    from anygrain.data.commands import verify

    problems = verify(options.folder)
    print("\n".join(problems) or f"{options.folder}: whole")
    return 1 if problems else 0


@dataclass(frozen=True, kw_only=True)
class LedgerOptions:
    """Record in a model folder which images the model was trained on, so that evaluations can tell what it has seen.

    Hashes of the image files and of their public names are added to MODEL/trained_on.npy.

    example:
      anygrain data ledger runs/mine/model --shards shards/train --shards shards/pretrain
    """

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """The model folder."""
    shards: Annotated[Many, arg(metavar="DIR")] = ()
    """A folder with shards in it, at any depth, once for each."""


def ledger(arguments: Sequence[str]) -> int:
    """``anygrain data ledger``."""
    options = parse(LedgerOptions, "data ledger", arguments)
    if not options.shards:
        raise ValueError("name the shards that the model was trained on: --shards DIR, once for each folder")
    from anygrain.data.ledger import NAME, add_to_ledger

    added, total = add_to_ledger(options.shards, options.model)
    print(f"{added} hashes of files and names added, {total} in all -> {options.model / NAME}")
    return 0


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """Draw random samples of shards, each with one of its masks and what is said of it.

    examples:
      anygrain data show shards/train/coco sheet.html
      anygrain data show shards/train/coco sheet.png --count 24 --seed 7
    """

    folder: Annotated[Positional[Path], arg(metavar="DIR")]
    """A folder with shards in it."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The page (.html) or picture (.png, .jpg, ...) to write."""
    count: int = 48
    """How many samples."""
    seed: int = 0
    """The same seed gives the same sheet."""


def show_shards(arguments: Sequence[str]) -> int:
    """``anygrain data show``."""
    options = parse(ShowOptions, "data show", arguments)
    from anygrain.data.commands import show

    print(f"{show(options.folder, options.out, options.count, options.seed)} triplets -> {options.out}")
    return 0
