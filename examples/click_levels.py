"""One click at every granularity: a sheet with a row a photograph, the click first, then the masks from large to small.

    python examples/click_levels.py --model MODEL --out levels.png                # on the photographs of this folder
    python examples/click_levels.py --model MODEL --out levels.png mine.jpg 310,200 other.jpg 40,60

Above a mask stand its level, the word for it, and the IoU that the model expects of it. Masks of a click that are the
same are not merged here.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import anygrain
from anygrain.draw import draw_masks, grid
from anygrain.images import write_image

HERE = Path(__file__).parent
CLICKS = {"street.jpg": (272.0, 353.0), "cat.jpg": (175.0, 150.0), "goat.jpg": (201.0, 95.0)}
CELL = (260, 320)


def levels(segmenter: anygrain.Segmenter, photo: Path, click: tuple[float, float]) -> list[Image.Image]:
    """The photograph with its click, and one picture for each level."""
    (embedding,) = segmenter.embed([photo])
    count = segmenter.model.config.num_tokens
    prompts = [anygrain.Prompt(points=(click,), granularity=level) for level in range(1, count + 1)]
    marked = embedding.image.copy()
    (x, y), radius = click, max(marked.size) / 60
    ImageDraw.Draw(marked).ellipse((x - radius, y - radius, x + radius, y + radius), "red", "white", 2)
    pictures = [marked]
    for level, answer in enumerate(segmenter.answer(embedding, prompts), 1):
        label = f"{level} {answer.granularity[0]} {answer.predicted_iou[0]:.2f}"
        pictures.append(draw_masks(embedding.image, np.asarray(answer.masks), [label]))
    return pictures


def main() -> None:
    """The sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a model of clicks: a name or a folder")
    parser.add_argument("--out", type=Path, default=Path("levels.png"))
    parser.add_argument("clicks", nargs="*", metavar="PHOTO X,Y", help="photographs, each with a click in pixels")
    arguments = parser.parse_args()
    if len(arguments.clicks) % 2:
        parser.error("give each photograph with its click: PHOTO X,Y")
    pairs = [(HERE / name, click) for name, click in CLICKS.items()]
    if arguments.clicks:
        places = [tuple(float(value) for value in text.split(",")) for text in arguments.clicks[1::2]]
        pairs = [(Path(name), (x, y)) for name, (x, y) in zip(arguments.clicks[::2], places, strict=True)]
    segmenter = anygrain.load(arguments.model)
    rows = [levels(segmenter, photo, click) for photo, click in pairs]
    sheet = grid([picture for row in rows for picture in row], len(rows[0]), CELL)
    write_image(arguments.out, sheet)
    print(f"{len(rows)} photographs -> {arguments.out}")


if __name__ == "__main__":
    main()
