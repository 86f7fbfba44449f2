from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from anygrain.data.batch import BatchConfig, make_batch, share
from anygrain.data.language import SALIENT
from anygrain.data.transforms import AugmentConfig
from anygrain.types import Mask, Region, Sample
from small_photos import H, W, rect, region

STILL = AugmentConfig(scale=(1, 1), flip=0, jitter=0)


def photo(value=(200, 40, 40), size=(H, W)):
    buffer = BytesIO()
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, : size[1] // 2] = value
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def sample(*regions, name="test/1", exhaustive=(), image=None):
    return Sample(
        id=name,
        image=image or photo(),
        size=(H, W),
        regions=regions,
        source="test",
        exhaustive=frozenset(exhaustive),
    )


def still(*samples, seed=0, **fields):
    fields = {"size": W, "augment": STILL, **fields}
    return make_batch(samples, BatchConfig(**fields), np.random.default_rng(seed))


def inside(batch, image, values):
    """The part [..., H, W] of a map [..., S, S] where the photo lies."""
    rows, columns = (np.flatnonzero(batch.valid[image].numpy().any(axis)) for axis in (1, 0))
    return values[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def target_of(batch, text):
    """[H, W] target of a caption, without the padding (which must be unknown)."""
    place = batch.texts.index(text)
    image, target = batch.image_index[place], batch.targets[place].numpy()
    assert (target[~batch.valid[image].numpy()] == 255).all()
    return inside(batch, image, target)


def test_a_category_is_the_union_and_a_caption_its_own_region():
    left, right = (0, 0, 10, 10), (20, 30, 40, 60)
    batch = still(
        sample(region(left, category="traffic_cone", captions=("tiny one",)), region(right, category="traffic_cone")),
        prompts_per_image=2,
    )
    assert sorted(batch.texts) == ["all traffic cone", "tiny one"]
    np.testing.assert_array_equal(target_of(batch, "tiny one"), rect(*left))
    np.testing.assert_array_equal(target_of(batch, "all traffic cone"), rect(*left) | rect(*right))
    assert batch.present.all()


def test_shapes_types_and_normalisation():
    batch = still(
        sample(region((0, 0, 9, 9), category="a")),
        sample(region((0, 0, 9, 9), category="b")),
        prompts_per_image=3,
        mean=(0.5, 0.25, 0.0),
        std=(0.5, 0.5, 1.0),
    )
    assert batch.pixels.shape == (2, 3, W, W)
    assert batch.pixels.dtype == torch.float32
    assert batch.targets.shape == (6, W, W)
    assert batch.targets.dtype == torch.uint8
    assert batch.valid.dtype == batch.present.dtype == torch.bool
    assert batch.image_index.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.image_index.dtype == torch.int64
    colour = torch.tensor([200 / 255, 40 / 255, 40 / 255])
    wanted = (colour - torch.tensor([0.5, 0.25, 0.0])) / torch.tensor([0.5, 0.5, 1.0])
    pixels = inside(batch, 0, batch.pixels[0])
    assert pixels.shape == (3, H, W)
    torch.testing.assert_close(pixels[:, 5, 5], wanted)
    assert batch.valid[0].sum() == H * W
    assert (batch.pixels[0, :, ~batch.valid[0]] == 0).all()


def test_ignored_places_are_unknown_unless_they_are_the_answer():
    ignored, dog = (0, 0, 20, 20), (10, 10, 30, 30)
    batch = still(sample(region(ignored, ignore=True), region(dog, category="dog")), prompts_per_image=1)
    target = target_of(batch, "all dog")
    assert (target[rect(*dog)] == 1).all()
    assert (target[rect(*ignored) & ~rect(*dog)] == 255).all()
    assert (target[~rect(*ignored) & ~rect(*dog)] == 0).all()


def test_a_crowd_is_unknown_for_its_own_category_only():
    crowd = (0, 0, 20, 20)
    regions = (region((20, 30, 40, 60), category="dog"), region((20, 0, 30, 10), category="cat"))
    batch = still(sample(region(crowd, ignore=True, category="dog"), *regions), prompts_per_image=2)
    assert (target_of(batch, "all dog")[rect(*crowd)] == 255).all()
    assert (target_of(batch, "all cat")[rect(*crowd)] == 0).all()


def test_a_box_without_a_mask_is_unknown_for_its_own_category_only():
    regions = (
        region((0, 0, 10, 10), category="dog"),
        Region(box=(30.0, 0.0, 60.0, 20.0), category="dog"),
        region((20, 0, 30, 10), category="cat"),
    )
    batch = still(sample(*regions), prompts_per_image=2)
    assert (target_of(batch, "all dog")[rect(0, 30, 20, 60)] == 255).all()
    assert (target_of(batch, "all cat")[rect(0, 30, 20, 60)] == 0).all()


def test_absent_prompts_come_only_from_exhaustive_categories_that_no_region_has():
    one = sample(
        region((0, 0, 10, 10), category="dog"),
        region((0, 20, 10, 30), category="person", ignore=True),
        Region(box=(0.0, 0.0, 5.0, 5.0), category="cup"),
        exhaustive=("dog", "person", "cup", "cat", "fork"),
    )
    other = sample(region((0, 0, 10, 10), category="shoe"), name="test/2")
    seen = set()
    for seed in range(30):
        batch = still(one, other, seed=seed, prompts_per_image=4, absent_ratio=0.5)
        for text, index, present, target in zip(
            batch.texts, batch.image_index, batch.present, batch.targets, strict=True
        ):
            if not present:
                assert index == 0
                assert not (target == 1).any()
                assert (target == 0).any()
                seen.add(text)
    assert seen == {"all cat", "all fork"}


def test_the_absent_ratio_is_kept():
    names = [f"thing {i}" for i in range(40)]
    one = sample(*(region((0, i, 9, i + 1), category=names[i]) for i in range(10)), exhaustive=names)
    present = torch.cat([still(one, seed=s, prompts_per_image=8, absent_ratio=0.25).present for s in range(60)])
    assert 1 - present.float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert still(one, prompts_per_image=8).present.all()


def test_what_some_photos_show_is_asked_in_vain_of_the_others():
    names = [f"thing {number}" for number in range(60)]
    shows = sample(region((5, 5, 30, 30), category="dog"), exhaustive=("dog", *names))
    without = sample(region((5, 5, 30, 30), category="thing 1"), exhaustive=("dog", *names))
    dogs = asked = 0
    for seed in range(60):
        batch = still(shows, without, seed=seed, prompts_per_image=4, absent_ratio=0.5)
        rows = zip(batch.texts, batch.image_index.tolist(), batch.present.tolist(), strict=True)
        vain = [text for text, image, present in rows if image == 1 and not present]
        asked, dogs = asked + len(vain), dogs + sum("dog" in text for text in vain)
    assert 0.2 < dogs / asked < 0.8  # one of 60 names would be 0.02


def test_a_photo_showing_nothing_asked_for_can_still_teach_absence():
    batch = still(sample(exhaustive=("cat",)), prompts_per_image=2, absent_ratio=0.1)
    assert batch.texts == ("all cat", "all cat")
    assert not batch.present.any()


def test_places_go_to_the_photos_that_can_use_them():
    poor = sample(region((0, 0, 9, 9), category="only"))
    rich = sample(*(region((0, i, 9, i + 1), category=f"thing {i}") for i in range(12)), name="test/2")
    batch = still(poor, rich, prompts_per_image=4)
    assert len(batch.texts) == 8
    assert batch.texts.count("all only") == 1
    assert len(set(batch.texts)) == 8
    assert len(still(poor, poor, prompts_per_image=4).texts) == 8


@pytest.mark.parametrize(
    ("available", "each", "wanted"),
    [([1, 9, 4], 4, [1, 7, 4]), ([1, 1], 3, [3, 3]), ([5, 5], 2, [2, 2]), ([1, 3, 3], 4, [3, 5, 4])],
)
def test_share(available, each, wanted):
    quotas = share(available, each)
    assert sum(quotas) == each * len(available)
    assert sorted(quotas) == sorted(wanted)


def test_mirroring_mirrors_mask_and_words():
    left = (0, 0, 40, 10)
    one = sample(region(left, captions=("the strip on the left",)))
    config = AugmentConfig(scale=(1, 1), flip=1, jitter=0)
    batch = still(one, prompts_per_image=1, augment=config)
    assert batch.texts == ("the strip on the right",)
    np.testing.assert_array_equal(target_of(batch, "the strip on the right"), rect(*left)[:, ::-1])
    pixels = inside(batch, 0, batch.pixels[0, 0])
    assert pixels[0, -1] > pixels[0, 0]  # the red half of the photo is on the right now


def test_captions_are_drawn_at_random():
    one = sample(region((0, 0, 9, 9), captions=("a", "b", "c")))
    assert {still(one, seed=seed, prompts_per_image=1).texts[0] for seed in range(30)} == {"a", "b", "c"}


def test_paraphrases_say_the_same():
    one = sample(region((0, 0, 9, 9), category="left_mirror"))
    several = sample(region((0, 0, 9, 9), category="cup"), region((0, 20, 9, 30), category="cup"))
    config = {"prompts_per_image": 1, "paraphrase": True}
    said = {still(one, seed=s, **config).texts[0] for s in range(40)}
    assert {"all left mirror", "left mirror", "the left mirror"} <= said
    assert {"all cup", "cup", "the cups"} <= {still(several, seed=s, **config).texts[0] for s in range(60)}
    assert not any("_" in text for text in said)
    salient = sample(region((0, 0, 9, 9), captions=(SALIENT,)))
    assert len({still(salient, seed=s, **config).texts[0] for s in range(30)}) > 3


def test_boxes_and_bare_statements_are_asked_when_wanted():
    boxed = Region(box=(10.0, 0.0, 30.0, 20.0), category="dog")
    said = Region(captions=("a dog runs",))
    photo = sample(boxed, said, Region(box=(30.0, 0.0, 40.0, 9.0), captions=("tail",)))
    with pytest.raises(ValueError, match="test/1"):
        still(photo, prompts_per_image=3)
    batch = still(photo, prompts_per_image=3, boxes=True)
    assert dict(zip(batch.texts, batch.boxed.tolist(), strict=True)) == {
        "all dog": True,
        "a dog runs": False,
        "tail": True,
    }
    assert batch.present.all()
    np.testing.assert_array_equal(target_of(batch, "all dog"), rect(0, 10, 20, 30))
    assert (target_of(batch, "a dog runs") == 255).all()


def test_absent_phrases_are_empty():
    photo = replace(sample(region((0, 0, 9, 9), category="dog")), absent=("a red cat",))
    batch = still(photo, prompts_per_image=4, absent_ratio=0.5)
    wrong = [i for i, text in enumerate(batch.texts) if text == "a red cat"]
    assert wrong
    assert not batch.present[wrong].any()
    assert not (batch.targets[wrong] == 1).any()


def test_generated_phrases_are_true_of_the_view():
    """Of two cups the left one is left-most, and after mirroring the other."""
    cups = (region((10, 2, 20, 12), category="cup", instance=1), region((10, 40, 20, 50), category="cup", instance=2))
    seen = set()
    for seed in range(80):
        for flip, place in ((0.0, cups[0]), (1.0, cups[1])):
            photo = sample(*cups, exhaustive=("cup",))
            augment = AugmentConfig(scale=(1, 1), flip=flip, jitter=0)
            batch = still(photo, seed=seed, prompts_per_image=1, phrase_ratio=1.0, augment=augment)
            (text,) = batch.texts
            if text in ("leftmost cup", "the leftmost cup", "the left cup", "left cup", "the cup on the left"):
                seen.add(flip)
                wanted = place.mask.to_array()[:, ::-1] if flip else place.mask.to_array()
                np.testing.assert_array_equal(target_of(batch, text), wanted)
    assert seen == {0.0, 1.0}


def test_among_boxes_one_is_meant_by_its_place():
    cups = [Region(box=(x, 10, x + 10, 20), category="cup", origin={"step": "human"}) for x in (2, 46)]
    seen = set()
    for seed in range(40):
        batch = still(sample(*cups, exhaustive=("cup",)), seed=seed, prompts_per_image=2, phrase_ratio=1.0, boxes=True)
        for text, boxed in zip(batch.texts, batch.boxed.tolist(), strict=True):
            for side, box in (("left", (10, 2, 20, 12)), ("right", (10, 46, 20, 56))):
                if text.removeprefix("the ") in (f"{side}most cup", f"{side} cup", f"cup on the {side}"):
                    seen.add(side)
                    assert boxed
                    np.testing.assert_array_equal(target_of(batch, text), rect(*box))
    assert seen == {"left", "right"}


def test_what_has_a_mask_is_outlined_also_among_boxes():
    """A person with a mask and one with a box: the box is not the masked one's, and is no smaller or larger thing."""
    masked = region((10, 2, 30, 12), category="person", instance=1)
    rest = Region(
        mask=Mask.from_array(rect(5, 40, 35, 58)),
        box=(40, 5, 58, 35),
        category="person",
        ignore=True,
        origin={"step": "box"},
    )
    seen = set()
    for seed in range(40):
        batch = still(sample(masked, rest, exhaustive=("person",)), seed=seed, prompts_per_image=3, phrase_ratio=1.0)
        for text, boxed in zip(batch.texts, batch.boxed.tolist(), strict=True):
            assert "bigg" not in text
            assert "small" not in text
            if text.removeprefix("the ") in ("leftmost person", "left person", "person on the left"):
                seen.add(text)
                assert not boxed
                np.testing.assert_array_equal(target_of(batch, text), masked.mask.to_array())
    assert seen


def test_photos_with_several_things_of_a_name_are_asked_more():
    cups = [region((10, x, 20, x + 10), category="cup", instance=x) for x in (2, 24, 46)]
    several, single = sample(*cups, exhaustive=("cup",)), sample(cups[0], exhaustive=("cup",))
    for seed in range(5):
        asked = still(several, single, seed=seed, prompts_per_image=3, phrase_ratio=0.8).image_index.tolist()
        assert (asked.count(0), asked.count(1)) == (5, 1)


def test_colours_stay_when_a_caption_names_one():
    config = AugmentConfig(scale=(1, 1), flip=0, jitter=0.5)

    def colours(caption):
        one = sample(region((0, 0, 9, 9), captions=(caption,)))
        batches = (still(one, seed=s, prompts_per_image=1, augment=config) for s in range(6))
        return torch.stack([inside(batch, 0, batch.pixels[0])[:, 0, 0] for batch in batches])

    assert colours("the red half").std(0).max() == 0
    assert colours("the half").std(0).max() > 0.05


def test_a_thing_lost_by_sampling_is_unknown_and_not_absent():
    dot = sample(region((20, 31, 21, 32), category="dot"), region((0, 0, 40, 10), category="wall"))
    batch = still(dot, prompts_per_image=2, size=12)
    lost = batch.targets[batch.texts.index("all dot")]
    assert (lost == 255).all()
    assert batch.present.all()
    assert (batch.targets[batch.texts.index("all wall")] == 1).any()


def test_hide_and_seek_hides_pixels_but_no_target():
    one = sample(region((0, 0, 40, 60), category="all"))
    hidden = still(one, prompts_per_image=1, augment=AugmentConfig(scale=(1, 1), flip=0, jitter=0, hide_and_seek=0.5))
    zeros = (inside(hidden, 0, hidden.pixels[0, 0]) == 0).float().mean().item()
    assert 0.3 < zeros < 0.7
    assert (target_of(hidden, "all all") == 1).all()


def test_errors_name_the_sample():
    with pytest.raises(ValueError, match="test/7"):
        still(sample(region((0, 0, 9, 9), ignore=True), name="test/7"))
    wrong = sample(region((0, 0, 9, 9), category="a"), name="test/8", image=photo(size=(30, 30)))
    with pytest.raises(ValueError, match=r"test/8.*30x30"):
        still(wrong)
