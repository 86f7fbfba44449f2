"""What a person names on the command line, as files: photos, videos, folders, globs, and names for their results."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from anygrain.images import ImageError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
VIDEO_ENDINGS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv")
OVERLAY = ".overlay"  # results of an earlier run in the same folder are not photos


def is_video(path: Path) -> bool:
    """Whether the ending says so; what the file really holds is seen when it is opened."""
    return path.suffix.lower() in VIDEO_ENDINGS


def expand(argument: str) -> list[Path]:
    """The files that one argument names, in natural order (frame 2 before frame 10).

    argument: a file, taken as it is; a folder, for the images right inside it; or a glob ("photos/**/*.jpg"), for the
    images and videos that match. Raises ImageError when there is nothing, OSError when a folder cannot be read.
    """
    path = Path(argument)
    if path.is_dir():
        return images_in(path)
    if path.exists():
        return [path]
    if not glob.has_magic(argument):
        raise ImageError(f"there is no file {argument}: check the path")
    found = [Path(name) for name in sorted(glob.glob(argument, recursive=True), key=natural)]
    files = [path for path in found if path.suffix.lower() in IMAGE_ENDINGS + VIDEO_ENDINGS and path.is_file()]
    if not files:
        raise ImageError(f"{argument} matches no image and no video: check the pattern")
    return files


def images_in(folder: Path) -> list[Path]:
    """The images right inside a folder, in natural order, without overlays. Raises ImageError when there are none."""
    paths = sorted(folder.iterdir(), key=lambda path: natural(path.name))
    images = [path for path in paths if path.suffix.lower() in IMAGE_ENDINGS and path.is_file()]
    images = [path for path in images if Path(path.stem).suffix != OVERLAY]
    if not images:
        raise ImageError(f"{folder} holds no images: name another folder, or a pattern such as '{folder}/**/*.jpg'")
    return images


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which numbers inside names count as numbers."""
    parts = re.split(r"(\d+)", name)
    return [(int(part) if i % 2 else 0, part.casefold()) for i, part in enumerate(parts)]


def result_names(paths: Sequence[Path]) -> list[str]:
    """A name for the results of each file, all different, also where upper and lower case are the same.

    The stem ("street"); files that share one keep their ending ("street.jpg", "street.png"), then get their folder in
    front ("left-street.jpg"), then a number.
    """
    paths = [Path(os.path.abspath(path)) for path in paths]  # "." has no name
    names = [path.stem or "root" for path in paths]
    for longer in ([path.name for path in paths], [f"{path.parent.name}-{path.name}" for path in paths]):
        counts = Counter(name.casefold() for name in names)
        names = [new if counts[name.casefold()] > 1 else name for name, new in zip(names, longer, strict=True)]
    return _numbered(names)


def _numbered(names: list[str]) -> list[str]:
    taken, seen, result = {name.casefold() for name in names}, set(), []
    for name in names:
        new, number = name, 1
        while new.casefold() in seen or (number > 1 and new.casefold() in taken):
            number += 1
            new = f"{name}-{number}"
        seen.add(new.casefold())
        result.append(new)
    return result


def printable(name: str) -> str:
    """A file name that can be written as UTF-8: bytes that are not show as the replacement character."""
    return os.fsencode(name).decode("utf-8", "replace")
