"""A small PSALM against the official code, task by task: arrays on the way, logits, and answers in the photo's size.

Tolerances are the specification's: 3e-5 before the mask decoder, 5e-4 for its logits, 1e-4 for probabilities. A mask
may differ from the official one only where a logit is that near to 0.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from psalm_golden import FIXTURES, golden, pixels_of, tiny_psalm

from anygrain.models.psalm import postprocess, regions, video
from anygrain.models.psalm.prompts import Question, about_categories, about_phrase, about_regions
from anygrain.resize import Resize
from anygrain.types import ImageEmbedding

FEATURES, LOGITS, PROBABILITIES = 3e-5, 5e-4, 1e-4
CONFIG = json.loads((FIXTURES / "psalm_tiny_config.json").read_text())
NAMES = [category["name"] for category in CONFIG["categories"]]


def near(actual, expected, limit: float, what: str) -> None:
    torch.testing.assert_close(
        torch.as_tensor(actual), torch.as_tensor(expected), atol=limit, rtol=0, msg=lambda text: f"{what}: {text}"
    )


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def question_of(task: str, tokenizer) -> Question:
    if task.startswith("region"):
        return about_regions(tokenizer, 3)
    if task == "referring":
        return about_phrase(tokenizer, ["the large cat on the left", "cat near wall"])
    names = ["cat", "car", "teddy bear"] if task == "instance" else NAMES
    return about_categories(tokenizer, names, semantic=task == "semantic")


TASKS = {
    "panoptic": "predictor.pred_class_name_logits",
    "panoptic_portrait": "predictor.pred_class_name_logits",
    "semantic": "predictor.pred_class_name_logits",
    "instance": "predictor.pred_class_name_logits",
    "referring": "predictor.pred_SEG_logits",
    "region_point": "predictor.pred_region_logits.0",
    "region_scribble": "predictor.pred_region_logits.0",
    "region_box": "predictor.pred_region_logits.0",
    "region_mask": "predictor.pred_region_logits.0",
}


def asked(task: str):
    """Golden arrays, how the photo was resized, and our answer."""
    arrays, model = golden(f"eval_{task}"), tiny_psalm()
    features = model.encode_image(pixels_of(arrays["in.images_u8"]))
    points = arrays.get("region_sampler.points_rc.0", ())
    found = [regions.sampled_feature(features.tokens[0], torch.from_numpy(each)) for each in points]
    (answer,) = model.ask(features, [question_of(task, model.tokenizer)], found)
    return arrays, Resize.corner(arrays["in.image_u8"].shape[:2], CONFIG["image_size"]), answer


def test_every_array_on_the_way_equals_the_official_one():
    arrays, model = golden("eval_panoptic"), tiny_psalm()
    pixels = pixels_of(arrays["in.images_u8"])
    for level, feature_map in enumerate(model.image_encoder(pixels)[1:], 3):
        near(feature_map, arrays[f"swin.res{level}"], FEATURES, f"Swin's level {level}")
    mask_features, maps, tokens = model.look(pixels)
    near(tokens, arrays["mm_projector.tokens"], FEATURES, "projector")
    for level in (0, 1):
        near(maps[level], arrays[f"pixel_decoder.multi_scale.{level}"], FEATURES, f"pixel decoder's level {level}")
    near(maps[2][:, :6], arrays["pixel_decoder.multi_scale.2"], FEATURES, "pixel decoder's level 2")
    near(mask_features[:, :6], arrays["pixel_decoder.mask_features"], FEATURES, "mask features")
    question = question_of("panoptic", model.tokenizer)
    hidden, ids, owner = model.read([question], tokens)
    expected = arrays["llm.last_hidden_state"]
    assert hidden.shape[1] == expected.shape[1] - 2  # the official prompt goes on behind the mask tokens
    near(hidden, expected[:, :-2], FEATURES, "hidden states")
    marks = arrays["expanded.class_name_embedding_indices"][:, :-2]
    assert np.array_equal(owner.numpy() + 1, marks)  # theirs count from 1, 0 for none
    (condition,) = model.conditions(hidden, ids, owner, ["categories"])
    near(condition.queries, arrays["seg_query_projector.out"][0], FEATURES, "queries")
    near(condition.embeddings, arrays["class_name_projector.out"][0], FEATURES, "categories")
    levels = model.answer([condition], [question], maps, mask_features, every_level=True)
    assert len(levels) == 5
    for number, (answer,) in enumerate(levels):
        name = "predictor." if number == 4 else f"predictor.aux{number}."
        near(answer.logits, arrays[f"{name}pred_class_name_logits"][0], LOGITS, f"class logits of level {number}")
        if f"{name}pred_masks" in arrays:
            near(answer.mask_logits, arrays[f"{name}pred_masks"][0], LOGITS, f"masks of level {number}")


@pytest.mark.parametrize("task", TASKS)
def test_logits_equal_the_official_ones(task):
    arrays, resize, answer = asked(task)
    assert np.array_equal(resize.image(arrays["in.image_u8"]).transpose(2, 0, 1), arrays["in.images_u8"][0])
    expected = arrays[TASKS[task]]
    near(answer.logits, expected.T if task.startswith("region") else expected[0], LOGITS, "logits")
    if "predictor.pred_masks" in arrays:
        near(answer.mask_logits, arrays["predictor.pred_masks"][0], LOGITS, "mask logits")


@pytest.mark.parametrize("task", TASKS)
def test_the_prompt_is_the_official_one(task):
    """Ids up to the mask tokens, with names, phrase and regions put in where the official code does so later."""
    arrays, model = golden(f"eval_{task}"), tiny_psalm()
    ids = arrays["in.input_ids"][0].tolist()
    names = arrays.get("in.class_name_ids", np.zeros((1, 0), int))[0]
    numbers = arrays.get("in.cls_indices", names[None])[0]
    conditions = iter([names[numbers == number].tolist() for number in np.unique(numbers)])
    phrase = arrays.get("in.token_refer_id.0", np.zeros(0, int)).tolist()
    expected = []
    for token in ids[: ids.index(-201) + 1]:
        expected += next(conditions) if token == -202 else phrase if token == -204 else [token]
    assert list(question_of(task, model.tokenizer).ids) == expected


@pytest.mark.parametrize("task", ["panoptic", "panoptic_portrait"])
def test_panoptic_maps_equal_the_official_ones(task):
    arrays, resize, answer = asked(task)
    things = torch.from_numpy(arrays["in.is_thing_list"]).bool()
    found = postprocess.panoptic(answer.logits, answer.mask_logits, things, resize)
    assert np.array_equal(found.segment_map, arrays["out.panoptic_seg"])
    assert found.categories == arrays["out.segments_info"][:, 1].tolist()
    assert arrays["out.segments_info"][:, 0].tolist() == list(range(1, len(found.categories) + 1))
    check_instances(
        postprocess.instances(answer.logits, answer.mask_logits, resize, things=things), arrays, answer, resize
    )


def test_instances_equal_the_official_ones():
    arrays, resize, answer = asked("instance")
    check_instances(postprocess.instances(answer.logits, answer.mask_logits, resize), arrays, answer, resize)


def check_instances(found, arrays, answer, resize) -> None:
    order = np.argsort(-arrays["out.instances.scores"], kind="stable")
    near(found.scores, arrays["out.instances.scores"][order], PROBABILITIES, "scores")
    assert found.categories.tolist() == arrays["out.instances.pred_classes"][order].tolist()
    logits = postprocess.enlarge(answer.mask_logits, resize)[found.queries]
    check_masks(found.masks, arrays["out.instances.pred_masks"][order], logits)


def check_masks(masks, expected, logits) -> None:
    """Equal but where the logit is 0 within the tolerance of logits."""
    wrong = torch.as_tensor(masks) != torch.as_tensor(expected).bool()
    assert (logits[wrong].abs() < LOGITS).all(), f"{int(wrong.sum())} pixels differ"


@pytest.mark.parametrize(("task", "at_input"), [("panoptic", False), ("semantic", True)])
def test_semantic_strengths_equal_the_official_ones(task, at_input):
    arrays, resize, answer = asked(task)
    strengths = postprocess.semantic(answer.logits, answer.mask_logits, resize, at_input=at_input)
    near(strengths[:, ::4], arrays["out.sem_seg"], PROBABILITIES, "strengths")


def test_the_semantic_map_is_the_strongest_category_of_each_pixel(monkeypatch):
    _, resize, answer = asked("semantic")
    whole = postprocess.semantic(answer.logits, answer.mask_logits, resize)
    monkeypatch.setattr(postprocess, "_PIXELS_AT_ONCE", 2 * 192 * 192)  # two of the seven categories at a time
    winner, strength = postprocess.semantic_map(answer.logits, answer.mask_logits, resize)
    assert torch.equal(winner, whole.argmax(0))
    near(strength, whole.max(0).values, 1e-6, "strength")


def test_the_answer_to_a_phrase_equals_the_official_one():
    arrays, resize, answer = asked("referring")
    scores, masks = postprocess.all_queries(answer.logits, answer.mask_logits, resize)
    order, theirs = scores[:, 0].argsort(descending=True), np.argsort(-arrays["out.instances.scores"])
    near(scores[order, 0], arrays["out.instances.scores"][theirs], PROBABILITIES, "scores")
    logits = postprocess.enlarge(answer.mask_logits, resize)
    check_masks(masks[order], arrays["out.instances.pred_masks"][theirs], logits[order])
    best, score, best_logits = postprocess.best_query(answer.logits[:, 0].sigmoid(), answer.mask_logits, resize)
    assert best == order[0]
    near(score, float(scores.max()), 1e-6, "best score")
    assert torch.equal(best_logits > 0, masks[order[0]])


@pytest.mark.parametrize("kind", ["point", "scribble", "box", "mask"])
def test_the_answer_to_regions_equals_the_official_one(kind):
    arrays, resize, answer = asked(f"region_{kind}")
    scores, masks = postprocess.all_queries(answer.logits, answer.mask_logits, resize)
    near(scores, arrays["out.instances.scores"], PROBABILITIES, "scores")
    check_masks(masks, arrays["out.instances.pred_masks"], postprocess.enlarge(answer.mask_logits, resize))


@pytest.mark.parametrize("kind", ["point", "scribble", "box", "mask"])
def test_prompts_become_the_official_regions(kind):
    arrays = golden(f"eval_region_{kind}")
    resize = Resize.corner(arrays["in.image_u8"].shape[:2], CONFIG["image_size"])
    for number, expected in enumerate(arrays["in.seg_info.0.region_masks"]):
        mask = arrays[f"in.prompt_rle_decoded.{number}"].astype(bool)
        rows, columns = np.nonzero(mask)
        if kind in ("point", "scribble"):
            radius = regions.POINT_RADIUS if kind == "point" else regions.SCRIBBLE_RADIUS
            centres = [(column + 0.5, row + 0.5) for row, column in zip(rows, columns, strict=True)]
            mask = regions.discs(centres, radius, resize.source)
        elif kind == "box":
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            mask = regions.box_mask(box, resize.source)
        assert np.array_equal(resize.mask(mask), expected)


def test_a_regions_feature_is_what_the_official_random_one_is_on_average():
    arrays, model = golden("eval_region_scribble"), tiny_psalm()
    tokens = model.encode_image(pixels_of(arrays["in.images_u8"])).tokens[0]
    torch.manual_seed(0)
    for mask in torch.from_numpy(arrays["in.seg_info.0.region_masks"]):
        exact = regions.region_feature(tokens, mask)
        pixels = mask.nonzero()
        every = regions.sampled_feature(tokens, pixels.float() / torch.tensor(mask.shape))
        near(exact, every, 1e-5, "all pixels")
        drawn = torch.cat([regions.sampled_feature(tokens, regions.random_points(mask)) for _ in range(50)])
        assert ((drawn.mean(0) - exact[0]).abs() < 5 * drawn.std(0) / 50**0.5 + 1e-6).all()


def test_the_davis_loop_equals_the_official_one(monkeypatch):
    """The official function end to end: three frames, two objects, both branches of the memory."""
    arrays, model = golden("eval_davis"), tiny_psalm()
    resize = Resize.corner((90, 120), CONFIG["image_size"])

    def embedding(images):
        features = model.encode_image(pixels_of(images))
        return ImageEmbedding(features=features, resize=resize, model="", image=None)

    points = iter([each for f in range(3) for each in torch.from_numpy(arrays[f"f{f}.region_sampler.points_rc.0"])])
    memories = []

    def region(tokens, mask):
        memories.append(mask)
        return regions.sampled_feature(tokens, next(points))

    monkeypatch.setattr(model, "region", region)
    first = embedding(arrays["f0.in.vp_images_u8"])
    at_input = arrays["f0.in.vp_region_masks"]
    monkeypatch.setattr(
        type(first.resize),
        "mask",
        lambda self, mask, old=Resize.mask: mask if mask.shape == self.canvas else old(self, mask),
    )
    frames = [embedding(arrays[f"f{f}.in.images_u8"]) for f in range(3)]
    for number, labels in enumerate(video.follow(model, first, list(at_input), frames)):
        assert np.array_equal(labels, arrays[f"f{number}.out.fused"])
    assert torch.equal(memories[2], memories[0])  # the first frame's objects were confused: its masks are no memory
    assert [int(mask.sum()) for mask in memories[4:]] == [3439, 533]  # the second frame's became one


def test_scores_and_queries_of_the_davis_loop_equal_the_official_ones():
    arrays, model = golden("eval_davis"), tiny_psalm()
    frame = model.encode_image(pixels_of(arrays["f0.in.images_u8"]))
    first = model.encode_image(pixels_of(arrays["f0.in.vp_images_u8"]))
    points = torch.from_numpy(arrays["f0.region_sampler.points_rc.0"])
    features = [regions.sampled_feature(first.tokens[0], each) for each in points]
    (answer,) = model.ask(frame, [about_regions(model.tokenizer, 2)], features)
    near(answer.logits.T, arrays["f0.predictor.pred_region_logits.0"], LOGITS, "logits")
    scores, masks = postprocess.all_queries(answer.logits, answer.mask_logits, resize := Resize.corner((90, 120), 192))
    near(scores, arrays["f0.out.scores"], PROBABILITIES, "scores")
    check_masks(masks, arrays["f0.out.pred_masks"], postprocess.enlarge(answer.mask_logits, resize))


class TestPostProcessing:
    """The official rules on synthetic logits: stuff merged, overlaps refused, thresholds."""

    resize = Resize(source=(60, 84), canvas=(60, 84), content=(60, 84), kind="corner")

    @pytest.fixture
    def arrays(self):
        return {name: torch.from_numpy(array) for name, array in golden("postproc").items()}

    def test_panoptic(self, arrays):
        found = postprocess.panoptic(
            arrays["in.class_logits"], arrays["in.mask_logits"], arrays["in.is_thing"].bool(), self.resize
        )
        assert torch.equal(found.segment_map, arrays["panoptic.seg"])
        assert found.categories == arrays["panoptic.info"][:, 1].tolist()

    @pytest.mark.parametrize("task", ["panoptic", "instance"])
    def test_instances(self, arrays, task):
        things = arrays["in.is_thing"].bool() if task == "panoptic" else None
        found = postprocess.instances(arrays["in.class_logits"], arrays["in.mask_logits"], self.resize, things=things)
        order = arrays[f"{task}.inst.scores"].argsort(descending=True, stable=True)
        near(found.scores, arrays[f"{task}.inst.scores"][order], 1e-6, "scores")
        assert torch.equal(found.categories, arrays[f"{task}.inst.classes"][order])
        assert torch.equal(found.masks, arrays[f"{task}.inst.masks"][order].bool())

    @pytest.mark.parametrize("task", ["panoptic", "semantic"])
    def test_semantic(self, arrays, task):
        found = postprocess.semantic(
            arrays["in.class_logits"], arrays["in.mask_logits"], self.resize, at_input=task == "semantic"
        )
        near(found, arrays[f"{task}.sem_seg"], 1e-6, "strengths")

    def test_phrases(self, arrays):
        scores, masks = postprocess.all_queries(arrays["in.SEG_logits"], arrays["in.mask_logits"], self.resize)
        order, theirs = (s.argsort(descending=True) for s in (scores[:, 0], arrays["ref.scores"]))
        near(scores[order, 0], arrays["ref.scores"][theirs], 1e-6, "scores")
        assert torch.equal(masks[order], arrays["ref.masks"][theirs].bool())
        assert torch.equal(masks[order[0]], arrays["refcoco.pred"].bool())
        union = masks[scores[:, 0] > 0.6].any(0)
        assert torch.equal(union, arrays["grefcoco_thr0.6.pred"].bool())

    def test_regions(self, arrays):
        chance, masks = arrays["in.region_logits"].sigmoid(), arrays["in.mask_logits"]
        scores, found = postprocess.all_queries(arrays["in.region_logits"].T, masks, self.resize)
        near(scores, arrays["region.scores"], 1e-6, "scores")
        assert torch.equal(found, arrays["region.masks"].bool())
        for number, expected in enumerate(arrays["region.pred"].bool()):
            best, score, logits = postprocess.best_query(chance[number], masks, self.resize)
            assert torch.equal(logits > 0, expected)
            near(score, float(scores[:, number].max()), 1e-6, "best score")
            assert best == int(scores[:, number].argmax())
