"""PSALM as people use it: one embedding, any prompt; files; the command line. With the small weights of the goldens,
which find something for every prompt but know nothing."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

import anygrain
import tiny_psalm
from anygrain import Mask, Prompt, hub
from anygrain.categories import categories
from anygrain.models.psalm.prompts import about_categories
from anygrain.panoptic import to_panoptic, write_panoptic
from anygrain.segmenter import stack

NAMES = ("cat", "teddy bear", "car", "sky-other-merged", "grass-merged", "wall-brick", "river")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_psalm.save(tmp_path_factory.mktemp("psalm") / "model")


@pytest.fixture(scope="module")
def segmenter(folder):
    return anygrain.load(folder, device="cpu")


@pytest.fixture(scope="module")
def dog(segmenter, photos):
    (embedding,) = segmenter.embed([photos / "dog.jpg"])
    return embedding


@pytest.fixture(scope="module")
def kite(segmenter, photos):
    (embedding,) = segmenter.embed([photos / "kite.jpg"])
    return embedding


def one(segmenter, embedding, **fields):
    (prediction,) = segmenter.answer(embedding, [Prompt(**fields)])
    return prediction


def test_probabilities_are_those_that_the_mask_was_cut_from(segmenter, dog):
    found = one(segmenter, dog, points=((150, 100),))
    assert found.masks.any()
    maps = segmenter.model.probabilities(torch.from_numpy(found.low_res_logits), dog.resize)
    assert maps.shape == found.masks.shape
    assert ((maps > 0.5) == found.masks).all()


# ------------------------------------------------------------------------------------------------ categories


def test_panoptic_divides_the_photo_and_tells_class_score_and_id_of_each_segment(segmenter, dog):
    found = one(segmenter, dog, categories=NAMES)
    assert len(found.masks) >= 3
    assert found.masks.shape[1:] == (dog.image.height, dog.image.width)
    assert found.masks.sum(0).max() == 1  # no pixel twice
    assert {category.name for category in found.categories} <= set(NAMES)
    assert ((found.scores > 0) & (found.scores <= 1)).all()
    assert found.segment_ids.tolist() == list(range(1, len(found.masks) + 1))
    segment = found.to_json()["segments"][0]
    assert segment["category"] == found.labels[0]
    assert segment["segment_id"] == 1
    assert segment["prompt"] == {"categories": 7, "task": "panoptic"}


def test_stuff_is_one_segment_a_category_and_things_are_kept_apart(segmenter, dog):
    apart = one(segmenter, dog, categories=NAMES, things=(True,) * 7)
    together = one(segmenter, dog, categories=NAMES, things=(False,) * 7)
    assert len(apart.labels) > len(set(apart.labels))
    assert len(together.labels) == len(set(together.labels)) == len(set(apart.labels))
    assert np.array_equal(apart.masks.any(0), together.masks.any(0))
    assert together.things == (False,) * len(together.labels)


def test_things_are_guessed_where_they_are_not_given(segmenter, dog):
    found = one(segmenter, dog, categories=NAMES, task="semantic")
    assert dict(zip(found.labels, found.things, strict=True)).items() <= {
        "cat": True, "teddy bear": True, "car": True, "sky-other-merged": False, "grass-merged": False,
        "wall-brick": False, "river": False,
    }.items()  # fmt: skip


def test_semantic_gives_every_pixel_one_category(segmenter, dog):
    found = one(segmenter, dog, categories=NAMES, task="semantic")
    assert (found.masks.sum(0) == 1).all()
    assert len(set(found.labels)) == len(found.labels) >= 2


def test_instances_come_best_first_above_the_presence_threshold(folder, segmenter, dog):
    found = one(segmenter, dog, categories=NAMES, task="instance")
    assert (np.diff(found.scores) <= 0).all()
    assert (found.scores >= 0.5).all()
    assert set(found.labels) <= {"cat", "teddy bear", "car"}
    every = one(anygrain.load(folder, device="cpu", presence_threshold=1e-6), dog, categories=NAMES, task="instance")
    assert len(every.scores) > len(found.scores)
    assert np.array_equal(every.masks[: len(found.masks)], found.masks)


def test_in_any_order_the_answer_is_the_same_and_rows_keep_their_names(segmenter, dog):
    moved = (*NAMES[3:], *NAMES[:3])
    told = [one(segmenter, dog, categories=names) for names in (NAMES, moved)]
    assert told[0].labels != told[1].labels  # the model reads from left to right
    same = [one(segmenter, dog, categories=names, any_order=True) for names in (NAMES, moved)]
    assert same[0].labels == same[1].labels
    assert np.array_equal(same[0].masks, same[1].masks)


def test_a_list_longer_than_the_model_was_trained_with_warns(segmenter):
    names = categories("pascal_context459").names
    with pytest.warns(UserWarning, match=r"the prompt is \d{4} tokens long, and the model was trained with 2048"):
        segmenter._answers.question(Prompt(categories=names))


# ------------------------------------------------------------------------------------------------ phrases, regions


def test_a_phrase_gives_one_mask_or_is_said_not_to_be_there(folder, segmenter, dog):
    absent = one(segmenter, dog, text="the dog")
    assert absent.scores[0] < 0.5
    assert not absent.present[0]
    assert not absent.masks.any()
    found = one(anygrain.load(folder, device="cpu", presence_threshold=1e-4), dog, text="the dog")
    assert found.scores == absent.scores
    assert found.present[0]
    assert found.masks.any()


def test_presence_can_be_calibrated_without_another_mask(tmp_path, photos, segmenter, dog):
    sure = anygrain.load(tiny_psalm.save(tmp_path / "model", presence_offset=9.0), device="cpu")
    (embedding,) = sure.embed([photos / "dog.jpg"])
    before, after = one(segmenter, dog, text="the dog"), one(sure, embedding, text="the dog")
    assert after.scores[0] > 0.5 > before.scores[0]
    assert after.present[0]


def test_every_kind_of_region_finds_something(segmenter, dog):
    box = (50.0, 40.0, 200.0, 150.0)
    mask = np.zeros((dog.image.height, dog.image.width), bool)
    mask[40:150, 50:200] = True
    kinds = {
        "points": {"points": ((100.0, 80.0),)},
        "scribble": {"scribble": ((60.0, 60.0), (120.0, 90.0))},
        "box": {"box": box},
        "mask": {"mask": Mask.from_array(mask)},
    }
    found = {kind: one(segmenter, dog, **fields) for kind, fields in kinds.items()}
    assert all(prediction.present[0] and prediction.masks.any() for prediction in found.values())
    assert np.array_equal(found["box"].masks, found["mask"].masks)  # the same pixels
    assert found["points"].scores != found["box"].scores


def test_regions_of_one_prompt_are_one_question_with_a_row_for_each(segmenter, dog):
    first, second = Prompt(points=((100.0, 80.0),)), Prompt(box=(10.0, 10.0, 90.0, 60.0))
    together = one(segmenter, dog, regions=(first, second))
    alone = [prediction.scores[0] for prediction in segmenter.answer(dog, [first, second])]
    assert together.masks.shape[0] == 2
    assert together.scores.tolist() != alone  # they see each other
    assert together.to_json()["segments"][1]["prompt"]["regions"][0]["points"] == [[100.0, 80.0]]


def test_a_region_of_another_image_is_looked_for_in_this_one(segmenter, dog, kite):
    there = {"points": ((100.0, 80.0),)}
    found = one(segmenter, kite, reference=dog, **there)
    assert found.masks.shape[1:] == (kite.image.height, kite.image.width)
    assert found.scores != one(segmenter, kite, **there).scores
    assert found.to_json()["segments"][0]["prompt"]["reference"] == "dog.jpg"


def test_a_batch_equals_asking_one_by_one(segmenter, dog, kite):
    prompts = [
        Prompt(text="the dog"),
        Prompt(points=((100.0, 80.0),)),
        Prompt(categories=NAMES),
        Prompt(text="a man in a blue coat beside the water, with a long description"),
        Prompt(points=((50.0, 50.0),), reference=kite),
        Prompt(categories=NAMES, task="semantic"),
    ]
    together = list(segmenter.answer(dog, prompts))
    for prompt, prediction in zip(prompts, together, strict=True):
        (alone,) = segmenter.answer(dog, [prompt])
        assert alone.labels == prediction.labels
        np.testing.assert_allclose(alone.scores, prediction.scores, atol=1e-5)
        assert (alone.masks != prediction.masks).mean() < 1e-4
        np.testing.assert_allclose(alone.low_res_logits, prediction.low_res_logits, atol=5e-4)
    rows = stack(together)
    assert len(rows.categories) == len(rows.things) == len(rows.labels)
    assert rows.categories[0] is None
    assert rows.to_json()["segments"][0]["prompt"] == {"text": "the dog"}


def test_a_small_memory_limit_changes_nothing_but_memory(folder, segmenter, dog):
    prompts = [Prompt(text=f"thing {'x' * number}") for number in range(6)]
    careful = anygrain.load(folder, device="cpu", memory_limit=1)
    assert careful.batch_size(dog) == 1
    for a, b in zip(careful.answer(dog, prompts), segmenter.answer(dog, prompts), strict=True):
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)


def test_pictures_are_encoded_alike_alone_and_in_a_batch(segmenter, photos, dog, kite):
    batch = segmenter.embed([photos / "dog.jpg", photos / "kite.jpg"])
    for ours, alone in zip(batch, (dog, kite), strict=True):
        for a, b in zip(ours.features, alone.features, strict=True):
            torch.testing.assert_close(a, b, atol=3e-5, rtol=0)


def test_what_is_shared_by_prompts_is_computed_once(segmenter, dog, monkeypatch):
    calls = {"image_encoder": 0, "pixel_decoder": 0, "language": 0, "mask_decoder": 0}
    for name in calls:
        module = getattr(segmenter.model, name)

        def counted(*args, name=name, forward=module.forward, **kwargs):
            calls[name] += 1
            return forward(*args, **kwargs)

        monkeypatch.setattr(module, "forward", counted)
    (embedding,) = segmenter.embed([dog.image])
    list(segmenter.answer(embedding, [Prompt(text=f"phrase {number}") for number in range(8)]))
    assert (calls["image_encoder"], calls["pixel_decoder"]) == (1, 1)
    assert (calls["language"], calls["mask_decoder"]) == (1, 1)  # eight sentences in one pass of each


WRONG = {
    "two kinds": ({"text": "dog", "box": (0, 0, 9, 9)}, "not box and text together"),
    "background click": ({"points": ((1, 1),), "point_labels": (0,)}, "knows no background clicks"),
    "parts": ({"part_categories": ("head",)}, "no categories of parts"),
    "background by name": ({"categories": ("dog", "background")}, "'background' is what the model calls all"),
    "twice": ({"categories": ("dog", "dog")}, "a category is named twice"),
    "granularity": ({"points": ((1, 1),), "granularity": "part"}, "knows no granularity"),
    "outside": ({"scribble": ((1, 1), (5000, 1))}, "the point 5000,1 lies outside the photo"),
    "mask of another size": ({"mask": Mask.from_array(np.ones((4, 5), bool))}, "the mask is 5 x 4 pixels"),
    "empty mask": ({"mask": Mask.from_array(np.zeros((216, 384), bool))}, "a region has no pixel inside"),
    "a region of text": ({"regions": (Prompt(text="dog"),)}, "each of a prompt's regions is made by points"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_prompt_that_cannot_be_answered_is_one_sentence(segmenter, dog, fault):
    fields, message = WRONG[fault]
    with pytest.raises(ValueError, match=message):
        list(segmenter.answer(dog, [Prompt(**fields)]))


def test_a_reference_of_another_model_or_without_a_region_is_refused(segmenter, dog):
    foreign = dataclasses.replace(dog, model="another")
    with pytest.raises(ValueError, match="made by another model"):
        one(segmenter, dog, points=((5.0, 5.0),), reference=foreign)
    with pytest.raises(ValueError, match="a reference needs a region"):
        one(segmenter, dog, text="dog", reference=dog)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"categories": ("a",), "task": "everything"}, "no task 'everything' for categories"),
        ({"categories": ("a", "b"), "things": (True,)}, "2 categories but 'things' tells of 1"),
    ],
)
def test_a_prompt_that_contradicts_itself_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Prompt(**fields)


def test_an_order_must_hold_every_name_once():
    with pytest.raises(ValueError, match=r"the order of 2 names and the background must hold 0\.\.2 once each"):
        about_categories(tiny_psalm.byte_tokenizer(), ["a", "b"], order=[0, 1])


# ------------------------------------------------------------------------------------------------ files


def test_a_model_folder_is_read_back_whole(folder, segmenter):
    network = hub.read_model(folder)
    assert json.loads((folder / "config.json").read_text())["architecture"] == "psalm"
    assert segmenter.info["architecture"] == "psalm"
    assert network.tokenizer.encode("a [SEG]<|endoftext|>") == [97, 32, 258, 256]


def test_a_folder_without_its_tokenizer_is_refused(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ValueError, match=r"not a complete model folder, tokenizer\.json is missing"):
        hub.read_model(tmp_path)


def test_a_panoptic_picture_and_table_have_cocos_form(segmenter, dog, tmp_path):
    found = one(segmenter, dog, categories=NAMES)
    ids = categories("coco").id_of
    picture, table = write_panoptic(found.to_json(), tmp_path, "dog", ids)
    values = json.loads(table.read_text())
    with Image.open(picture) as image:
        colours = np.asarray(image).astype(int)
    segment_map = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
    (annotation,) = values["annotations"]
    assert annotation["file_name"] == "dog.panoptic.png"
    assert values["images"][0]["file_name"] == "dog.jpg"
    assert {segment["id"] for segment in annotation["segments_info"]} == set(np.unique(segment_map)) - {0}
    for segment, mask, name in zip(annotation["segments_info"], found.masks, found.labels, strict=True):
        assert np.array_equal(segment_map == segment["id"], mask)
        assert segment["area"] == mask.sum()
        assert segment["category_id"] == ids[name]
        rows, columns = np.nonzero(mask)
        assert segment["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    names = {entry["name"]: (entry["id"], entry["isthing"]) for entry in values["categories"]}
    assert names["car"] == (3, 1)


def test_ids_above_255_take_the_next_colour():
    from anygrain.panoptic import to_colours

    assert np.asarray(to_colours(np.array([[1, 256, 65536 + 2]], np.int32))).tolist() == [
        [[1, 0, 0], [0, 1, 0], [2, 0, 1]]
    ]


def test_overlapping_masks_and_unknown_names_make_no_panoptic_map(segmenter, dog):
    found = one(segmenter, dog, categories=NAMES, task="instance").to_json()
    with pytest.raises(ValueError, match="masks overlap"):
        to_panoptic(found, categories("coco").id_of)
    with pytest.raises(ValueError, match="has no id"):
        to_panoptic(found, {})


# ------------------------------------------------------------------------------------------------ command line


def test_the_command_line_divides_a_photo(anygrain, folder, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("# mine\ncat\nteddy bear\n7\tcar\tthing\n")
    common = ("segment", photos / "dog.jpg", "--model", folder, "--device", "cpu")
    result = anygrain(*common, "--categories", ",".join(NAMES))
    assert (result.status, result.err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dog.json",
        "dog.overlay.png",
        "dog.panoptic.json",
        "dog.panoptic.png",
    ]
    record = json.loads((tmp_path / "out" / "dog.json").read_text())
    assert {segment["category"] for segment in record["segments"]} <= set(NAMES)
    assert "car" in result.out
    listed = anygrain(*common, "--categories", "names.txt", "--task", "semantic", "--out", "listed", "--any-order")
    assert listed.status == 0
    table = json.loads((tmp_path / "listed" / "dog.panoptic.json").read_text())
    assert {entry["id"] for entry in table["categories"]} <= {1, 2, 7}
    things = anygrain(*common, "--categories", "cat,car", "--task", "instance", "--out", "things")
    assert things.status == 0
    assert not (tmp_path / "things" / "dog.panoptic.png").exists()


def test_the_command_line_takes_scribbles_and_clicks(anygrain, folder, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ("--scribble", "60,60 120,90", "--point", "100,80", "--json", "-")
    result = anygrain("segment", photos / "dog.jpg", "--model", folder, "--device", "cpu", *asked)
    first, second = json.loads(result.out)["segments"]
    assert first["prompt"]["points"] == [[100.0, 80.0]]
    assert second["prompt"]["scribble"] == [[60.0, 60.0], [120.0, 90.0]]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--categories", "nothing.txt"], "there is no file nothing.txt"),
        (["--categories", " , "], "names no category"),
        (["--scribble", "1,2 3"], "--scribble '3' is not of the form X,Y"),
        (["--categories", "cat", "-t", "x", "--point", "3,3"], "not categories and points together"),
    ],
)
def test_bad_options_are_one_sentence(anygrain, folder, photos, tmp_path, monkeypatch, options, sentence):
    monkeypatch.chdir(tmp_path)
    result = anygrain("segment", photos / "dog.jpg", "--model", folder, "--device", "cpu", *options)
    assert result.status == 2
    assert sentence in result.err
    assert result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [] or not list((tmp_path / "out").glob("*"))
