"""The command line for clicks: segment, everything, convert, and what is said to bad input."""

import json
from pathlib import Path

import numpy as np
import pytest

from anygrain import hub
from anygrain.images import open_image
from anygrain.types import Mask
from tiny_semantic_sam import build


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return hub.save(build(), tmp_path_factory.mktemp("models") / "clicks", card="# tiny\n")


@pytest.fixture(scope="module")
def silent(tmp_path_factory):
    """A model without a text encoder."""
    return hub.save(build(text_encoder=None), tmp_path_factory.mktemp("models") / "silent", card="# tiny\n")


@pytest.fixture
def click(anygrain, model, folder, photos):
    return lambda *arguments: anygrain("segment", photos / "dog.jpg", "--model", model, "--device", "cpu", *arguments)


def test_clicks_and_boxes_and_their_record(click, photos):
    result = click("--point", "60,50", "--box", "10,10,90,80", "--granularity", "all")
    assert (result.status, result.err) == (0, "")
    record = json.loads(Path("out/dog.json").read_text())
    width, height = open_image(photos / "dog.jpg").size
    prompts = [segment["prompt"] for segment in record["segments"]]
    asked = [{"points": [[60, 50]], "point_labels": [1]}, {"box": [10, 10, 90, 80]}]
    assert [prompt for number, prompt in enumerate(prompts) if prompt not in prompts[:number]] == asked
    assert [segment["id"] for segment in record["segments"]] == list(range(len(prompts)))
    for prompt in prompts:
        levels = [level for s in record["segments"] if s["prompt"] == prompt for level in s["levels"]]
        assert sorted(levels) == [1, 2, 3, 4, 5, 6]
    for segment in record["segments"]:
        assert segment["granularity"] in ("part", "object", "scene")
        assert -1 < segment["predicted_iou"] < 2
        mask = Mask.from_coco(segment["segmentation"], (height, width))
        assert mask.area == segment["area"]
    assert open_image("out/dog.overlay.png").size == (width, height)
    assert "of the picture (score" in result.out


@pytest.mark.parametrize(("granularity", "levels"), [("object", [3]), ("part", [4, 5, 6]), ("2", [2])])
def test_the_granularity_is_chosen(click, granularity, levels):
    result = click("--point", "60,50", "--granularity", granularity, "--json", "-")
    (record,) = [json.loads(line) for line in result.out.splitlines()]
    assert sorted(level for s in record["segments"] for level in s["levels"]) == levels


def test_several_clicks_on_one_thing_and_names(click):
    result = click(
        "--point", "60,50 70,60,1 5,5,0", "--categories", "dog, grass", "--part-categories", "ear", "--json", "-"
    )
    (record,) = [json.loads(line) for line in result.out.splitlines()]
    for segment in record["segments"]:
        assert segment["prompt"] == {"points": [[60, 50], [70, 60], [5, 5]], "point_labels": [1, 1, 0]}
        assert segment["category"] in ("dog", "grass")
        assert segment["part_category"] == "ear"
        assert 0 <= segment["category_score"] <= 1


