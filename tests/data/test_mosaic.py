"""Photos are painted, one colour a category, so that the new picture itself tells what every answer must be."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from anygrain.data.batch import BatchConfig, make_batch
from anygrain.data.labels import Labels, absent_candidates, open_photo, present_candidates
from anygrain.data.loader import TextDataset
from anygrain.data.mixture import MixtureConfig
from anygrain.data.mosaic import composable, copy_paste, mosaic, pastable
from anygrain.data.referring import true_phrases
from anygrain.data.transforms import AugmentConfig
from anygrain.data.views import full_scene
from anygrain.types import Mask, Region, Sample
from layouts import box_mask as box

GREY = (128, 128, 128)
PAINT = {
    "dog": (255, 0, 0),
    "cup": (0, 255, 0),
    "wall_clock": (0, 0, 255),
    "car": (255, 255, 0),
    "bus": (0, 255, 255),
}
BLACK = (0, 0, 0)  # ignored, whatever the question


def png(pixels):
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def painted(size, *things, name="test/1", exhaustive=(), **fields):
    """A sample of things (category, (x0, y0, x1, y1), options), a later one over the earlier; None: unspoken of."""
    pixels, masks = np.full((*size, 3), GREY, np.uint8), []
    for category, place, _ in things:
        mask = box(size, *place)
        masks = [earlier & ~mask for earlier in masks] + [mask]
        pixels[mask] = PAINT.get(category, BLACK)
    regions = [
        Region(mask=Mask.from_array(mask), category=category, **options)
        for mask, (category, _, options) in zip(masks, things, strict=True)
        if options is not None and mask.any()
    ]
    return Sample(
        id=name,
        image=png(pixels),
        size=size,
        regions=tuple(regions),
        source="test",
        exhaustive=frozenset(exhaustive),
        **fields,
    )


def random_sample(rng, name):
    """A painted sample; each category is exhaustive, spoken of, or painted without a word."""
    size = tuple(int(v) for v in rng.integers(60, 160, 2))
    things, exhaustive = [], []
    for number in rng.permutation(len(PAINT) + 1):
        category = [*PAINT, None][number]
        kind = rng.choice(["exhaustive", "spoken", "silent"], p=(0.6, 0.2, 0.2))
        for _ in range(rng.choice(4, p=(0.5, 0.2, 0.2, 0.1))):
            x, y = int(rng.integers(0, size[1] - 20)), int(rng.integers(0, size[0] - 20))
            place = (x, y, x + int(rng.integers(8, 60)), y + int(rng.integers(8, 60)))
            options = {"instance": len(things) + 1} if category else {"ignore": True}
            things.append((category, place, None if category and kind == "silent" else options))
        if category and kind == "exhaustive":
            exhaustive.append(category)
    return painted(size, *things, name=name, exhaustive=exhaustive)


def seen(sample):
    """For each colour, bool [H, W]: pixels of it, but none where colours meet."""
    pixels = np.asarray(open_photo(sample)).astype(int)
    found = {}
    for name, colour in {**PAINT, "grey": GREY, None: BLACK}.items():
        same = np.abs(pixels - colour).max(-1) < 40
        found[name and name.replace("_", " ")] = ndimage.minimum_filter(same, 5)
    return found


def check(sample):
    """Every answer about the sample agrees with its pixels; returns how many answers there were of each sort."""
    colours, labels, counts = seen(sample), Labels(sample), {"present": 0, "absent": 0, "zeros": 0}
    for candidate in present_candidates(sample):
        assert not candidate.captions
        answer = labels.of(candidate)
        union = np.any([region.mask.to_array() for region in candidate.regions], axis=0)
        np.testing.assert_array_equal(answer == 1, union)
        assert (answer[colours[candidate.category]] != 0).all()
        others = np.any([mask for name, mask in colours.items() if name != candidate.category], axis=0)
        assert not (others & ndimage.minimum_filter(answer == 1, 3)).any()  # lines of a pixel fade when made smaller
        counts["present"] += 1
        counts["zeros"] += int((answer[others] == 0).any())
    for candidate in absent_candidates(sample):
        assert not colours[candidate.category].any()
        counts["absent"] += 1
    scene = full_scene(sample, np.asarray(open_photo(sample)))
    for phrase in true_phrases(scene, np.random.default_rng(0), 12):
        if phrase.kind == "union":
            for name in (name for name in colours if name and name in phrase.text.replace("buses", "bus")):
                assert (phrase.mask | phrase.unknown)[colours[name]].all(), phrase.text
    numbers = [region.instance for region in sample.regions if region.instance is not None]
    assert len(numbers) == len(set(numbers))
    return counts


def test_every_answer_about_a_mosaic_is_what_its_pixels_show():
    total = {"present": 0, "absent": 0, "zeros": 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        parts = [random_sample(rng, f"test/{i}") for i in range(rng.integers(2, 5))]
        for key, value in check(mosaic(parts, rng, long_side=240)).items():
            total[key] += value
    assert total["present"] > 100
    assert total["zeros"] > 100
    assert total["absent"] >= 5


def test_every_answer_about_a_pasted_picture_is_what_its_pixels_show():
    total = {"present": 0, "absent": 0, "zeros": 0}
    pasted = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        target, donor = random_sample(rng, "test/1"), random_sample(rng, "test/2")
        result = copy_paste(target, donor, rng)
        if result is not target:
            pasted += 1
            for key, value in check(result).items():
                total[key] += value
    assert pasted > 20
    assert min(total.values()) >= 10


def test_two_photos_side_by_side():
    one = painted((40, 20), ("dog", (0, 0, 10, 40), {"instance": 7}), exhaustive=("dog", "cup", "car"))
    two = painted((40, 20), ("cup", (10, 0, 20, 40), {"instance": 7}), name="test/2", exhaustive=("cup", "bus", "dog"))
    result = mosaic([one, two], np.random.default_rng(0), long_side=40)
    assert result.size == (40, 40)
    assert result.exhaustive == {"dog", "cup"}
    first = result.id == "test/1+test/2"
    dog, cup = (box((40, 40), 0, 0, 10, 40), box((40, 40), 30, 0, 40, 40))
    if not first:
        dog, cup = box((40, 40), 20, 0, 30, 40), box((40, 40), 10, 0, 20, 40)
    masks = {region.category: region for region in result.regions}
    np.testing.assert_array_equal(masks["dog"].mask.to_array(), dog)
    np.testing.assert_array_equal(masks["cup"].mask.to_array(), cup)
    assert masks["dog"].instance != masks["cup"].instance


def test_the_other_photo_is_unknown_for_what_it_does_not_speak_of():
    one = painted((40, 20), ("dog", (0, 0, 10, 40), {}), exhaustive=("dog",))
    two = painted((40, 20), ("cup", (0, 0, 10, 40), {}), name="test/2", exhaustive=("cup",))
    result = mosaic([one, two], np.random.default_rng(0), long_side=40)
    labels = {c.category: Labels(result).of(c) for c in present_candidates(result)}
    for answer in labels.values():
        assert {int((answer == value).sum()) for value in (0, 1)} == {400}
        assert (answer == 255).sum() == 800
    assert not absent_candidates(result)
    assert not result.exhaustive


def test_only_categories_survive():
    region = {"captions": ("the dog on the left", "the most salient object"), "category": None}
    one = painted((40, 20), ("dog", (0, 0, 10, 40), {}), whole="car", absent=("a red boat",))
    said = replace(one, regions=(*one.regions, replace(one.regions[0], **region)))
    for result in (
        mosaic([said, replace(said, id="test/2")], np.random.default_rng(0)),
        copy_paste(said, painted((99, 99), ("dog", (20, 20, 70, 70), {"instance": 1})), np.random.default_rng(0)),
    ):
        assert result.whole is None
        assert result.absent == ()
        assert [c.captions for c in present_candidates(result)] == [()]


def test_what_becomes_too_small_is_neither_asked_nor_called_absent():
    names = ("dog", "cup")
    one = painted((200, 200), ("dog", (0, 0, 100, 100), {}), ("cup", (150, 150, 155, 155), {}), exhaustive=names)
    result = mosaic([one] * 4, np.random.default_rng(0), long_side=200)
    assert [c.category for c in present_candidates(result)] == ["dog"]
    assert not absent_candidates(result)


def test_boxes_move_and_presence_stays():
    regions = (
        Region(box=(4.0, 8.0, 12.0, 20.0), category="cup"),
        Region(category="bus"),
        Region(mask=Mask.from_array(box((40, 20), 0, 0, 10, 5)), category="dog"),
    )
    one = replace(painted((40, 20)), regions=regions, exhaustive=frozenset({"dog"}))
    two = painted((40, 20), ("dog", (0, 0, 10, 40), {}), name="test/2", exhaustive=("cup", "bus", "dog"))
    result = mosaic([one, two], np.random.default_rng(3), long_side=80)
    known = {c.category: (c.known, Labels(result).of(c)) for c in present_candidates(result, boxes=True)}
    left = result.id.startswith("test/1")
    x = 0 if left else 40
    assert known["cup"][0] == "box"
    np.testing.assert_array_equal(known["cup"][1] == 1, box((80, 80), x + 8, 16, x + 24, 40))
    assert known["bus"][0] == "presence"
    assert known["dog"][0] == "mask"


@pytest.mark.parametrize("width", [61, 149, 265])
def test_photos_that_end_on_half_a_pixel_stay_inside(width):
    """A row is as wide as the picture, also where half a pixel is rounded up in one and down in the other."""
    one = painted((384, width), ("dog", (width - 40, 0, width, 384), {}), exhaustive=("dog",))
    many = [replace(one, id=f"test/{number}") for number in range(4)]
    result = mosaic(many, np.random.default_rng(0), long_side=576)
    assert sum(region.category == "dog" for region in result.regions) == 4


@pytest.mark.parametrize("count", [1, 5])
def test_a_mosaic_needs_two_to_four_photos(count):
    one = painted((40, 20), ("dog", (0, 0, 10, 40), {}))
    with pytest.raises(ValueError, match=f"2 to 4 photos, got {count}"):
        mosaic([one] * count, np.random.default_rng(0))


def test_a_line_of_a_photo_is_refused():
    line = painted((2, 4000), ("dog", (0, 0, 10, 2), {}), name="test/line")
    assert not composable(line)
    with pytest.raises(ValueError, match=r"test/line.*too narrow"):
        mosaic([line, painted((40, 40))], np.random.default_rng(0), long_side=100)


# ---------------------------------------------------------------------------------------------------- copy and paste


def test_pasted_things_cover_and_a_covered_thing_is_not_called_absent():
    target = painted((120, 120), ("cup", (50, 50, 70, 70), {"instance": 1}), exhaustive=("dog", "cup", "car"))
    donor = painted((100, 100), ("dog", (10, 10, 90, 90), {"instance": 5}), exhaustive=("dog", "cup", "car"))
    original, parts = target.regions[0].mask.to_array(), []
    for seed in range(60):
        result = copy_paste(target, donor, np.random.default_rng(seed))
        named = {region.category: region for region in result.regions if region.mask is not None}
        dog = named["dog"].mask.to_array()
        part = (original & ~dog).mean() / original.mean()
        parts.append(part)
        assert [c.category for c in absent_candidates(result)] == ["car"]
        if part >= 0.1:
            np.testing.assert_array_equal(named["cup"].mask.to_array(), original & ~dog)
        else:
            assert "cup" not in named
    assert any(part < 0.1 for part in parts)
    assert any(0.1 < part < 0.9 for part in parts)


def test_what_lies_on_a_pasted_thing_comes_along():
    donor = painted(
        (100, 100),
        ("dog", (10, 10, 90, 90), {"instance": 5}),
        ("cup", (40, 40, 60, 60), {}),  # a hole in the dog
        exhaustive=("dog", "cup"),
    )
    target = painted((120, 120), ("car", (0, 0, 9, 9), {}), exhaustive=("dog", "cup", "car"))
    result = copy_paste(target, donor, np.random.default_rng(0))
    areas = {region.category: region.mask.area for region in result.regions if region.mask is not None}
    assert areas["cup"] / areas["dog"] == pytest.approx(400 / 6000, abs=0.02)
    check(result)


def test_only_whole_single_objects_are_pasted():
    thing = ("dog", (10, 10, 60, 60), {"instance": 1})

    def names(*things, **fields):
        return [name for name, _ in pastable(painted((100, 100), *things, **fields))]

    assert names(thing) == ["dog"]
    assert names(thing, whole="car") == []
    assert names(("dog", (10, 10, 60, 60), {})) == []
    assert names(("dog", (0, 10, 60, 60), {"instance": 1})) == []
    assert names(("dog", (10, 10, 16, 16), {"instance": 1})) == []
    assert names(thing, ("cup", (10, 30, 60, 36), None)) == []  # two pieces
    for options in ({"score": 0.9}, {"ignore": True}, {"granularity": "part"}):
        assert names(("dog", (10, 10, 60, 60), {"instance": 1, **options})) == []


def test_a_donor_without_anything_that_the_target_speaks_of_changes_nothing():
    target = painted((100, 100), ("cup", (10, 10, 60, 60), {"instance": 1}))
    donor = painted((100, 100), ("dog", (10, 10, 60, 60), {"instance": 1}))
    assert copy_paste(target, donor, np.random.default_rng(0)) is target
    assert copy_paste(replace(target, exhaustive=frozenset({"dog"})), donor, np.random.default_rng(0)) is not target


# ---------------------------------------------------------------------------------------------------- real photos


@pytest.fixture
def real(photos):
    def load(name, category, exhaustive=()):
        index = np.asarray(Image.open(photos / f"{name}.png"))
        mask = index == 1
        regions = [Region(mask=Mask.from_array(mask), category=category, instance=1)]
        if (index == 3).any():
            regions.append(Region(mask=Mask.from_array(index == 3), ignore=True))
        return Sample(
            id=f"real/{name}",
            image=photos / f"{name}.jpg",
            size=mask.shape,
            regions=tuple(regions),
            source="real",
            exhaustive=frozenset(exhaustive),
        )

    facade = json.loads((photos / "facade.json").read_text())
    names = {entry["id"]: entry["name"] for entry in facade["categories"]}
    size = (facade["images"][0]["height"], facade["images"][0]["width"])
    regions = tuple(
        Region(mask=Mask.from_coco(a["segmentation"], size), category=names[a["category_id"]], instance=a["id"])
        for a in facade["annotations"]
    )
    return {
        "pet": load("pet", "cat", ("cat", "dog")),
        "dog": load("dog", "dog", ("cat", "dog")),
        "facade": Sample(
            id="real/facade", image=photos / "facade.jpg", size=size, regions=regions, source="real", whole="building"
        ),
    }


def test_a_mosaic_of_real_photos(real):
    result = mosaic([real["pet"], real["dog"], real["facade"]], np.random.default_rng(0), long_side=600)
    assert max(result.size) == 600
    pixels = np.asarray(open_photo(result)).astype(int)
    for name, category in (("pet", "cat"), ("dog", "dog")):
        moved = next(region.mask for region in result.regions if region.category == category and region.mask)
        own = real[name].regions[0].mask
        (x0, y0, x1, y1), (u0, v0, u1, v1) = own.box, moved.box
        assert (u1 - u0) / (x1 - x0) == pytest.approx((v1 - v0) / (y1 - y0), rel=0.03)
        there = moved.to_array()
        shape = Image.fromarray(own.to_array()[int(y0) : int(y1), int(x0) : int(x1)])
        shape = np.asarray(shape.resize((int(u1 - u0), int(v1 - v0)), Image.Resampling.NEAREST))
        cut = there[int(v0) : int(v1), int(u0) : int(u1)]
        assert (cut & shape).sum() / (cut | shape).sum() > 0.95
        colour = np.asarray(open_photo(real[name])).astype(int)[own.to_array()].mean(0)
        np.testing.assert_allclose(pixels[there].mean(0), colour, atol=2)
    assert result.exhaustive == frozenset()
    answers = {c.category: Labels(result).of(c) for c in present_candidates(result)}
    assert {"cat", "dog", "window"} <= set(answers)
    windows = np.any([r.mask.to_array() for r in result.regions if r.category == "window" and r.mask], axis=0)
    np.testing.assert_array_equal(answers["window"] == 1, windows)
    assert (answers["window"][answers["cat"] == 1] == 255).all()


def test_a_real_dog_beside_a_real_cat(real):
    for seed in range(4):
        result = copy_paste(real["pet"], real["dog"], np.random.default_rng(seed))
        dog = next(region.mask for region in result.regions if region.category == "dog")
        there = dog.to_array()
        before, after = (np.asarray(open_photo(s)).astype(int) for s in (real["pet"], result))
        far = ~ndimage.maximum_filter(there, 9)
        np.testing.assert_array_equal(after[far], before[far])
        colour = np.asarray(open_photo(real["dog"])).astype(int)[real["dog"].regions[0].mask.to_array()].mean(0)
        np.testing.assert_allclose(after[ndimage.minimum_filter(there, 3)].mean(0), colour, atol=8)
        cat = next(region.mask for region in result.regions if region.category == "cat")
        np.testing.assert_array_equal(cat.to_array(), real["pet"].regions[0].mask.to_array() & ~there)


# ---------------------------------------------------------------------------------------------------- in batches


def test_mirroring_and_colour_words_still_hold():
    one = painted((40, 20), ("left_mirror", (0, 0, 10, 40), {}))
    two = painted((40, 20), ("left_mirror", (0, 0, 10, 40), {}), name="test/2")
    flipped = BatchConfig(size=40, prompts_per_image=1, augment=AugmentConfig(scale=(1, 1), flip=1, jitter=0))
    result = mosaic([one, two], np.random.default_rng(0), long_side=40)
    batch = make_batch([result], flipped, np.random.default_rng(0))
    assert batch.texts == ("all right mirror",)
    wanted = box((40, 40), 10, 0, 20, 40) | box((40, 40), 30, 0, 40, 40)
    np.testing.assert_array_equal(batch.targets[0].numpy(), wanted)

    def pixels(name):
        parts = [replace(part, regions=(replace(part.regions[0], category=name),)) for part in (one, two)]
        config = replace(flipped, augment=AugmentConfig(scale=(1, 1), flip=0, jitter=0.5))
        whole = mosaic(parts, np.random.default_rng(0), long_side=40)
        return torch.stack([make_batch([whole], config, np.random.default_rng(seed)).pixels for seed in range(4)])

    assert pixels("black_thing").std(0).max() == 0
    assert pixels("thing").std(0).max() > 0.05


def test_batches_of_composed_pictures_depend_on_seed_and_step_only():
    rng = np.random.default_rng(0)
    samples = [random_sample(rng, f"test/{i}") for i in range(40)]
    samples = [sample for sample in samples if present_candidates(sample)]

    def dataset(**fields):
        config = BatchConfig(size=64, absent_ratio=0.2, phrase_ratio=0.2, paraphrase=True, **fields)
        return TextDataset({"test": samples}, MixtureConfig(), config, images=4, seed=3)

    plain, mixed = dataset(), dataset(mosaic=0.5, copy_paste=0.5)
    first = [mixed[step] for step in range(6)]
    for step in (4, 0, 5):
        again = dataset(mosaic=0.5, copy_paste=0.5)[step]
        assert again.texts == first[step].texts
        assert torch.equal(again.pixels, first[step].pixels)
        assert torch.equal(again.targets, first[step].targets)
    assert not any(torch.equal(plain[step].pixels, first[step].pixels) for step in range(6))
    assert all(len(batch.texts) == 16 for batch in first)
    kinds = {("+" in mixed._varied(position).id, mixed._varied(position).source) for position in range(24)}
    assert {(True, "mosaic"), (True, "test")} <= kinds


def test_half_of_the_mosaics_are_of_one_source():
    rng = np.random.default_rng(0)
    sources = {
        name: [s for s in (random_sample(rng, f"{name}/{i}") for i in range(30)) if present_candidates(s)]
        for name in ("one", "two", "three", "four")
    }
    dataset = TextDataset(sources, MixtureConfig(), BatchConfig(size=32, mosaic=1.0), images=1, seed=0)
    made = [dataset._varied(position).id for position in range(60)]
    alike = [len({part.split("/")[0] for part in name.split("+")}) == 1 for name in made if "+" in name]
    assert len(alike) > 30
    assert 0.4 < np.mean(alike) < 0.85  # half, and those of all sources that are alike by chance


def test_impossible_probabilities_are_named():
    with pytest.raises(ValueError, match="mosaic must lie in"):
        BatchConfig(mosaic=1.5)
    with pytest.raises(ValueError, match="must not be more than 1 together"):
        BatchConfig(mosaic=0.6, copy_paste=0.6)
