"""``anygrain annotate``: photographs in, triplets out; ``annotate report`` and ``annotate check`` look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from anygrain.commands.parse import Many, parse

if TYPE_CHECKING:
    from anygrain.annotate.executors import Executor


@dataclass(frozen=True, kw_only=True)
class AnnotateOptions:
    """Turn photographs with nothing, with boxes or with masks into shards to train on.

    Work is committed part by part: a run that was stopped, by whatever, goes on with the same command, photographs that
    are there already are passed over, and new ones are added. OUT/rejected.jsonl says which could not be done and why.
    `anygrain annotate report OUT` shows the result, `anygrain annotate check OUT --truth SHARDS` measures it.

    Exit status: 0 all done; 1 some photographs were rejected; 2 it could not be done; 130 interrupted.

    examples:
      anygrain annotate photos/ --out shards/mine
      anygrain annotate photos/ --out shards/mine --dry-run
      anygrain annotate instances.json --images photos/ --out shards/boxes --route boxes --teachers paper
      anygrain annotate shards/val/coco --out relabelled --route masks --workers 2
      anygrain annotate photos/ --out shards/mine --executor ray --workers 8 --share refer+rank:gpus=0.5,actors=2
    """

    photos: Annotated[Positional[Path], arg(metavar="PHOTOS|SHARDS|COCO.json")]
    """A folder of photographs at any depth, shards, or a COCO JSON with boxes or masks."""
    out: Annotated[Path, arg(metavar="OUT")]
    """The folder of the new shards; name the same again to go on or to add to it."""
    route: Literal["none", "boxes", "masks"] = "none"
    """What is known beforehand: boxes with names, masks, or nothing (and nothing that is annotated is looked at)."""
    teachers: Literal["small", "paper"] = "small"
    """small works on a fresh machine without network; paper loads the paper's, gigabytes of them."""
    proposer: Annotated[str | None, arg(metavar="MODEL", help_behavior_hint="")] = None
    """One of our Semantic-SAM models, which then makes the masks: of boxes, or of a grid of clicks where there are
    none."""
    images: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Where the images of a COCO JSON are; by default a folder `images` beside it, or its own folder."""
    limit: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Take only the first N photographs."""
    dry_run: bool = False
    """Say what would be loaded and, from a sample, how long all would take; write nothing."""
    sample: Annotated[int, arg(metavar="N")] = 20
    """Photographs of a dry run; 0 only lists what would be loaded, and loads nothing."""
    retry_rejected: bool = False
    """Try those again that an earlier run rejected."""
    workers: Annotated[int, arg(metavar="N")] = 1
    """How many parts are worked on at once; each worker loads the teachers for itself."""
    executor: Literal["auto", "here", "processes", "ray"] = "auto"
    """Where: in this process, in local processes, or on Ray; auto is here for one worker, else processes."""
    address: Annotated[str | None, arg(metavar="ADDRESS", help_behavior_hint="")] = None
    """Of a Ray cluster (auto: the one this machine belongs to); by default one is started here."""
    cpus: Annotated[float, arg(metavar="N")] = 1
    """Cores that Ray reserves for each worker."""
    gpus: Annotated[float, arg(metavar="N")] = 0
    """Accelerators that Ray reserves for each worker; 0.25 lets four share one."""
    memory: Annotated[float, arg(metavar="GIB")] = 0
    """Memory that Ray reserves for each worker, so that it puts no more on a machine than fit."""
    share: Annotated[Many, arg(metavar="STEP+STEP:NEEDS", help_behavior_hint="")] = ()
    """Actors of their own for some steps, which all workers share, e.g. refer+rank:cpus=1,gpus=0.5,actors=2 (repeat
    for others); memory=4 reserves 4 GiB for each."""
    device: str = "auto"
    """Of the teachers: auto, cpu, cuda, cuda:1 or mps; with Ray, cuda where --gpus is given, else cpu."""
    part: Annotated[int, arg(metavar="N")] = 64
    """Photographs that are committed together."""
    batch: Annotated[int, arg(metavar="N")] = 8
    """Photographs that a step gets at once, at most."""
    batch_pixels: Annotated[int, arg(metavar="N")] = 16_000_000
    """And their pixels together, at most: this bounds the memory of a worker."""
    tries: Annotated[int, arg(metavar="N")] = 3
    """How often a photograph is tried before it is rejected."""


