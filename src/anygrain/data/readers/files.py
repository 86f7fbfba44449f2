"""What the readers share: finding files, reading JSON lists and index masks, each with a clear sentence on failure."""

from __future__ import annotations

import json
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


def read_json(path: Path, what: str) -> Any:
    """Parse a JSON file. Raises FileNotFoundError or ValueError, naming the file."""
    try:
        return json.loads(need(path, what).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); expected {what}") from None


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


def image_size(path: Path) -> Size:
    """(height, width) from the header alone, as stored (no EXIF rotation: masks are drawn on the stored pixels)."""
    try:
        with Image.open(need(path, "an image")) as image:
            return image.height, image.width
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image that can be read") from None


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
