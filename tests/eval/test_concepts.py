import numpy as np
import pytest

from anygrain.eval.concepts import ConceptF1


def masks(*spans, width=40):
    """Masks [N, 1, W] of the given columns."""
    return np.array([[(np.arange(width) >= a) & (np.arange(width) < b)] for a, b in spans], bool).reshape(-1, 1, width)


def counted(*prompts):
    metric = ConceptF1()
    for found, scores, *truths in prompts:
        metric.update(found, np.array(scores), *truths)
    return metric.compute()


def test_cgf1_is_f1_of_present_prompts_times_the_correlation_of_presence():
    both = masks((0, 10), (20, 30))
    figures = counted(
        (both, [0.9, 0.5], both),  # two hits
        (masks((0, 10), (30, 40)), [0.9, 0.9], both),  # a hit, one wrong, one missed
        (masks(), [], both),  # two missed
        (masks(), [], masks()),  # rightly refused
        (masks((0, 5)), [0.49], masks()),  # below the threshold: refused
        (masks((0, 5)), [0.7], masks()),  # wrong, but a matter of presence, not of F1
    )
    precision, recall = 3 / 4, 3 / 6
    assert figures["pmf1"] == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-4)
    tp, fp, tn, fn = 2, 1, 2, 1
    mcc = (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    assert figures["il_mcc"] == pytest.approx(mcc, abs=1e-6)
    assert figures["cgf1"] == pytest.approx(figures["pmf1"] * figures["il_mcc"])
    assert figures["positive_macro_f1"] == pytest.approx((1 + 0.5) / 2, abs=2e-4)
    assert figures["prompts"] == 6


def test_a_match_counts_at_the_thresholds_it_reaches():
    figures = counted((masks((0, 8)), [1], masks((0, 10))), (masks(), [], masks()))
    assert figures["pmf1_50"] == figures["pmf1_75"] == pytest.approx(1, abs=2e-4)
    assert figures["pmf1"] == pytest.approx(0.7, abs=2e-4)  # 0.5 ... 0.8, not 0.85 ... 0.95


def test_masks_are_matched_for_the_greatest_sum_and_not_greedily():
    truth = masks((0, 10), (5, 15))
    found = masks((3, 13), (0, 7))  # the first fits the second truth best; greedy by its IoU with the first would not
    figures = counted((found, [0.9, 0.9], truth), (masks(), [], masks()))
    assert figures["pmf1_50"] == pytest.approx(1, abs=2e-4)


def test_of_several_annotators_the_one_that_agrees_best_counts():
    loose, strict = masks((0, 20)), masks((0, 10), (10, 20))
    assert counted((strict, [1, 1], loose, strict))["pmf1"] == pytest.approx(1, abs=2e-4)
    agreed = counted((masks(), [], loose, masks()), (strict, [1, 1], strict))
    assert agreed["il_mcc"] == pytest.approx(1)  # somebody too saw nothing


def test_nothing_to_count_and_wrong_numbers():
    assert ConceptF1().compute() == {}
    with pytest.raises(ValueError, match="as many scores as masks"):
        counted((masks((0, 2)), [], masks()))
    with pytest.raises(ValueError, match="at least one annotator"):
        counted((masks(), []))
