"""Augmentation of one photo with its masks and captions, driven by an explicit numpy Generator.

The photo is resampled once, straight from the source pixels to the training square; masks follow by nearest sampling.
H W: source size, S: side of the training square.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from anygrain.types import Size

IGNORE = 255


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How a photo is varied in training.

    scale: range of the zoom, relative to the photo just fitting into the square; 1 to 1 switches it off.
    keep_caption: a crop must keep this part of every object that a natural caption is about (0..1).
    keep_category: the same for "all {category}", where what is left is still "all" of them.
    flip: probability of mirroring left to right; left and right are exchanged in the captions.
    jitter: largest relative change of brightness, contrast and saturation; never when a caption names a colour.
    hide_and_seek: probability that a patch of a 16 x 16 grid is blanked; 0 switches it off (paper: 0.2).
    """

    scale: tuple[float, float] = (0.7, 2.0)
    keep_caption: float = 0.7
    keep_category: float = 0.2
    flip: float = 0.5
    jitter: float = 0.3
    hide_and_seek: float = 0.0

    def __post_init__(self):
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be 0 < low <= high, got {self.scale}")
        for name in ("keep_caption", "keep_category", "flip", "jitter", "hide_and_seek"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")


@dataclass(frozen=True)
class View:
    """A window of the source photo and where it lands in the training square.

    source: ``(x0, y0, x1, y1)`` float, the part of the photo that is seen.
    target: ``(x0, y0, x1, y1)`` int, the part of the square it fills; the rest is padding.
    size: side of the square.
    flip: mirrored left to right after placing.
    """

    source: tuple[float, float, float, float]
    target: tuple[int, int, int, int]
    size: int
    flip: bool = False

    def image(self, image: Image.Image) -> Image.Image:
        """The seen part, antialiased, as an RGB picture of the target's size, mirrored when asked."""
        x0, y0, x1, y1 = self.target
        content = image.resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC, box=self.source)
        return content.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.flip else content

    def place(self, content: np.ndarray, fill: float) -> np.ndarray:
        """Content [h, w] or [h, w, C] of the target's size, already mirrored, on a square [S, S, ...] of ``fill``."""
        x0, y0, x1, y1 = self.target
        if self.flip:
            x0, x1 = self.size - x1, self.size - x0
        square = np.full((self.size, self.size, *content.shape[2:]), fill, content.dtype)
        square[y0:y1, x0:x1] = content
        return square

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """uint8 source map [H, W] by nearest sampling -> uint8 [S, S], 255 outside the photo."""
        return self.place(self.seen(labels), IGNORE)

    def seen(self, labels: np.ndarray) -> np.ndarray:
        """The seen part of a source map [H, W] by nearest sampling, of the target's size, mirrored when asked."""
        rows, columns = self._nearest(labels.shape)  # type: ignore[arg-type]
        content = labels[rows[:, None], columns]
        return content[:, ::-1] if self.flip else content

    def kept(self, mask: np.ndarray) -> float:
        """Part (0..1) of a non-empty bool mask [H, W] that lies in the window."""
        x0, y0, x1, y1 = (round(edge) for edge in self.source)
        return np.count_nonzero(mask[y0:y1, x0:x1]) / np.count_nonzero(mask)

    def _nearest(self, size: Size) -> tuple[np.ndarray, np.ndarray]:
        x0, y0, x1, y1 = self.target
        return (
            _nearest(self.source[1], self.source[3], y1 - y0, size[0]),
            _nearest(self.source[0], self.source[2], x1 - x0, size[1]),
        )


def _nearest(low: float, high: float, count: int, length: int) -> np.ndarray:
    """Source index under the centre of each of ``count`` cells that divide low..high."""
    centres = low + (np.arange(count) + 0.5) * ((high - low) / count)
    return np.clip(centres.astype(np.int64), 0, length - 1)


def whole(source: Size, size: int) -> View:
    """The whole photo, as large as the square allows, in its upper left corner."""
    zoom = size / max(source)
    height, width = (max(1, round(side * zoom)) for side in source)
    return View((0.0, 0.0, float(source[1]), float(source[0])), (0, 0, width, height), size)