BAD = {
    "outside": (("--point", "5000,10"), "the point 5000,10 lies outside the photo of"),
    "not numbers": (("--point", "a,b"), "--point 'a,b' is not of the form X,Y"),
    "nan": (("--point", "nan,5"), "a point is two finite numbers x, y, got nan,5"),
    "one number": (("--point", "5"), "--point '5' is not of the form X,Y"),
    "label": (("--point", "5,5,2"), "the third number of a --point is 1 (on the thing) or 0 (not on it), got 2"),
    "nothing": (("--point", " "), "--point is empty"),
    "background": (("--point", "5,5,0"), "needs a foreground click or a box"),
    "empty box": (("--box", "10,10,10,50"), "the box 10,10,10,50 is empty"),
    "swapped": (("--box", "50,10,10,50"), "the box 50,10,10,50 has its corners swapped"),
    "box of nan": (("--box", "nan,10,20,50"), "a box is four finite numbers x0, y0, x1, y1, got nan,10,20,50"),
    "box outside": (("--box", "5000,10,6000,50"), "the box 5000,10,6000,50 lies outside the photo of"),
    "behind the edge": (("--point=-1,5",), "the point -1,5 lies outside the photo of"),
    "three": (("--box", "50,10,10"), "--box '50,10,10' is not of the form X0,Y0,X1,Y1"),
    "many": (("--point", "5,5") * 10_000, "10,000 clicks and boxes are more than the 1,000 that one photo takes here"),
    "many on one": (("--point", "5,5 " * 10_000), "a prompt of 10,000 points: one thing takes at most 64 clicks"),
    "text": (("-t", "the dog"), "does not accept text as a prompt; it accepts box, categories, points"),
    "granularity": (
        ("--point", "5,5", "--granularity", "9"),
        "granularity must be all, part, object, scene or a level",
    ),
    "names of nothing": (("--categories", "dog"), "name what is clicked: give a --point or a --box too"),
    "no names": (("--point", "5,5", "--categories", " , "), "--categories holds no name"),
    "nothing asked": ((), "no text given: say what to segment, for instance -t 'the red car', or --point or --box"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_status_2(click, folder, case):
    arguments, message = BAD[case]
    result = click(*arguments)
    assert result.status == 2
    assert result.err.startswith("anygrain: error: ")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (folder / "out").exists()


def test_names_without_a_text_encoder_and_clicks_without_a_click_model(anygrain, silent, tiny_model, folder, photos):
    photo = photos / "dog.jpg"
    result = anygrain("segment", photo, "--model", silent, "--point", "5,5", "--categories", "dog")
    assert result.status == 2
    assert "does not accept categories as a prompt; it accepts box, points" in result.err
    result = anygrain("segment", photo, "--model", tiny_model, "--point", "5,5")
    assert result.status == 2
    assert "does not accept points as a prompt; it accepts text" in result.err
    result = anygrain("everything", photo, "--model", tiny_model)
    assert result.status == 2
    assert "takes no clicks, so a grid of clicks cannot be asked of it" in result.err


def test_everything_as_coco_and_as_a_picture(anygrain, model, folder, photos):
    from pycocotools.coco import COCO

    loose = ("--min-predicted-iou", "-9", "--min-stability", "0.1", "--max-overlap", "1", "--points-per-side", "3")
    result = anygrain("everything", photos / "dog.jpg", "--model", model, "--categories", "dog,grass", *loose)
    assert (result.status, result.err) == (0, "")
    record = json.loads((folder / "out" / "dog.json").read_text())
    width, height = open_image(photos / "dog.jpg").size
    assert record["images"] == [{"id": 1, "file_name": "dog.jpg", "width": width, "height": height}]
    assert {category["name"] for category in record["categories"]} <= {"dog", "grass"}
    assert len(record["annotations"]) > 1
    coco = COCO(folder / "out" / "dog.json")
    for annotation in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(annotation).astype(bool)
        ys, xs = mask.nonzero()
        assert annotation["area"] == mask.sum()
        box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
        assert annotation["bbox"] == box
        x, y = annotation["point"]
        assert 0 <= x <= width
        assert 0 <= y <= height
        assert annotation["stability_score"] >= 0.1
    picture = np.asarray(open_image(folder / "out" / "dog.overlay.png")).astype(int)
    assert np.abs(picture - np.asarray(open_image(photos / "dog.jpg"))).max() > 30


def test_everything_at_one_granularity_is_a_part_of_all_candidates(anygrain, model, folder, photos):
    loose = ("--min-predicted-iou", "-9", "--min-stability", "0.1", "--max-overlap", "1", "--points-per-side", "2")
    anygrain("everything", photos / "dog.jpg", "--model", model, "--granularity", "part", *loose)
    annotations = json.loads((folder / "out" / "dog.json").read_text())["annotations"]
    assert {a["level"] for a in annotations} <= {4, 5, 6}
    assert {a["granularity"] for a in annotations} == {"part"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--points-per-side", "0"), "points_per_side must be from 1 to 256, got 0"),
        (("--points-per-side", "1000"), "points_per_side must be from 1 to 256, got 1000"),
        (("--max-overlap", "0"), "max_overlap must lie between 0 and 1, got 0.0"),
        (("--min-predicted-iou", "nan"), "min_predicted_iou must be a number, got nan"),
        (("--min-stability", "nan"), "min_stability must be a number, got nan"),
        (("--granularity", "whole"), "granularity must be all, part, object, scene or a level from 1 to 6"),
        (("--categories", ","), "--categories holds no name"),
    ],
)
def test_everything_refuses_what_it_cannot_do(anygrain, model, folder, photos, options, message):
    result = anygrain("everything", photos / "dog.jpg", "--model", model, *options)
    assert (result.status, message in result.err, result.err.count("\n")) == (2, True, 1)
    assert not (folder / "out").exists()


def test_an_unreadable_photo_is_named_and_the_others_are_done(anygrain, model, folder, photos):
    (folder / "note.jpg").write_text("no picture")
    result = anygrain(
        "everything", folder / "note.jpg", photos / "kite.jpg", "--model", model, "--points-per-side", "1"
    )
    assert result.status == 2
    assert "note.jpg is not an image" in result.err
    assert (folder / "out" / "kite.json").is_file()
