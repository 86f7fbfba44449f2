"""How much the order in which categories are told moves a PSALM's answers: the language model reads from left to right.

The names of a list are told in the given order and in random ones, and answers are compared pair by pair: queries whose
best category differs, how far class probabilities are apart (total variation), and pixels whose category differs.
``any_order=True`` of a prompt takes one order, the alphabet's, whatever the given one, so all these are 0 there.

    python benchmarks/psalm_order.py --model models/psalm --categories coco street.jpg yard.jpg
    python benchmarks/psalm_order.py --model tiny            # the small synthetic network of the tests
"""

import argparse
import sys
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PHOTOS = [ROOT / "tests" / "fixtures" / "photos" / f"{name}.jpg" for name in ("dog", "kite")]


def load(model: str):
    from anygrain import hub

    if model != "tiny":
        return hub.load(model)
    sys.path.append(str(ROOT / "tests"))
    import tiny_psalm

    with tempfile.TemporaryDirectory() as folder:
        return hub.load(tiny_psalm.save(Path(folder) / "model"))


def category_map(prediction, names, size) -> np.ndarray:
    """Number of the category of each pixel, -1 for none."""
    found = np.full(size, -1)
    for mask, category in zip(prediction.masks, prediction.categories, strict=True):
        found[mask] = names.index(category.name)
    return found


def main() -> None:
    from anygrain.categories import categories
    from anygrain.models.psalm.network import Features
    from anygrain.types import Prompt

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path, default=PHOTOS)
    parser.add_argument("--model", default="tiny", help="a model folder, or tiny")
    parser.add_argument("--categories", default="person,dog,car,sky,grass,building,river", help="a list, file or names")
    parser.add_argument("--orders", type=int, default=5)
    arguments = parser.parse_args()
    segmenter, names = load(arguments.model), categories(arguments.categories).names
    rng = np.random.default_rng(0)
    orders = [list(range(len(names))), *(rng.permutation(len(names)).tolist() for _ in range(arguments.orders - 1))]
    apart = {"queries' best category": [], "class probability": [], "semantic pixels": [], "panoptic pixels": []}
    for photo in arguments.photos:
        (embedding,) = segmenter.embed([photo])
        size, told = embedding.resize.source, []
        for order in orders:
            prompts = [
                Prompt(categories=tuple(names[i] for i in order), task=task) for task in ("semantic", "panoptic")
            ]
            with segmenter._how.arithmetic(segmenter.model):
                question = segmenter._answers.question(prompts[1])
                (answer,) = segmenter.model.ask(Features(*embedding.features), [question])
            chance = answer.logits.float().softmax(-1)[:, [*np.argsort(order).tolist(), len(names)]].numpy()
            maps = [category_map(found, names, size) for found in segmenter.answer(embedding, prompts)]
            told.append((chance, *maps))
        for (chance, semantic, panoptic), (other, semantic_2, panoptic_2) in combinations(told, 2):
            apart["queries' best category"].append((chance.argmax(1) != other.argmax(1)).mean())
            apart["class probability"].append(np.abs(chance - other).sum(1).mean() / 2)
            apart["semantic pixels"].append((semantic != semantic_2).mean())
            apart["panoptic pixels"].append((panoptic != panoptic_2).mean())
    print(f"{len(names)} names, {len(orders)} orders, {len(arguments.photos)} photos")
    for what, values in apart.items():
        print(f"{what:<26} differ by {np.mean(values):>6.1%} on average, {np.max(values):>6.1%} at most")


if __name__ == "__main__":
    main()
