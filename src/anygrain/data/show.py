"""A contact sheet of random triplets, found and generated: is each caption true for exactly its mask?"""

from __future__ import annotations

import base64
import html
import io
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anygrain.data.labels import open_photo
from anygrain.data.referring import false_phrases, true_phrases
from anygrain.data.shards import ShardReader
from anygrain.data.views import full_scene
from anygrain.types import Mask, Triplet

if TYPE_CHECKING:
    from PIL import Image

    from anygrain.types import Sample

CELL = (300, 300)  # height and width of a picture on the sheet
COLUMNS = 6
STRIP = 54  # height of the caption below it: three lines of letters of 14
LETTERS = 14


def random_triplets(reader: ShardReader, count: int, seed: int) -> Iterator[tuple[Sample, Triplet]]:
    """Up to ``count`` samples in random order, each once, with one random triplet; samples without one are skipped.

    Half of them, where there are such, are phrases generated from place, size, colour and neighbours as in training;
    every fourth of these is false, and has no mask.
    """
    rng = np.random.default_rng(seed)
    for number in rng.permutation(len(reader)).tolist():
        if count == 0:
            return
        sample = reader[number]
        triplets = _generated(sample, rng) if rng.random() < 0.5 else []
        triplets = triplets or list(sample.triplets())
        if triplets:
            count -= 1
            yield sample, triplets[rng.integers(len(triplets))]


def _generated(sample: Sample, rng: np.random.Generator) -> list[Triplet]:
    """One generated phrase about the whole photo; none when nothing can be said."""
    scene = full_scene(sample, np.asarray(open_photo(sample)))
    if rng.random() < 0.25:
        return [Triplet(sample.id, None, phrase.text) for phrase in false_phrases(scene, rng, 1)]
    return [Triplet(sample.id, Mask.from_array(p.mask), p.text) for p in true_phrases(scene, rng, 1)]


def drawn(sample: Sample, triplet: Triplet) -> Image.Image:
    """The photo with the triplet's mask."""
    from anygrain.draw import draw_masks

    image = open_photo(sample)
    return image if triplet.mask is None else draw_masks(image, triplet.mask.to_array()[None], [""])


def sheet(pictures: list[tuple[Image.Image, str]]) -> Image.Image:
    """All pictures with their captions below them, in a grid."""
    from anygrain.draw import grid

    cells = [_cell(picture, caption) for picture, caption in pictures]
    return grid(cells, min(COLUMNS, len(cells)), (CELL[0] + STRIP, CELL[1]))


def _cell(picture: Image.Image, caption: str) -> Image.Image:
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    cell = Image.new("RGB", (CELL[1], CELL[0] + STRIP), (32, 33, 36))
    small = ImageOps.contain(picture, (CELL[1], CELL[0]))
    cell.paste(small, ((CELL[1] - small.width) // 2, (CELL[0] - small.height) // 2))
    lines = textwrap.wrap(caption, 2 * CELL[1] // LETTERS)[: STRIP // (LETTERS + 4)]
    font = ImageFont.load_default(LETTERS)
    ImageDraw.Draw(cell).multiline_text((4, CELL[0] + 2), "\n".join(lines), (255, 255, 255), font, spacing=4)
    return cell


def page(pictures: list[tuple[Image.Image, str, str]]) -> str:
    """One HTML file that holds all: picture, caption and id of each."""
    figures = "\n".join(
        f'<figure><img src="data:image/jpeg;base64,{_base64(picture)}" alt="">'
        f"<figcaption>{html.escape(caption)}<br><small>{html.escape(name)}</small></figcaption></figure>"
        for picture, caption, name in pictures
    )
    style = (
        "body{font:15px sans-serif;background:#202124;color:#eee;display:flex;flex-wrap:wrap;gap:12px}"
        "figure{margin:0;width:300px}img{width:100%}small{color:#999}"
    )
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>triplets</title><style>{style}</style>'
    return f"{head}\n{figures}\n</html>\n"


def _base64(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=88)
    return base64.b64encode(out.getvalue()).decode("ascii")


def write_sheet(folder: str | Path, out: str | Path, *, count: int, seed: int) -> int:
    """Draw up to ``count`` random triplets of the shards under a folder into a page (.html) or a picture (.png ...).

    Returns how many were drawn. Raises ValueError when no sample has a caption or category, or the ending is unknown.
    """
    from anygrain.images import write_atomic, write_image

    if count < 1:
        raise ValueError(f"count is {count}; ask for at least 1 triplet")
    rows = [
        (drawn(sample, t), t.caption + ("" if t.mask else "  [absent]"), sample.id)
        for sample, t in random_triplets(ShardReader(folder), count, seed)
    ]
    if not rows:
        raise ValueError(f"{folder}: no sample has a caption or a category, so there is nothing to show")
    if Path(out).suffix.lower() in (".html", ".htm"):
        write_atomic(out, page(rows).encode())
    else:
        write_image(out, sheet([(picture, caption) for picture, caption, _ in rows]))
    return len(rows)
