import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from anygrain.eval.detection import NAMES, AveragePrecision
from anygrain.types import Mask, Region

SIZE = (120, 160)


def region(rng, category, base=None, **fields):
    x, y, w, h = (rng.integers(0, 60), rng.integers(0, 40), rng.integers(5, 90), rng.integers(5, 70))
    if base is not None:
        x, y, w, h = base[0] + rng.integers(-3, 4), base[1] + rng.integers(-3, 4), base[2], base[3]
    mask = np.zeros(SIZE, bool)
    mask[max(y, 0) : y + h, max(x, 0) : x + w] = True
    return (x, y, w, h), Region(mask=Mask.from_array(mask), category=category, **fields)


def photos(count=12, seed=0):
    rng = np.random.default_rng(seed)
    for number in range(count):
        truth, found = [], []
        for _ in range(rng.integers(0, 6)):
            category = "abc"[rng.integers(3)]
            box, one = region(rng, category, ignore=bool(rng.random() < 0.15))
            truth.append(one)
            for _ in range(rng.integers(0, 3)):
                found.append(region(rng, category, box, score=float(rng.random()))[1])
        found += [region(rng, "abcd"[rng.integers(4)], score=float(rng.random()))[1] for _ in range(rng.integers(0, 3))]
        yield f"photo{number:03}", SIZE, found, truth


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_figures_are_those_of_pycocotools_from_files(tmp_path, kind):
    metric = AveragePrecision(kind)
    numbers = {"a": 7, "b": 3, "c": 9}
    truth, answers = [], []
    for place, (name, size, found, wanted) in enumerate(photos()):
        metric.update(name, size, found, wanted)
        for one in wanted + [f for f in found if f.category != "d"]:
            x0, y0, x1, y1 = one.mask.box
            record = {"image_id": 100 + place, "category_id": numbers[one.category], "bbox": [x0, y0, x1 - x0, y1 - y0]}
            if one.score is None:
                extra = {"id": len(truth) + 1, "iscrowd": int(one.ignore), "area": one.mask.area}
                truth.append(record | extra | {"segmentation": one.mask.to_coco()})
            else:
                shape = {"segmentation": one.mask.to_coco()} if kind == "segm" else {}
                answers.append(record | shape | {"score": one.score})
    table = {"images": [{"id": 100 + n, "height": SIZE[0], "width": SIZE[1]} for n in range(12)]}
    table |= {"categories": [{"id": n, "name": c} for c, n in numbers.items()], "annotations": truth}
    (tmp_path / "truth.json").write_text(json.dumps(table))
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        official = COCOeval(coco, coco.loadRes(str(tmp_path / "answers.json")), kind)
        official.evaluate()
        official.accumulate()
        official.summarize()
    figures = metric.compute()
    assert 0.05 < figures["ap"] < 0.95
    assert figures["photos"] == 12
    for name, value in zip(NAMES, official.stats.tolist(), strict=True):
        assert figures.get(name, -1) == pytest.approx(value, abs=1e-12)


def test_a_crowd_takes_any_number_of_answers_and_is_not_missed():
    rng = np.random.default_rng(1)
    one = region(rng, "person")[1]
    truth = [one, region(rng, "person", (100, 60, 50, 50), ignore=True)[1]]
    found = [region(np.random.default_rng(1), "person", score=0.9)[1]]
    found += [region(rng, "person", (105, 65, 40, 40), score=0.95)[1] for _ in range(3)]
    metric = AveragePrecision()
    metric.update("p", SIZE, found, truth)
    assert metric.compute()["ap"] == pytest.approx(1)


def test_what_cannot_be_counted_is_named():
    rng = np.random.default_rng(0)
    metric = AveragePrecision()
    with pytest.raises(ValueError, match=r"p: an answer of 'a' has no score"):
        metric.update("p", SIZE, [region(rng, "a")[1]], [])
    with pytest.raises(ValueError, match="has no category"):
        metric.update("p", SIZE, [], [region(rng, None)[1]])
    with pytest.raises(ValueError, match="'a' has no segm"):
        metric.update("p", SIZE, [], [Region(box=(0, 0, 1, 1), category="a")])
    metric.update("p", SIZE, [], [])
    with pytest.raises(ValueError, match="p: the photo is counted twice"):
        metric.update("p", SIZE, [], [])
    assert metric.compute() == {}
