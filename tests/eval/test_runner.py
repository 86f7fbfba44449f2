import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from known import Known, sample
from PIL import Image

import anygrain
from anygrain.data.shards import write_shards
from anygrain.eval.runner import evaluate, evaluate_training
from anygrain.eval.tasks import questions, spread
from anygrain.types import Mask, Region, Sample
from small_photos import H, W, rect, region

NAMES = ("dog", "cat", "cup", "fork", "sink", "kite", "boat")


DOG = (10, 10, 30, 30)


@pytest.fixture
def toys(tmp_path):
    """One source of two photos: a dog in each, two cats in the second, and a phrase and the salient object."""
    samples = [
        sample(1, region(DOG, category="dog", captions=("the most salient object",)), exhaustive=NAMES),
        sample(
            2,
            region(DOG, category="dog"),
            region((0, 40, 10, 50), category="cat", captions=("the upper cat",)),
            region((20, 40, 30, 50), category="cat"),
        ),
    ]
    write_shards(samples, tmp_path / "data" / "toys")
    return tmp_path / "data"


TRUTH = {
    "all dog": rect(*DOG),
    "all cat": rect(0, 40, 10, 50) | rect(20, 40, 30, 50),
    "the most salient object": rect(*DOG),
    "the upper cat": rect(0, 40, 10, 50),
}


def there(number, text):
    return number == 2 or text in ("all dog", "the most salient object")


def perfect(number, text):
    return TRUTH.get(text) if there(number, text) else None


def test_perfect_answers_score_one_everywhere(toys):
    figures = evaluate(Known(perfect), toys).sources["toys"].figures
    for name in ("category_miou", "iou", "salient_iou", "phrase_iou", "absent_called_absent"):
        assert figures[name] == 1, name
    assert figures["present_called_absent"] == 0
    assert (figures["photos"], figures["prompts"], figures["absent_prompts"]) == (2, 5, 4)


def test_no_answers_score_zero_and_count_as_missed(toys):
    figures = evaluate(Known(lambda *_: None), toys).sources["toys"].figures
    assert (figures["category_miou"], figures["iou"], figures["salient_iou"]) == (0, 0, 0)
    assert figures["present_called_absent"] == 1
    assert figures["absent_called_absent"] == 1


def test_half_of_each_thing_scores_a_half(toys):
    def half(number, text):
        mask = perfect(number, text)
        if mask is None:
            return rect(0, 0, 2, 2)  # something is found where nothing is
        rows = np.flatnonzero(mask.any(1))
        return mask & ~(np.isin(np.arange(H), rows[::2])[:, None])

    report = evaluate(Known(half), toys)
    figures = report.sources["toys"].figures
    assert figures["category_miou"] == 0.5
    assert figures["iou"] == pytest.approx(0.5, abs=1e-12)
    assert figures["absent_called_absent"] == 0
    assert report.sources["toys"].categories == {"cat": {"iou": 0.5, "photos": 1}, "dog": {"iou": 0.5, "photos": 2}}


def test_a_photo_is_embedded_once_and_asked_everything(toys):
    known = Known(perfect)
    evaluate(known, toys)
    assert known.embedded == [1, 2]
    asked = {number: [text for n, text in known.asked if n == number] for number in (1, 2)}
    assert sorted(asked[2]) == ["all cat", "all dog", "the upper cat"]
    assert asked[1][:2] == ["the most salient object", "all dog"]
    assert set(asked[1][2:]) < {f"all {name}" for name in NAMES if name != "dog"}


def test_ignored_places_are_left_out(tmp_path):
    void, crowd = (0, 0, 10, 10), (30, 40, 40, 60)
    one = sample(
        1,
        region(DOG, category="dog"),
        region((0, 20, 5, 30), category="cat"),
        region(void, ignore=True),
        region(crowd, ignore=True, category="dog"),
    )
    write_shards([one], tmp_path / "toys")
    spill = rect(*void) | rect(*crowd)  # 100 + 200 pixels

    def spilled(_, text):
        return spill | rect(*DOG) if text == "all dog" else spill | rect(0, 20, 5, 30)

    categories = evaluate(Known(spilled), tmp_path / "toys").sources["toys"].categories
    assert categories["dog"]["iou"] == 1
    assert categories["cat"]["iou"] == pytest.approx(50 / (50 + 200))  # the crowd of dogs is no cat


