"""Clicks under evaluation: where they fall, which mask counts, further clicks, and figures known beforehand."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from anygrain import hub
from anygrain.calibrate import levels_by_area, mean_areas
from anygrain.data.shards import write_shards
from anygrain.eval.click_meters import GranularityMeter, best_row, middle, next_click
from anygrain.eval.click_tasks import evaluate_clicks
from anygrain.eval.photo import Photo
from anygrain.images import open_image
from anygrain.types import Mask, Prediction, Prompt, Region, Sample
from tiny_semantic_sam import build

SIZE = (216, 384)


def disc(x, y, radius, size=SIZE):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.hypot(columns - x, rows - y) < radius


def test_the_middle_is_inside_and_deep():
    assert middle(disc(100, 50, 30)) == (100, 50)
    full = np.ones((9, 21), bool)
    x, y = middle(full)
    assert y == 4
    assert 4 <= x <= 16
    thin = np.zeros((5, 5), bool)
    thin[2, 3] = True
    assert middle(thin) == (3, 2)
    ring = disc(100, 100, 50) & ~disc(100, 100, 40)
    x, y = middle(ring)
    assert ring[y, x]


def prediction(masks, ious):
    masks = np.stack(masks)
    return Prediction(
        masks=masks,
        scores=np.array(ious, np.float32).clip(0, 1),
        present=np.ones(len(masks), bool),
        prompts=(Prompt(points=((1, 1),)),) * len(masks),
        low_res_logits=np.zeros((len(masks), 2, 2), np.float32),
        image=None,
        predicted_iou=np.array(ious, np.float32),
    )


def test_the_best_row_agrees_with_the_clicks_first_and_is_sure_second():
    small, large = disc(50, 50, 10), disc(50, 50, 40)
    answer = prediction([small, large], [0.3, 0.9])
    assert best_row(answer, [(50, 50, 1)]) == 1
    assert best_row(answer, [(50, 50, 1), (80, 50, 0)]) == 0
    assert best_row(prediction([small, large], [0.9, 0.3]), [(50, 50, 1), (80, 50, 1)]) == 1


def test_the_next_click_is_in_the_largest_mistake():
    truth = disc(100, 100, 40)
    labels = truth.astype(np.uint8)
    too_large = truth | disc(250, 100, 60)
    assert next_click(too_large, labels) == (250, 100, 0)
    x, y, label = next_click(truth & (np.arange(SIZE[1]) < 100), labels)
    assert label == 1
    assert truth[y, x]
    assert x >= 100
    assert next_click(truth, labels) is None
    labels[disc(250, 100, 61)] = 255  # not known: no mistake
    assert next_click(too_large, labels) is None


class Known:
    """Answers with known masks: those of the truths that hold the first click, by their area, and a wrong one."""

    threshold = 0.5

    def __init__(self, truths):
        self.truths, self.asked = truths, []
        self.info = {"name": "known", "fingerprint": "0"}
        self.model = type("Model", (), {"accepts": frozenset({"points"})})

    def embed(self, images):
        return images

    def answer(self, embedding, prompts):
        for prompt in prompts:
            self.asked.append(prompt)
            x, y = (int(value) for value in prompt.points[0])
            held = [mask for mask in self.truths if mask[y, x]]
            held.append(np.ones(SIZE, bool))
            keep = held if len(prompt.points) == 1 else held[:1]
            yield prediction(keep, [0.5] * (len(keep) - 1) + [0.9])


@pytest.fixture
def shards(tmp_path, photos):
    masks = [disc(100, 100, 60), disc(100, 100, 20), disc(300, 100, 30)]
    assert (open_image(photos / "dog.jpg").height, open_image(photos / "dog.jpg").width) == SIZE
    words = ("object", "part", "object")
    regions = tuple(Region(mask=Mask.from_array(m), granularity=w) for m, w in zip(masks, words, strict=True))
    sample = Sample(id="known/1", image=photos / "dog.jpg", size=SIZE, regions=regions, source="known")
    write_shards([sample], tmp_path / "shards" / "known")
    return tmp_path / "shards", masks


def test_one_click_counts_the_mask_that_the_model_thinks_best_and_the_best_one(shards):
    folder, masks = shards
    known = Known(masks)
    report = evaluate_clicks(known, folder, "click")
    figures = report.sources["known"]
    # the sure row is always the whole photo; of the best rows all three are right
    assert figures["one_click_iou"] == pytest.approx(np.mean([mask.mean() for mask in masks]))
    assert figures["oracle_iou"] == 1
    assert (figures["masks"], figures["photos"], figures["good"]) == (3, 1, 0)
    assert known.asked[0].points == ((100.5, 100.5),)
    assert "one_click_iou" in str(report)


def test_further_clicks_go_where_the_mask_is_wrong(shards):
    folder, masks = shards
    known = Known(masks)
    figures = evaluate_clicks(known, folder, "click", clicks=2).sources["known"]
    further = [prompt for prompt in known.asked if len(prompt.points) == 2]
    assert all(prompt.point_labels == (1, 0) for prompt in further)  # the whole photo was too much
    assert len(further) == 3
    # after the second click the first truth is answered: right for the large disc and the far one
    small = masks[1].sum() / masks[0].sum()
    assert figures["iou_2"] == pytest.approx((1 + small + 1) / 3)
    assert figures["good"] == pytest.approx(2 / 3)


def test_granularity_takes_all_truths_that_hold_a_click(shards):
    folder, masks = shards
    figures = evaluate_clicks(Known(masks), folder, "granularity").sources["known"]
    # one click in the middle of the nested discs (once) and one in the far one
    assert figures["truths"] == 3
    assert figures["best"] == 1
    assert figures["best_part"] == 1
    assert figures["chosen"] == pytest.approx(np.mean([mask.mean() for mask in masks]))
    assert figures["rows"] == pytest.approx(2.5)
    # the part and its whole were found by two different rows of one click; in the far disc there is no part
    assert (figures["part"], figures["whole"], figures["both"]) == (1, 1, 1)


def test_one_row_cannot_be_both_part_and_whole(photos):
    whole, part = disc(100, 100, 60), disc(100, 100, 50)

    class Undecided(Known):
        """One mask that has an IoU above 0.5 with the part and with the whole, and one that has with neither."""

        def answer(self, _embedding, prompts):
            for _ in prompts:
                yield prediction([whole, disc(300, 20, 10)], [0.5, 0.4])

    regions = [(whole, "object"), (part, None)]
    sample = Sample(
        id="known/1",
        image=photos / "dog.jpg",
        size=SIZE,
        regions=tuple(Region(mask=Mask.from_array(mask), granularity=word) for mask, word in regions),
        source="known",
    )
    meter = GranularityMeter()
    meter.ask(Undecided([]), None, Photo(sample, "known"), sample.regions)
    figures = meter.compute()
    assert (figures["part"], figures["whole"]) == (pytest.approx((50 / 60) ** 2, abs=0.01), 1)
    assert figures["both"] == 0


def test_a_model_of_text_and_bad_numbers_are_refused(shards):
    known = Known([])
    with pytest.raises(ValueError, match="clicks must be from 1 to 20, got 0"):
        evaluate_clicks(known, shards[0], "click", clicks=0)
    known.model.accepts = frozenset({"text"})
    with pytest.raises(ValueError, match="model 'known' takes no clicks"):
        evaluate_clicks(known, shards[0], "click")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return hub.save(build(), tmp_path_factory.mktemp("models") / "clicks", card="# tiny\n")


def test_on_the_command_line(anygrain, model, tiny_model, shards, folder):
    result = anygrain("evaluate", "--task", "click", "--clicks", "2", "--model", model, "--data", shards[0])
    assert result.status == 0
    record = json.loads((folder / "out" / "evaluation" / "report.json").read_text())
    assert record["task"] == "click"
    assert set(record["sources"]["known"]) == {"photos", "masks", "one_click_iou", "oracle_iou", "iou_2", "good"}
    assert record["sources"]["known"]["oracle_iou"] >= record["sources"]["known"]["one_click_iou"]
    assert "| known" in result.out
    result = anygrain("evaluate", "--task", "granularity", "--model", model, "--data", shards[0], "--out", "other")
    assert result.status == 0
    assert json.loads(Path("other/report.json").read_text())["sources"]["known"]["best"] > 0
    for arguments in (("--model", tiny_model), ("--model", model, "--figures"), ("--model", model, "--clicks", "99")):
        result = anygrain("evaluate", "--task", "click", "--data", shards[0], *arguments)
        assert (result.status, result.err.count("anygrain: error: ")) == (2, 1)


def test_levels_are_tokens_by_mean_area(anygrain, model, shards, folder, photos):
    segmenter = hub.load(model, device="cpu")
    image = photos / "dog.jpg"
    areas = mean_areas(segmenter, [image], points_per_side=2)
    (embedding,) = segmenter.embed([image])
    height, width = SIZE
    expected = []
    for token in range(6):
        level = segmenter.model.config.levels.index(token) + 1
        points = [(x * width, y * height) for y in (0.25, 0.75) for x in (0.25, 0.75)]
        prompts = [Prompt(points=(point,), granularity=level) for point in points]
        expected.append(np.mean([answer.masks.mean() for answer in segmenter.answer(embedding, prompts)]))
    np.testing.assert_allclose(areas, expected, atol=0.01)
    levels = levels_by_area(areas)
    assert sorted(levels) == list(range(6))
    assert all(areas[a] >= areas[b] for a, b in pairwise(levels))
    options = ("--data", shards[0], "--points-per-side", "2")
    result = anygrain("calibrate-levels", "--model", model, *options)
    assert (result.status, hub.read_model(model).config.levels) == (0, (3, 2, 0, 4, 1, 5))  # only shown
    assert result.out.count("%") == 6
    result = anygrain("calibrate-levels", "--model", model, *options, "--write")
    assert result.status == 0
    assert hub.read_model(model).config.levels == levels
    result = anygrain("calibrate-levels", "--model", "semantic-sam-swint", *options, "--write")
    assert (result.status, "--write changes a model folder" in result.err) == (2, True)


def test_without_photos_there_is_nothing_to_calibrate_on(model):
    with pytest.raises(ValueError, match="there are no photos"):
        mean_areas(hub.load(model, device="cpu"), [])
    assert torch.is_grad_enabled()
