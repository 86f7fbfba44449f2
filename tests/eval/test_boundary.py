import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anygrain.eval.boundary import boundary_f, contour


def square(y0, x0, y1, x1, size=(100, 100)):
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_contour_lies_where_a_right_or_lower_neighbour_differs():
    found = contour(square(2, 2, 4, 4, (6, 6)))
    assert found.astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 0, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_the_rim_of_the_image_is_no_border():
    assert not contour(np.ones((5, 7), bool)).any()
    assert contour(square(0, 0, 5, 3, (5, 7))).sum() == 5  # only the edge inside the image


def test_a_shift_within_the_tolerance_is_forgiven_and_one_beyond_is_not():
    truth = square(30, 0, 100, 100)  # one straight border of 100 pixels
    tolerance = 2 / np.hypot(100, 100)  # 2 pixels
    assert boundary_f(square(32, 0, 100, 100), truth, tolerance) == 1
    assert boundary_f(square(33, 0, 100, 100), truth, tolerance) == 0


def test_the_tolerance_of_davis_is_rounded_up():
    # 0.008 of the diagonal of 216 x 384 is 3.52 pixels: 4 are forgiven.
    truth = square(100, 0, 216, 384, (216, 384))
    assert boundary_f(square(104, 0, 216, 384, (216, 384)), truth) == 1
    assert boundary_f(square(105, 0, 216, 384, (216, 384)), truth) == 0


def test_precision_and_recall_are_balanced():
    truth = square(20, 0, 100, 100)  # 100 contour pixels
    both = truth & ~square(60, 0, 100, 100)  # a second border as long, far away
    assert boundary_f(both, truth, 0) == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert boundary_f(truth, both, 0) == pytest.approx(2 * 0.5 * 1 / 1.5)


def test_masks_without_a_contour():
    empty, full, one = np.zeros((9, 9), bool), np.ones((9, 9), bool), square(3, 3, 6, 6, (9, 9))
    assert boundary_f(empty, empty) == boundary_f(full, full) == 1
    assert boundary_f(one, empty) == boundary_f(empty, one) == 0


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 6\).*\(2, 3\)"):
        boundary_f(np.zeros((4, 6), bool), np.zeros((2, 3), bool))


def by_pairs(mask, truth, radius):
    """The same from the definition: every contour pixel against every other one."""
    found, wanted = np.argwhere(contour(mask)), np.argwhere(contour(truth))
    if not len(found) or not len(wanted):
        return float(len(found) == len(wanted))
    near = ((found[:, None] - wanted[None]) ** 2).sum(-1) <= radius**2
    precision, recall = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if near.any() else 0.0


@settings(max_examples=60, deadline=None)
@given(arrays(bool, (9, 13)), arrays(bool, (9, 13)), st.integers(0, 3))
def test_any_masks_by_the_definition(mask, truth, radius):
    assert boundary_f(mask, truth, radius / np.hypot(9, 13) * 0.999) == pytest.approx(by_pairs(mask, truth, radius))
