"""The Segmenter: one image, any questions; batches, threads, memory, refusals."""

import io
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from anygrain.models.layers import fold_batch_norm, use_onednn
from anygrain.phrases import points_at_one
from anygrain.segmenter import Segmenter
from anygrain.types import ImageEmbedding, Prompt
from tiny_unilseg import build, nano_config, official_config

TEXTS = ["all people", "the red car on the left", "sky", "the most salient object", "dog", "all the window"]
INFO = {"name": "tiny", "architecture": "unilseg", "fingerprint": "0123456789ab"}
NOISE = 1e-5


@pytest.fixture(scope="module", params=["nano", "released"])
def network(request, tmp_path_factory):
    config = nano_config() if request.param == "nano" else official_config()
    return use_onednn(fold_batch_norm(build(config, tmp_path_factory.mktemp("tokenizer"))))


@pytest.fixture
def segmenter(network):
    """Half of the pixels and about half of the prompts are answered yes."""
    options = {"presence_threshold": 0.4} if network.presence_head is not None else {}
    return Segmenter(network, INFO, threshold=0.5, **options)


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    return fold_batch_norm(build(nano_config(), tmp_path_factory.mktemp("tokenizer")))


def picture(height=80, width=120, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def prompts_of(texts):
    return [Prompt(text=text) for text in texts]


def same(one, other):
    np.testing.assert_allclose(one.low_res_logits, other.low_res_logits, atol=NOISE)
    np.testing.assert_allclose(one.scores, other.scores, atol=NOISE)
    assert (one.masks != other.masks).mean() < 1e-3
    assert one.prompts == other.prompts


# -------------------------------------------------------------------------------------------------- answers


def test_an_answer_has_the_photos_size_and_says_where_it_comes_from(segmenter, tmp_path):
    picture().save(tmp_path / "street.png")
    answer = segmenter(tmp_path / "street.png", ["all people", "sky"])
    assert answer.masks.shape == (2, 80, 120)
    assert answer.masks.dtype == bool
    assert answer.scores.shape == answer.present.shape == (2,)
    assert ((answer.scores >= 0) & (answer.scores <= 1)).all()
    assert answer.labels == ("all people", "sky")
    assert (answer.name, answer.image.size, answer.model) == ("street.png", (120, 80), INFO)


def test_one_text_and_several(segmenter):
    together = segmenter(picture(), TEXTS)
    for row, text in enumerate(TEXTS):
        alone = segmenter(picture(), text)
        assert alone.masks.shape[0] == 1
        np.testing.assert_allclose(alone.low_res_logits[0], together.low_res_logits[row], atol=NOISE)
        assert (alone.masks[0] != together.masks[row]).mean() < 1e-3


def test_different_texts_are_answered_differently(segmenter):
    logits = segmenter(picture(), TEXTS).low_res_logits
    for row in range(1, len(TEXTS)):
        assert np.abs(logits[row] - logits[0]).max() > 100 * NOISE


def test_masks_are_the_probabilities_above_the_threshold(network):
    for threshold in (0.3, 0.5, 0.62):
        segmenter = Segmenter(network, INFO, threshold=threshold, presence_threshold=1e-6)
        (embedding,) = segmenter.embed([picture(75, 133)])
        texts = [text for text in TEXTS if not points_at_one(text)]
        for prediction in segmenter.answer(embedding, prompts_of(texts)):
            logits = torch.from_numpy(prediction.low_res_logits)
            probability = network.probabilities(logits, embedding.resize)
            unsure = np.abs(probability - threshold) < 1e-5
            np.testing.assert_array_equal(prediction.masks[~unsure], (probability > threshold)[~unsure])


def test_what_is_singled_out_is_one_connected_part(nano, monkeypatch):
    decode = nano.decode

    def two_blobs(features, text, image_index):
        output = decode(features, text, image_index)
        logits = torch.full_like(output.mask_logits, -2.0)
        logits[:, 1:4, 1:4], logits[:, 1:7, -5:-1] = 9.0, 3.0
        return output._replace(mask_logits=logits)

    monkeypatch.setattr(nano, "decode", two_blobs)
    segmenter = Segmenter(nano, INFO, threshold=0.3, presence_threshold=1e-6)
    every, left, plural = segmenter(picture(), ["dog", "the dog on the left", "the dogs on the left"]).masks
    np.testing.assert_array_equal(plural, every)
    assert not left[:, :60].any()  # the larger part lies on the right
    np.testing.assert_array_equal(left[:, 60:], every[:, 60:])
    assert every[:, :60].any()


def test_released_weights_answer_as_the_official_code_does(monkeypatch):
    network = fold_batch_norm(build(official_config()))
    monkeypatch.setattr("anygrain.text_answers.main_part", None)  # not asked for
    Segmenter(network, INFO, threshold=0.3)(picture(), "the dog on the left")


def test_without_a_presence_head_the_score_is_the_mean_inside():
    segmenter = Segmenter(fold_batch_norm(build(official_config(resize="fit"))), INFO, threshold=0.45)
    prediction = segmenter(picture(), "dog")
    probability = 1 / (1 + np.exp(-prediction.low_res_logits[0].astype(np.float64)))
    assert prediction.present[0]
    assert prediction.scores[0] == pytest.approx(probability[probability > 0.45].mean(), abs=1e-5)


def test_what_is_not_there_has_an_empty_mask(nano):
    sure = Segmenter(nano, INFO, threshold=0.3, presence_threshold=1e-6)(picture(), TEXTS)
    assert sure.present.all()
    assert sure.masks.any((1, 2)).all()
    limit = float(np.sort(sure.scores)[2:4].mean())  # between the third and the fourth
    some = Segmenter(nano, INFO, threshold=0.3, presence_threshold=limit)(picture(), TEXTS)
    np.testing.assert_array_equal(some.scores, sure.scores)
    np.testing.assert_array_equal(some.present, sure.scores >= limit)
    np.testing.assert_array_equal(some.masks.any((1, 2)), some.present)
    assert len(some.to_regions()) == some.present.sum() == 3


@pytest.mark.parametrize("kind", ["nano", "released"])
def test_an_empty_mask_is_not_there(kind, tmp_path):
    network = build(nano_config() if kind == "nano" else official_config(), tmp_path)
    answer = Segmenter(network, INFO, threshold=0.999999, presence_threshold=1e-6)(picture(), TEXTS)
    assert not answer.masks.any()
    assert not answer.present.any()


# -------------------------------------------------------------------------------------------------- batches


def test_segment_equals_asking_one_by_one(segmenter):
    images = [picture(80, 120, 1), picture(120, 80, 2), picture(80, 120, 3)]
    embeddings = segmenter.embed(images)
    pairs = [(0, 0), (0, 1), (2, 2), (0, 3), (1, 4), (1, 5)]
    together = segmenter.segment([embeddings[i] for i, _ in pairs], prompts_of([TEXTS[t] for _, t in pairs]))
    for (image, text), prediction in zip(pairs, together, strict=True):
        (embedding,) = segmenter.embed([images[image]])
        same(prediction, *segmenter.segment([embedding], prompts_of([TEXTS[text]])))


def test_embedding_in_batches_equals_one_by_one(segmenter):
    images = [picture(80, 120, seed) for seed in range(5)] + [picture(120, 80, 9)]
    together = segmenter.embed(images, batch_size=3)
    assert [embedding.resize.source for embedding in together] == [(80, 120)] * 5 + [(120, 80)]
    for image, embedding in zip(images, together, strict=True):
        (alone,) = segmenter.embed([image])
        assert embedding.resize == alone.resize
        for one, other in zip(embedding.features, alone.features, strict=True):
            assert one.shape[0] == 1
            torch.testing.assert_close(one, other, atol=NOISE, rtol=1e-4)


@pytest.mark.parametrize("form", ["path", "string", "bytes", "file", "array", "pil"])
def test_images_in_any_form(segmenter, tmp_path, form):
    path = tmp_path / "photo.png"
    picture().save(path)
    forms = {
        "path": path,
        "string": str(path),
        "bytes": path.read_bytes(),
        "file": io.BytesIO(path.read_bytes()),
        "array": np.asarray(picture()),
        "pil": picture(),
    }
    (embedding,) = segmenter.embed([forms[form]])
    assert embedding.name == ("photo.png" if form in ("path", "string") else "image")
    torch.testing.assert_close(embedding.features[3], segmenter.embed([path])[0].features[3])


def test_the_memory_limit_sets_the_batch(network, monkeypatch):
    sizes = []
    decode = network.decode
    monkeypatch.setattr(network, "decode", lambda f, text, index: sizes.append(len(index)) or decode(f, text, index))
    (embedding,) = Segmenter(network, INFO).embed([picture()])
    each = network.bytes_per_prompt(embedding.features)
    answers = {}
    for limit in (1, 2 * each, 2**40):
        segmenter = Segmenter(network, INFO, threshold=0.5, memory_limit=limit)
        answers[limit] = list(segmenter.answer(embedding, prompts_of(TEXTS)))
    assert sizes == [1] * 6 + [2] * 3 + [6]
    for limit in (1, 2 * each):
        for one, other in zip(answers[limit], answers[2**40], strict=True):
            same(one, other)


def test_answers_come_as_they_are_made(network, monkeypatch):
    decoded = []
    decode = network.decode
    monkeypatch.setattr(network, "decode", lambda f, text, index: decoded.append(1) or decode(f, text, index))
    segmenter = Segmenter(network, INFO, memory_limit=1)
    answers = segmenter.answer(segmenter.embed([picture()])[0], prompts_of(TEXTS))
    next(answers)
    assert len(decoded) == 1


def test_a_text_is_encoded_once(network, monkeypatch):
    encoded = []
    encode = network.encode_text
    monkeypatch.setattr(network, "encode_text", lambda texts: encoded.extend(texts) or encode(texts))
    segmenter = Segmenter(network, INFO)
    segmenter(picture(), ["sky", "dog", "sky"])
    segmenter(picture(seed=1), ["dog", "car"])
    assert encoded == ["sky", "dog", "car"]


def test_the_texts_used_last_are_kept(network, monkeypatch):
    monkeypatch.setattr("anygrain.text_answers._TEXTS_KEPT", 2)
    segmenter = Segmenter(network, INFO)
    for text in ("sky", "dog", "sky", "car"):
        segmenter(picture(), text)
    assert list(segmenter._answers._texts) == ["sky", "car"]
    assert segmenter(picture(), ["dog", "cat", "window"]).masks.shape[0] == 3  # more than are kept


def test_threads_get_the_same_answers(segmenter):
    images = [picture(80, 120, seed) for seed in range(4)]
    expected = [segmenter(image, TEXTS) for image in images]
    fresh = Segmenter(segmenter.model, INFO, threshold=0.5, presence_threshold=segmenter.presence_threshold)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: fresh(images[i % 4], TEXTS), range(24)))
    for number, answer in enumerate(answers):
        same(answer, expected[number % 4])


