"""Clicks and boxes through the Segmenter: levels, duplicates, several clicks, names, batches, refusals."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anygrain.everything import EverythingOptions
from anygrain.models.layers import use_onednn
from anygrain.models.semantic_sam import LayerOutput
from anygrain.point_answers import merge_duplicates
from anygrain.segmenter import Segmenter, stack
from anygrain.types import Mask, Prompt
from tiny_semantic_sam import build

INFO = {"name": "tiny", "architecture": "semantic_sam", "fingerprint": "0123456789ab"}


@pytest.fixture(scope="module")
def network():
    return use_onednn(build())


@pytest.fixture(scope="module")
def segmenter(network):
    return Segmenter(network, INFO)


@pytest.fixture(scope="module")
def dog():
    return Path(__file__).parent / "fixtures" / "photos" / "dog.jpg"


@pytest.fixture(scope="module")
def embedding(segmenter, dog):
    return segmenter.embed([dog])[0]


def click(x, y, **fields):
    return Prompt(points=((x, y),), **fields)


def levels_of(prediction):
    return sorted(level for levels in prediction.levels for level in levels)


def test_a_click_gives_masks_from_large_to_small_levels_in_the_photos_size(segmenter, embedding):
    (answer,) = segmenter.answer(embedding, [click(100, 80)])
    height, width = embedding.resize.source
    assert answer.masks.shape[1:] == (height, width)
    assert answer.masks.dtype == bool
    assert levels_of(answer) == [1, 2, 3, 4, 5, 6]
    assert [levels[0] for levels in answer.levels] == sorted(levels[0] for levels in answer.levels)
    words = {1: "scene", 2: "scene", 3: "object", 4: "part", 5: "part", 6: "part"}
    assert answer.granularity == tuple(words[levels[0]] for levels in answer.levels)
    assert ((answer.scores >= 0) & (answer.scores <= 1)).all()
    np.testing.assert_array_equal(answer.present, answer.masks.any((1, 2)))
    assert answer.prompts == (click(100, 80),) * len(answer.masks)


@pytest.mark.parametrize(
    ("granularity", "levels"),
    [("all", [1, 2, 3, 4, 5, 6]), (None, [1, 2, 3, 4, 5, 6]), ("scene", [1, 2]), ("object", [3]), ("part", [4, 5, 6])]
    + [(level, [level]) for level in range(1, 7)]
    + [("5", [5])],
)
def test_a_granularity_chooses_among_the_masks_and_changes_none(segmenter, embedding, granularity, levels):
    (everything,) = segmenter.answer(embedding, [click(100, 80)])
    (some,) = segmenter.answer(embedding, [click(100, 80, granularity=granularity)])
    assert levels_of(some) == levels
    for own, mask in zip(some.levels, some.low_res_logits, strict=True):
        rows = [row for row, of_all in enumerate(everything.levels) if of_all == own]
        for row in rows:
            np.testing.assert_allclose(mask, everything.low_res_logits[row], atol=1e-5)


def test_the_level_map_is_data_of_the_checkpoint(network, embedding):
    """The token of a level comes from the configuration, and of no other place."""
    changed = build(levels=(0, 1, 2, 3, 4, 5))
    changed.load_state_dict(network.state_dict())
    by_token = dict(enumerate((3, 2, 0, 4, 1, 5), 1))
    released, plain = Segmenter(network, INFO), Segmenter(changed, INFO)
    for level, token in by_token.items():
        (one,) = released.answer(embedding, [click(60, 60, granularity=level)])
        (other,) = plain.answer(embedding, [click(60, 60, granularity=token + 1)])
        np.testing.assert_allclose(one.low_res_logits, other.low_res_logits, atol=1e-5)


def test_clicks_and_boxes_together_equal_each_alone(segmenter, embedding):
    prompts = [
        click(100, 80),
        Prompt(box=(20, 30, 150, 160)),
        click(30, 40, granularity="part"),
        Prompt(points=((100, 80), (60, 90)), point_labels=(1, 0)),
        Prompt(box=(40, 10, 90, 60), points=((70, 30),), granularity=2),
    ]
    together = list(segmenter.answer(embedding, prompts))
    for prompt, answer in zip(prompts, together, strict=True):
        (alone,) = segmenter.answer(embedding, [prompt])
        assert answer.levels == alone.levels
        np.testing.assert_allclose(answer.low_res_logits, alone.low_res_logits, atol=1e-4)
        np.testing.assert_allclose(answer.predicted_iou, alone.predicted_iou, atol=1e-5)


@pytest.mark.parametrize("limit", [1, 3_000_000])
def test_the_memory_limit_sets_the_batch_and_changes_nothing(network, embedding, monkeypatch, limit):
    prompts = [click(10 + 11 * step, 20 + 9 * step) for step in range(7)]
    expected = list(Segmenter(network, INFO).answer(embedding, prompts))
    asked = []
    decode = network.decode
    monkeypatch.setattr(network, "decode", lambda f, p, **kw: asked.append(len(p.boxes)) or decode(f, p, **kw))
    answers = list(Segmenter(network, INFO, memory_limit=limit).answer(embedding, prompts))
    assert max(asked) == max(1, limit // network.bytes_per_prompt(embedding.features))
    assert sum(asked) == 7
    for answer, other in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer.low_res_logits, other.low_res_logits, atol=1e-4)


def test_ten_thousand_clicks_are_answered_as_they_are_asked_for(network, embedding, monkeypatch):
    asked = []
    decode = network.decode
    monkeypatch.setattr(network, "decode", lambda f, p, **kw: asked.append(len(p.boxes)) or decode(f, p, **kw))
    segmenter = Segmenter(network, INFO, memory_limit=2**24)
    answers = segmenter.answer(embedding, [click(5 + number % 200, 7) for number in range(10_000)])
    next(answers)
    assert len(asked) == 1
    assert asked[0] < 20


def test_a_mask_in_the_photos_size_is_the_low_one_enlarged(segmenter, embedding):
    (answer,) = segmenter.answer(embedding, [click(100, 80)])
    expected = embedding.resize.maps_back(answer.low_res_logits)
    sure = np.abs(expected) > 1e-4
    np.testing.assert_array_equal(answer.masks[sure], expected[sure] > 0)
    probability = segmenter.model.probabilities(torch.from_numpy(answer.low_res_logits), embedding.resize)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-expected)), atol=1e-6)


def test_answers_under_one_another_fill_what_only_some_tell(segmenter, embedding):
    (known,) = segmenter.answer(embedding, [click(100, 80, granularity=3, categories=("dog",))])
    plain = replace(
        known, granularity=(), levels=(), predicted_iou=None, categories=(), prompts=(Prompt(text="a dog"),)
    )
    both = stack([plain, known])
    assert both.levels == ((), (3,))
    assert both.categories == (None, *known.categories)
    assert np.isnan(both.predicted_iou[0])
    assert both.labels == ("a dog", "dog")
    assert [set(record) & {"granularity", "predicted_iou", "category"} for record in both.segments()] == [
        set(),
        {"granularity", "predicted_iou", "category"},
    ]
    assert [region.granularity for region in both.to_regions()] == [None, "object"][2 - sum(both.present) :]
    assert stack([plain, plain]).levels == ()
    assert stack([plain, plain]).predicted_iou is None


# ------------------------------------------------------------------------------------------- several clicks


class Scripted:
    """Stands in for the decoder: the mask of question q at token t is a disc around the question's own centre."""

    def __init__(self, network, monkeypatch, discs, ious):
        self.discs, self.ious = discs, torch.tensor(ious)
        monkeypatch.setattr(network, "decode", self.decode)
        monkeypatch.setattr(network, "mask_logits", self.mask_logits)

    def decode(self, features, prompts, joint):
        count, width = len(prompts.boxes), features[0].shape[1]
        codes = torch.zeros(count, 6, width)
        codes[..., 0] = torch.arange(count)[:, None]
        codes[..., 1] = torch.arange(6)
        return (LayerOutput(torch.zeros(count, 6, 32), codes, self.ious[:count], torch.zeros(count, 6, 4)),)

    def mask_logits(self, embeds, mask_features):
        height, width = mask_features.shape[-2:]
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        maps = []
        for code in embeds:
            cx, cy, radius = self.discs[int(code[0])][int(code[1])]
            maps.append(radius - torch.hypot(x - cx * width, y - cy * height))
        return torch.stack(maps)


