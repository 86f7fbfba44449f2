"""Data sets in COCO's JSON form, and COCO's label maps."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anygrain.data.datasets import read_dataset
from anygrain.types import Mask

SIZE = (20, 30)


def rle(mask):
    return Mask.from_array(mask).to_coco()


@pytest.fixture
def a(rectangle):
    return rectangle(SIZE, 2, 3, 12, 9)


@pytest.fixture
def b(rectangle):
    return rectangle(SIZE, 15, 0, 30, 20)


def arrays(sample):
    return [region.mask.to_array() for region in sample.regions]


def annotation(number, image, category, mask, **more):
    return {"id": number, "image_id": image, "category_id": category, "segmentation": rle(mask), "iscrowd": 0, **more}


def image(number, **more):
    return {"id": number, "height": 20, "width": 30, **more}


def test_coco_instances_mark_all_80(layouts, a, b):
    names = [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]
    table = {"images": [image(139, file_name="000000000139.jpg")], "categories": names}
    table["annotations"] = [annotation(5, 139, 1, a), annotation(900, 139, 1, b) | {"iscrowd": 1}]
    layouts.put("coco/annotations/instances_val2017.json", table)
    layouts.jpeg("coco/val2017/000000000139.jpg", *SIZE)
    (sample,) = read_dataset("coco_instances", layouts.root / "coco", "val")
    assert sample.id == "coco_instances/000000000139"
    assert sample.exhaustive == {"person", "bicycle"}
    assert [r.ignore for r in sample.regions] == [False, True]
    assert all(np.array_equal(x, y) for x, y in zip(arrays(sample), (a, b), strict=True))
    with pytest.raises(FileNotFoundError, match=r"instances_train2017\.json not found under"):
        list(read_dataset("coco_instances", layouts.root / "coco", "train"))


def test_lvis_knows_what_is_absent_and_where_its_images_are(layouts, a, b):
    names = [{"id": n, "name": name} for n, name in ((1, "aerosol_can"), (2, "apple"), (3, "zebra"), (4, "yak"))]
    url = "http://images.cocodataset.org/train2017/000000000009.jpg"  # LVIS val has images of train2017
    entry = image(9, coco_url=url, neg_category_ids=[3], not_exhaustive_category_ids=[2])
    table = {"images": [entry], "categories": names, "annotations": [annotation(1, 9, 1, a), annotation(2, 9, 2, b)]}
    layouts.put("lvis/lvis_v1_val.json", table)
    layouts.jpeg("lvis/train2017/000000000009.jpg", *SIZE)
    (sample,) = read_dataset("lvis", layouts.root / "lvis", "val")
    assert sample.id == "lvis/train2017/000000000009"
    assert sample.exhaustive == {"aerosol_can", "zebra"}  # of the yak nobody said anything
    assert [r.category for r in sample.regions] == ["aerosol_can", "apple"]


def test_paco_tells_parts_from_objects(layouts, a, b):
    names = [{"id": 1, "name": "dog", "supercategory": "OBJECT"}, {"id": 9, "name": "dog:ear", "supercategory": "PART"}]
    table = {"images": [image(9, file_name="val2017/000000000009.jpg")], "categories": names}
    table["annotations"] = [annotation(1, 9, 1, b, obj_ann_id=1), annotation(2, 9, 9, a, obj_ann_id=1)]
    layouts.put("paco/annotations/paco_lvis_v1_test.json", table)
    layouts.jpeg("paco/val2017/000000000009.jpg", *SIZE)
    (sample,) = read_dataset("paco", layouts.root / "paco", "test")
    assert [(r.category, r.granularity) for r in sample.regions] == [("dog", "object"), ("dog:ear", "part")]
    assert np.array_equal(sample.regions[1].mask.to_array(), a)


def test_partimagenet_finds_images_by_synset_and_drops_points_and_lines(layouts, a):
    names = [{"id": 0, "name": "Quadruped Head", "supercategory": "Quadruped"}]
    rows = [[[2, 3, 12, 3, 12, 9, 2, 9], [1, 1], [4, 4, 5, 5]], [[7, 7]]]
    table = {"images": [image(1, file_name="n02085620_7.JPEG")], "categories": names}
    table["annotations"] = [
        {"id": n, "image_id": 1, "category_id": 0, "segmentation": polygons, "iscrowd": 0}
        for n, polygons in enumerate(rows)
    ]
    layouts.put("pin/train.json", table)
    layouts.jpeg("pin/train/n02085620/n02085620_7.JPEG", *SIZE)
    (sample,) = read_dataset("partimagenet", layouts.root / "pin", "train")
    (head,) = sample.regions
    assert (head.category, head.granularity) == ("Quadruped:Head", "part")
    assert np.array_equal(head.mask.to_array(), a)


def test_objects365_has_boxes_cut_at_the_image(layouts):
    names = [{"id": 1, "name": "Person"}, {"id": 5, "name": "Cell Phone"}]
    table = {"images": [image(420917, file_name="images/v1/patch8/objects365_v1_00420917.jpg")], "categories": names}
    base = {"image_id": 420917, "isfake": 0, "isreflected": 0}
    table["annotations"] = [
        {"id": 1, "category_id": 5, "bbox": [20.5, 10.25, 30.0, 4.5], "iscrowd": 0, **base},
        {"id": 2, "category_id": 1, "bbox": [0, 0, 10, 10], "iscrowd": 1, **base},
        {"id": 3, "category_id": 1, "bbox": [40, 0, 10, 10], "iscrowd": 0, **base},
    ]
    layouts.put("o365/zhiyuan_objv2_val.json", table)
    layouts.jpeg("o365/val/patch8/objects365_v1_00420917.jpg", *SIZE)
    (sample,) = read_dataset("objects365", layouts.root / "o365", "val")
    assert [(r.category, r.box, r.ignore, r.mask) for r in sample.regions] == [
        ("Cell Phone", (20.5, 10.25, 30, 14.75), False, None),
        ("Person", (0, 0, 10, 10), True, None),
    ]


def panoptic(layouts, ids, segments):
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    path = layouts.root / "coco" / "annotations" / "panoptic_val2017" / "000000000139.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)
    layouts.jpeg("coco/val2017/000000000139.jpg", *SIZE)
    table = {
        "images": [image(139, file_name="000000000139.jpg")],
        "annotations": [{"image_id": 139, "file_name": "000000000139.png", "segments_info": segments}],
        "categories": [
            {"id": 1, "name": "person", "isthing": 1, "supercategory": "person"},
            {"id": 187, "name": "sky-other-merged", "isthing": 0, "supercategory": "sky"},
        ],
    }
    layouts.put("coco/annotations/panoptic_val2017.json", table)
    return layouts.root / "coco"


def test_coco_panoptic_numbers_segments_by_colour(layouts, a, b):
    sky, crowd = 3226956, 70000  # needs all three bytes
    ids = np.zeros(SIZE, int)
    ids[b], ids[a], ids[19] = sky, 5, crowd
    segments = [
        {"id": 5, "category_id": 1, "iscrowd": 0, "area": int(a.sum())},
        {"id": sky, "category_id": 187, "iscrowd": 0},
        {"id": crowd, "category_id": 1, "iscrowd": 1},
    ]
    (sample,) = read_dataset("coco_panoptic", panoptic(layouts, ids, segments), "val")
    assert [(r.category, r.granularity, r.instance, r.ignore) for r in sample.regions] == [
        ("person", "object", 5, False),
        ("sky-other-merged", "scene", None, False),
        ("person", "object", crowd, True),
        (None, None, None, True),  # the pixels of no segment
    ]
    for got, number in zip(arrays(sample), (5, sky, crowd, 0), strict=True):
        assert np.array_equal(got, ids == number)
    root = panoptic(layouts, np.where(ids == 5, 0, ids), segments)
    with pytest.raises(ValueError, match=r"139\.png: no pixel of segment 5, which panoptic_val2017\.json names"):
        list(read_dataset("coco_panoptic", root, "val"))


def test_coco_stuff_counts_from_zero_and_255_is_unlabelled(layouts):
    index = np.full(SIZE, 255)
    index[:4], index[4:8], index[8:12] = 0, 156, 181
    layouts.put("coco/stuffthingmaps_trainval2017/val2017/000000000139.png", grey(index))
    layouts.jpeg("coco/val2017/000000000139.jpg", *SIZE)
    (sample,) = read_dataset("coco_stuff", layouts.root / "coco", "val")
    assert [(r.category, r.ignore) for r in sample.regions] == [
        ("person", False),
        ("sky-other", False),
        ("wood", False),
        (None, True),
    ]
    for got, number in zip(arrays(sample), (0, 156, 181, 255), strict=True):
        assert np.array_equal(got, index == number)
    assert len(sample.exhaustive) == 171
    assert "street sign" not in sample.exhaustive  # numbered, but annotated nowhere


def grey(index) -> bytes:
    import io

    out = io.BytesIO()
    Image.fromarray(index.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()