def annotate(arguments: Sequence[str]) -> int:
    """``anygrain annotate``."""
    options = parse(AnnotateOptions, "annotate", arguments)
    _check_folders(options.photos, options.out)
    from anygrain.annotate import plan
    from anygrain.annotate.engine import EngineConfig, annotate
    from anygrain.annotate.photos import open_photos
    from anygrain.annotate.routes import route

    steps = route(options.route, options.teachers, proposer=options.proposer)
    config = EngineConfig(
        part=options.part,
        batch=options.batch,
        batch_pixels=options.batch_pixels,
        tries=options.tries,
        device=_device(options),
        limit=options.limit,
        retry_rejected=options.retry_rejected,
    )
    executor = _executor(options)
    photos = open_photos(options.photos, images=options.images, known=options.route != "none")
    if options.dry_run:
        print(plan.contents(photos, options.out, steps), flush=True)
        if options.sample > 0:
            print(f"\n{plan.estimate(photos, steps, config, sample=options.sample, workers=options.workers)}")
        return 0
    summary = annotate(photos, options.out, steps, config=config, executor=executor, progress=True)
    print(f"{summary} -> {options.out}")
    return 1 if summary.rejected else 0


def _check_folders(photos: Path, out: Path) -> None:
    """Results among the photographs would be taken for photographs or shards by the next run."""
    if photos.resolve() in (out.resolve(), *out.resolve().parents):
        raise ValueError(f"{out} lies inside {photos}: name an OUT elsewhere")


def _device(options: AnnotateOptions) -> str:
    from anygrain.hub import pick_device

    if options.executor == "ray" and options.device == "auto":  # this machine need not be like the workers'
        return "cuda" if options.gpus else "cpu"
    return pick_device(options.device)


def _executor(options: AnnotateOptions) -> Executor:
    from anygrain.annotate.executors import InProcess, Processes

    if options.executor == "ray":
        from anygrain.annotate.ray_executor import RayActors
        from anygrain.annotate.ray_steps import Needs, Share

        needs = Needs(cpus=options.cpus, gpus=options.gpus, memory=round(options.memory * 2**30))
        shares = [Share.parse(text) for text in options.share]
        return RayActors(options.workers, address=options.address, needs=needs, shares=shares)
    if options.address is not None or options.gpus or options.memory or options.share:
        raise ValueError("--address, --gpus, --memory and --share are for --executor ray: add it, or leave them out")
    if options.executor == "here" and options.workers != 1:
        raise ValueError(f"--executor here is one worker, not {options.workers}: leave one of the two options out")
    return Processes(options.workers) if options.executor == "processes" or options.workers != 1 else InProcess()


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Show what annotating has made: steps, drops, histograms, and the best, the median and the worst for eyes.

    Prints the table of steps and writes a page with everything, and a picture of each contact sheet beside it.

    example:
      anygrain annotate report shards/mine
    """

    folder: Annotated[Positional[Path], arg(metavar="OUT")]
    """The OUT of an `anygrain annotate`."""
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of report.html and the pictures; by default OUT/report."""
    count: Annotated[int, arg(metavar="N")] = 24
    """Pictures on each contact sheet."""


def report(arguments: Sequence[str]) -> int:
    """``anygrain annotate report``."""
    options = parse(ReportOptions, "annotate report", arguments)
    from anygrain.annotate.report import write_report

    out = options.out or options.folder / "report"
    print(write_report(options.folder, out, count=options.count))
    print(f"\n-> {out / 'report.html'}")
    return 0


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """Compare annotations with true ones: precision of pairs and recall by category, along a threshold on the score.

    A pair of a mask and a name is right when a true mask of that name overlaps it with an IoU of at least 0.5.
    Photographs are matched by id, or by the name of their file.

    example:
      anygrain annotate check shards/mine --truth shards/val/coco --picture curve.png
    """

    folder: Annotated[Positional[Path], arg(metavar="OUT")]
    """The OUT of an `anygrain annotate`."""
    truth: Annotated[Path, arg(metavar="SHARDS")]
    """Shards with masks and categories of the same photographs."""
    picture: Annotated[Path | None, arg(metavar="FILE.png", help_behavior_hint="")] = None
    """Also draw precision and recall over the threshold (extra: pip install 'anygrain[train]')."""


def check(arguments: Sequence[str]) -> int:
    """``anygrain annotate check``."""
    options = parse(CheckOptions, "annotate check", arguments)
    from anygrain.annotate.check import check

    result = check(options.folder, options.truth)
    print(result)
    if options.picture is not None:
        result.draw(options.picture)
        print(f"-> {options.picture}")
    return 0
