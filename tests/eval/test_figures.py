import json

import numpy as np
import pytest
from known import Known, sample

from anygrain.data.shards import ShardReader, write_shards
from anygrain.eval.figures import Figures
from anygrain.eval.gallery import Gallery
from anygrain.eval.metrics import Overlap, Scores
from anygrain.eval.photo import Photo
from anygrain.eval.referring import expressions
from anygrain.eval.report import SourceReport
from anygrain.eval.runner import evaluate
from anygrain.eval.targets import FREQUENT_CLOTHING, TARGETS
from anygrain.images import decode_image
from anygrain.types import Mask, Region, Sample
from small_photos import rect, region

THING = (10, 10, 30, 30)


def source(**ious):
    """Figures of a source: IoU in hundredths by category."""
    scores = Scores()
    for name, hundredths in ious.items():
        scores.update("category", name.replace("_", " "), Overlap(hundredths, 100), True, 0.9)
    return SourceReport.of(scores, Gallery(0))


def test_every_target_is_a_row_and_what_was_not_measured_a_dash():
    lines = str(Figures(values={"sky.category_miou": 0.9})).splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == ["figure", "measured", "at least", "aim"]
    assert len(lines) == 2 + len(TARGETS)
    rows = {cells[0]: cells[1:] for cells in ([c.strip() for c in line.strip("|").split("|")] for line in lines[2:])}
    assert rows["sky: IoU"] == ["0.900", "0.850", "0.920"]
    assert rows["davis: J&F by phrase"] == ["-", "0.580", "0.720"]
    assert rows["present prompts called absent"] == ["-", "8.0%", "3.0%"]
    assert len({len(line) for line in lines}) == 1


def test_no_target_asks_more_than_its_aim():
    for target in TARGETS:
        assert (target.at_least is None) == (target.aim is None), target.key
        if target.at_least is None or target.aim is None:
            continue
        assert target.met(target.aim, target.at_least), target.key
        assert not target.met(target.at_least, target.aim), target.key


def test_further_sources_have_a_row_each_and_those_with_a_target_no_second_one():
    figures = Figures.of(
        {}, {"camvid": source(sky=50), "ppe": source(vest=40, helmet=60), "coco_person": source(person=1)}
    )
    rows = {target.figure: value for target, value in figures.rows()}
    assert rows["camvid: mIoU of 11 categories"] == 0.5
    assert rows["ppe: mIoU of its categories"] == 0.5
    assert [target.figure for target, _ in figures.rows()[len(TARGETS) :]] == ["ppe: mIoU of its categories"]


def test_only_frequent_labels_of_clothing_count():
    figures = Figures.of({}, {"clothing": source(skin=80, hair=60, cape=0)})
    assert figures.values["clothing.frequent_miou"] == pytest.approx(0.7)
    assert figures.values["clothing.category_miou"] == pytest.approx(1.4 / 3)
    assert len(set(FREQUENT_CLOTHING)) == 20


@pytest.fixture
def shards(tmp_path):
    """A photo of each of several sources, so that every target has a figure."""
    one = region(THING, category="cat", captions=("the most salient object",))
    photos = {
        "pets": (one,),
        "horses": (region(THING, category="horse", captions=("the most salient object",)),),
        "coco_person": (region(THING, category="person"),),
        "refexp": (Region(box=(10, 10, 30, 30), captions=("the thing over there",)),),
        "davis": (region(THING, captions=("the thing",)),),
        "faces": (region(THING, category="mouth"),),
        "caltech_outlines": (region(THING, category="cell phone"),),
        "clothing": (region(THING, category="hat"),),
        "facade": tuple(
            region((y, 5, y + 10, 15), category="window", instance=number) for number, y in enumerate((5, 25))
        ),
        **dict.fromkeys(("coco", "camvid", "sky", "car_parts"), (region(THING, category="sky"),)),
    }
    for number, (name, regions) in enumerate(photos.items(), start=1):
        exhaustive = ("window", "dog", "kite") if name == "facade" else ()
        write_shards([sample(number, *regions, exhaustive=exhaustive, source=name)], tmp_path / "data" / name)
    return tmp_path / "data"


