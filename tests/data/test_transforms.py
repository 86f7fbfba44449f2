import numpy as np
import pytest
from PIL import Image

from anygrain.data.transforms import (
    AugmentConfig,
    View,
    choose_view,
    hide_patches,
    jitter_colours,
    names_colour,
    swap_sides,
    whole,
)


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("the man on the left", "the man on the right"),
        ("all left mirror", "all right mirror"),
        ("the Leftmost car", "the Rightmost car"),
        ("LEFT guy, then right guy", "RIGHT guy, then left guy"),
        ("left-most of the right-hand side", "right-most of the left-hand side"),
        ("bottom left", "bottom right"),
        ("the chair right next to the sofa", "the chair right next to the sofa"),
        ("the cup on the right behind the lamp", "the cup on the left behind the lamp"),
        ("upright piano, leftovers, bright light", "upright piano, leftovers, bright light"),
    ],
)
def test_left_and_right_are_exchanged_as_words(text, mirrored):
    assert swap_sides(text) == mirrored
    assert swap_sides(mirrored) == text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("the red car", True),
        ("dark-blue shirt", True),
        ("a blonde woman", True),
        ("the GREYISH wall", True),
        ("the brightest lamp", True),
        ("the tired man", False),
        ("all blackboards", False),
        ("a woman in gold jewellery", True),
        ("the greenhouse", False),
    ],
)
def test_colour_words(text, named):
    assert names_colour(text) is named


def scene(height, width):
    """A dark photo with a white box off the centre, and the mask of the box."""
    mask = np.zeros((height, width), bool)
    mask[height // 5 : height // 2, width // 6 : width // 3] = True
    return Image.fromarray(np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2)), mask


@pytest.mark.parametrize("size", [(120, 160), (200, 90), (64, 64), (500, 700)])
def test_photo_and_mask_stay_together(size):
    image, mask = scene(*size)
    rng = np.random.default_rng(0)
    config = AugmentConfig(scale=(0.5, 2.0))
    for _ in range(40):
        view = choose_view(size, 128, [(mask, True)], config, rng)
        labels = view.labels(mask.astype(np.uint8))
        picture = view.place(np.asarray(view.image(image))[..., 0], 77)
        assert labels.shape == picture.shape == (128, 128)
        inside = labels != 255
        assert (picture[~inside] == 77).all()  # padding is the same place for both
        edge = np.zeros_like(inside)
        for shift in (-2, -1, 1, 2):
            edge |= (np.roll(labels, shift, 0) != labels) | (np.roll(labels, shift, 1) != labels)
        sure = inside & ~edge
        np.testing.assert_array_equal(picture[sure] > 127, labels[sure] == 1)
        assert (labels == 1).any()


def test_a_view_keeps_enough_of_what_a_caption_means():
    _, mask = scene(200, 300)
    rng = np.random.default_rng(1)
    config = AugmentConfig(scale=(1.5, 3.0), keep_caption=0.9, keep_category=0.0)
    parts = {
        natural: [choose_view((200, 300), 96, [(mask, natural)], config, rng).kept(mask) for _ in range(200)]
        for natural in (True, False)
    }
    assert min(parts[True]) >= 0.9
    assert min(parts[False]) < 0.5  # so that the above could have failed


def test_without_augmentation_the_whole_photo_is_seen_from_the_corner():
    config = AugmentConfig(scale=(1, 1), flip=0)
    _, mask = scene(60, 120)
    view = choose_view((60, 120), 120, [(mask, True)], config, np.random.default_rng(0))
    assert view.source == (0, 0, 120, 60)
    view = whole((60, 120), 120)
    assert view == View((0, 0, 120, 60), (0, 0, 120, 60), 120)
    labels = view.labels(mask.astype(np.uint8))
    np.testing.assert_array_equal(labels[:60] == 1, mask)
    assert (labels[60:] == 255).all()


def test_one_pixel_wide_photo_is_not_lost():
    rng = np.random.default_rng(0)
    mask = np.ones((1, 4000), bool)
    view = choose_view((1, 4000), 64, [(mask, True)], AugmentConfig(), rng)
    assert (view.labels(mask.astype(np.uint8)) == 1).any()


def test_hide_and_seek_blanks_whole_cells_at_the_given_rate():
    rng = np.random.default_rng(0)
    hidden = []
    for _ in range(40):
        pixels = np.ones((100, 72, 3), np.float32)
        hide_patches(pixels, 0.2, rng)
        hidden.append(1 - pixels.mean())
        cells = pixels[:6, :4]  # the first cell of a 16 x 16 grid
        assert cells.min() == cells.max()
    assert np.mean(hidden) == pytest.approx(0.2, abs=0.02)
    assert np.std(hidden) > 0.01


def test_colour_jitter_changes_colours_within_bounds():
    image = Image.fromarray(np.full((8, 8, 3), (100, 120, 140), np.uint8))
    rng = np.random.default_rng(0)
    values = np.array([np.asarray(jitter_colours(image, 0.3, rng))[0, 0] for _ in range(50)])
    assert values.std(axis=0).min() > 5
    assert values.min() >= 100 * 0.7 * 0.7 - 10


@pytest.mark.parametrize("bad", [{"scale": (0.0, 1.0)}, {"scale": (2.0, 1.0)}, {"flip": 1.5}, {"hide_and_seek": -0.1}])
def test_impossible_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        AugmentConfig(**bad)