def test_several_clicks_choose_the_mask_that_agrees_with_them(network, monkeypatch):
    """Two foreground clicks and a background one: only the second click's masks hold both and leave the third out."""
    image = np.full((96, 96, 3), 120, np.uint8)
    segmenter = Segmenter(network, INFO)
    (embedding,) = segmenter.embed([image])
    first = [(0.25, 0.5, 3.0)] * 6  # of 24 cells a side: the first click only
    second = [(0.5, 0.5, 9.0)] * 6  # both clicks, not the third
    Scripted(network, monkeypatch, [first, second], [[0.9] * 6, [0.4] * 6])
    both = Prompt(points=((24, 48), (72, 48), (48, 3)), point_labels=(1, 1, 0))
    (answer,) = segmenter.answer(embedding, [both])
    assert answer.predicted_iou.tolist() == pytest.approx([0.4])
    assert answer.masks[0, 48, 72]
    assert not answer.masks[0, 3, 48]
    (answer,) = segmenter.answer(embedding, [Prompt(points=((24, 48), (25, 48)))])  # both masks hold them
    assert answer.predicted_iou.tolist() == pytest.approx([0.9])


def test_masks_that_are_the_same_are_one(network, monkeypatch):
    segmenter = Segmenter(network, INFO)
    (embedding,) = segmenter.embed([np.full((96, 96, 3), 120, np.uint8)])
    discs = [(0.5, 0.5, radius) for radius in (3.0, 3.01, 6.0, 6.0, 3.0, 1.0)]
    Scripted(network, monkeypatch, [discs], [[0.5, 0.8, 0.7, 0.6, 0.2, 0.1]])
    (answer,) = segmenter.answer(embedding, [click(48, 48)])
    # levels 1..6 are tokens 3, 2, 0, 4, 1, 5: of 1 and 2 the better is level 2, of 3, 4 and 5 it is level 5
    assert answer.levels == ((1, 2), (3, 4, 5), (6,))
    assert answer.predicted_iou.tolist() == pytest.approx([0.7, 0.8, 0.1])