def test_perfect_answers_reach_every_aim(shards):
    facade = ShardReader(shards / "facade")[0]
    truth = {one.text: one.mask.to_array() for one in expressions(Photo(facade, "facade"))}
    assert len(truth) >= 3

    def perfect(number, text):
        if text in ("all dog", "all kite"):
            return None
        if int(np.asarray(decode_image(facade.image))[0, 0, 0]) == number:
            return truth.get(text, rect(5, 5, 15, 15) | rect(25, 5, 35, 15))
        return rect(*THING)

    report = evaluate(Known(perfect, scores=(1.0, 0.0)), shards, figures=True)
    for target, value in report.figures.rows():
        assert value is not None or target.key.startswith("statements"), target.key
        assert target.aim is None or target.met(value, target.aim), (target.key, value)
    assert report.figures.values["presence.absent_called_absent"] == 1
    assert report.reliability.error() == 0
    assert str(report.figures) in str(report)


def test_no_answers_reach_nothing(shards):
    report = evaluate(Known(lambda *_: None), shards, figures=True)
    for target, value in report.figures.rows():
        if target.key == "presence.absent_called_absent":
            assert value == 1
        elif target.at_least is not None:
            assert value is None or not target.met(value, target.at_least), target.key


def test_figures_are_measured_only_when_asked_for(shards):
    known = Known(lambda *_: None)
    report = evaluate(known, shards)
    assert report.figures is None
    assert "at least" not in str(report)
    assert all("every" not in text for _, text in known.asked)


def test_the_report_holds_table_details_and_curve(shards, tmp_path):
    report = evaluate(Known(lambda *_: rect(*THING)), shards, figures=True, out=tmp_path / "out", overlays=0)
    record = json.loads((tmp_path / "out" / "report.json").read_text())
    rows = {row["key"]: row for row in record["figures"]["table"]}
    assert rows["davis.j_and_f"] == {
        "key": "davis.j_and_f",
        "figure": "davis: J&F by phrase",
        "measured": 1,
        "at_least": 0.58,
        "aim": 0.72,
    }
    assert record["figures"]["details"]["unseen"]["faces: lips for mouth"] == {"word": 1, "name": 1}
    assert record["reliability"]["curve"] == report.reliability.curve()
    assert record["settings"]["referring_phrases_per_photo"] == 6
    page = (tmp_path / "out" / "report.html").read_text()
    for text in ("davis: J&amp;F by phrase", "faces: lips for mouth", "Expected calibration error", "<svg"):
        assert text in page


def test_the_command_prints_the_table_for_a_real_model(anygrain, photos, tiny_model, tmp_path):
    def photo(name, **said):
        mask = Mask.from_array(np.asarray(decode_image(photos / f"{name}.png")) == 1)
        regions = (Region(mask=mask, **said),)
        return Sample(id=f"{name}/0", image=photos / f"{name}.jpg", size=mask.size, regions=regions, source="zoo")

    write_shards([photo("pet", category="cat", captions=("the most salient object",))], tmp_path / "val" / "pets")
    write_shards([photo("dog", captions=("the dog",))], tmp_path / "val" / "davis")
    result = anygrain(
        "evaluate",
        "--model",
        tiny_model,
        "--data",
        tmp_path / "val",
        "--figures",
        "--out",
        tmp_path / "out",
        "--limit",
        1,
    )
    assert result.status == 0, result.err
    table = json.loads((tmp_path / "out" / "report.json").read_text())["figures"]["table"]
    measured = {row["key"] for row in table if row["measured"] is not None}
    assert {"pets.named_miou", "pets.salient_iou", "davis.j_and_f", "paraphrases.worst_over_mean"} <= measured
    line = next(line for line in result.out.splitlines() if line.startswith("| davis: J&F by phrase"))
    j_and_f = next(row["measured"] for row in table if row["key"] == "davis.j_and_f")
    assert f"{j_and_f:.3f}" in line
