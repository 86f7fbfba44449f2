"""Rules of names and clicks: what is asked of the model, and what is counted of answers given by hand."""

import json

import numpy as np
import pytest

from anygrain.eval.click_rule import ClickRule
from anygrain.eval.label_map_rule import LabelMapRule, in_order
from anygrain.eval.segments_rule import InstanceRule, PanopticRule
from anygrain.types import Category, Mask, Prediction, Region, Sample

SIZE = (20, 40)


def box(x0, y0, x1, y1):
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def region(mask, category=None, **fields):
    return Region(mask=Mask.from_array(mask), category=category, **fields)


def sample(*regions, names=("person", "dog", "sky-other-merged"), number=1):
    return Sample(id=f"set/{number}", image=b"", size=SIZE, regions=regions, source="set", exhaustive=frozenset(names))


def prediction(prompt, *rows, levels=()):
    """rows: mask, category or None, score."""
    masks, names, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return Prediction(
        masks=np.array(masks, bool).reshape(-1, *SIZE),
        scores=np.array(scores, np.float32),
        present=np.ones(len(rows), bool),
        prompts=(prompt,) * len(rows),
        low_res_logits=np.zeros((len(rows), 2, 2), np.float32),
        image=None,  # type: ignore[arg-type]
        categories=tuple(
            None if name is None else Category(name, score) for name, score in zip(names, scores, strict=True)
        ),
        levels=levels,
    )


