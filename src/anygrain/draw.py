"""Masks drawn on photographs: translucent fill, smooth contour with a dark halo, and a label that finds its place."""

from __future__ import annotations

import colorsys
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Size = tuple[int, int]
Colour = tuple[int, int, int]

# The first eight follow Okabe and Ito's (told apart under the common kinds of colour blindness), brighter for
# photographs; each of the others is as far as can be from all before it, to normal and to red-green blind eyes.
PALETTE: tuple[Colour, ...] = (
    (30, 136, 255),  # blue
    (255, 149, 0),  # orange
    (0, 200, 140),  # bluish green
    (240, 70, 160),  # magenta
    (255, 224, 60),  # yellow
    (150, 90, 255),  # violet
    (240, 75, 40),  # vermilion
    (95, 215, 255),  # sky blue
    (255, 210, 150),  # peach
    (165, 90, 60),  # brown
    (240, 30, 240),  # fuchsia
    (60, 120, 165),  # steel
    (120, 255, 240),  # pale cyan
    (15, 240, 75),  # green
    (180, 75, 105),  # rose
    (120, 195, 90),  # leaf
)
FILL = 0.42  # opacity of the fill
HALO = 0.55  # opacity of the dark rim outside the contour
PLAN = 160  # long side of the small maps on which labels find their place


def colour(index: int) -> Colour:
    """The colour of row ``index``: the palette, then the palette with turned hue and other lightness, and so on."""
    base = PALETTE[index % len(PALETTE)]
    turn = index // len(PALETTE)
    if turn == 0:
        return base
    hue, lightness, saturation = colorsys.rgb_to_hls(*(v / 255 for v in base))
    lightness = min(0.8, max(0.45, lightness + (-0.08, 0.08)[turn % 2]))
    turned = np.array(colorsys.hls_to_rgb((hue + 0.04 * turn) % 1, lightness, saturation)) * 255
    brightness = float(turned @ (0.299, 0.587, 0.114))
    turned += (255 - turned) * max(0, 100 - brightness) / (255 - brightness)  # a dark blue would not show
    red, green, blue = np.rint(turned).astype(int).tolist()
    return red, green, blue


def draw_masks(image: Image.Image, masks: np.ndarray, labels: Sequence[str]) -> Image.Image:
    """Draw bool [N, H, W] on an RGB picture of the same size and return a new one; row i has ``colour(i)``.

    labels: N texts; an empty text draws no label, and so does a picture that is too small for letters. Large masks are
    drawn first, so that small ones stay visible. Memory: one picture and one mask, whatever N is.
    Raises ValueError when sizes or numbers disagree.
    """
    if masks.shape != (len(labels), image.height, image.width):
        raise ValueError(
            f"cannot draw masks of shape {list(masks.shape)} with {len(labels)} labels on a picture of "
            f"{image.height} x {image.width}"
        )
    picture = image.convert("RGB")
    areas = [int(np.count_nonzero(mask)) for mask in masks]
    line = max(0.9, 0.0014 * max(image.size))  # a third of the contour's width, in pixels
    for index in np.argsort(-np.array(areas), kind="stable"):
        if areas[index]:
            _draw_mask(picture, masks[index], colour(int(index)), line)
    rows = [i for i, text in enumerate(labels) if areas[i] and text.strip()]
    _draw_labels(picture, masks, [labels[i] for i in rows], rows)
    return picture


