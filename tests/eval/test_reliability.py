import xml.etree.ElementTree as ET

import pytest

from anygrain.eval.chart import reliability_chart
from anygrain.eval.reliability import Reliability


def counted(rows):
    reliability = Reliability()
    for score, there in rows:
        reliability.update(score, there=there)
    return reliability


def test_each_bin_has_its_mean_score_and_share():
    curve = counted([(0.02, False), (0.06, True), (0.7, True), (0.75, True), (0.79, False), (1.0, True)]).curve()
    assert [(point["low"], point["high"], point["prompts"]) for point in curve] == [
        (0, 0.1, 2),
        (0.7, 0.8, 3),
        (0.9, 1, 1),
    ]
    assert [point["there"] for point in curve] == [0.5, pytest.approx(2 / 3), 1]
    assert [point["score"] for point in curve] == pytest.approx([0.04, (0.7 + 0.75 + 0.79) / 3, 1])


def test_calibration_error_weighs_bins_by_prompts():
    # three prompts at 0.95, of which one is there; one prompt at 0.25, there
    reliability = counted([(0.95, True), (0.95, False), (0.95, False), (0.25, True)])
    assert reliability.error() == pytest.approx((3 * abs(0.95 - 1 / 3) + 1 * abs(0.25 - 1)) / 4)


def test_honest_scores_have_no_error():
    rows = [(tenth / 10 + 0.05, number < 2 * tenth + 1) for tenth in range(10) for number in range(20)]
    assert counted(rows).error() == pytest.approx(0, abs=1e-9)


def test_no_prompt_no_figure():
    assert Reliability().error() is None
    assert Reliability().curve() == []


def test_chart_has_a_dot_where_each_bin_is():
    curve = counted([(0.25, True), (0.25, False), (0.85, True)]).curve()
    tree = ET.fromstring(reliability_chart(curve))
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in tree.iter("circle")]
    frame = next(tree.iter("rect"))
    x, y, side = (float(frame.get(name)) for name in ("x", "y", "width"))
    assert dots == [
        (pytest.approx(x + 0.25 * side), pytest.approx(y + 0.5 * side)),
        (pytest.approx(x + 0.85 * side), pytest.approx(y)),
    ]