def test_merging_follows_the_predicted_iou():
    masks = torch.zeros(4, 10, 100, dtype=torch.bool)
    masks[0, :, :100] = True
    masks[1, :, :96] = True
    masks[2, :, :92] = True  # 0.958 of the one before, 0.92 of the first
    groups = merge_duplicates(masks, torch.tensor([0.9, 0.8, 0.7, 0.1]))
    assert groups == [[0, 1], [2], [3]]
    assert merge_duplicates(masks, torch.tensor([0.7, 0.8, 0.9, 0.1])) == [[0], [2, 1], [3]]


# ---------------------------------------------------------------------------------------------- everything

LOOSE = {"points_per_side": 3, "min_predicted_iou": -9.0, "min_stability": 0.3, "max_overlap": 1.0}


def test_everything_does_not_depend_on_the_memory_limit(network, embedding, monkeypatch):
    options = EverythingOptions(**LOOSE)
    expected = Segmenter(network, INFO).propose(embedding, options)
    assert len(expected) > 2
    made = []
    mask_logits = network.mask_logits
    monkeypatch.setattr(network, "mask_logits", lambda e, f: made.append(len(e)) or mask_logits(e, f))
    canvas = math.prod(embedding.resize.canvas)
    found = Segmenter(network, INFO, memory_limit=2 * 8 * canvas).propose(embedding, options)
    assert max(made[: 54 // 2]) == 2  # masks at a time while candidates are compared
    assert [(one.point, one.level, one.mask) for one in found] == [(o.point, o.level, o.mask) for o in expected]


def test_everything_as_regions_in_the_photos_size(network, dog, embedding):
    segmenter = Segmenter(network, INFO)
    regions = segmenter.everything(dog, "part", **LOOSE)
    assert regions
    for region in regions:
        assert region.mask.size == embedding.resize.source
        assert region.granularity == "part"
        assert region.origin["level"] in "456"
        assert 0 <= region.score <= 1
    assert len({region.mask for region in regions}) > 1


def test_where_nothing_is_sure_nothing_is_found(segmenter, dog):
    assert segmenter.everything(dog, points_per_side=2, min_predicted_iou=9.0) == []


# --------------------------------------------------------------------------------------------------- names


def test_objects_and_parts_are_named_by_two_heads(segmenter, embedding, network):
    prompt = click(100, 80, categories=("person", "dog", "sky"), part_categories=("head", "leg"))
    (answer,) = segmenter.answer(embedding, [prompt])
    assert all(category.name in prompt.categories for category in answer.categories)
    assert all(category.name in prompt.part_categories for category in answer.part_categories)
    assert answer.labels[0] == f"{answer.categories[0].name}: {answer.part_categories[0].name}"
    record = answer.segments()[0]
    assert record["category"] == answer.categories[0].name
    assert record["part_category_score"] == pytest.approx(answer.part_categories[0].score, abs=1e-4)
    assert answer.to_regions()[0].category == answer.categories[0].name
    (plain,) = segmenter.answer(embedding, [click(100, 80)])
    np.testing.assert_array_equal(plain.masks, answer.masks)
    assert plain.categories == (None,) * len(plain.masks)


def test_the_order_of_names_does_not_matter_and_each_is_encoded_once(network, embedding, monkeypatch):
    encoded = []
    encode = network.encode_names
    monkeypatch.setattr(network, "encode_names", lambda names: encoded.extend(names) or encode(names))
    segmenter = Segmenter(network, INFO)
    names = ("person", "dog", "sky")
    answers = [next(segmenter.answer(embedding, [click(100, 80, categories=order)])) for order in (names, names[::-1])]
    assert answers[0].categories == answers[1].categories
    assert sorted(encoded) == sorted(names)


def test_a_name_is_the_mean_of_many_sentences(network):
    from anygrain.models.templates import TEMPLATES

    assert len(set(TEMPLATES)) == 81
    with torch.no_grad():
        ids = network.tokenizer([template.format("traffic light") for template in TEMPLATES], 18)
        mean = torch.nn.functional.normalize(network.encode_tokens(ids).mean(0), dim=0)
        torch.testing.assert_close(network.encode_names(["traffic light"])[0], mean)
        assert not torch.allclose(network.encode_names(["dog"])[0], mean)


def test_a_name_that_is_too_long_warns(segmenter, embedding):
    name = "the red car on the left of the dog on the right of the cat of all the people"
    with pytest.warns(UserWarning, match="is longer than the model's 18 tokens; ignored: '"):
        list(segmenter.answer(embedding, [click(100, 80, categories=(name,))]))


# ----------------------------------------------------------------------------------------------- refusals

OUTSIDE = "lies outside the photo of 240 x 180 pixels"
BAD = {
    "outside": ({"points": ((500, 10),)}, f"the point 500,10 {OUTSIDE}"),
    "negative": ({"points": ((10, -1),)}, f"the point 10,-1 {OUTSIDE}"),
    "box outside": ({"box": (300, 10, 310, 20)}, f"the box 300,10,310,20 {OUTSIDE}"),
    "background only": ({"points": ((10, 10),), "point_labels": (0,)}, "needs a foreground click or a box"),
    "text": ({"text": "the dog"}, "model 'tiny' does not accept text as a prompt; it accepts box, categories, points"),
    "mask": ({"mask": Mask.from_array(np.ones((180, 240)))}, "does not accept mask as a prompt"),
    "names alone": ({"categories": ("dog",)}, "needs a foreground click or a box"),
    "granularity": (
        {"points": ((3, 3),), "granularity": "whole"},
        "must be all, part, object, scene or a level from 1",
    ),
    "level": ({"points": ((3, 3),), "granularity": 7}, "got 7"),
    "many": ({"points": ((3, 3),) * 10_000}, "a prompt of 10,000 points: one thing takes at most 64 clicks"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_prompt_is_refused_before_any_work(segmenter, monkeypatch, case):
    fields, message = BAD[case]
    (embedding,) = segmenter.embed([np.full((180, 240, 3), 90, np.uint8)])
    monkeypatch.setattr(segmenter.model, "decode", lambda *_, **__: pytest.fail("something was decoded"))
    with pytest.raises(ValueError, match=r"^[^\n]+$") as raised:
        segmenter.answer(embedding, [click(5, 5), Prompt(**fields)])
    assert message in str(raised.value)


WRONG = {
    "nan": ({"points": ((math.nan, 3),)}, "a point is two finite numbers x, y, got nan,3"),
    "box nan": ({"box": (1, 2, math.inf, 4)}, "a box is four finite numbers x0, y0, x1, y1, got 1,2,inf,4"),
    "swapped": (
        {"box": (30, 20, 10, 40)},
        "the box 30,20,10,40 has its corners swapped: give left, top, right, bottom",
    ),
    "empty": ({"box": (30, 20, 30, 40)}, "the box 30,20,30,40 is empty"),
    "label": (
        {"points": ((3, 3),), "point_labels": (2,)},
        r"a point's label is 1 (foreground) or 0 (background), got 2",
    ),
    "name": ({"points": ((3, 3),), "categories": ("dog", " ")}, "a category's name is empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_prompt_that_means_nothing_cannot_be_made(case):
    fields, message = WRONG[case]
    with pytest.raises(ValueError, match=r"^[^\n]+$") as raised:
        Prompt(**fields)
    assert message in str(raised.value)


def test_without_a_text_encoder_names_are_refused():
    segmenter = Segmenter(build(text_encoder=None), INFO)
    (embedding,) = segmenter.embed([np.full((96, 96, 3), 90, np.uint8)])
    with pytest.raises(ValueError, match="does not accept categories as a prompt; it accepts box, points"):
        segmenter.answer(embedding, [click(5, 5, categories=("dog",))])
    with pytest.raises(ValueError, match="does not accept categories"):
        segmenter.propose(embedding, categories=("dog",))


def test_a_box_that_reaches_out_of_the_photo_is_cut(segmenter, embedding):
    height, width = embedding.resize.source
    (reaching,) = segmenter.answer(embedding, [Prompt(box=(-50, 20, width + 9, height + 100))])
    (inside,) = segmenter.answer(embedding, [Prompt(box=(0, 20, width, height))])
    np.testing.assert_array_equal(reaching.low_res_logits, inside.low_res_logits)


def test_tiles_are_for_models_of_text(network):
    with pytest.raises(ValueError, match="cannot look at a photo in tiles"):
        Segmenter(network, INFO, tile="auto")


def test_bfloat16_gives_nearly_the_same_masks(network, embedding, dog):
    fast = Segmenter(network, INFO, bf16=True)
    exact = Segmenter(network, INFO)(dog, points=[(100, 80)], granularity=3)
    other = fast(dog, points=[(100, 80)], granularity=3)
    difference = np.abs(other.low_res_logits - exact.low_res_logits).max()
    assert 0 < difference < 0.3 * np.abs(exact.low_res_logits).max()


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (7, 5)])
def test_tiny_and_thin_images_have_an_answer(segmenter, size):
    answer = segmenter(np.full((*size, 3), 90, np.uint8), points=[(0.5, 0.5)])
    assert answer.masks.shape[1:] == size


def test_a_configuration_that_names_a_token_twice_is_refused():
    with pytest.raises(ValueError, match="levels must name each of the 6 tokens once"):
        build(levels=(0, 0, 1, 2, 3, 4))
    with pytest.raises(ValueError, match="scene, object and part must share the levels 1 to 6"):
        replace(build().config, part=(4, 5))