class Known:
    """A segmenter whose answers are known, and which keeps what it is asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def answer(self, embedding, prompts):
        for prompt in prompts:
            self.asked.append(prompt)
            rows = self.answers[min(len(self.asked), len(self.answers)) - 1]
            yield rows(prompt) if callable(rows) else prediction(prompt, *rows)


def count(rule, one, known, show=None):
    """By way of what is written into predictions.jsonl."""
    rule.count(one, json.loads(json.dumps(rule.answer(one, known, None))), show)
    return rule.compute()


PERSON, DOG, SKY = box(0, 0, 10, 20), box(10, 0, 20, 20), box(20, 0, 40, 20)


def test_names_are_told_in_the_order_of_the_set():
    assert in_order({"sky-other-merged", "dog", "person", "a thing"}, "coco") == (
        ("person", "dog", "sky-other-merged", "a thing"),
        (True, True, False, True),
    )
    assert in_order({"sky", "dog"}, None) == (("dog", "sky"), (True, False))


def test_panoptic_quality_of_one_prompt():
    crowd = region(box(30, 0, 40, 10), "person", ignore=True)
    void = region(box(30, 10, 40, 20), ignore=True)
    one = sample(
        region(PERSON, "person"), region(DOG, "dog"), region(box(20, 0, 30, 20), "sky-other-merged"), crowd, void
    )
    known = Known([(PERSON, "person", 0.9), (box(10, 0, 16, 20), "dog", 0.8), (SKY, "person", 0.7)])
    rule, shown = PanopticRule("coco"), []
    figures = count(rule, one, known, shown.append)
    (prompt,) = known.asked
    assert (prompt.task, prompt.categories) == ("panoptic", ("person", "dog", "sky-other-merged"))
    assert prompt.things == (True, True, False)
    # the third answer lies by half in crowd and void: not by more, so it is a false positive; the sky is missed
    assert rule.counts.per_category()["person"]["pq"] == pytest.approx(1 / 1.5)
    assert figures["pq_things"] == pytest.approx((1 / 1.5 + 0.6) / 2)
    assert figures["pq_stuff"] == 0
    assert figures["pq"] == pytest.approx((1 / 1.5 + 0.6 + 0) / 3)
    assert [one.text for one in shown] == ["person", "dog", "sky-other-merged"]
    assert [one.pair.iou for one in shown] == [1, 0.6, 0]
    other = PanopticRule("coco")
    other.merge(rule)
    assert other.compute() == figures


def test_average_precision_of_one_prompt():
    crowd = region(box(20, 0, 40, 20), "person", ignore=True)
    one = sample(region(PERSON, "person"), region(DOG, "dog"), crowd, names=("person", "dog"))
    rows = [(PERSON, "person", 0.01), (box(22, 0, 30, 20), "person", 0.9), (box(10, 0, 16, 20), "dog", 0.8)]
    rule = InstanceRule("coco80")
    known = Known([*rows, (np.zeros(SIZE, bool), "dog", 0.7)])
    figures = count(rule, one, known)
    assert known.asked[0].task == "instance"
    assert known.asked[0].things == (True, True)
    # an answer inside the crowd is forgiven, an unsure one counts, and the dog has an IoU of 0.6
    assert figures["ap_50"] == pytest.approx(1)
    assert figures["ap_75"] == pytest.approx(0.5)
    assert figures["ap"] == pytest.approx((1 + 3 / 10) / 2)
    half, other = InstanceRule("coco80"), InstanceRule("coco80")
    count(half, sample(region(PERSON, "person"), number=2, names=("person",)), Known([(PERSON, "person", 0.5)]))
    count(other, one, Known([*rows]))
    half.merge(other)
    assert half.compute()["photos"] == 2
    with pytest.raises(ValueError, match="set/1: the photo is counted twice"):
        half.merge(other)


def test_a_label_map_of_one_prompt():
    one = sample(region(PERSON, "person"), region(DOG, "dog"), region(box(20, 0, 30, 20), "dog", ignore=True))
    known = Known([(PERSON | DOG, "dog", 0.9), (SKY, "sky-other-merged", 0.5)])
    rule = LabelMapRule(at_once=True, known="coco")
    figures = count(rule, one, known)
    (prompt,) = known.asked
    assert (prompt.task, prompt.categories) == ("semantic", ("person", "dog", "sky-other-merged"))
    assert rule.ask(one) == [prompt]
    assert figures == {"miou": 0.25, "pixel_accuracy": 0.5, "mean_accuracy": 0.5, "categories": 2}
    crowds = LabelMapRule(at_once=True, known="coco", crowds=True)  # the crowd's pixels are of its category
    assert count(crowds, one, Known(known.answers[0]))["categories"] == 3
    with pytest.raises(ValueError, match="a prompt of all names has no background"):
        LabelMapRule(background=True, at_once=True)


def test_one_click_counts_the_surest_and_the_best_mask():
    small = box(2, 4, 8, 16)
    one = sample(region(PERSON, granularity="object"), region(small, granularity="part"), region(DOG, ignore=True))
    rows = [(SKY, None, 0.9), (PERSON, None, 0.5), (small, None, 0.4)]
    known = Known(rows)
    rule, shown = ClickRule(), []
    figures = count(rule, one, known, shown.append)
    assert len(known.asked) == figures["masks"] == 2  # the crowd is not clicked on
    for prompt, mask in zip(known.asked, (PERSON, small), strict=True):
        ((x, y),) = prompt.points
        assert mask[int(y), int(x)]
        assert prompt.point_labels == (1,)
    assert (figures["one_click_iou"], figures["oracle_iou"]) == (0, 1)
    assert figures["one_click_iou_part"] == 0
    assert figures["all_granularity_iou"] == 1  # each click lies in both, and both have a row
    assert [one.pair.iou for one in shown] == [0, 0]
    assert count(rule, sample(number=2), Known(rows)) == figures  # nothing to click on


def test_granularities_are_matched_one_to_one_and_merged_levels_stand_for_several():
    small = box(2, 4, 8, 16)
    one = sample(region(PERSON), region(small))
    iou = small.sum() / PERSON.sum()
    alone = count(ClickRule(), one, Known([(PERSON, None, 0.9)]))
    assert alone["all_granularity_iou"] == pytest.approx(0.5)  # one row cannot be both
    known = Known(lambda prompt: prediction(prompt, (PERSON, None, 0.9), levels=((1, 2),)))
    assert count(ClickRule(), one, known)["all_granularity_iou"] == pytest.approx((1 + iou) / 2)


def test_further_clicks_until_it_is_good():
    one = sample(region(PERSON))
    second, third = box(0, 0, 10, 17), PERSON
    known = Known([(SKY, None, 0.9)], [(second, None, 0.9)], [(third, None, 0.9)])
    figures = count(ClickRule(clicks=4), one, known)
    assert [prompt.point_labels for prompt in known.asked] == [(1,), (1, 0), (1, 0, 1)]  # nothing is wrong then
    ious = [figures[name] for name in ("one_click_iou", "iou_2", "iou_3", "iou_4")]
    assert ious == pytest.approx([0, 0.85, 1, 1])
    assert (figures["good"], figures["noc_50"], figures["noc_80"], figures["noc_90"]) == (1, 2, 2, 3)
    parts = [ClickRule(clicks=2), ClickRule(clicks=2)]
    for number, rule in enumerate(parts):
        count(rule, sample(region(PERSON), number=number), Known([(second, None, 0.9)]))
    whole = ClickRule(clicks=2)
    for number in (0, 1):
        count(whole, sample(region(PERSON), number=number), Known([(second, None, 0.9)]))
    parts[0].merge(parts[1])
    assert parts[0].compute() == whole.compute()