def test_an_object_inside_an_ignored_place_still_counts(tmp_path):
    write_shards([sample(1, region(DOG, category="dog"), region((0, 0, H, W), ignore=True))], tmp_path / "toys")
    figures = evaluate(Known(lambda *_: rect(10, 10, 20, 30)), tmp_path / "toys").sources["toys"].figures
    assert figures["category_miou"] == 0.5


def test_absent_prompts_are_the_same_each_time_and_differ_between_photos():
    photos = [sample(n, region(DOG, category="dog"), exhaustive=NAMES) for n in range(6)]
    asked = [tuple(q.text for q in questions(photo, absent=3) if q.kind == "absent") for photo in photos]
    assert asked == [tuple(q.text for q in questions(photo, absent=3) if q.kind == "absent") for photo in photos]
    assert all(len(set(texts)) == 3 and "all dog" not in texts for texts in asked)
    assert len(set(asked)) > 1


def test_absent_prompts_do_not_depend_on_the_process():
    code = (
        "from anygrain.types import Sample; from anygrain.eval.tasks import questions;"
        f"s = Sample(id='toys/1', image=b'', size=(4, 4), regions=(), source='toys', exhaustive=frozenset({NAMES}));"
        "print([q.text for q in questions(s)])"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in "12"
    }
    assert len(runs) == 1


def test_limit_takes_photos_from_all_over_a_source(tmp_path):
    photos = [sample(n, region(DOG, category="dog")) for n in range(10)]
    write_shards(photos, tmp_path / "a")
    known = Known(perfect)
    report = evaluate(known, tmp_path, limit=3)
    assert known.embedded == [0, 3, 6]
    assert report.settings["limit"] == 3
    assert list(spread(2, 5)) == [0, 1]
    with pytest.raises(ValueError, match="limit is 0"):
        spread(10, 0)


def test_report_has_every_figure_and_a_table(toys, tmp_path):
    report = evaluate(Known(perfect), toys, out=tmp_path / "out", overlays=2)
    record = json.loads((tmp_path / "out" / "report.json").read_text())
    assert record["model"] == {"name": "known", "fingerprint": "0123"}
    assert record["sources"]["toys"]["figures"] == report.sources["toys"].figures
    assert record["sources"]["toys"]["categories"]["dog"] == {"iou": 1, "photos": 2}
    assert record["total"]["category_miou"] == 1
    assert {"settings", "command", "started", "seconds", "versions", "definitions", "data"} <= record.keys()
    assert record["settings"]["presence_threshold"] == 0.5
    lines = str(report).splitlines()
    header = lines[0].split()
    row = next(line for line in lines if line.startswith("toys")).split()
    assert dict(zip(header, row, strict=True)) == {
        "source": "toys",
        "photos": "2",
        "prompts": "5",
        "mIoU": "1.000",
        "salient": "1.000",
        "phrases": "1.000",
        "IoU/prompt": "1.000",
        "absent": "4",
        "refused": "100.0%",
        "missed": "0.0%",
    }


class Page(HTMLParser):
    """Checks that tags close in order, and keeps pictures and texts."""

    def __init__(self):
        super().__init__()
        self.open, self.pictures, self.texts, self.elsewhere = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])
        self.elsewhere += [v for k, v in attrs if k in ("src", "href") and not v.startswith(("data:", "#"))]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())


def read_page(path):
    page = Page()
    page.feed(path.read_text())
    page.close()
    assert page.open == []
    return page


