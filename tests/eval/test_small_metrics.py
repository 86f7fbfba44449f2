"""Presence, clicks and Boundary IoU."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anygrain.eval.boundary import boundary_overlap
from anygrain.eval.clicks import ClickIoU
from anygrain.eval.metrics import Overlap
from anygrain.eval.presence import PresenceScores


def presence(rows):
    metric = PresenceScores()
    for score, there in rows:
        metric.update(score, there=there)
    return metric.compute()


def test_auroc_counts_pairs_and_ties_half():
    rows = [(0.9, True), (0.5, True), (0.5, False), (0.1, False)]
    assert presence(rows)["presence_auroc"] == (1 + 1 + 0.5 + 1) / 4
    assert presence([(score, not there) for score, there in rows])["presence_auroc"] == 0.5 / 4
    assert "presence_auroc" not in presence([(0.9, True)])
    assert presence([(0.75, True)])["calibration_error"] == pytest.approx(0.25)
    assert presence([]) == {}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 0.1, 0.25, 0.5, 1]), st.booleans()), max_size=30))
def test_auroc_of_any_scores_by_the_definition(rows):
    there, absent = ([s for s, t in rows if t is kind] for kind in (True, False))
    pairs = [(a > b) + (a == b) / 2 for a in there for b in absent]
    assert presence(rows).get("presence_auroc") == (pytest.approx(np.mean(pairs)) if pairs else None)


def test_one_click_counts_the_highest_score_and_the_oracle_the_best():
    labels = np.array([[1, 1, 1, 1, 0, 0, 255, 255]], np.uint8)
    masks = np.array([[[1, 1, 0, 0, 0, 0, 1, 1]], [[1, 1, 1, 1, 0, 0, 0, 0]]], bool)
    metric = ClickIoU()
    metric.update(masks, np.array([0.9, 0.8]), labels)
    assert metric.compute() == {"one_click_iou": 0.5, "oracle_iou": 1, "clicks": 1}
    with pytest.raises(ValueError, match="2 masks and 1 scores"):
        metric.update(masks, np.array([0.9]), labels)
    assert ClickIoU().compute() == {}


def test_boundary_iou_sees_only_the_bands_along_both_contours():
    # the diagonal of 30 x 40 is 50: bands of 1 pixel
    truth = np.zeros((30, 40), bool)
    truth[10:20, 10:20] = True
    shifted = np.roll(truth, 1, axis=1)
    assert boundary_overlap(truth, truth) == Overlap(36, 36)
    # the upper and the lower sides share 9 each, the upright ones are apart
    assert boundary_overlap(shifted, truth) == Overlap(18, 72 - 18)
    assert boundary_overlap(np.ones((30, 40), bool), np.ones((30, 40), bool)).union == 2 * 40 + 2 * 28  # the rim counts
    with pytest.raises(ValueError, match="compare at one size"):
        boundary_overlap(truth, truth[1:])


def test_the_band_follows_the_diagonal():
    whole = np.ones((300, 400), bool)  # 0.02 of 500 is 10 pixels
    assert boundary_overlap(whole, whole).union == 300 * 400 - 280 * 380
    assert boundary_overlap(whole, whole, 0.005).union == 300 * 400 - 296 * 396  # 2.5 rounds to 2, as Python does
