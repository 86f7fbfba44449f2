from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from anygrain.data.clicks import Called, ClickConfig, ClickDataset, Names, called, names_of
from anygrain.data.mixture import MixtureConfig
from anygrain.data.transforms import AugmentConfig
from anygrain.models.pixel_decoder import PixelDecoderConfig
from anygrain.models.semantic_sam_config import SemanticSAMConfig
from anygrain.types import Mask, Region
from nested_photos import COLOURS, nested, rect, with_region

STILL = AugmentConfig(scale=(1, 1), flip=0, jitter=0)
CONFIG = ClickConfig(size=64, prompts_per_image=12, templates=False, mean=(0, 0, 0), std=(255, 255, 255), augment=STILL)


def batch_of(*samples, step=0, seed=0, **changes):
    """The batch of one step over photos of the given samples, all of one source."""
    dataset = ClickDataset(
        {"street": samples}, MixtureConfig(), replace(CONFIG, **changes), images=len(samples), seed=seed
    )
    return dataset[step]


def targets_of(batch, prompt):
    return batch.pair_mask[batch.pair_prompt == prompt]


def pixel_of(batch, prompt, size=64):
    """Column and row under a click."""
    return (int(value) for value in batch.boxes[prompt, :2] * size)


@pytest.mark.parametrize("changes", [{}, {"augment": AugmentConfig(scale=(0.7, 2.0), jitter=0, flip=0.5)}])
def test_a_click_means_every_mask_that_it_lies_in_from_large_to_small(changes):
    seen = set()
    for step in range(4):
        batch = batch_of(nested(0), nested(1), nested(2), step=step, click_noise=0.0, **changes)
        assert batch.image_index.tolist() == sorted([0, 1, 2] * 12)
        areas = (batch.masks == 1).sum((1, 2))
        for prompt in range(36):
            x, y = pixel_of(batch, prompt)
            image, targets = int(batch.image_index[prompt]), targets_of(batch, prompt)
            mine = torch.nonzero(batch.mask_image == image)[:, 0]
            assert set(targets.tolist()) == set(mine[batch.masks[mine, y, x] == 1].tolist())
            assert areas[targets].tolist() == sorted(areas[targets].tolist(), reverse=True)
            seen.add(len(targets))
    assert seen == {1, 2, 3}
    assert (batch.types == 0).all()


def test_masks_lie_over_what_they_show_and_their_boxes_around_them():
    batch = batch_of(nested(0), nested(1), augment=AugmentConfig(scale=(0.8, 1.5), jitter=0, flip=0.5))
    colours = torch.tensor([COLOURS["house"], COLOURS["car"], COLOURS["wheel"]])
    for mask, box, image in zip(batch.masks, batch.mask_boxes, batch.mask_image, strict=True):
        shown = (batch.pixels[image].permute(1, 2, 0)[mask == 1] * 255).round().int()
        near = (shown[:, None] - colours).abs().amax(-1).argmin(1).bincount(minlength=3)
        # The smallest colour inside a mask is its own: the wheel is only yellow, the car red and yellow.
        assert (near > 0.02 * near.sum()).sum() in (1, 2, 3)
        rows, columns = torch.nonzero(mask == 1).T
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        corners = [box[0] - box[2] / 2, box[1] - box[3] / 2, box[0] + box[2] / 2, box[1] + box[3] / 2]
        assert torch.stack(corners).mul(64).tolist() == pytest.approx([int(v) for v in expected], abs=1e-4)
    wheel = (batch.masks == 1).sum((1, 2)).argmin()
    shown = batch.pixels[batch.mask_image[wheel]].permute(1, 2, 0)[batch.masks[wheel] == 1] * 255
    assert (shown - colours[2]).abs().amax(-1).median() < 12