def test_page_stands_alone_and_shows_the_worst_first(toys, tmp_path):
    def answers(number, text):
        if text == "all cat" and number == 2:
            return rect(0, 40, 10, 50)  # one of two
        return rect(0, 0, 5, 5) if not there(number, text) else TRUTH[text]

    evaluate(Known(answers), toys, out=tmp_path, overlays=2)
    page = read_page(tmp_path / "report.html")
    assert page.elsewhere == []
    captions = [text for text in page.texts if re.fullmatch(r"IoU [\d.]+|absent", text)]
    worst, invented = page.texts.index("Worst answers"), page.texts.index("Not there, and yet found")
    assert page.texts[worst + 1 : worst + 3] == ["all cat", "IoU 0.500"]
    assert "absent" in page.texts[invented:]
    assert len(page.pictures) == 2 + 1 + 2  # worst, invented (half as many), random
    assert len([c for c in captions if c.startswith("IoU")]) == 4
    for picture in page.pictures:
        jpeg = Image.open(BytesIO(base64.b64decode(picture.partition(",")[2])))
        jpeg.load()
        assert jpeg.size == (2 * W + 4, H)


def test_pictures_show_truth_left_and_answer_right(tmp_path):
    write_shards([sample(100, region((0, 0, H, 30), category="dog"))], tmp_path / "toys")
    evaluate(Known(lambda *_: rect(0, 30, H, 60)), tmp_path / "toys", out=tmp_path / "out", overlays=1)
    picture = read_page(tmp_path / "out" / "report.html").pictures[0]
    pixels = np.asarray(Image.open(BytesIO(base64.b64decode(picture.partition(",")[2]))), int)
    saturation = pixels.max(-1) - pixels.min(-1)
    inside = [saturation[:, x].mean() for x in (12, 48, W + 4 + 12, W + 4 + 48)]
    assert inside[0] > 40
    assert inside[3] > 40
    assert inside[1] < 15
    assert inside[2] < 15


def test_captions_and_names_are_escaped(tmp_path):
    phrase = '<script>alert("x")</script> & co'
    write_shards([sample(1, region(DOG, captions=(phrase,)))], tmp_path / "toys")
    evaluate(Known(lambda *_: rect(*DOG)), tmp_path / "toys", out=tmp_path / "out")
    assert "<script" not in (tmp_path / "out" / "report.html").read_text()
    assert phrase in read_page(tmp_path / "out" / "report.html").texts


def test_bad_arguments_are_refused_before_the_work(toys, tmp_path):
    known = Known(perfect)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file: name a folder"):
        evaluate(known, toys, out=tmp_path / "file")
    with pytest.raises(ValueError, match="no such folder"):
        evaluate(known, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="overlays is -1"):
        evaluate(known, toys, out=tmp_path / "out", overlays=-1)
    assert known.embedded == []
    write_shards([sample(1)], tmp_path / "mute")
    with pytest.raises(ValueError, match="nothing to ask"):
        evaluate(known, tmp_path / "mute")


def test_a_model_folder_is_evaluated_as_it_answers_users(photos, tiny_model, tmp_path):
    photo = (photos / "dog.jpg").read_bytes()
    width, height = Image.open(BytesIO(photo)).size
    truth = np.zeros((height, width), bool)
    truth[: height // 2] = True
    upper = Region(mask=Mask.from_array(truth), captions=("a dog", "the upper half"))
    one = Sample(id="dog", image=photo, size=(height, width), regions=(upper,), source="dogs")
    write_shards([one], tmp_path / "dogs")
    report = anygrain.evaluate(tiny_model, tmp_path / "dogs")
    segmenter = anygrain.load(tiny_model)
    masks = segmenter(photo, upper.captions).masks
    ious = [(mask & truth).sum() / (mask | truth).sum() for mask in masks]
    assert min(ious) > 0
    assert max(ious) < 1
    assert report.sources["dogs"].figures["phrase_iou"] == pytest.approx(np.mean(ious), abs=1e-9)
    assert report.model["fingerprint"] == segmenter.info["fingerprint"]


def test_training_evaluation_agrees_and_leaves_the_network_alone(toys, tiny_model):
    import torch

    from anygrain.hub import read_model

    network = read_model(tiny_model)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    figures = evaluate_training(network, toys)
    report = anygrain.evaluate(tiny_model, toys)
    assert set(figures) == {"toys", "mean", "absent_called_absent", "present_called_absent"}
    assert figures["toys"] == pytest.approx(report.sources["toys"].figures["category_miou"], abs=0.01)
    assert figures["mean"] == figures["toys"]
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    with pytest.raises(ValueError, match="training mode"):
        evaluate_training(network.train(), toys)
