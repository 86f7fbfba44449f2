"""What the readers share: finding files, reading JSON lists and index masks, each with a clear sentence on failure."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from anygrain.images import decode_image
from anygrain.types import Size

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
INDEX_MODES = frozenset({"1", "L", "P", "I", "I;16"})


def need(path: Path, what: str) -> Path:
    """The path itself when it exists. Raises FileNotFoundError naming it and what was expected there."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: not found; expected {what}")
    return path


def first_of(root: str | Path, places: Sequence[str], what: str) -> Path:
    """The first of several usual places under a folder that exists.

    Raises FileNotFoundError: "{what} not found under {root}; looked for ...".
    """
    for place in places:
        if (path := Path(root) / place).exists():
            return path
    raise FileNotFoundError(f"{what} not found under {root}; looked for {', '.join(places)}")


def check_split(split: str, splits: Collection[str], source: str) -> None:
    """Raises ValueError when a data set has no such split."""
    if split not in splits:
        raise ValueError(f"{source} has no split {split!r}; it has {', '.join(splits)}")


def read_json(path: Path, what: str) -> Any:
    """Parse a JSON file. Raises FileNotFoundError or ValueError, naming the file."""
    try:
        return json.loads(need(path, what).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); expected {what}") from None


def each_record(path: Path, what: str) -> Iterator[Any]:
    """The entries of a JSON list, parsed one by one: whole, a file of 400 MB would fill several GB.

    Raises FileNotFoundError or ValueError, naming the file.
    """
    text = need(path, what).read_text(encoding="utf-8").strip()
    decoder, place = json.JSONDecoder(), 1
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError(f"{path}: not a whole JSON list; expected {what}")
    try:
        while (place := _next(text, place)) < len(text) - 1:
            record, place = decoder.raw_decode(text, place)
            yield record
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); expected {what}") from None


def _next(text: str, place: int) -> int:
    """The next letter that is neither space nor comma."""
    while place < len(text) and text[place] in " \n\r\t,":
        place += 1
    return place


def first_names(names: Sequence[str]) -> list[str]:
    """The first of the synonyms in "building, edifice"; all of them where another name begins with the same word."""
    firsts = [name.split(",")[0].strip() for name in names]
    times = Counter(firsts)
    return [first if times[first] == 1 else name.strip() for first, name in zip(firsts, names, strict=True)]


def read_names(path: Path) -> list[str]:
    """The non-empty lines of a split file, sorted."""
    lines = need(path, "a text file with one image name a line").read_text(encoding="utf-8").splitlines()
    return sorted({line.strip() for line in lines} - {""})


def by_stem(folder: Path, what: str) -> dict[str, Path]:
    """Every image of a folder by its name without ending, sorted. Two images of one name are an error."""
    found: dict[str, Path] = {}
    for path in sorted(need(folder, what).iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if path.stem in found:
            raise ValueError(f"{path}: {found[path.stem].name} has the same name; keep one of them")
        found[path.stem] = path
    return found


def find(images: dict[str, Path], name: str, folder: Path, what: str) -> Path:
    """The file of one name. Raises FileNotFoundError when the folder has none."""
    if name not in images:
        raise FileNotFoundError(f"{folder / name}.*: not found; expected {what}")
    return images[name]


def image_size(image: Path | bytes, name: str | Path = "") -> Size:
    """(height, width) from the header alone, as stored (no EXIF rotation: masks are drawn on the stored pixels).

    image: a file, or the bytes of one, which an error calls ``name``.
    """
    try:
        with Image.open(need(image, "an image") if isinstance(image, Path) else io.BytesIO(image)) as opened:
            return opened.height, opened.width
    except UnidentifiedImageError:
        raise ValueError(f"{name or image}: not an image that can be read") from None


def read_index_mask(path: Path, size: Size) -> np.ndarray:
    """A palette or grey PNG as its stored numbers [H, W]. Raises ValueError when it is coloured or of another size."""
    image = decode_image(need(path, "a mask"))
    numbers = np.asarray(image)
    if image.mode not in INDEX_MODES:
        raise ValueError(
            f"{path}: a mask must be a palette or grey PNG whose pixels are numbers, this one is {image.mode}"
        )
    if numbers.shape != size:
        raise ValueError(f"{path}: the mask is {numbers.shape} and its image {size} (height, width)")
    return numbers


def read_colour_ids(path: Path, size: Size) -> np.ndarray:
    """A coloured PNG as segment numbers R + 256 G + 65536 B, int64 [H, W]: the form of COCO panoptic.

    Raises ValueError when it is not coloured or of another size.
    """
    image = decode_image(need(path, "a PNG of segments"))
    if image.mode not in ("RGB", "RGBA"):
        raise ValueError(f"{path}: segments are numbered by colour here, this picture is {image.mode}")
    colours = np.asarray(image, np.int64)
    if colours.shape[:2] != size:
        raise ValueError(f"{path}: the segments are {colours.shape[:2]} and their image {size} (height, width)")
    return colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