def test_bfloat16_gives_nearly_the_same_masks(network):
    exact, fast = (Segmenter(network, INFO, threshold=0.5, bf16=bf16)(picture(), TEXTS) for bf16 in (False, True))
    assert fast.low_res_logits.dtype == np.float32
    difference = np.abs(fast.low_res_logits - exact.low_res_logits).max()
    assert 0 < difference < 0.1 * np.abs(exact.low_res_logits).max()


# ------------------------------------------------------------------------------------------------- refusals


def test_an_embedding_of_another_model_is_refused(network, segmenter):
    (embedding,) = Segmenter(network, {**INFO, "fingerprint": "another"}).embed([picture()])
    with pytest.raises(ValueError, match="this embedding of 'image' was made by another model"):
        segmenter.segment([embedding], prompts_of(["sky"]))


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"points": ((3, 4),)}, "points"),
        ({"box": (1, 2, 30, 40)}, "box"),
        ({"text": "sky", "box": (1, 2, 3, 4)}, "box"),
    ],
)
def test_a_prompt_the_model_does_not_understand_is_refused_by_name(segmenter, fields, kind):
    (embedding,) = segmenter.embed([picture()])
    with pytest.raises(ValueError, match=f"model 'tiny' does not accept {kind} as a prompt"):
        segmenter.segment([embedding] * 2, [Prompt(text="sky"), Prompt(**fields)])


