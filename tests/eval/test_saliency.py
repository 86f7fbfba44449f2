import numpy as np
import pytest

from anygrain.eval.saliency import Saliency


def photo(number, size=(24, 31)):
    """A textured map uint8 [H, W] that is brighter on its object, and the object."""
    y, x = np.mgrid[: size[0], : size[1]]
    truth = (y - 9) ** 2 + (x - 10 - number) ** 2 < (5 + number) ** 2
    texture = (37 * y * y + 11 * x * y + 5 * x + 53 * number) % 97
    return (texture + truth * 60 + number).astype(np.uint8), truth


# PySODMetrics 1.6.2 on the four photos above; on 600 random ones the greatest difference was 5e-13.
BY_PYSODMETRICS = {
    "mae": 0.3078449608187511,
    "adaptive_f": 0.7500764636316025,
    "weighted_f": 0.37159756222107276,
    "s_measure": 0.610836509193089,
    "adaptive_e": 0.6914704151419171,
    "max_f": 0.8703769470594573,
    "mean_f": 0.46953675855710864,
    "max_e": 0.908206298488053,
    "mean_e": 0.49123363278491855,
}


def counted(*photos):
    metric = Saliency()
    for saliency, truth in photos:
        metric.update(saliency, truth)
    return metric.compute()


def test_figures_are_those_of_pysodmetrics():
    figures = counted(*map(photo, range(4)))
    assert figures.pop("photos") == 4
    assert figures == pytest.approx(BY_PYSODMETRICS, abs=1e-11)


def test_max_mean_and_adaptive_f_are_three_things():
    figures = counted(photo(1))
    assert figures["max_f"] - figures["adaptive_f"] > 0.02
    assert figures["adaptive_f"] - figures["mean_f"] > 0.02


def test_a_perfect_mask_and_its_opposite():
    truth = photo(0)[1]
    perfect, opposite = counted((truth.astype(float), truth)), counted(((~truth).astype(float), truth))
    for name in ("max_f", "adaptive_f", "weighted_f", "s_measure"):
        assert perfect[name] == pytest.approx(1, abs=1e-9)
        assert opposite[name] < 0.35
    assert perfect["mae"] == 0
    assert opposite["mae"] == 1
    # E divides by pixels - 1
    assert perfect["adaptive_e"] == pytest.approx(truth.size / (truth.size - 1))


def test_photos_without_an_object_and_all_object():
    nothing, everything = np.zeros((5, 7), bool), np.ones((5, 7), bool)
    some = np.zeros((5, 7), np.uint8)
    some[0, :7] = 255
    figures = counted((some, nothing))
    assert (figures["weighted_f"], figures["max_f"]) == (0, 0)
    assert figures["s_measure"] == pytest.approx(1 - 1 / 5)
    assert counted((some, everything))["s_measure"] == pytest.approx(1 / 5)
    assert counted((some, everything))["adaptive_e"] == pytest.approx(7 / 34)


def test_uint8_and_floats_are_read_alike_and_a_flat_map_is_not_stretched():
    saliency, truth = photo(2)
    assert counted((saliency, truth)) == counted((saliency / 255.0, truth))
    assert counted((np.full(truth.shape, 0.25), truth))["mae"] == pytest.approx(
        truth.mean() * 0.75 + (1 - truth.mean()) * 0.25
    )


def test_what_cannot_be_counted_is_refused():
    saliency, truth = photo(0)
    with pytest.raises(ValueError, match=r"\(24, 30\) but its truth \(24, 31\); resize the map"):
        counted((saliency[:, 1:], truth))
    with pytest.raises(ValueError, match=r"values in 0\.\.1, got 0\.\.255"):
        counted((np.where(truth, 255.0, 0), truth))
    with pytest.raises(ValueError, match="must be bool, got uint8"):
        counted((saliency, truth.astype(np.uint8)))
    assert Saliency().compute() == {}
