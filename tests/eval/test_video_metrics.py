import numpy as np
import pytest

from anygrain.eval.boundary import boundary_f
from anygrain.eval.video import JAndF

SIZE = (40, 60)


def square(x0, x1, y0=5, y1=35):
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_objects_weigh_alike_whatever_their_length():
    metric = JAndF()
    for frame in range(9):
        metric.update("v", "long", f"{frame:05}", square(0, 20), square(0, 20))
    metric.update("v", "short", "00000", square(0, 10), square(0, 20))
    figures = metric.compute()
    assert figures["j"] == (1 + 0.5) / 2
    assert figures["f"] == (1 + boundary_f(square(0, 10), square(0, 20))) / 2
    assert figures["j_and_f"] == (figures["j"] + figures["f"]) / 2
    assert figures["j_recall"] == 0.5  # 0.5 itself is not above 0.5
    assert figures["objects"] == 2


def test_a_hidden_object_counts_and_is_met_by_an_empty_mask():
    metric, nothing = JAndF(), np.zeros(SIZE, bool)
    metric.update("v", "1", "0", nothing, nothing)
    metric.update("v", "1", "1", square(0, 9), nothing)
    figures = metric.compute()
    assert (figures["j"], figures["f"]) == (0.5, 0.5)


def test_the_given_first_frame_and_the_last_may_be_left_out():
    metric = JAndF(skip_ends=True)
    for frame, end in enumerate((20, 10, 20, 5)):
        metric.update("v", "1", f"{frame}", square(0, end), square(0, 20))
    assert metric.compute()["j"] == 0.75


def test_decay_is_first_quarter_minus_last():
    metric = JAndF()
    for frame, end in enumerate((20, 20, 15, 15, 10, 10, 5, 5)):
        metric.update("v", "1", f"{frame}", square(0, end), square(0, 20))
    # frames 1..8 in bins with edges round(linspace(1, 8, 5)) = 1, 3, 4 (4.5 rounds up: 5), 6, 8
    assert metric.compute()["j_decay"] == pytest.approx((1 + 1 + 0.75) / 3 - (0.5 + 0.25 + 0.25) / 3)


def test_void_pixels_count_nowhere():
    metric = JAndF()
    metric.update("v", "1", "0", square(0, 30), square(0, 20), void=square(20, 30))
    assert metric.compute()["j"] == 1


def test_a_frame_counts_once():
    metric, again = JAndF(), JAndF()
    for one in (metric, again):
        one.update("dog", "1", "00003", square(0, 9), square(0, 9))
    with pytest.raises(ValueError, match=r"dog: frame 00003 of '1' is counted twice"):
        metric.merge(again)
    assert JAndF().compute() == {}