@pytest.mark.parametrize("text", ["", "  \n", ["sky", ""], []])
def test_an_empty_text_is_refused_before_any_work(segmenter, monkeypatch, text):
    monkeypatch.setattr(Segmenter, "embed", lambda *_: pytest.fail("the image was encoded"))
    with pytest.raises(ValueError, match="say what to segment, for instance 'the red car'"):
        segmenter(picture(), text)


def test_as_many_embeddings_as_prompts(segmenter):
    (embedding,) = segmenter.embed([picture()])
    with pytest.raises(ValueError, match="1 embeddings but 2 prompts"):
        segmenter.segment([embedding], prompts_of(["sky", "dog"]))


@pytest.mark.parametrize("name", ["threshold", "presence_threshold"])
@pytest.mark.parametrize("value", [0, 1, -0.5, 35])
def test_a_threshold_is_a_probability(network, name, value):
    with pytest.raises(ValueError, match=f"{name} must lie between 0 and 1, got {value}"):
        Segmenter(network, INFO, **{name: value})


def test_an_unreadable_image_is_named(segmenter, tmp_path):
    (tmp_path / "note.jpg").write_text("not a picture")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'note.jpg'} is not an image")):
        segmenter(tmp_path / "note.jpg", "sky")


def test_a_text_that_is_too_long_warns(segmenter):
    with pytest.warns(UserWarning, match="is longer than the model's .* ignored: '"):
        segmenter(picture(), "the red car on the left of the dog on the right of the cat of all the people")


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (7, 5)])
def test_tiny_and_thin_images_have_an_answer(segmenter, size):
    image = np.full((*size, 3), 90, np.uint8)
    (embedding,) = segmenter.embed([image])
    assert isinstance(embedding, ImageEmbedding)
    assert segmenter(image, "sky").masks.shape == (1, *size)


def test_a_high_presence_without_a_pixel_is_no_high_score(nano):
    high = Segmenter(nano, INFO, threshold=0.3, presence_threshold=1e-6)(picture(), TEXTS)
    none = Segmenter(nano, INFO, threshold=0.999999, presence_threshold=1e-6)(picture(), TEXTS)
    peaks = 1 / (1 + np.exp(-none.low_res_logits.max((1, 2))))
    np.testing.assert_allclose(none.scores, np.minimum(high.scores, peaks), atol=1e-6)