def test_boxes_mean_the_mask_they_surround_and_are_moved_a_little():
    exact = batch_of(nested(3), box_ratio=1.0, box_type=1, box_noise=0.0)
    assert (exact.types == 1).all()
    assert len(exact.pair_mask) == 12
    torch.testing.assert_close(exact.boxes, exact.mask_boxes[exact.pair_mask])
    moved = batch_of(nested(3), box_ratio=1.0, box_type=1, box_noise=0.2)
    change = (moved.boxes - moved.mask_boxes[moved.pair_mask]).abs()
    most = moved.mask_boxes[moved.pair_mask][:, [2, 3, 2, 3]] * torch.tensor([0.1, 0.1, 0.2, 0.2])
    assert (change <= most + 1e-6).all()
    assert (change > 0.3 * most).any(0).all()
    mixed = batch_of(nested(3), box_ratio=0.5, box_type=1, prompts_per_image=200)
    assert 60 < int(mixed.types.sum()) < 140
    clicks = mixed.boxes[mixed.types == 0]
    assert clicks[:, 2:].tolist() == pytest.approx(np.tile([0.005, 0.005 * 0.75], (len(clicks), 1)), rel=0.005)


def test_no_more_targets_than_asked_for_and_the_clicked_one_always_among_them():
    many = nested(0)
    for inset in range(8):
        many = with_region(many, Region(mask=Mask.from_array(rect(12 + inset, 14 + inset, 34 - inset, 46 - inset))))
    batch = batch_of(many, max_targets=3, prompts_per_image=60, click_noise=0.0)
    counts = torch.bincount(batch.pair_prompt)
    assert counts.max() == 3
    # Every mask is clicked on in turn, so each is a target of some prompt, however many others hold the click.
    assert len(batch.masks) == 11
    one = batch_of(many, max_targets=1)
    assert torch.bincount(one.pair_prompt).tolist() == [1] * 12


def test_names_of_objects_and_parts():
    assert called(Region(category="dog:left_ear", granularity="part"), nested(0)) == Called("dog", "left ear")
    whole = replace(nested(0), whole="car")
    assert called(Region(category="front_door", granularity="part"), whole) == Called("car", "front door")
    assert called(Region(captions=("the whole car",), granularity="object"), whole) == Called("car", None)
    assert called(Region(category="traffic_light"), whole) == Called("traffic light", None)
    assert called(Region(), whole) == Called(None, None)
    assert names_of([nested(0), nested(1, kind="objects")]) == Names(
        frozenset({"house", "car", "wheel"}), frozenset({"wheel"})
    )


def labels(batch, mask_name):
    """Row of labels by name of the mask whose colour is ``mask_name``, by its area."""
    order = ["house", "car", "wheel"].index(mask_name)
    row = (batch.masks == 1).sum((1, 2)).argsort(descending=True)[order]
    count = batch.object_labels.shape[1]
    objects = dict(zip(batch.texts[:count], batch.object_labels[row].tolist(), strict=True))
    return objects, dict(zip(batch.texts[count:], batch.part_labels[row].tolist(), strict=True))


def test_each_kind_of_data_teaches_what_it_knows():
    batch = batch_of(nested(0))
    assert batch.texts == ("car", "house", "wheel")
    assert labels(batch, "house") == ({"car": 0, "house": 1}, {"wheel": 0})  # an object is no part
    assert labels(batch, "wheel") == ({"car": 1, "house": 0}, {"wheel": 1})
    assert (batch.object_others == 0).all()
    assert (batch.part_others == 0).all()

    batch = batch_of(nested(0, kind="objects"))
    assert labels(batch, "wheel") == ({"car": 0, "house": 0, "wheel": 1}, {})

    batch = batch_of(nested(0, kind="masks"))
    assert batch.texts == ()
    assert batch.object_labels.shape == batch.part_labels.shape == (3, 0)


def test_names_of_another_source_say_nothing():
    sources = {
        "a": [nested(0, source="a")],
        "b": [nested(1, kind="objects", source="b")],
        "c": [nested(2, kind="masks")],
    }
    dataset = ClickDataset(sources, MixtureConfig(), CONFIG, images=6, seed=0)
    batch = dataset[0]
    kinds = [dataset.mixture[place][0] for place in range(6)]
    assert set(kinds) == {"a", "b", "c"}
    known = {"a": {"car": 0, "house": 0, "wheel": 255}, "b": {"car": 0, "house": 0, "wheel": 0}}
    known["c"] = dict.fromkeys(known["a"], 255)
    for kind, others, parts in zip(kinds, batch.object_others.tolist(), batch.part_others.tolist(), strict=True):
        assert dict(zip(batch.texts[:3], others, strict=True)) == known[kind]
        assert parts == ([0] if kind == "a" else [255])
    for image, row in zip(batch.mask_image.tolist(), batch.object_labels, strict=True):
        assert (row == 1).sum() == (0 if kinds[image] == "c" else 1)


