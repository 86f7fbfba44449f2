"""Every accumulator: parts counted by several processes and merged in any order equal one pass to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anygrain.eval.clicks import ClickIoU
from anygrain.eval.concepts import ConceptF1
from anygrain.eval.detection import AveragePrecision
from anygrain.eval.expressions import ExpressionIoU, SameTarget
from anygrain.eval.metrics import Overlap
from anygrain.eval.panoptic import PanopticQuality
from anygrain.eval.presence import PresenceScores
from anygrain.eval.saliency import Saliency
from anygrain.eval.semantic import Confusion
from anygrain.eval.video import JAndF
from anygrain.types import Mask, Region

H, W = 8, 9


def pair(rng):
    union = int(rng.integers(0, 10**6))
    return Overlap(int(rng.integers(0, union + 1)), union)


def masks(rng, count):
    return rng.random((count, H, W)) < 0.4


def segments(rng):
    ids = rng.integers(0, 4, (2, 3)).repeat(4, 0).repeat(3, 1)
    return ids, {int(i): "abc"[rng.integers(3)] for i in np.unique(ids) if i}


def regions(rng, scored):
    def one():
        score, ignore = (float(rng.integers(1, 4)) / 4, False) if scored else (None, bool(rng.random() < 0.2))
        mask = Mask.from_array(masks(rng, 1)[0])
        return Region(mask=mask, category="ab"[rng.integers(2)], score=score, ignore=ignore)

    return [one() for _ in range(rng.integers(0, 4))]


def concept(metric, rng, _):
    count = int(rng.integers(0, 3))
    metric.update(masks(rng, count), rng.random(count), *(masks(rng, int(rng.integers(0, 3))) for _ in range(2)))


def click(metric, rng, _):
    metric.update(masks(rng, 3), rng.integers(0, 3, 3), rng.choice([0, 1, 255], (H, W)))


METRICS = {
    "rela": (
        ExpressionIoU,
        lambda m, rng, _: m.update(pair(rng), target=bool(rng.random() < 0.7), answered=bool(rng.random() < 0.7)),
    ),
    "lisa": (lambda: ExpressionIoU("lisa"), lambda m, rng, _: m.update(pair(rng), target=bool(rng.random() < 0.7))),
    "same target": (SameTarget, lambda m, rng, _: m.update("abc"[rng.integers(3)], pair(rng))),
    "confusion": (
        lambda: Confusion("abc"),
        lambda m, rng, _: m.update(rng.integers(0, 4, (H, W)), rng.choice([0, 1, 2, 255], (H, W))),
    ),
    "video": (
        JAndF,
        lambda m, rng, place: m.update("v", "12"[rng.integers(2)], str(place), *masks(rng, 2)),
    ),
    "saliency": (Saliency, lambda m, rng, _: m.update(rng.random((H, W)), masks(rng, 1)[0])),
    "panoptic": (lambda: PanopticQuality(("a",)), lambda m, rng, _: m.update(*segments(rng), *segments(rng))),
    "concepts": (ConceptF1, concept),
    "presence": (PresenceScores, lambda m, rng, _: m.update(float(rng.random()), there=bool(rng.random() < 0.5))),
    "clicks": (ClickIoU, click),
    "detection": (
        AveragePrecision,
        lambda m, rng, place: m.update(f"{place}", (H, W), regions(rng, True), regions(rng, False)),
    ),
}


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), places=st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_parts_merged_in_any_order_equal_one_pass(name, seed, places):
    new, count = METRICS[name]
    whole, parts = new(), [new() for _ in range(4)]
    for number, place in enumerate(places):
        count(whole, np.random.default_rng([seed, number]), number)
        count(parts[place], np.random.default_rng([seed, number]), number)
    merged = new()
    for part in reversed(parts):
        merged.merge(part)
    figures = merged.compute()
    assert figures == whole.compute()
    assert figures or name in ("same target", "detection")
