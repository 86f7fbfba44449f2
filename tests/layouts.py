"""Data sets of a few pixels in exactly the layouts of the real ones, written by the tests."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image


def jpeg(height: int, width: int, seed: int = 0) -> bytes:
    """A small photograph-like JPEG."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
    out = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
    return out.getvalue()


def palette(index: np.ndarray) -> bytes:
    """A palette PNG whose pixels are these numbers."""
    image = Image.fromarray(index.astype(np.uint8), "P")
    image.putpalette([(i * 37) % 256 for i in range(768)])
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


class Layouts:
    """Writes files under one root; text, JSON and bytes by their type."""

    def __init__(self, root: Path):
        self.root = root

    def put(self, path: str, content: object) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else self._text(content).encode())
        return file

    @staticmethod
    def _text(content: object) -> str:
        return content if isinstance(content, str) else json.dumps(content)

    def jpeg(self, path: str, height: int, width: int, seed: int = 0) -> Path:
        return self.put(path, jpeg(height, width, seed))

    def palette(self, path: str, index: np.ndarray) -> Path:
        return self.put(path, palette(index))


def box_mask(size: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask
