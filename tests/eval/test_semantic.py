import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anygrain.eval.semantic import Confusion

NAMES = ("sky", "dog head", "dog tail", "car wheel")


def counted(*photos, ignore=255):
    metric = Confusion(NAMES, ignore)
    for found, truth in photos:
        metric.update(np.array(found), np.array(truth))
    return metric


def test_iou_sums_over_photos_and_ignored_pixels_count_nowhere():
    metric = counted(([[0, 0, 1, 1]], [[0, 1, 1, 255]]), ([[0, 2, 0, 0]], [[0, 0, 255, 255]]))
    assert metric.per_category() == {"sky": 2 / 4, "dog head": 1 / 2, "dog tail": 0}  # car wheel: nowhere
    figures = metric.compute()
    assert figures["miou"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert figures["pixel_accuracy"] == 3 / 5
    assert figures["mean_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)  # of the two that are true somewhere
    assert figures["categories"] == 3


def test_a_pixel_given_to_no_category_is_missed_but_is_nobodys_false_positive():
    metric = counted(([[255, 0, -1]], [[0, 0, 1]]))
    assert metric.per_category() == {"sky": 0.5, "dog head": 0}


def test_ignore_may_be_any_number_and_unknown_truth_is_refused():
    assert counted(([[1, 1]], [[0, 1]]), ignore=0).compute()["miou"] == 1
    with pytest.raises(ValueError, match=r"the truth holds \[4, 7\], but there are 4 categories and 255 is ignored"):
        counted(([[0, 0]], [[7, 4]]))


def test_truth_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 2\) but its truth of \(1, 3\)"):
        counted(([[0, 0]], [[0, 0, 0]]))


def test_other_categories_do_not_merge():
    with pytest.raises(ValueError, match="other categories"):
        Confusion(NAMES).merge(Confusion(NAMES[:2]))


def test_parts_weigh_alike_or_by_their_wholes():
    metric = counted(([[1, 2, 0, 3, 0]], [[1, 2, 3, 3, 0]]))
    wholes = {"dog head": "dog", "dog tail": "dog", "car wheel": "car"}
    assert metric.of_wholes(wholes) == {"part_miou": (1 + 1 + 0.5) / 3, "whole_miou": (1 + 0.5) / 2}
    assert metric.of_wholes({}) == {}
    assert Confusion(NAMES).compute() == {}


def maps(*numbers):
    return arrays(np.int64, (5, 6), elements=st.sampled_from(numbers))


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.int64, (5, 6), elements=st.integers(0, 3)),
    arrays(np.int64, (5, 6), elements=st.sampled_from([0, 1, 2, 3, 255])),
)
def test_any_maps_by_the_definition(found, truth):
    metric = counted((found, truth))
    valid = truth != 255
    for number, name in enumerate(NAMES):
        union = valid & ((found == number) | (truth == number))
        share = (valid & (found == number) & (truth == number)).sum() / union.sum() if union.any() else None
        assert metric.per_category().get(name) == share
