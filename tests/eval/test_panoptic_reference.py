"""PQ, SQ and RQ against a second implementation, from the definition and panopticapi's rules, on random maps."""

from __future__ import annotations

import numpy as np
import pytest

from anygrain.eval.panoptic import PanopticQuality

NAMES = ("cat", "dog", "sky", "road")


def random_photo(rng: np.random.Generator):
    """A true map of rectangles and a found one that is near to it, with void, crowds and some segments renamed."""
    height, width = rng.integers(6, 20, 2)
    truth = np.zeros((height, width), int)
    for number in range(1, rng.integers(2, 8)):
        y, x = rng.integers(0, height), rng.integers(0, width)
        truth[y : y + rng.integers(2, height), x : x + rng.integers(2, width)] = number
    found = np.roll(truth, tuple(rng.integers(-1, 2, 2)), (0, 1))
    found[rng.random(found.shape) < rng.choice([0, 0.1, 0.4])] = rng.integers(0, 9)
    true_names = {int(n): NAMES[rng.integers(4)] for n in np.unique(truth) if n}
    names = {
        int(n): true_names[int(n)] if int(n) in true_names and rng.random() < 0.8 else NAMES[rng.integers(4)]
        for n in np.unique(found)
        if n
    }
    crowds = [n for n in true_names if rng.random() < 0.2]
    return found, names, truth, true_names, crowds


def reference(photos) -> dict[str, dict[str, float]]:
    """By category pq, sq, rq: every pair of segments is compared as two bool masks."""
    tp, fp, fn, iou_sum = (dict.fromkeys(NAMES, 0.0) for _ in range(4))
    for found, names, truth, true_names, crowds in photos:
        void = truth == 0
        matched_true, matched_found = set(), set()
        for t in true_names:
            for f in names:
                if true_names[t] != names[f] or t in crowds:
                    continue
                a, b = truth == t, (found == f)
                iou = (a & b).sum() / (a | (b & ~void)).sum()
                if iou > 0.5:
                    tp[names[f]] += 1
                    iou_sum[names[f]] += iou
                    matched_true.add(t)
                    matched_found.add(f)
        for t in true_names:
            if t not in matched_true and t not in crowds:
                fn[true_names[t]] += 1
        for f in names:
            if f in matched_found:
                continue
            same = [t for t in true_names if t in crowds and true_names[t] == names[f]]
            forgiven = void | (truth == same[-1]) if same else void
            b = found == f
            if (b & forgiven).sum() / b.sum() > 0.5:
                continue
            fp[names[f]] += 1
    figures = {}
    for name in NAMES:
        weight = tp[name] + fp[name] / 2 + fn[name] / 2
        if weight:
            sq = iou_sum[name] / tp[name] if tp[name] else 0.0
            figures[name] = {"pq": iou_sum[name] / weight, "sq": sq, "rq": tp[name] / weight}
    return figures


@pytest.mark.parametrize("seed", range(40))
def test_random_photos_give_the_same_figures(seed):
    rng = np.random.default_rng(seed)
    photos = [random_photo(rng) for _ in range(5)]
    count = PanopticQuality(things={"cat", "dog"})
    for photo in photos:
        count.update(*photo)
    expected = reference(photos)
    each = count.per_category()
    assert each.keys() == expected.keys()
    for name, figures in expected.items():
        assert each[name] == pytest.approx(figures, abs=1e-9)
    whole = count.compute()
    for group, names in (("", NAMES), ("_things", ("cat", "dog")), ("_stuff", ("sky", "road"))):
        there = [expected[name] for name in names if name in expected]
        for key in ("pq", "sq", "rq") if there else ():
            assert whole[key + group] == pytest.approx(np.mean([figures[key] for figures in there]), abs=1e-9)
