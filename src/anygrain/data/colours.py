"""Colour names of things, from their pixels in CIELAB, careful enough to rather say nothing than something wrong.

A pixel is strictly of at most one colour, and widely of every colour that a small change of light would make it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

COLOURS = ("black", "white", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
_COATS = frozenset({"black", "white", "brown"})

_VEHICLES = "car bus truck van motorcycle motorbike minibike bicycle boat vehicle container"
_HOUSEHOLD = """chair couch bed bench door cup bowl vase suitcase umbrella backpack handbag bag purse book toothbrush
    plate apple kite frisbee surfboard snowboard skateboard helmet awning banner wallet curtain"""
_CLOTHES = """pants blouse dress coat belt skirt shirt jeans sweater stockings scarf hat blazer t-shirt socks boots suit
    jacket sandals vest leggings loafers shorts cape sweatshirt bodysuit heels sneakers top tie pumps tights flats
    gloves jumper romper cardigan wedges hoodie shoes"""
_ANY_COLOUR = frozenset(
    [*_VEHICLES.split(), *_HOUSEHOLD.split(), *_CLOTHES.split(), "fire hydrant", "sports ball", "teddy bear"]
)
_ANIMALS = frozenset({"dog", "cat", "horse", "cow", "sheep", "bird", "bear"})

_GRID = 32  # steps of each of R, G, B in the tables
DOMINANT = 0.55
SAMPLE = 600  # pixels looked at


def colours_of(category: str) -> frozenset[str]:
    """The colours that may be said of things of a category; none where people do not name one (person, sky)."""
    if category in _ANIMALS:
        return _COATS
    return frozenset(COLOURS) if category in _ANY_COLOUR else frozenset()


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB [..., 3] in 0..1 -> CIELAB (D65, 2 degrees) [..., 3], float64."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _strict(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """bool [len(COLOURS), ...] from L 0..100, C and hue angle 0..360; the bands leave gaps where people disagree."""
    hue = hue % 360
    light, c = lightness, chroma

    def band(low: float, high: float) -> np.ndarray:
        return (hue >= low) & (hue < high) if low < high else (hue >= low) | (hue < high)

    rules = {
        "black": (light < 20) & (c < 9),
        "white": (light > 82) & (c < 9),
        "gray": (light > 40) & (light < 68) & (c < 7),
        "red": band(12, 46) & (c > np.maximum(36, light)) & (light > 20) & (light < 58),
        "orange": band(52, 76) & (c > 55) & (light > 52),
        "yellow": band(82, 106) & (c > 45) & (light > 58),
        "green": band(116, 178) & (c > 18) & (light > 18),
        "blue": (band(235, 300) & (c > 20) & (light > 12)) | (band(300, 310) & (c > 55)),
        "purple": band(312, 340) & (c > 24) & (light > 15) & (light < 62),
        "pink": (band(335, 10) & (c > 22) & (light > 58)) | (band(10, 32) & (c > 20) & (c < 48) & (light > 68)),
        "brown": band(42, 76) & (c > 13) & (c < 45) & (light > 15) & (light < 44),
    }
    return np.stack([rules[name] for name in COLOURS])


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """bool [32 * 32 * 32, 11] each: strict and wide colours of an RGB cell."""
    steps = (np.arange(_GRID) + 0.5) / _GRID
    lab = to_lab(np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3))
    chroma, hue = np.hypot(lab[:, 1], lab[:, 2]), np.degrees(np.arctan2(lab[:, 2], lab[:, 1]))
    strict = _strict(lab[:, 0], chroma, hue)
    wide = strict.copy()
    for light in (-14, 0, 14):
        for scale in (-9, 0, 9):
            for turn in (-14, 0, 14):
                wide |= _strict(lab[:, 0] + light, np.maximum(chroma + scale, 0), hue + turn)
    return np.ascontiguousarray(strict.T), np.ascontiguousarray(wide.T)


def shares(pixels: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """How much of a thing is strictly, and how much widely, of each of COLOURS: two float64 [11] in 0..1.

    pixels: uint8 [h, w, 3] and mask: bool [h, w], both cut to the thing's box. The rim, where colours mix, is left
    out. None when fewer than 100 pixels are left.
    """
    inner = _inner(mask)
    flat = np.flatnonzero(inner)
    if len(flat) < 100:
        return None
    flat = flat[:: max(1, len(flat) // SAMPLE)]
    rgb = pixels[flat // mask.shape[1], flat % mask.shape[1]].astype(np.intp) // (256 // _GRID)
    cells = (rgb[:, 0] * _GRID + rgb[:, 1]) * _GRID + rgb[:, 2]
    strict, wide = _tables()
    return strict[cells].mean(0), wide[cells].mean(0)


def _inner(mask: np.ndarray) -> np.ndarray:
    """Pixels whose neighbours two steps away in the four directions also lie inside."""
    inner = np.zeros_like(mask)
    if min(mask.shape) > 4:
        middle = mask[2:-2, 2:-2]
        inner[2:-2, 2:-2] = middle & mask[:-4, 2:-2] & mask[4:, 2:-2] & mask[2:-2, :-4] & mask[2:-2, 4:]
    return inner
