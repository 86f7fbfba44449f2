import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anygrain.draw import colour, draw_masks, grid
from anygrain.images import open_image
from anygrain.masks import boundary, read_labels

PHOTOS = Path(__file__).parent / "fixtures" / "photos"
GREY = 128


def plain(height, width, shade=GREY):
    return Image.new("RGB", (width, height), (shade,) * 3)


def test_the_overlay_shows_inside_contour_and_leaves_the_rest():
    photo = open_image(PHOTOS / "dog.jpg")
    mask = read_labels(PHOTOS / "dog.png") == 1
    before = np.asarray(photo).astype(int)
    drawn = draw_masks(photo, mask[None], [""])
    after = np.asarray(drawn).astype(int)
    np.testing.assert_array_equal(np.asarray(photo), before)  # the caller's picture is not painted on
    inner, near = mask & ~boundary(mask, 4), ~boundary(~mask, 5) & ~mask
    paint = np.array(colour(0))
    np.testing.assert_allclose(after[inner], 0.58 * before[inner] + 0.42 * paint, atol=2)
    np.testing.assert_array_equal(after[near], before[near])
    edge = boundary(mask, 1)
    edge[[0, -1]], edge[:, [0, -1]] = False, False
    assert np.abs(after[edge] - paint).mean() < 12


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_wires_and_specks_are_seen_on_any_picture(shade):
    masks = np.zeros((2, 600, 2000), bool)
    masks[0, 300, 100:1900] = True
    masks[1, 50, 50] = True
    after = np.asarray(draw_masks(plain(600, 2000, shade), masks, ["", ""])).astype(int)
    assert np.abs(after[300, 500] - colour(0)).max() < 20
    assert np.abs(after[50, 50] - colour(1)).max() < 40


def test_small_masks_lie_on_large_ones_whatever_the_order():
    large, small = np.ones((100, 100), bool), np.zeros((100, 100), bool)
    small[40:60, 40:60] = True
    for masks, index in (([small, large], 0), ([large, small], 1)):
        after = np.asarray(draw_masks(plain(100, 100), np.stack(masks), ["", ""])).astype(int)
        assert np.abs(after[50, 40] - colour(index)).max() < 30


def label_boxes(masks, labels, size):
    """Where each label was put: the pictures with it and with none differ there."""
    boxes = []
    for index in range(len(labels)):
        one = np.asarray(draw_masks(plain(*size), masks, ["" if i != index else x for i, x in enumerate(labels)]))
        none = np.asarray(draw_masks(plain(*size), masks, [""] * len(labels)))
        ys, xs = (one != none).any(-1).nonzero()
        boxes.append((xs.min(), ys.min(), xs.max(), ys.max()))
    return boxes


def test_each_label_stands_at_its_mask():
    masks = np.zeros((3, 300, 400), bool)
    masks[0, 20:140, 20:200] = True
    masks[1, 160:280, 210:390] = True
    masks[2, 200:206, 40:46] = True  # too small to carry letters
    for mask, box in zip(masks, label_boxes(masks, ["left", "right", "dot"], (300, 400)), strict=True):
        ys, xs = mask.nonzero()
        assert max(box[0] - xs.max(), xs.min() - box[2], box[1] - ys.max(), ys.min() - box[3]) < 12
    assert not masks[2][box[1] : box[3], box[0] : box[2]].any()  # and is not hidden by them


def test_labels_do_not_cover_each_other():
    masks = np.zeros((6, 240, 320), bool)
    masks[:, 80:160, 100:220] = True  # all want the same place
    alone = sum(label_area(masks[i : i + 1]) for i in range(6))
    together = label_area(masks)
    assert together > 0.97 * alone


def label_area(masks):
    texts = ["window"] * len(masks)
    labelled = np.asarray(draw_masks(plain(240, 320), masks, texts)).astype(int)
    bare = np.asarray(draw_masks(plain(240, 320), masks, [""] * len(masks))).astype(int)
    return (np.abs(labelled - bare).max(-1) > 0).sum()


@pytest.mark.parametrize("text", ["Größe", "собака", "犬", "كلب", "कुत्ता", "🐕", "x" * 500, "two\nlines", "\ud800"])
def test_any_text_is_drawn(text):
    masks = np.ones((1, 200, 300), bool)
    bare = np.asarray(draw_masks(plain(200, 300), masks, [""]))
    assert (np.asarray(draw_masks(plain(200, 300), masks, [text])) != bare).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (9, 9)])
def test_pictures_without_room_for_letters(size):
    drawn = draw_masks(plain(*size), np.ones((2, *size), bool), ["one", "two"])
    assert drawn.size == size[::-1]
    assert (np.asarray(drawn) != GREY).any()


def test_nothing_to_draw_and_what_does_not_fit():
    picture = plain(20, 30)
    assert (np.asarray(draw_masks(picture, np.zeros((0, 20, 30), bool), [])) == GREY).all()
    assert (np.asarray(draw_masks(picture, np.zeros((1, 20, 30), bool), ["absent"])) == GREY).all()
    with pytest.raises(ValueError, match="cannot draw masks"):
        draw_masks(picture, np.zeros((1, 30, 20), bool), ["x"])
    with pytest.raises(ValueError, match="with 2 labels"):
        draw_masks(picture, np.zeros((1, 20, 30), bool), ["x", "y"])


def test_colours_differ_and_show():
    colours = np.array([colour(i) for i in range(48)], int)
    apart = np.abs(colours[:, None] - colours[None]).max(-1) + 999 * np.eye(48, dtype=int)
    assert apart.min() >= 6
    assert apart[:16, :16].min() >= 40
    assert (colours @ (0.299, 0.587, 0.114)).min() > 95


def test_a_large_photograph_takes_seconds():
    masks = np.zeros((8, 3000, 4000), bool)
    for index, mask in enumerate(masks):
        mask[200 : 2800 - 200 * index, 300 * index : 300 * index + 1500] = True
    start = time.process_time()
    draw_masks(plain(3000, 4000), masks, [f"thing {i}" for i in range(8)])
    assert time.process_time() - start < 10  # 0.5 s; a slip to per-pixel Python would be minutes


def test_the_grid_puts_pictures_in_cells():
    sheet = np.asarray(grid([plain(10, 20, 255), plain(40, 10, 200), plain(5, 5, 100)], 2, (80, 100)))
    assert sheet.shape == (2 * 82 + 2, 2 * 102 + 2, 3)
    for shade, y, x in ((255, 42, 52), (200, 42, 154), (100, 124, 52)):
        assert (sheet[y, x] == shade).all()
    assert (sheet[124, 154] == (32, 33, 36)).all()
    assert ((sheet[:84, :104] == 255).all(-1)).sum() == 100 * 50
    with pytest.raises(ValueError, match="at least one column"):
        grid([], 0, (10, 10))