def test_only_so_many_names_and_their_sentences():
    extra = [Region(mask=Mask.from_array(rect(0, n, 2, n + 2)), category=f"thing {n}") for n in range(0, 40, 2)]
    many = nested(0, kind="objects")
    for region in extra:
        many = with_region(many, region)
    batch = batch_of(many, nested(1, kind="objects"), names=4, prompts_per_image=3, min_area=5)
    assert batch.object_labels.shape[1] == 4
    assert set(batch.texts) >= {"car", "house", "wheel"}
    assert (batch.object_labels == 1).any(1).all()
    told = batch_of(nested(0), templates=True)
    assert all(name in text for name, text in zip(("car", "house", "wheel"), told.texts, strict=True))
    assert told.texts != ("car", "house", "wheel")
    assert told.texts != batch_of(nested(0), templates=True, step=1).texts


def test_two_annotators_of_one_thing():
    car = nested(0).regions[1].mask.to_array()
    other = Region(mask=Mask.from_array(car & np.roll(car, 2, 0)))
    twice = with_region(nested(0, kind="masks"), other)
    assert len(batch_of(twice).masks) == 4
    kept = {int((batch_of(twice, merge_iou=0.8, step=step).masks == 1).sum()) for step in range(12)}
    assert all(len(batch_of(twice, merge_iou=0.8, step=step).masks) == 3 for step in range(3))
    assert len(kept) == 2  # now the one, now the other
    named = with_region(nested(0), other)
    assert {int((batch_of(named, merge_iou=0.8, step=step).masks == 1).sum()) for step in range(6)} == {
        int((batch_of(nested(0)).masks == 1).sum())
    }


def test_what_is_unknown_or_only_the_rest_is_no_target():
    rest = Region(mask=Mask.from_array(~rect(4, 4, 44, 60)), origin={"step": "complement"})
    rim = Region(mask=Mask.from_array(rect(0, 0, 48, 3)), ignore=True)
    batch = batch_of(with_region(with_region(nested(0), rest), rim))
    assert len(batch.masks) == 3
    known = (batch.masks != 255).sum(1)  # the photo is 48 of 64 rows; what is beyond it is certainly outside
    covered = (batch.masks == 1).sum(1)
    assert ((known - covered)[:, :3] == 16).all()
    assert (known[:, 3:] == 64).all()


def test_a_batch_depends_on_seed_and_step_only():
    def tensors(batch):
        return [value for f in fields(batch) if isinstance(value := getattr(batch, f.name), torch.Tensor)]

    samples = [nested(n) for n in range(3)]
    first, again = batch_of(*samples, step=5), batch_of(*samples, step=5)
    assert first.texts == again.texts
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(again), strict=True))
    for other in (batch_of(*samples, step=6), batch_of(*samples, step=5, seed=1)):
        assert not torch.equal(first.boxes, other.boxes)


def test_photos_without_masks_are_passed_over_and_a_source_of_them_is_named():
    bare = replace(nested(0), regions=())
    batch = batch_of(bare, nested(1))
    assert (torch.bincount(batch.image_index) == 12).all()
    with pytest.raises(ValueError, match=r"source 'street': 50 samples in a row up to 'street/0' have nothing"):
        batch_of(bare)


def test_settings_that_cannot_be():
    for name in ("size", "prompts_per_image", "max_targets", "min_area"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            ClickConfig(**{name: 0})
    with pytest.raises(ValueError, match=r"box_ratio must lie in 0\.\.1, got 2"):
        ClickConfig(box_ratio=2)
    model = SemanticSAMConfig(pixel_decoder=PixelDecoderConfig(), click_type=1, click_size=0.02)
    ours = ClickConfig().of_model(model)
    assert (ours.click_type, ours.click_size, ours.mean) == (1, 0.02, model.mean)
    with pytest.raises(ValueError, match="max_targets is 7, but the model answers with 6 masks"):
        ClickConfig(max_targets=7).of_model(model)
