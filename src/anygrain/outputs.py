"""What is written of an image or a video: records and overlays, made prompt by prompt and frame by frame.

Memory is bounded by one picture, a few frames, and one mask, whatever the number of prompts and frames.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from anygrain.images import write_atomic, write_image
from anygrain.inputs import OVERLAY, printable
from anygrain.types import Mask, Size, label_of
from anygrain.video import Frame, FrameFolder, PictureWriter, VideoFile, VideoWriter, has_av

if TYPE_CHECKING:
    from PIL import Image

    from anygrain.segmenter import Segmenter
    from anygrain.types import ImageEmbedding, Prompt

FRAMES_AT_ONCE = 4
Record = dict[str, Any]


def write_photo(segmenter: Segmenter, path: Path, prompts: Sequence[Prompt], out: Path | None, name: str) -> Record:
    """Segment a photo and return its record; ``out`` gets ``name.overlay.png`` and ``name.json``, None writes nothing.

    Raises ImageError when the photo cannot be read and OSError when a file cannot be written.
    """
    (embedding,) = segmenter.embed([path])
    record = answer(segmenter, embedding, prompts)
    if out is not None:
        write_image(out / f"{name}{OVERLAY}.png", draw(embedding.image, record))
        write_atomic(out / f"{name}.json", to_bytes(record))
    return record


def write_video(
    segmenter: Segmenter, frames: VideoFile | FrameFolder, prompts: Sequence[Prompt], out: Path | None, name: str
) -> Generator[Record, None, None]:
    """Segment a video frame by frame, as its records are asked for.

    ``out`` gets ``name.jsonl`` and ``name.overlay.mp4``, or a folder ``name.overlay`` of PNGs where frames came from a
    folder and PyAV is missing; None writes nothing. Raises ImageError and OSError like ``write_photo``; what was
    finished by then is kept.
    """
    with ExitStack() as files:
        lines = files.enter_context(LineFile(out / f"{name}.jsonl")) if out else None
        overlay = files.enter_context(_overlay_writer(out, name, frames)) if out else None
        for frame, embedding in _embedded(segmenter, frames):
            record = {"frame": frame.index, "time": round(frame.time, 6), **answer(segmenter, embedding, prompts)}
            if lines and overlay:
                overlay.write(draw(frame.image, record), frame.time)
                lines.write(record)
            yield record


def _overlay_writer(out: Path, name: str, frames: VideoFile | FrameFolder) -> VideoWriter | PictureWriter:
    if isinstance(frames, FrameFolder) and not has_av():
        return PictureWriter(out / f"{name}{OVERLAY}")
    return VideoWriter(out / f"{name}{OVERLAY}.mp4", frames.rate)


def _embedded(segmenter: Segmenter, frames: Iterable[Frame]) -> Iterator[tuple[Frame, ImageEmbedding]]:
    stream = iter(frames)
    while batch := list(islice(stream, FRAMES_AT_ONCE)):
        embeddings = segmenter.embed([frame.image for frame in batch], batch_size=FRAMES_AT_ONCE, tiles=False)
        for frame, embedding in zip(batch, embeddings, strict=True):
            yield frame, replace(embedding, name=frame.name)


def answer(segmenter: Segmenter, embedding: ImageEmbedding, prompts: Sequence[Prompt]) -> Record:
    """The same record as ``Prediction.to_json`` for all prompts, at least one, in the memory of one mask."""
    embedding = replace(embedding, name=printable(embedding.name))
    records = [prediction.to_json() for prediction in segmenter.answer(embedding, prompts)]
    found = [segment for record in records for segment in record["segments"]]
    segments = [segment | {"id": index} for index, segment in enumerate(found)]
    return records[0] | {"segments": segments}


def draw(image: Image.Image, record: Mapping[str, Any]) -> Image.Image:
    """The picture with every mask of its record; a prompt has its colour whether or not the others are present."""
    size = (image.height, image.width)
    masks = [Mask.from_coco(segment["segmentation"], size) for segment in record["segments"]]
    return draw_codes(image, masks, [label_of(segment) for segment in record["segments"]])


def draw_codes(image: Image.Image, masks: Sequence[Mask], labels: Sequence[str]) -> Image.Image:
    """The picture with N masks, of which one at a time is decoded, and their labels; an empty one is not drawn."""
    from anygrain.draw import draw_masks

    coded = _CodedMasks(masks, (image.height, image.width))
    return draw_masks(image, cast(np.ndarray, coded), labels)


class _CodedMasks:
    """Masks [N, H, W] kept as run-length code; a row is decoded each time it is asked for."""

    def __init__(self, masks: Sequence[Mask], size: Size):
        self.masks, self.shape = masks, (len(masks), *size)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.masks[row].to_array()


def summary(record: Mapping[str, Any]) -> str:
    """One line for a person: each segment with its score and share of the picture."""
    pixels = record["image"]["width"] * record["image"]["height"]
    return "; ".join(
        f"{label_of(segment)}: "
        + (f"{segment['area'] / pixels:.1%} of the picture" if segment["present"] else "not there")
        + f" (score {segment['score']:.2f})"
        for segment in record["segments"]
    )


def to_bytes(record: Mapping[str, Any]) -> bytes:
    """A record as one line of JSON in UTF-8."""
    return (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "replace")


class LineFile:
    """A file of JSON lines, each whole or not there: after Ctrl-C or on a full disk the finished ones stay.

    path: replaced when it is there; None is standard output. Raises OSError with one sentence.
    """

    def __init__(self, path: Path | None):
        self.path, self._file = path, None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed in __exit__
            except OSError as error:
                raise self._failure(error) from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record."""
        if self._file is None:
            print(json.dumps(record), flush=True)  # ASCII: a terminal may know nothing else
            return
        start = self._file.tell()
        try:
            rest = memoryview(to_bytes(record))
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except BaseException as error:
            with suppress(OSError):  # a device cannot be cut
                self._file.truncate(start)
                self._file.seek(start)
            if isinstance(error, OSError):
                raise self._failure(error) from error
            raise

    def _failure(self, error: OSError) -> OSError:
        return OSError(f"cannot write {self.path}: {error.strerror or error}")

    def __enter__(self) -> LineFile:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._file is not None:
            self._file.close()


def say(line: str) -> None:
    """One line for a person on standard output, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stdout)


def complain(sentence: object) -> None:
    """One error line on standard error, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(f"anygrain: error: {' '.join(str(sentence).split())}", file=sys.stderr)
