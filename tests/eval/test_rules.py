"""What benchmarks ask and how they count: answers are given by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from anygrain.data.datasets import DATASETS
from anygrain.eval.benchmarks import BENCHMARKS
from anygrain.eval.label_map_rule import LabelMapRule
from anygrain.eval.rules import Answer, ExpressionRule, SaliencyRule, VideoRule
from anygrain.types import Mask, Region, Sample

SIZE = (4, 10)


def columns(start, end):
    mask = np.zeros(SIZE, bool)
    mask[:, start:end] = True
    return mask


def region(start, end, *captions, **fields):
    return Region(mask=Mask.from_array(columns(start, end)), captions=captions, **fields)


def sample(*regions, name="set/1", **fields):
    return Sample(id=name, image=b"", size=SIZE, regions=regions, source="set", **fields)


def answer(mask=None, score=0.9, probability=None):
    there = mask is not None
    mask = mask if there else np.zeros(SIZE, bool)
    soft = mask * score if probability is None else probability
    return Answer(mask, there, score, lambda: np.asarray(soft, np.float32))


def run(rule, one, answers):
    texts = rule.ask(one)
    count(rule, one, [answers[text] for text in texts])
    return texts


def count(rule, one, answers):
    """By way of what is written into predictions.jsonl."""
    rule.count(one, json.loads(json.dumps(rule.record(one, answers))))


def test_every_sentence_counts_as_often_as_the_file_has_it():
    one = sample(region(0, 4, "man", "him", "man"), region(6, 10, "dog"))
    rule = ExpressionRule(("refcoco",))
    answers = {"man": answer(columns(0, 4)), "him": answer(columns(0, 2)), "dog": answer()}
    assert run(rule, one, answers) == ["man", "him", "dog"]  # each is asked once
    figures = rule.compute()
    assert figures["prompts"] == 4
    assert figures["giou"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert figures["ciou"] == (16 + 8 + 16 + 0) / 64
    assert (figures["same_targets"], figures["worst_iou"]) == (1, 0.5)


def test_one_text_may_mean_two_objects_and_none_of_them_is_both():
    one = sample(region(0, 5, "man"), region(5, 10, "man"))
    rule = ExpressionRule(("refcoco",))
    run(rule, one, {"man": answer(columns(0, 5))})
    assert rule.compute()["giou"] == 0.5


def test_no_target_by_both_conventions():
    one = sample(region(0, 4, "man"), absent=("cat", "bird"))
    rule = ExpressionRule(("rela", "lisa"))
    run(rule, one, {"man": answer(columns(0, 4)), "cat": answer(score=0.1), "bird": answer(columns(0, 1), 0.6)})
    figures = rule.compute()
    assert (figures["n_acc"], figures["t_acc"]) == (0.5, 1)
    assert (figures["lisa_n_acc"], figures["lisa_t_acc"]) == (0.5, 1)
    assert figures["giou"] == pytest.approx(2 / 3)
    assert figures["lisa_giou"] == pytest.approx(2 / 3, abs=1e-6)
    assert figures["ciou"] == figures["lisa_ciou"] == 16 / 20
    assert figures["presence_auroc"] == 1
    assert "lisa_prompts" not in figures


def test_a_target_without_a_pixel_is_missed_whatever_is_answered():
    one = sample(Region(box=(0, 0, 1, 1), captions=("speck",)))
    rule = ExpressionRule(("refcoco",))
    run(rule, one, {"speck": answer()})
    run(rule, one, {"speck": answer(columns(0, 1))})
    assert rule.compute()["giou"] == 0
    assert rule.compute()["prompts"] == 2


def test_ignored_pixels_count_in_no_expression():
    one = sample(region(0, 4, "man"), Region(mask=Mask.from_array(columns(4, 6)), ignore=True))
    rule = ExpressionRule(("refcoco",))
    run(rule, one, {"man": answer(columns(0, 6))})
    assert rule.compute()["giou"] == 1


def test_saliency_reads_eight_bits_and_not_the_mask():
    soft = np.where(columns(0, 5), 0.8, 0.0)
    rule = SaliencyRule()
    one = sample(region(0, 5, "the most salient object"))
    assert run(rule, one, {"the most salient object": answer(probability=soft)}) == ["the most salient object"]
    assert rule.compute()["mae"] == 0  # stretched to 0..1; called absent or not does not matter
    run(rule, sample(), {"the most salient object": answer(probability=soft * 0)})
    assert rule.compute()["photos"] == 2


def test_video_counts_hidden_objects():
    rule = VideoRule()
    first = sample(region(0, 5, "dog", "it"), region(5, 10, "ball"), name="set/v/0")
    second = sample(region(0, 5, "dog", "it"), absent=("ball",), name="set/v/1")
    both = {"dog": answer(columns(0, 5)), "it": answer()}
    run(rule, first, both | {"ball": answer(columns(5, 10))})
    assert run(rule, second, both | {"ball": answer()}) == ["dog", "it", "ball"]
    figures = rule.compute()
    assert figures["objects"] == 3
    assert figures["j"] == pytest.approx((1 + 0 + 1) / 3)


def labelled(rule, **probabilities):
    one = sample(
        region(0, 4, category="car"),
        region(4, 6, category="sky"),
        Region(mask=Mask.from_array(columns(6, 7)), ignore=True),
        exhaustive=frozenset({"sky", "car"}),
    )
    texts = rule.ask(one)
    count(rule, one, [probabilities[text.removeprefix("all ")] for text in texts])
    return texts


def test_label_maps_take_the_highest_probability():
    rule = LabelMapRule()
    car = answer(columns(0, 3), probability=np.where(columns(0, 3), 0.9, 0.2))
    sky = answer(None, 0.3, probability=np.where(columns(3, 6), 0.4, 0.1))
    assert labelled(rule, car=car, sky=sky) == ["all car", "all sky"]
    figures = rule.compute()
    assert figures["miou"] == pytest.approx((3 / 4 + 2 / 3) / 2)  # what no region covers is ignored
    assert figures["present_miou"] == pytest.approx((4 / 6 + 0) / 2)  # the sky was called absent: all is car
    assert figures["pixel_accuracy"] == 5 / 6


def test_label_maps_with_a_background():
    rule = LabelMapRule(background=True)
    car = answer(columns(0, 4), probability=np.where(columns(0, 8), 0.6, 0.2))
    sky = answer(columns(4, 6), probability=np.where(columns(4, 6), 0.7, 0.45))
    assert labelled(rule, car=car, sky=sky) == ["all car", "all sky"]
    # background (7..10) is lost to car in one column of three, column 6 is ignored
    assert rule.compute()["miou"] == pytest.approx((2 / 3 + 4 / 5 + 1) / 3)


def test_label_maps_of_other_categories_are_refused():
    rule = LabelMapRule()
    rule.ask(sample(exhaustive=frozenset({"car"})))
    with pytest.raises(ValueError, match="categories differ from those of the photos before"):
        rule.ask(sample(exhaustive=frozenset({"sky"})))


def test_label_maps_merge_where_one_process_saw_nothing():
    rule, nothing = LabelMapRule(), LabelMapRule()
    soft = np.ones(SIZE)
    labelled(rule, car=answer(columns(0, 4), probability=soft), sky=answer(columns(0, 4), probability=soft))
    nothing.merge(rule)
    rule.merge(LabelMapRule())
    assert nothing.compute() == rule.compute() != {}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_a_data_set_and_a_note(name):
    benchmark = BENCHMARKS[name]
    assert set(benchmark.splits) <= set(DATASETS[benchmark.data or name].splits)
    assert benchmark.needs in ({"text"}, {"points"}, {"text", "categories"}, {"mask", "regions"})
    assert benchmark.notes
    assert benchmark.rule().compute() == {}


def test_the_pages_name_every_data_set_and_every_benchmark():
    docs = Path(__file__).parents[2] / "docs"
    sets, tasks = ((docs / name).read_text().split("\n## ")[0] for name in ("datasets.md", "benchmarks.md"))
    for name, dataset in DATASETS.items():
        (line,) = (line for line in sets.splitlines() if line.startswith("|") and f"`{name}`" in line)
        assert all(split in line for split in dataset.splits)
    for name in BENCHMARKS:
        assert sum(line.startswith("|") and f"`{name}`" in line for line in tasks.splitlines()) == 1
