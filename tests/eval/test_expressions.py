import pytest

from anygrain.eval.expressions import ExpressionIoU, SameTarget
from anygrain.eval.metrics import Overlap


def counted(convention, *rows):
    metric = ExpressionIoU(convention)
    for pair, options in rows:
        metric.update(Overlap(*pair), **options)
    return metric.compute()


def test_ciou_is_a_ratio_of_sums_and_giou_a_mean_of_ratios():
    figures = counted("refcoco", ((10, 10), {}), ((0, 30), {}), ((7, 10), {}), ((69, 100), {}))
    assert figures["ciou"] == 86 / 150
    assert figures["giou"] == pytest.approx((1 + 0 + 0.7 + 0.69) / 4, abs=1e-13)
    # IoU 0.7 exactly is a hit at 0.7
    assert [figures[f"p_at_0.{t}"] for t in (5, 6, 7, 8, 9)] == [0.75, 0.75, 0.5, 0.25, 0.25]
    assert "n_acc" not in figures


def test_a_target_without_a_pixel_is_missed_by_lavt_and_met_by_lisa():
    assert counted("refcoco", ((0, 0), {}))["giou"] == 0
    assert counted("rela", ((0, 0), {}))["giou"] == 0
    assert counted("lisa", ((0, 0), {"answered": False}))["giou"] == 1


NOTHING = {"target": False}
REFUSED = {"target": False, "answered": False}


def test_rela_counts_no_target_answers_as_one_or_zero():
    rows = [((0, 0), REFUSED), ((0, 50), REFUSED), ((0, 40), NOTHING), ((30, 60), {}), ((20, 40), {"answered": False})]
    figures = counted("rela", *rows)
    # called absent: IoU 1 and no pixels, whatever was drawn; answered: its 40 pixels join the union; a target called
    # absent: no intersection, but all of the union as drawn
    assert figures["giou"] == pytest.approx((1 + 1 + 0 + 0.5 + 0) / 5)
    assert figures["ciou"] == 30 / (40 + 60 + 40)
    assert figures["n_acc"] == 2 / 3
    assert figures["t_acc"] == 0.5
    assert figures["p_at_0.5"] == 0.5  # of the two targets, not of all five


def test_lisa_lets_the_masks_decide_and_adds_a_little_to_the_union():
    rows = [((0, 0), REFUSED), ((0, 40), NOTHING), ((30, 60), {}), ((0, 40), {"answered": False})]
    figures = counted("lisa", *rows)
    assert figures["giou"] == pytest.approx((1 + 0 + 30 / (60 + 1e-5) + 0) / 4, abs=1e-13)
    assert abs(figures["giou"] - (1 + 0.5) / 4) > 1e-9
    assert figures["ciou"] == 30 / 140
    assert (figures["n_acc"], figures["t_acc"]) == (0.5, 0.5)


def test_refcoco_refuses_expressions_without_a_target_and_conventions_do_not_mix():
    with pytest.raises(ValueError, match="have a target for each expression"):
        ExpressionIoU("refcoco").update(Overlap(0, 0), target=False)
    with pytest.raises(ValueError, match="lisa cannot join those by rela"):
        ExpressionIoU("rela").merge(ExpressionIoU("lisa"))
    assert ExpressionIoU().compute() == {}


def test_same_target_needs_every_expression():
    metric = SameTarget()
    for target, *pair in (("a", 9, 10), ("a", 7, 10), ("b", 10, 10), ("b", 69, 100), ("alone", 0, 9), ("c", 0, 0)):
        metric.update(target, Overlap(*pair))
    metric.update("c", Overlap(3, 3))
    figures = metric.compute()
    assert figures["same_targets"] == 3
    assert figures["all_at_0.7"] == 1 / 3
    assert figures["worst_iou"] == pytest.approx((0.7 + 0.69 + 0) / 3)
    assert SameTarget().compute() == {}
