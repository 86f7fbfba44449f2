"""``anygrain segment``: photos, videos and files of requests."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from anygrain.commands.parse import Many, parse

if TYPE_CHECKING:
    from anygrain.segmenter import Segmenter
    from anygrain.types import Prompt
    from anygrain.video import FrameFolder, VideoFile


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """Find what phrases mean, or what clicks and boxes are on, in photos and videos; or divide them among categories.

    Phrases are for models of text (nano, PSALM), clicks and boxes for Semantic-SAM and PSALM, categories for PSALM. A
    click or a box gives Semantic-SAM a mask for each granularity asked for, each with the IoU that the model expects
    of it; masks that are the same are one.

    With --categories, photos also get NAME.panoptic.png and NAME.panoptic.json, in COCO's form, where masks do not
    overlap (--task panoptic or semantic).

    For each photo: NAME.overlay.png, the masks drawn on it, and NAME.json, the masks as COCO run-length code.
    For each video: NAME.overlay.mp4, and NAME.jsonl, one line a frame (extra: pip install 'anygrain[video]').
    NAME is the file's name without its ending; where several files share one, the ending and then the folder's
    name are added. A photo that cannot be read is named in an error, and the others go on.

    With --requests, one {"id", "image", "text"} a line, the results are JSON lines in the same order, and a request
    that cannot be answered gives {"id", "line", "error"}. Image paths are as seen from the working directory.

    Exit status: 0 all done; 1 some requests failed; 2 something could not be done; 130 interrupted. Results that
    were finished stay in any case.

    examples:
      anygrain segment street.jpg -t "all people" -t "the sky"
      anygrain segment photos/ "more/**/*.jpg" -t "the red car on the left" --out results
      anygrain segment street.jpg -t "all windows" --json - > windows.json
      anygrain segment --requests requests.jsonl --out results.jsonl
      anygrain segment street.jpg --model semantic-sam-swint --point 310,200 --box 10,10,200,180 --granularity part
      anygrain segment street.jpg --model psalm --categories coco --task panoptic
      anygrain segment holiday.mp4 -t "the dog"
      anygrain segment frames/ --as-video -t "the dog"
    """

    photos: Annotated[Positional[tuple[str, ...]], arg(metavar="[PHOTO ...]", help_behavior_hint="")] = ()
    """Photos, videos, folders (the photos right inside) or quoted patterns."""
    text: Annotated[Many, arg(aliases=["-t"], metavar="TEXT")] = ()
    """What to find; give it once for each phrase."""
    point: Annotated[Many, arg(metavar="X,Y")] = ()
    """A click, in pixels of the photo; once for each thing. Several clicks on one thing are one option, "310,200
    330,210 400,90,0", where a last 0 says that the place does not belong to it."""
    box: Annotated[Many, arg(metavar="X0,Y0,X1,Y1")] = ()
    """A box around a thing: left, top, right, bottom in pixels of the photo; once for each thing."""
    granularity: Annotated[str, arg(metavar="all|part|object|scene|1..6")] = "all"
    """Which masks of a click or box: all, in words, or a level from 1 (large) to 6 (small)."""
    categories: Annotated[str | None, arg(metavar="LIST|FILE|NAMES", help_behavior_hint="")] = None
    """Names to divide the photo among: coco, coco80, ade20k, cityscapes, pascal20, pascal_context59,
    pascal_context459, a file with a name a line, or "person,dog"; beside a click names to choose from for it, for
    models of clicks that have a text encoder."""
    task: Literal["panoptic", "semantic", "instance"] = "panoptic"
    """Each pixel once, things apart; each pixel once, things of a category together; or things only."""
    any_order: bool = False
    """Tell the model the categories in alphabetical order, so that theirs in the list does not matter."""
    scribble: Annotated[Many, arg(metavar="X,Y X,Y ...")] = ()
    """A stroke over a thing, "300,180 320,200 330,240"; once for each thing."""
    part_categories: Annotated[str | None, arg(metavar="NAMES", help_behavior_hint="")] = None
    """The same for parts: "head,leg"."""
    requests: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Read images and phrases from a file of JSON lines instead."""
    model: Annotated[str, arg(metavar="NAME|FOLDER|ORG/REPO")] = "nano"
    """The shipped model's name, a model folder, or a model on the Hugging Face Hub."""
    out: Annotated[Path | None, arg(metavar="DIR|FILE", help_behavior_hint="")] = None
    """Folder of the results (out); with --requests the file of results (standard output)."""
    json: Annotated[Literal["-"] | None, arg(metavar="-", help_behavior_hint="")] = None
    """Print the records to standard output, one a line; files are then written only with --out."""
    threshold: Annotated[float | None, arg(metavar="0..1", help_behavior_hint="")] = None
    """Probability above which a pixel belongs to the mask; by default the model's own."""
    presence_threshold: Annotated[float, arg(metavar="0..1")] = 0.5
    """Below this presence score the answer is "not there", for models that predict presence."""
    tile: Annotated[Literal["off", "auto"] | int, arg(metavar="off|auto|N")] = "off"
    """Also look at overlapping pieces of large photos, for small things; N: at most 2 to 8 along the longer side."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    as_video: bool = False
    """Take each folder as the frames of one video, in the order of their names."""
    fps: float = 25.0
    """Frames a second of such a folder."""

    @property
    def folder(self) -> Path | None:
        """Where the files of photos and videos go; None when records are only printed."""
        return self.out or (None if self.json else Path("out"))


def segment(arguments: Sequence[str]) -> int:
    """``anygrain segment``."""
    options = parse(SegmentOptions, "segment", arguments)
    if options.requests is not None:
        return _segment_requests(options, options.requests)
    from anygrain.images import ImageError
    from anygrain.inputs import result_names
    from anygrain.outputs import complain

    prompts = _prompts(options)
    paths, failed = _expand(options)
    if not paths:
        return 2
    names = result_names(paths)
    if options.folder:
        _warn_of_longer_names(paths, names)
    segmenter = _load(options)
    with _progress(len(paths), "file") as bar:
        for path, name in zip(paths, names, strict=True):
            try:
                _segment_one(segmenter, path, name, prompts, options)
            except ImageError as error:
                complain(error)
                failed = True
            bar.update()
    return 2 if failed else 0


def _prompts(options: SegmentOptions) -> list[Prompt]:
    from anygrain.categories import categories
    from anygrain.commands.prompts import click_prompts, scribble_prompts
    from anygrain.types import Prompt

    clicked = bool(options.point or options.box)
    names = options.categories if clicked else None
    clicks = click_prompts(options.point, options.box, options.granularity, names, options.part_categories)
    clicks += scribble_prompts(options.scribble)
    if options.categories is not None and not clicked:
        listed = categories(options.categories)
        clicks.append(
            Prompt(categories=listed.names, things=listed.things, task=options.task, any_order=options.any_order)
        )
    if not options.text and not clicks:
        raise ValueError("no text given: say what to segment, for instance -t 'the red car', or --point or --box")
    for text in options.text:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError(f"the text {text!r} is not UTF-8: check the terminal's encoding")
    return [*(Prompt(text=text) for text in options.text), *clicks]


def _expand(options: SegmentOptions) -> tuple[list[Path], bool]:
    """Every file named, once; and whether some argument named nothing, of which the person is told."""
    from anygrain.images import ImageError
    from anygrain.inputs import expand
    from anygrain.outputs import complain

    if not options.photos:
        raise ValueError("no photo given: name a file, a folder or a pattern, for instance 'photos/*.jpg'")
    paths: list[Path] = []
    failed = False
    for argument in options.photos:
        try:
            paths += [Path(argument)] if options.as_video and Path(argument).is_dir() else expand(argument)
        except ImageError as error:
            complain(error)
            failed = True
    return list({os.path.abspath(path): path for path in paths}.values()), failed


def _warn_of_longer_names(paths: Sequence[Path], names: Sequence[str]) -> None:
    longer = [(path, name) for path, name in zip(paths, names, strict=True) if name != path.stem and path.stem]
    if longer:
        path, name = longer[0]
        warnings.warn(
            f"{len(longer)} files share their name with another, so their results have longer names: those of {path} "
            f"are called {name}",
            stacklevel=1,
        )


def _load(options: SegmentOptions) -> Segmenter:
    from anygrain.hub import load

    return load(
        options.model,
        device=options.device,
        threshold=options.threshold,
        presence_threshold=options.presence_threshold,
        tile=options.tile,
    )


def _segment_one(
    segmenter: Segmenter, path: Path, name: str, prompts: Sequence[Prompt], options: SegmentOptions
) -> None:
    from anygrain.inputs import is_video
    from anygrain.outputs import LineFile, say, summary, write_photo, write_video

    out = options.folder
    lines = LineFile(None) if options.json else None
    if not is_video(path) and not path.is_dir():
        record = write_photo(segmenter, path, prompts, out, name)
        if out and options.categories and prompts[-1].kinds == {"categories"} and options.task != "instance":
            from anygrain.categories import categories
            from anygrain.panoptic import write_panoptic

            write_panoptic(record, out, name, categories(options.categories).id_of)
        if lines:
            lines.write(record)
        else:
            say(f"{path}: {summary(record)} -> {out}/{name}.json")
        return
    frames, done = _frames(path, options), 0
    with (
        closing(write_video(segmenter, frames, prompts, out, name)) as records,
        _progress(frames.count, "frame") as bar,
    ):
        for record in records:
            if lines:
                lines.write(record)
            done += 1
            bar.update()
    if not lines:
        say(f"{path}: {done} frames -> {out}/{name}.jsonl")


def _frames(path: Path, options: SegmentOptions) -> VideoFile | FrameFolder:
    from anygrain.inputs import images_in
    from anygrain.video import FrameFolder, VideoFile

    if not path.is_dir():
        return VideoFile(path)
    if not 0.01 <= options.fps <= 1000:
        raise ValueError(f"--fps is {options.fps}: give the frames a second, between 0.01 and 1000")
    return FrameFolder(images_in(path), Fraction(options.fps).limit_denominator(1001))


def _segment_requests(options: SegmentOptions, path: Path) -> int:
    from anygrain.outputs import LineFile, complain
    from anygrain.requests import answer_requests, read_requests

    if options.photos or options.text or options.point or options.box:
        raise ValueError("--requests brings its own photos and texts: give no others beside it")
    if options.out and options.out.exists() and options.out.samefile(path):
        raise ValueError(f"{path} cannot be both the requests and the results: name another --out")
    done = failed = 0
    with open(path, "rb") as file:
        segmenter = _load(options)
        with LineFile(options.out) as lines, _progress(None, "request") as bar:
            for row in answer_requests(segmenter, read_requests(file)):
                lines.write(row)
                done, failed = done + 1, failed + ("error" in row)
                bar.update()
    if failed:
        complain(f'{failed} of {done} requests failed; their lines say why under "error"')
    return 1 if failed else 0


def _progress(total: int | None, unit: str) -> Any:
    """A progress bar on a terminal, when the work takes longer than two seconds."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, delay=2, disable=None, leave=False, file=sys.stderr)
