import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anygrain.eval.metrics import CategoryIoU, Overlap, Presence, PromptIoU, Scores, headline, overlap
from anygrain.eval.report import total


def test_unknown_pixels_are_left_out_of_both_counts():
    labels = np.array([[1, 1, 0, 0, 255, 255]], np.uint8)
    mask = np.array([[True, False, True, False, True, False]])
    assert overlap(mask, labels) == Overlap(intersection=1, union=3)


def test_two_empty_masks_agree():
    assert overlap(np.zeros((2, 3), bool), np.zeros((2, 3), np.uint8)).iou == 1


def test_truth_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 6\).*\(2, 3\)"):
        overlap(np.zeros((4, 6), bool), np.zeros((2, 3), np.uint8))


def test_category_miou_sums_over_photos_before_it_divides():
    metric = CategoryIoU()
    metric.update("dog", Overlap(10, 10))
    metric.update("dog", Overlap(0, 30))  # 10 / 40, not the mean of 1 and 0
    metric.update("cat", Overlap(3, 4))
    assert metric.per_category() == {"cat": 0.75, "dog": 0.25}
    assert metric.compute() == {"category_miou": 0.5, "categories": 2}
    assert metric.sums["dog"] == (10, 40, 2)


def test_prompt_iou_is_a_mean_of_ratios_and_overall_a_ratio_of_sums():
    metric = PromptIoU()
    for pair in (Overlap(10, 10), Overlap(0, 30), Overlap(1, 2), Overlap(49, 100)):
        metric.update(pair)
    figures = metric.compute()
    assert figures["iou"] == pytest.approx((1 + 0 + 0.5 + 0.49) / 4, abs=1e-12)
    assert figures["overall_iou"] == 60 / 142
    assert figures["over_half"] == 0.5
    assert figures["prompts"] == 4


def test_perfect_answers_give_exactly_one():
    metric = PromptIoU()
    for size in (1, 3, 7, 100_003):
        metric.update(Overlap(size, size))
    assert metric.compute()["iou"] == 1


def test_presence_counts_both_kinds_of_prompts_apart():
    metric = Presence()
    for there, answered in [(False, False)] * 3 + [(False, True)] + [(True, True)] * 4 + [(True, False)]:
        metric.update(there=there, answered=answered)
    assert metric.compute() == {
        "absent_prompts": 4,
        "present_prompts": 5,
        "absent_called_absent": 0.75,
        "present_called_absent": 0.2,
    }


def test_what_was_never_asked_has_no_figure():
    assert Scores().compute() == {"photos": 0, "prompts": 0, "absent_prompts": 0, "present_prompts": 0}
    assert headline(Scores().compute()) is None


def test_absent_prompts_count_in_no_iou():
    scores = Scores()
    scores.update("category", "dog", Overlap(1, 2), True, 0.9)
    scores.update("absent", "cat", Overlap(0, 50), True, 0.6)
    figures = scores.compute()
    assert (figures["category_miou"], figures["iou"], figures["prompts"]) == (0.5, 0.5, 1)
    assert (figures["absent_prompts"], figures["absent_called_absent"]) == (1, 0)


def test_what_is_there_without_a_mask_counts_as_present_and_in_no_iou():
    scores = Scores()
    scores.update("unmasked", None, Overlap(0, 50), False, 0.2)
    figures = scores.compute()
    assert (figures["prompts"], figures["present_prompts"], figures["present_called_absent"]) == (0, 1, 1)
    assert "iou" not in figures


def test_headline_is_the_category_miou_and_else_the_mean_of_prompts():
    scores = Scores()
    scores.update("phrase", None, Overlap(1, 4), True, 0.9)
    assert headline(scores.compute()) == 0.25
    scores.update("category", "dog", Overlap(1, 2), True, 0.9)
    assert headline(scores.compute()) == 0.5


def test_total_weighs_sources_alike_and_presence_by_prompts():
    large = {"photos": 9, "prompts": 90, "iou": 0.2, "absent_prompts": 3}
    large |= {"present_prompts": 90, "absent_called_absent": 1 / 3, "present_called_absent": 0.1}
    small = {"photos": 1, "prompts": 10, "iou": 0.6, "category_miou": 0.8, "absent_prompts": 1, "present_prompts": 10}
    small |= {"absent_called_absent": 1.0, "present_called_absent": 0.0}
    figures = total([large, small])
    assert (figures["photos"], figures["prompts"], figures["absent_prompts"]) == (10, 100, 4)
    assert figures["iou"] == pytest.approx(0.4)
    assert figures["category_miou"] == 0.8
    assert figures["headline"] == pytest.approx((0.2 + 0.8) / 2)
    assert figures["absent_called_absent"] == pytest.approx(0.5)
    assert figures["present_called_absent"] == pytest.approx(0.09)


@st.composite
def answers(draw):
    kind = draw(st.sampled_from(["category", "salient", "phrase", "unmasked", "absent"]))
    union = draw(st.integers(1, 10**7))
    name = draw(st.sampled_from("abc")) if kind in ("category", "absent") else None
    score = draw(st.floats(0, 1, width=32))
    return kind, name, Overlap(draw(st.integers(0, union)), union), draw(st.booleans()), score


@settings(max_examples=60, deadline=None)
@given(st.lists(answers(), max_size=40), st.lists(st.integers(0, 3), min_size=40, max_size=40))
def test_parts_merged_in_any_split_equal_one_pass_to_the_last_bit(rows, places):
    whole, parts = Scores(), [Scores() for _ in range(4)]
    for row, place in zip(rows, places, strict=False):
        for scores in (whole, parts[place]):
            scores.photos += 1
            scores.update(*row)
    merged = Scores()
    for part in reversed(parts):
        merged.merge(part)
    assert merged == whole
    assert merged.compute() == whole.compute()