def draw_view(source: Size, size: int, config: AugmentConfig, rng: np.random.Generator) -> View:
    """A random zoom and place: crop along a side that is larger than the square, padding along a smaller one."""
    zoom = size / max(source) * np.exp(rng.uniform(*np.log(config.scale)))
    y = _window(source[0], size, zoom, rng)
    x = _window(source[1], size, zoom, rng)
    return View((x[0], y[0], x[1], y[1]), (x[2], y[2], x[3], y[3]), size)


def _window(length: int, size: int, zoom: float, rng: np.random.Generator) -> tuple[float, float, int, int]:
    """Along one side: start and end in the source, start and end in the square."""
    scaled = max(1, round(length * zoom))
    offset = float(rng.random())
    if scaled <= size:
        start = int(offset * (size - scaled + 1))
        return 0.0, float(length), start, start + scaled
    seen = length * size / scaled
    start = offset * (length - seen)
    return start, min(start + seen, float(length)), 0, size


def choose_view(
    source: Size,
    size: int,
    targets: Sequence[tuple[np.ndarray, bool]],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> View:
    """A random view that keeps enough of every target; the whole photo when eight draws do not find one.

    targets: for each, a non-empty bool mask [H, W] and whether it belongs to a natural caption.
    """
    view = whole(source, size)
    for _ in range(8):
        candidate = draw_view(source, size, config, rng)
        needs = ((mask, config.keep_caption if natural else config.keep_category) for mask, natural in targets)
        if all(candidate.kept(mask) >= need for mask, need in needs):
            view = candidate
            break
    return View(view.source, view.target, size, flip=bool(rng.random() < config.flip))


_SIDE = re.compile(r"\b(left|right)(?=-?(?:most|hand|handed|side|ward|wards|er)?\b)", re.IGNORECASE)
# "right behind the car" and "the cake left over" speak of no side; "on the right behind the car" does.
_NO_SIDE_AFTER = re.compile(
    r"\s+(?:next|behind|beside|above|below|under|in\s+front|now|there|here|after|before|over\b)", re.IGNORECASE
)
_SIDE_BEFORE = re.compile(
    r"\b(?:the|far|to|on|its|his|her|their|your|my|at|bottom|top|upper|lower)[\s-]+$", re.IGNORECASE
)
_OTHER = {"left": "right", "right": "left"}
_COLOUR = re.compile(
    r"\b(?:(?:dark|light|bright|pale)?[- ]?(?:red|green|blue|yellow|orange|purple|violet|pink|magenta|brown|black|white"
    r"|gr[ae]y|beige|cream|tan|khaki|navy|teal|turquoise|cyan|maroon|silver|gold(?:en)?|blonde?|brunette)"
    r"(?:s|ish|er|est)?|redd(?:ish|er)|dark|darker|darkest|light|lighter|lightest|bright|brighter|brightest|pale"
    r"|colou?r(?:s|ed|ful)?)\b",
    re.IGNORECASE,
)


def swap_sides(text: str) -> str:
    """Exchange the words left and right, letter case kept: what a caption must become when its photo is mirrored.

    >>> swap_sides("the Leftmost car, right next to the man on the right")
    'the Rightmost car, right next to the man on the left'
    """

    def swap(match: re.Match[str]) -> str:
        if _NO_SIDE_AFTER.match(text, match.end()) and not _SIDE_BEFORE.search(text, 0, match.start()):
            return match[0]
        word = _OTHER[match[0].lower()]
        if match[0].isupper():
            return word.upper()
        return word.capitalize() if match[0][0].isupper() else word

    return _SIDE.sub(swap, text)


def names_colour(text: str) -> bool:
    """Whether the caption names a colour or a brightness, so that changing colours could make it wrong."""
    return _COLOUR.search(text) is not None


def jitter_colours(image: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """Brightness, contrast and saturation each multiplied by a number from 1 - amount to 1 + amount."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(float(rng.uniform(1 - amount, 1 + amount)))
    return image


def hide_patches(pixels: np.ndarray, probability: float, rng: np.random.Generator, *, grid: int = 16) -> None:
    """Hide-and-seek, in place: each cell of a grid over pixels [H, W, C] becomes zero (the mean colour) at random."""
    rows, columns = (np.linspace(0, side, grid + 1).round().astype(int) for side in pixels.shape[:2])
    for row, column in np.argwhere(rng.random((grid, grid)) < probability):
        pixels[rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = 0
