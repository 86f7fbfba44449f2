"""What ``--tile`` does to quality: the same validation photos with and without tiles, at a smaller input size, so that
they are large photos to the model. Prints, for each source, the mean over categories of the mean IoU over photos, the
mean IoU of things of less than 2 % of their photo, and how many present and absent prompts were called absent.

    python benchmarks/tiles.py data_cache/nano2/val/coco data_cache/nano2/val/facade --input-size 192 256
"""

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

import anygrain
from anygrain.data.labels import Labels, open_photo, present_candidates
from anygrain.data.language import all_category
from anygrain.data.shards import ShardReader
from anygrain.eval.metrics import overlap
from anygrain.eval.tasks import choose_absent, spread
from anygrain.types import Prompt

SMALL = 0.02  # of the photo


def measure(segmenter, samples) -> dict[str, float]:
    """The figures of one way on some samples; NaN where there is nothing to count."""
    categories, small, missed, silent = defaultdict(list), [], [], []
    for sample in samples:
        present = [candidate for candidate in present_candidates(sample) if candidate.category is not None]
        asked = [*present, *choose_absent(sample, 4)]
        texts = [
            all_category(candidate.category) if candidate.category else candidate.captions[0] for candidate in asked
        ]
        (embedding,) = segmenter.embed([open_photo(sample)])
        truth = Labels(sample)
        answers = segmenter.answer(embedding, [Prompt(text=text) for text in texts])
        for candidate, answer in zip(asked, answers, strict=True):
            if not candidate.regions:
                silent.append(not answer.present[0])
                continue
            labels = truth.of(candidate)
            pair = overlap(answer.masks[0], labels)
            iou = pair.intersection / max(pair.union, 1)
            categories[candidate.category].append(iou)
            missed.append(not answer.present[0])
            if (labels == 1).mean() < SMALL:
                small.append(iou)
    means = [float(np.mean(values)) for values in categories.values()]
    columns = {"mIoU": means, "small": small, "present missed": missed, "absent silent": silent}
    return {name: float(np.mean(values)) if values else float("nan") for name, values in columns.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="+", type=Path, help="folders of shards")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--input-size", nargs="+", type=int, default=[192, 256])
    parser.add_argument("--limit", type=int, help="photos a source, evenly spaced")
    parser.add_argument("--tile", nargs="+", default=["off", "auto"])
    arguments = parser.parse_args()
    print(f"{'source':<14}{'input':>6}{'tile':>6}{'mIoU':>8}{'small':>8}{'present missed':>16}{'absent silent':>15}")
    for folder in arguments.shards:
        reader = ShardReader(folder)
        for size in arguments.input_size:
            for tile in arguments.tile:
                segmenter = anygrain.load(arguments.model, tile=int(tile) if tile.isdigit() else tile)
                segmenter.model.config = replace(segmenter.model.config, input_size=size)
                figures = measure(segmenter, (reader[i] for i in spread(len(reader), arguments.limit)))
                cells = "".join(f"{v:>{w}.3f}" for v, w in zip(figures.values(), (8, 8, 16, 15), strict=True))
                print(f"{folder.name:<14}{size:>6}{tile:>6}{cells}", flush=True)


if __name__ == "__main__":
    main()
