"""ADE20K panoptic and in full, and SA-1B as it is published: masks to the pixel, names, and what is wrong said."""

from __future__ import annotations

import numpy as np
import pytest

import official_sets
from anygrain.data.datasets import read_dataset
from anygrain.images import open_image
from official_sets import CAR, HOUSE, HUB, NDX, WHEEL, masks, png


def arrays(sample):
    return [region.mask.to_array() for region in sample.regions]


def same(sample, expected):
    return all(np.array_equal(found, mask) for found, mask in zip(arrays(sample), expected, strict=True))


def test_ade20k_panoptic_has_things_and_stuff(layouts):
    official_sets.ade20k_panoptic(layouts)
    first, second = read_dataset("ade20k_panoptic", layouts.root / "ade20k_panoptic", "train")
    assert (first.id, second.id) == ("ade20k_panoptic/ADE_train_00000000", "ade20k_panoptic/ADE_train_00000001")
    assert [(r.category, r.granularity, r.instance, r.ignore) for r in second.regions] == [
        ("house", "scene", None, False),
        ("car", "object", 70000, False),
        (None, None, None, True),
    ]
    whole = masks(1)
    assert same(second, (whole[HOUSE] & ~whole[CAR], whole[CAR], ~whole[HOUSE] & ~whole[CAR]))
    assert second.exhaustive == {"house", "car"}
    with pytest.raises(FileNotFoundError, match=r"ade20k_panoptic_val\.json not found under"):
        list(read_dataset("ade20k_panoptic", layouts.root / "ade20k_panoptic", "val"))


def test_ade20k_in_full_has_parts_of_parts(layouts):
    official_sets.ade20k_full(layouts)
    root = layouts.root / "ade20k_full"
    for place in (root, root / "ADE20K_2021_17_01"):
        first, _ = read_dataset("ade20k_full", place, "train")
        assert first.id == "ade20k_full/ADE_train_00000000"
        assert [(r.category, r.granularity, r.instance) for r in first.regions] == [
            ("house", "object", HOUSE),
            ("car", "object", CAR),
            ("car:wheel", "part", WHEEL),
            ("wheel:hub", "part", HUB),
        ]
        whole = masks(0)  # of the house what the car does not hide
        assert same(first, (whole[HOUSE] & ~whole[CAR], whole[CAR], whole[WHEEL], whole[HUB]))


def test_ade20k_in_full_leaves_out_what_is_hidden_and_names_what_is_wrong(layouts):
    official_sets.ade20k_full(layouts)
    root = layouts.root / "ade20k_full"
    scene = root / "ADE20K_2021_17_01" / "images" / "ADE" / "training" / "urban" / "street"
    seg = scene / "ADE_train_00000000_seg.png"
    only_cars = np.full((48, 64), NDX[CAR])
    seg.write_bytes(png(np.stack([only_cars // 256 * 10, only_cars % 256, only_cars * 0], -1)))
    first, _ = read_dataset("ade20k_full", root, "train")
    assert [r.category for r in first.regions] == ["car", "car:wheel", "wheel:hub"]
    seg.write_bytes(png(np.zeros((4, 4, 3))))
    with pytest.raises(ValueError, match=r"00000000_seg\.png: the map is \(4, 4\) and its image \(48, 64\)"):
        list(read_dataset("ade20k_full", root, "train"))
    seg.unlink()
    with pytest.raises(FileNotFoundError, match=r"00000000_seg\.png: not found; expected a map or mask of ADE20K"):
        list(read_dataset("ade20k_full", root, "train"))
    table = scene / "ADE_train_00000000.json"
    text = table.read_text(encoding="latin-1")
    seg.write_bytes(png(np.zeros((48, 64, 3))))
    table.write_text(text.replace('"ispartof": 2', '"ispartof": 77'), encoding="latin-1")
    with pytest.raises(ValueError, match=r"00000000\.json: the part 3 is part of 77, which is no object there"):
        list(read_dataset("ade20k_full", root, "train"))
    table.write_text("{}")
    with pytest.raises(ValueError, match=r"00000000\.json: not an annotation of ADE20K"):
        list(read_dataset("ade20k_full", root, "train"))


def test_sa1b_is_read_from_its_tars(layouts):
    official_sets.sa1b(layouts)
    first, second = read_dataset("sa1b", layouts.root / "sa1b", "train")
    assert (first.id, second.id, second.size) == ("sa1b/sa_0", "sa1b/sa_1", (48, 64))
    assert same(second, masks(1).values())
    assert {(r.category, r.score) for r in second.regions} == {(None, 0.9)}
    picture = open_image(second.image)
    assert (picture.height, picture.width) == (48, 64)
    tar = layouts.root / "sa1b" / "sa_000020.tar"
    content = tar.read_bytes()
    tar.write_bytes(content.replace(b"sa_1.jpg\0", b"sa_7.jpg\0", 1))  # a header that its checksum does not fit
    with pytest.raises(ValueError, match=r"sa_000020\.tar: not a whole tar of SA-1B \(damaged at byte \d+\)"):
        list(read_dataset("sa1b", layouts.root / "sa1b", "train"))
    tar.write_bytes(content.replace(b'"sa_1.jpg"', b'"sa_7.jpg"'))
    with pytest.raises(FileNotFoundError, match=r"sa_1\.json is of the image sa_7\.jpg, which the tar does not hold"):
        list(read_dataset("sa1b", layouts.root / "sa1b", "train"))
    tar.write_bytes(content[:1500])
    with pytest.raises(ValueError, match=r"sa_000020\.tar: not a whole tar of SA-1B"):
        list(read_dataset("sa1b", layouts.root / "sa1b", "train"))
