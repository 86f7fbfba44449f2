"""Frames in and out: a video file through PyAV (extra ``anygrain[video]``), or a folder of pictures without it.

PyAV is imported only when a video file is read or written.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anygrain.images import MAX_PIXELS, ImageError, open_image, write_image

if TYPE_CHECKING:
    from PIL import Image

TICKS = 90_000  # a second, in the written video: fine enough for every common frame rate
DEFAULT_RATE = Fraction(25)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One picture of a video. index: from 0. time: seconds. image: upright RGB. name: file name."""

    index: int
    time: float
    image: Image.Image
    name: str


def has_av() -> bool:
    """Whether PyAV is installed."""
    from importlib.util import find_spec

    return find_spec("av") is not None


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise ImportError("videos need PyAV, which is not installed: pip install 'anygrain[video]'") from None
    return av


class VideoFile:
    """A video to iterate over, frame by frame, from its start; one frame in memory.

    rate: frames a second. count: frames by the header, None when it does not say.
    Raises ImageError when the file is no video or is damaged, ImportError without PyAV.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with _opened(self.path) as (_, stream):
            self.rate: Fraction = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
            self.count: int | None = stream.frames or None
            pixels = (stream.width or 0) * (stream.height or 0)
            if not 0 < pixels <= MAX_PIXELS:
                raise ImageError(
                    f"{path} has frames of {stream.width} x {stream.height} pixels, which is out of bounds"
                )

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        with _opened(self.path) as (container, stream):
            for picture in container.decode(stream):
                time = float(index / self.rate) if picture.time is None else picture.time
                yield Frame(index=index, time=time, image=_upright(picture), name=self.path.name)
                index += 1
        if index == 0:
            raise ImageError(f"{self.path} holds no frames")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream; an error of PyAV inside becomes ImageError."""
    av = _av()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ImageError(f"{path} holds no video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except av.error.FFmpegError as error:
        reason = error.strerror or error
        raise ImageError(f"{path} cannot be read as a video ({reason}): check the file") from error


def _upright(picture: Any) -> Image.Image:
    """A decoded frame as RGB, turned as the camera was held."""
    from PIL import Image

    turns = round(getattr(picture, "rotation", 0) / 90) % 4  # counter-clockwise
    array = picture.to_ndarray(format="rgb24")
    return Image.fromarray(np.ascontiguousarray(np.rot90(array, turns)) if turns else array)


class FrameFolder:
    """Pictures as frames of a video, in the order given; opened one at a time. ``rate``: frames a second."""

    def __init__(self, paths: Sequence[Path], rate: Fraction):
        self.paths, self.rate, self.count = paths, rate, len(paths)

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self.paths):
            yield Frame(index=index, time=float(index / self.rate), image=open_image(path), name=path.name)


class VideoWriter:
    """Writes an H.264 MP4 that appears under its name when it is closed, with the frames there are by then.

    Frames keep their times; all have the size of the first one. H.264 needs even sides: an odd one gets one more row
    or column, a copy of the last. Raises OSError when the file cannot be written, ImageError for another size.
    """

    def __init__(self, path: Path, rate: Fraction):
        self.av, self.path, self.rate = _av(), path, rate
        self.part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
        self.container: Any = None
        self.stream: Any = None
        self.start, self.last = 0.0, -1

    def write(self, image: Image.Image, time: float) -> None:
        """Append one frame, to be shown at ``time`` seconds."""
        if self.stream is None:
            self._open(image, time)
        ticks = max(self.last + 1, round((time - self.start) * TICKS))
        self.last = ticks
        frame = self.av.VideoFrame.from_ndarray(self._even(image), format="rgb24")
        frame.pts, frame.time_base = ticks, Fraction(1, TICKS)
        frame.duration = round(TICKS / self.rate)
        self._mux(frame)

    def _open(self, image: Image.Image, time: float) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.container = self.av.open(str(self.part), "w", format="mp4")
        except OSError as error:
            raise self._failure(error) from error
        codec = "libx264" if "libx264" in self.av.codecs_available else "mpeg4"
        options = {"crf": "18", "preset": "veryfast"} if codec == "libx264" else {"q": "3"}
        self.stream = self.container.add_stream(codec, rate=self.rate, options=options)
        self.stream.pix_fmt = "yuv420p"
        self.stream.width, self.stream.height = (side + side % 2 for side in image.size)
        self.stream.codec_context.time_base = Fraction(1, TICKS)
        self.size, self.start = image.size, time

    def _even(self, image: Image.Image) -> np.ndarray:
        if image.size != self.size:
            width, height = self.size
            raise ImageError(
                f"frames of one video must have one size: after {width} x {height} came {image.width} x {image.height}"
            )
        array = np.asarray(image)
        return np.pad(array, ((0, image.height % 2), (0, image.width % 2), (0, 0)), mode="edge")

    def _mux(self, frame: Any) -> None:
        try:
            self.container.mux(self.stream.encode(frame))
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> OSError:
        return OSError(f"cannot write {self.path}: {error.strerror or error}")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_error: object) -> None:
        """Finish the file and give it its name; when that fails, remove it."""
        if self.container is None:
            return
        try:
            self._mux(None)
            try:
                self.container.close()
                os.replace(self.part, self.path)
            except OSError as error:
                raise self._failure(error) from error
        except BaseException:
            with suppress(OSError):
                self.container.close()
            self.part.unlink(missing_ok=True)
            raise


class PictureWriter:
    """The same for a folder of PNGs, one a frame, for when PyAV is missing."""

    def __init__(self, folder: Path):
        self.path, self.number = folder, 0

    def write(self, image: Image.Image, time: float) -> None:  # noqa: ARG002 - called like VideoWriter's
        """Write the next picture; its time is in the JSON lines."""
        write_image(self.path / f"{self.number:06d}.png", image)
        self.number += 1

    def __enter__(self) -> PictureWriter:
        return self

    def __exit__(self, *_error: object) -> None:
        """Every picture is whole already."""
