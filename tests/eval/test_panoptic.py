import numpy as np
import pytest

from anygrain.eval.panoptic import PanopticQuality


def strip(*runs):
    """One row of segment ids from (id, length) pairs."""
    return np.concatenate([np.full(length, number) for number, length in runs])[None]


def test_pq_is_quality_of_matches_times_recognition():
    metric = PanopticQuality(things=("car",))
    truth = strip((1, 10), (2, 10), (3, 10))
    found = strip((7, 8), (8, 2), (2, 10), (3, 10))
    metric.update(found, {7: "car", 8: "car", 2: "car", 3: "sky"}, truth, {1: "car", 2: "car", 3: "sky"})
    # car: two matches of IoU 0.8 and 1, one false positive; sky: a match
    assert metric.per_category()["car"] == pytest.approx({"pq": 1.8 / 2.5, "sq": 0.9, "rq": 2 / 2.5})
    figures = metric.compute()
    assert figures["pq"] == pytest.approx((1.8 / 2.5 + 1) / 2)
    assert figures["pq_things"] == pytest.approx(1.8 / 2.5)
    assert figures["pq_stuff"] == 1
    assert (figures["categories"], figures["categories_things"], figures["categories_stuff"]) == (2, 1, 1)


def test_an_iou_of_half_is_no_match():
    metric = PanopticQuality()
    metric.update(strip((1, 5), (0, 5)), {1: "car"}, strip((1, 10)), {1: "car"})
    assert metric.sums == {"car": (0, 0, 1, 1)}


def test_void_is_left_out_of_the_union():
    metric = PanopticQuality()
    metric.update(strip((1, 10)), {1: "car"}, strip((1, 4), (0, 6)), {1: "car"})
    assert metric.compute()["pq"] == 1


def test_answers_in_void_or_in_a_crowd_of_their_category_are_no_false_positives():
    truth = strip((0, 10), (5, 10), (1, 4))
    names = {5: "person", 1: "sky"}

    def sums(found, categories):
        metric = PanopticQuality()
        metric.update(found, categories, truth, names, crowds=[5])
        return metric.sums

    missed = {"sky": (0, 0, 0, 1)}  # the crowd is missed by nobody
    assert sums(strip((1, 10), (0, 14)), {1: "person"}) == missed
    assert sums(strip((0, 4), (1, 16), (0, 4)), {1: "person"}) == missed  # 6 in void and 10 in the crowd
    assert sums(strip((0, 4), (1, 16), (0, 4)), {1: "car"}) == {"car": (0, 0, 1, 0), **missed}  # the crowd is of people
    assert sums(strip((0, 10), (1, 10), (0, 4)), {1: "person"}) == missed  # alike the crowd, and yet no match


def test_maps_and_categories_must_agree():
    with pytest.raises(ValueError, match="segment 3 of the answer"):
        PanopticQuality().update(strip((3, 2)), {}, strip((0, 2)), {})
    with pytest.raises(ValueError, match="segment 4 of the truth"):
        PanopticQuality().update(strip((0, 2)), {}, strip((0, 2)), {4: "car"})
    with pytest.raises(ValueError, match=r"\(1, 3\) but their truth of \(1, 2\)"):
        PanopticQuality().update(strip((0, 3)), {}, strip((0, 2)), {})
    assert PanopticQuality().compute() == {}
