import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageDraw

from anygrain.images import ImageError
from anygrain.masks import (
    boundary,
    fill_holes,
    nms,
    pairwise_iou,
    read_labels,
    read_png,
    remove_islands,
    to_polygons,
    write_labels,
    write_png,
)
from anygrain.types import Mask

PHOTOS = Path(__file__).parent / "fixtures" / "photos"
MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans())


def drawn(*rows):
    """A mask from lines of text: "#" is inside."""
    return np.array([[letter == "#" for letter in row] for row in rows])


def test_iou_of_arrays_and_of_run_lengths():
    a, b, empty = drawn("##..", "##.."), drawn(".##.", ".##."), drawn("....", "....")
    expected = [[1, 2 / 6, 0], [2 / 6, 1, 0]]
    np.testing.assert_allclose(pairwise_iou(np.stack([a, b]), np.stack([a, b, empty])), expected)
    codes = [Mask.from_array(m) for m in (a, b, empty)]
    np.testing.assert_allclose(pairwise_iou(codes[:2], codes), expected)
    assert pairwise_iou([], codes).shape == (0, 3)
    assert pairwise_iou([codes[2]], [codes[2]]) == 0
    with pytest.raises(ValueError, match="one size"):
        pairwise_iou(a[None], np.zeros((1, 3, 3), bool))


def test_nms_keeps_the_best_of_those_that_overlap():
    masks = np.stack([drawn("####......"), drawn(".####....."), drawn("......####"), drawn("#####.....")])
    assert nms(masks, np.array([0.5, 0.9, 0.1, 0.8]), 0.5).tolist() == [1, 2]
    assert nms(masks, np.array([0.5, 0.9, 0.1, 0.8]), 0.79).tolist() == [1, 0, 2]  # 4/5 goes, 3/5 stays
    assert nms(masks, np.array([0.5, 0.5, 0.5, 0.5]), 0.5).tolist() == [0, 2]
    assert nms(masks[:0], np.zeros(0), 0.5).tolist() == []
    with pytest.raises(ValueError, match="4 masks but 1 scores"):
        nms(masks, np.zeros(1), 0.5)


def test_holes_are_filled_up_to_an_area_and_never_at_the_rim():
    mask = drawn(
        "######.#",
        "#.##.###",
        "####..##",
        ".#######",
    )
    assert (fill_holes(mask, 1) ^ mask).nonzero()[0].tolist() == [1]
    both = drawn("######.#", "########", "########", ".#######")
    np.testing.assert_array_equal(fill_holes(mask, np.inf), both)
    assert not fill_holes(np.zeros((3, 3), bool), np.inf).any()


def test_islands_go_unless_they_are_all_there_is():
    mask = drawn(
        "##...#",
        "##....",
        "....#.",
        "...#..",
        "..#...",
    )
    kept = remove_islands(mask, 3)  # three pixels in a diagonal are one part
    assert kept.sum() == 7
    assert not kept[0, 5]
    assert remove_islands(mask, 100).sum() == 4
    assert not remove_islands(np.zeros((3, 3), bool), 5).any()


def test_cleaning_takes_whole_numbers_for_bools():
    ring = drawn("###", "#.#", "###").astype(np.uint8)
    assert fill_holes(ring, 1).all()
    assert remove_islands(ring, 1).sum() == 8


def test_boundary_is_inside_and_counts_the_image_edge():
    mask = np.ones((7, 9), bool)
    mask[3, 4] = False
    expected = np.ones((7, 9), bool)
    expected[1:6, 1:8] = False
    expected[2:5, 3:6] = True
    expected[3, 4] = False
    np.testing.assert_array_equal(boundary(mask, 1), expected)
    np.testing.assert_array_equal(boundary(mask, 9), mask)


@settings(deadline=None)
@given(MASKS)
def test_polygons_give_the_mask_back(mask):
    polygons = to_polygons(mask)
    assert Mask.from_polygons(polygons, mask.shape) == Mask.from_array(mask)


@pytest.mark.parametrize("name", ["dog", "kite", "pet"])
def test_polygons_of_real_masks(name):
    mask = read_labels(PHOTOS / f"{name}.png") == 1
    polygons = to_polygons(mask)
    assert Mask.from_polygons(polygons, mask.shape) == Mask.from_array(mask)
    canvas = Image.new("1", mask.shape[::-1])
    for polygon in polygons:  # another reader: it counts the outline itself as inside, so shrink by half a pixel
        ImageDraw.Draw(canvas).polygon([v - 0.5 for v in polygon], fill=1)
    assert (mask & np.asarray(canvas)).sum() / mask.sum() > 0.95


def test_polygons_of_a_photograph_with_holes():
    record = json.loads((PHOTOS / "facade.json").read_text())
    size = (record["images"][0]["height"], record["images"][0]["width"])
    for annotation in record["annotations"]:
        code = Mask.from_coco(annotation["segmentation"], size)
        polygons = to_polygons(code.to_array())
        assert Mask.from_polygons(polygons, size) == Mask.from_array(code.to_array())


def test_a_polygon_has_a_corner_where_the_outline_turns_and_parts_are_apart():
    assert to_polygons(drawn("....", ".##.", "....")) == [[1, 1, 3, 1, 3, 2, 1, 2]]
    assert len(to_polygons(drawn("#.", ".#"))) == 2
    ring = to_polygons(drawn("###", "#.#", "###"))
    assert len(ring) == 1
    assert len(ring[0]) == 2 * (4 + 4 + 2)  # outline, hole, and the cut's two ends once more
    assert to_polygons(np.zeros((4, 4), bool)) == []


def test_masks_and_labels_survive_png(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_labels(tmp_path / "labels.png", labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.png"), labels)
    np.testing.assert_array_equal(read_labels((tmp_path / "labels.png").read_bytes()), labels)
    with Image.open(tmp_path / "labels.png") as image:
        assert image.mode == "P"
        assert image.convert("RGB").getpixel((1, 0)) == (128, 0, 0)  # Pascal VOC's first colour

    mask = labels > 100
    write_png(tmp_path / "new" / "mask.png", mask)
    np.testing.assert_array_equal(read_png(tmp_path / "new" / "mask.png"), mask)
    with Image.open(tmp_path / "new" / "mask.png") as image:
        assert (image.mode, image.getextrema()) == ("L", (0, 255))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_small_palettes_keep_their_indices(tmp_path, bits):
    labels = (np.arange(64, dtype=np.uint8) % 2**bits).reshape(8, 8)
    image = Image.fromarray(labels)
    image.putpalette([200, 10, 10] * 2**bits)  # all indices look the same
    image.save(tmp_path / "p.png", bits=bits)
    np.testing.assert_array_equal(read_labels(tmp_path / "p.png"), labels)


def test_16_bit_labels_and_what_is_no_label_map(tmp_path):
    wide = np.array([[0, 300], [65535, 7]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "wide.png"), wide)
    Image.new("RGB", (4, 4)).save(tmp_path / "rgb.png")
    with pytest.raises(ImageError, match=r"rgb\.png is a colour image"):
        read_labels(tmp_path / "rgb.png")
    with pytest.raises(ValueError, match="uint8"):
        write_labels(tmp_path / "x.png", wide)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rgb.png", "wide.png"]
