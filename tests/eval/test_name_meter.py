"""Names under evaluation: figures known beforehand, for objects and for parts."""

import json

import numpy as np
import pytest

from anygrain import hub
from anygrain.data.shards import write_shards
from anygrain.eval.click_tasks import evaluate_clicks
from anygrain.everything import Proposal
from anygrain.types import Category, Mask, Prediction, Region, Sample
from tiny_semantic_sam import build

SIZE = (216, 384)


def disc(x, y, radius):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.hypot(columns - x, rows - y) < radius


DOG, EAR, CAT, BIRD = disc(100, 100, 60), disc(100, 60, 15), disc(300, 100, 30), disc(250, 180, 20)


class Namer:
    """Knows the masks, and calls each as ``names`` says: of a photo (by its number) an object and a part."""

    threshold = 0.5

    def __init__(self, names):
        self.names, self.photo, self.asked = names, -1, []
        self.info = {"name": "namer", "fingerprint": "0"}
        self.model = type("Model", (), {"accepts": frozenset({"points", "categories"})})

    def embed(self, images):
        self.photo += 1
        return images

    def propose(self, _embedding, options, categories, part_categories):
        self.asked.append((options.points_per_side, tuple(categories), tuple(part_categories)))
        return [
            Proposal(
                mask=Mask.from_array(mask),
                point=(0.0, 0.0),
                level=1,
                granularity="scene",
                predicted_iou=0.9,
                stability=1.0,
                category=Category(name, score),
                part_category=Category(part, part_score),
            )
            for mask, name, score, part, part_score in self.names[self.photo]
        ]

    def answer(self, _embedding, prompts):
        for prompt in prompts:
            x, y = (int(value) for value in prompt.points[0])
            rows = [row for row in self.names[self.photo] if row[0][y, x]]
            yield Prediction(
                masks=np.stack([row[0] for row in rows]),
                scores=np.ones(len(rows), np.float32),
                present=np.ones(len(rows), bool),
                prompts=(prompt,) * len(rows),
                low_res_logits=np.zeros((len(rows), 2, 2), np.float32),
                image=None,
                categories=tuple(Category(row[1], row[2]) for row in rows),
                part_categories=tuple(Category(row[3], row[4]) for row in rows),
            )


@pytest.fixture
def shards(tmp_path, photos):
    def region(mask, category, granularity="object"):
        return Region(mask=Mask.from_array(mask), category=category, granularity=granularity)

    first = (region(DOG, "dog"), region(EAR, "dog:ear", "part"), region(CAT, "cat"))
    second = (region(BIRD, "bird"), Region(mask=Mask.from_array(DOG), category="bird", ignore=True))
    samples = [
        Sample(id=f"{n}", image=photos / "dog.jpg", size=SIZE, regions=regions, source="s", exhaustive=frozenset(sure))
        for n, (regions, sure) in enumerate([(first, ()), (second, ("cat",))])
    ]
    write_shards(samples, tmp_path / "shards" / "zoo")
    return tmp_path / "shards"


RIGHT = [
    [(DOG, "dog", 0.9, "ear", 0.1), (EAR, "dog", 0.2, "ear", 0.9), (CAT, "cat", 0.8, "ear", 0.05)],
    [(BIRD, "bird", 0.7, "ear", 0.9)],
]


def test_right_names_are_all_right(shards):
    namer = Namer(RIGHT)
    figures = evaluate_clicks(namer, shards, "names", points_per_side=3).sources["zoo"]
    assert (figures["object_right"], figures["part_right"]) == (1, 1)
    assert (figures["object_ap"], figures["part_ap"]) == (pytest.approx(1), pytest.approx(1))
    assert (figures["object_names"], figures["part_names"], figures["masks"]) == (3, 1, 3)
    assert namer.asked == [(3, ("bird", "cat", "dog"), ("ear",))] * 2


def test_wrong_names_count_and_those_nobody_looked_for_do_not(shards):
    # the cat of the first photo is called a dog, more surely than the dog itself: half of the answers are right
    wrong = [[RIGHT[0][0], RIGHT[0][1], (CAT, "dog", 0.95, "ear", 0.05)], RIGHT[1]]
    figures = evaluate_clicks(Namer(wrong), shards, "names").sources["zoo"]
    assert figures["object_right"] == pytest.approx(2 / 3)
    assert figures["object_ap"] == pytest.approx((0.5 + 0 + 1) / 3)
    # a dog in the second photo, where no one said whether there is one; a bird where a flock is: nothing lost
    unjudged = [RIGHT[0], [*RIGHT[1], (EAR, "dog", 1.0, "ear", 0.1), (DOG, "bird", 1.0, "ear", 0.1)]]
    assert evaluate_clicks(Namer(unjudged), shards, "names").sources["zoo"]["object_ap"] == pytest.approx(1)
    # a cat where it is known that there is none
    lost = [RIGHT[0], [*RIGHT[1], (EAR, "cat", 1.0, "ear", 0.1)]]
    found = evaluate_clicks(Namer(lost), shards, "names").sources["zoo"]["object_ap"]
    assert found == pytest.approx((1 + 0.5 + 1) / 3)


def test_a_model_without_names_and_shards_without_them(shards, tmp_path, photos):
    namer = Namer(RIGHT)
    namer.model.accepts = frozenset({"points"})
    with pytest.raises(ValueError, match="'namer' has no text encoder, so there are no names to measure"):
        evaluate_clicks(namer, shards, "names")
    bare = Sample(id="0", image=photos / "dog.jpg", size=SIZE, regions=(Region(mask=Mask.from_array(DOG)),), source="b")
    write_shards([bare], tmp_path / "bare" / "b")
    with pytest.raises(ValueError, match="no photo has a named mask"):
        evaluate_clicks(Namer(RIGHT), tmp_path / "bare", "names")


def test_on_the_command_line(anygrain, shards, tmp_path, folder):
    model = hub.save(build(), tmp_path / "model", card="# tiny\n")
    result = anygrain(
        "evaluate", "--task", "names", "--model", model, "--data", shards, "--points-per-side", "2", "--limit", "1"
    )
    assert (result.status, result.err) == (0, "")
    figures = json.loads((folder / "out" / "evaluation" / "report.json").read_text())["sources"]["zoo"]
    assert set(figures) >= {"object_right", "object_ap", "object_ap_50", "part_right", "part_ap"}
    result = anygrain("evaluate", "--task", "names", "--model", model, "--data", shards, "--points-per-side", "0")
    assert (result.status, "points_per_side must be from 1 to 256, got 0" in result.err) == (2, True)