def grid(images: Sequence[Image.Image], columns: int, cell: Size) -> Image.Image:
    """Contact sheet: every picture scaled to fit into a cell (height, width) and centred on dark grey, row by row."""
    if columns < 1 or min(cell) < 1:
        raise ValueError(f"a contact sheet needs at least one column and cells of a pixel, got {columns} and {cell}")
    gap = max(2, min(cell) // 40)
    rows = max(1, -(-len(images) // columns))
    size = (columns * (cell[1] + gap) + gap, rows * (cell[0] + gap) + gap)
    sheet = Image.new("RGB", size, (32, 33, 36))
    for index, image in enumerate(images):
        scale = min(cell[0] / image.height, cell[1] / image.width)
        small = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        left = gap + (index % columns) * (cell[1] + gap) + (cell[1] - small[0]) // 2
        top = gap + (index // columns) * (cell[0] + gap) + (cell[0] - small[1]) // 2
        sheet.paste(image.convert("RGB").resize(small, Image.Resampling.LANCZOS), (left, top))
    return sheet


# ---------------------------------------------------------------------------------------------------- one mask


def _draw_mask(picture: Image.Image, mask: np.ndarray, paint: Colour, line: float) -> None:
    """All comes from one blurred copy of the mask: how far a pixel is from the edge can be read off its value."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    reach = int(np.ceil(4 * line)) + 1
    left, top = max(0, int(xs[0]) - reach), max(0, int(ys[0]) - reach)
    right, bottom = int(xs[-1]) + 1 + reach, int(ys[-1]) + 1 + reach
    sharp = Image.fromarray(mask[top:bottom, left:right].astype(np.uint8) * np.uint8(255))
    if max(len(ys), len(xs)) < 4 * line:
        sharp = sharp.filter(ImageFilter.MaxFilter(2 * int(np.ceil(line)) + 1))
    soft = sharp.filter(ImageFilter.GaussianBlur(line))
    peak = max(1, int(np.asarray(soft).max())) / 255
    gain = max(8, 2.8 * line, 1.2 / peak)  # wires and specks blur to something faint, which must still be seen
    value = np.arange(256) / 255
    contour = np.clip(gain * np.minimum(value, 1 - value), 0, 1)
    halo = np.where(value < 0.5, HALO * np.clip(5 * gain * value, 0, 1), 0)
    picture.paste(paint, (left, top), sharp.point(_table(value * FILL)))
    picture.paste((0, 0, 0), (left, top), soft.point(_table(halo)))
    picture.paste(paint, (left, top), soft.point(_table(contour)))


def _table(opacity: np.ndarray) -> list[int]:
    return np.rint(opacity * 255).astype(int).tolist()


# ---------------------------------------------------------------------------------------------------- labels


class _Pill(NamedTuple):
    """One label: its text, font, height and width in pixels."""

    text: str
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    height: int
    width: int


def _draw_labels(picture: Image.Image, masks: np.ndarray, texts: Sequence[str], rows: Sequence[int]) -> None:
    size = 0.018 * (picture.width + picture.height) * min(1, max(0.75, (12 / max(1, len(texts))) ** 0.5))
    size = round(min(64, max(11, size)))
    pills = [_pill(text, size, int(0.6 * picture.width)) for text in texts]
    placer = _Placer((picture.height, picture.width), masks, rows)
    for row, pill in zip(rows, pills, strict=True):
        if pill.width <= picture.width and pill.height <= picture.height:
            _draw_pill(picture, pill, placer.place(row, pill), colour(row))


def _pill(text: str, size: int, widest: int) -> _Pill:
    """Measure a label, cut with an ellipsis where it would be wider than ``widest`` pixels."""
    text, font = _font(" ".join(text.split()), size)
    padding = 2 * size  # room for the colour dot and both ends
    if font.getlength(text) + padding > widest:
        while text and font.getlength(text + "...") + padding > widest:
            text = text[:-1]
        text = text.rstrip() + "..."
    return _Pill(text, font, round(1.6 * size), round(font.getlength(text) + padding))


def _draw_pill(picture: Image.Image, pill: _Pill, corner: tuple[int, int], paint: Colour) -> None:
    """A dark rounded pill, a dot in the mask's colour, white letters."""
    left, top = corner
    size, fine = pill.height / 1.6, 4  # shapes are drawn four times larger and shrunk: smooth edges
    body = Image.new("L", (pill.width * fine, pill.height * fine))
    dot = body.copy()
    ImageDraw.Draw(body).rounded_rectangle((0, 0, body.width - 1, body.height - 1), body.height // 2, fill=205)
    x, y, radius = 0.8 * size * fine, body.height / 2, 0.3 * size * fine
    ImageDraw.Draw(dot).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    for shape, shade in ((body, (18, 20, 24)), (dot, paint)):
        picture.paste(shade, corner, shape.reduce(fine))
    middle = (left + round(1.3 * size), top + pill.height / 2)
    ImageDraw.Draw(picture).text(middle, pill.text, (255, 255, 255), pill.font, anchor="lm")


class _Placer:
    """Finds room for labels: on or beside their mask, off other labels, off other small masks if possible.

    Works on maps of at most PLAN pixels a side: ``crowd`` holds how bad it is to cover each place.
    """

    def __init__(self, size: Size, masks: np.ndarray, rows: Sequence[int]):
        self.size = size
        self.step = max(1, -(-max(size) // PLAN))
        self.small = {row: _shrink(masks[row], self.step) for row in rows}
        self.crowd = np.zeros((-(-size[0] // self.step), -(-size[1] // self.step)))
        for small in self.small.values():
            self.crowd += small / small.sum()
        self.taken = np.zeros_like(self.crowd)

    def place(self, row: int, pill: _Pill) -> tuple[int, int]:
        """The upper left corner (x, y) in pixels of the best place, which is taken from now on."""
        height, width = -(-pill.height // self.step), -(-pill.width // self.step)
        rows, columns = self.crowd.shape
        height, width = min(height, rows), min(width, columns)
        cost = self._cost(self.small[row], height, width)
        y, x = np.unravel_index(int(cost.argmin()), cost.shape)
        self.taken[y : y + height, x : x + width] = 1
        left = min(int(x) * self.step, self.size[1] - pill.width)
        return left, min(int(y) * self.step, self.size[0] - pill.height)

    def _cost(self, own: np.ndarray, height: int, width: int) -> np.ndarray:
        """For every upper left corner of a height x width window: covered labels, covered masks, distance from home."""
        area = height * width
        inside = _window_sums(own, height, width)
        labels = _window_sums(self.taken, height, width) / area
        others = _window_sums(self.crowd - own / own.sum(), height, width)
        hidden = inside / own.sum()
        y, x = np.indices(inside.shape)
        home_y, home_x = _home(own)
        away = np.hypot(y + height / 2 - home_y, (x + width / 2 - home_x) / 2) / max(own.shape)
        outside = 1 - inside / area
        return 8 * labels + 1.5 * others + 1.5 * hidden + 0.12 * outside + 1.0 * away


def _shrink(mask: np.ndarray, step: int) -> np.ndarray:
    """Bool [H, W] -> float [h, w]: share of each step x step block inside; a touched block is never quite empty."""
    rows = np.add.reduceat(mask, np.arange(0, mask.shape[0], step), axis=0, dtype=np.int32)
    return np.add.reduceat(rows, np.arange(0, mask.shape[1], step), axis=1) / step**2


def _home(own: np.ndarray) -> tuple[float, float]:
    """The place deepest inside a mask: where a person would write on it."""
    from scipy import ndimage

    depth = np.asarray(ndimage.distance_transform_edt(np.pad(own >= 0.5, 1)))
    if not depth.any():
        y, x = np.unravel_index(int(own.argmax()), own.shape)
        return float(y), float(x)
    ys, xs = np.nonzero(depth >= 0.8 * depth.max())
    middle = np.hypot(ys - ys.mean(), xs - xs.mean()).argmin()
    return float(ys[middle] - 1), float(xs[middle] - 1)


def _window_sums(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sum over the height x width window at every upper left corner."""
    total = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]


# ---------------------------------------------------------------------------------------------------- fonts

# Tried in this order for letters that Pillow's own font lacks; Pillow looks for them where the system keeps its fonts.
SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "YuGothM.ttc",
    "malgun.ttf",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "Nirmala.ttf",
    "arial.ttf",
)


def _font(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont | ImageFont.ImageFont]:
    """A font that has every letter of the text, else the text spelled with the letters that the best one has."""
    default = _load(None, size)
    if default is None:  # Pillow built without FreeType: one small bitmap font, Latin-1 only
        return text.encode("latin-1", "replace").decode("latin-1"), ImageFont.load_default_imagefont()
    best, fewest = default, _missing(default, text)
    for name in SYSTEM_FONTS:
        if not fewest:
            break
        font = _load(name, size)
        missing = _missing(font, text) if font else fewest
        if font and len(missing) < len(fewest):  # the same number: the first font is the better looking one
            best, fewest = font, missing
    return (_spell(text, fewest) if fewest else text), best


@lru_cache(maxsize=64)
def _load(name: str | None, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        font = ImageFont.load_default(size) if name is None else ImageFont.truetype(name, size)
    except (OSError, ImportError):  # not on this machine
        return None
    return font if isinstance(font, ImageFont.FreeTypeFont) else None


def _missing(font: ImageFont.FreeTypeFont, text: str) -> set[str]:
    """Letters that the font draws as its "no such letter" box."""
    nothing = _shape(font, "\uffff")
    return {letter for letter in set(text) if not letter.isspace() and _shape(font, letter) == nothing}


def _shape(font: ImageFont.FreeTypeFont, letter: str) -> bytes:
    side = int(3 * font.size)
    picture = Image.new("L", (side, side))
    ImageDraw.Draw(picture).text((side // 3, side // 3), letter, 255, font)
    return picture.tobytes()


def _spell(text: str, missing: set[str]) -> str:
    """Letters that are missing lose their accent or, a run of them together, become one question mark."""
    spelled = ""
    for letter in text:
        plain = unicodedata.normalize("NFKD", letter)[0] if letter in missing else letter
        if letter in missing and not plain.isascii():
            plain = "?"
        if unicodedata.category(letter)[0] != "M" and not (plain == "?" and spelled.endswith("?")):
            spelled += plain
    return spelled
