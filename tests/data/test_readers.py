from __future__ import annotations

import numpy as np
import pytest

from anygrain.data.readers import read_coco, read_mask_folder, read_region_maps, read_salient, read_video
from anygrain.types import Mask

SIZE = (20, 30)


def arrays(sample):
    return [region.mask.to_array() for region in sample.regions]


def uncompressed(mask: np.ndarray) -> dict:
    """COCO's list of run lengths, written from its definition: column by column, background first."""
    runs, value = [0], False
    for pixel in mask.ravel(order="F"):
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return {"size": list(mask.shape), "counts": runs}


@pytest.fixture
def coco(layouts, rectangle):
    """Two photos; polygon, both run-length forms, a crowd, a part, an empty and a box-only annotation."""
    a, b, crowd = (rectangle(SIZE, *box) for box in ((2, 3, 12, 9), (5, 5, 8, 18), (15, 0, 30, 20)))
    rows = [
        (1, 1, 3, {"segmentation": [[2, 3, 12, 3, 12, 9, 2, 9]], "iscrowd": 0}),
        (2, 1, 5, {"segmentation": Mask.from_array(b).to_coco(), "iscrowd": 0, "part_level": 1}),
        (3, 1, 3, {"segmentation": uncompressed(crowd), "iscrowd": 1}),
        (4, 1, 3, {"segmentation": Mask.from_array(np.zeros(SIZE, bool)).to_coco(), "iscrowd": 0}),
        (5, 1, 3, {"bbox": [0, 0, 4, 4], "iscrowd": 0}),
        (6, 2, 5, {"segmentation": Mask.from_array(crowd).to_coco(), "iscrowd": 0, "crowd": True, "part_level": 0}),
    ]
    table = {
        "images": [
            {"id": 1, "file_name": "b.rf.1.jpg", "height": 20, "width": 30},
            {"id": 2, "file_name": "a.jpg", "height": 20, "width": 30},
        ],
        "categories": [{"id": 3, "name": "left_mirror"}, {"id": 5, "name": "wheel"}],
        "annotations": [{"id": i, "image_id": image, "category_id": c, **rest} for i, image, c, rest in rows],
    }
    layouts.jpeg("set/images/a.jpg", *SIZE)
    layouts.jpeg("set/images/b.rf.1.jpg", *SIZE, seed=1)
    path = layouts.put("set/annotations/instances_val.json", table)
    return layouts.root / "set" / "images", path, table, (a, b, crowd)


def test_coco_masks_to_the_pixel(coco):
    images, path, _, (a, b, crowd) = coco
    first, second = read_coco(images, path, source="set", exhaustive=["wheel"])
    assert [first.id, second.id] == ["set/a", "set/b.rf.1"]  # sorted by file, whatever the JSON's order
    assert second.image == images / "b.rf.1.jpg"
    assert second.size == SIZE
    assert second.exhaustive == {"wheel"}
    for got, wanted in zip(arrays(second), (a, b, crowd), strict=True):  # the empty and the box-only one are left out
        assert np.array_equal(got, wanted)


def test_coco_says_category_instance_crowd_and_part(coco):
    images, path, *_ = coco
    first, second = read_coco(images, path, source="set")
    assert [(r.category, r.instance, r.ignore, r.granularity) for r in second.regions] == [
        ("left_mirror", 1, False, None),
        ("wheel", 2, False, "part"),
        ("left_mirror", 3, True, None),
    ]
    assert [(r.instance, r.ignore, r.granularity) for r in first.regions] == [(6, True, "object")]


def test_coco_is_lazy(coco):
    images, path, *_ = coco
    (images / "b.rf.1.jpg").unlink()
    samples = read_coco(images, path, source="set")
    assert next(samples).id == "set/a"
    with pytest.raises(FileNotFoundError, match=r"b\.rf\.1\.jpg: not found"):
        next(samples)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t["annotations"][1].update(image_id=9), "annotation 2 names image 9"),
        (lambda t: t["annotations"][1].update(category_id=9), "annotation 2 names category 9"),
        (lambda t: t["images"][1].update(height=21), r"a\.jpg: the image is \(20, 30\).*\(21, 30\)"),
        (lambda t: t["annotations"][1]["segmentation"].update(size=[30, 20]), r"annotation 2: RLE size \(30, 20\)"),
        (lambda t: t.pop("categories"), "expected the keys images, annotations, categories"),
    ],
)
def test_coco_wrong_tables_are_named(coco, layouts, change, sentence):
    images, path, table, _ = coco
    change(table)
    layouts.put("set/annotations/instances_val.json", table)
    with pytest.raises(ValueError, match=sentence) as caught:
        list(read_coco(images, path, source="set"))
    assert "instances_val.json" in str(caught.value)


def test_coco_missing_files_are_named(coco):
    images, path, *_ = coco
    with pytest.raises(FileNotFoundError, match=r"instances_test\.json: not found; expected a COCO instances JSON"):
        list(read_coco(images, path.with_name("instances_test.json"), source="set"))
    with pytest.raises(FileNotFoundError, match="nowhere: not found; expected the folder of the images"):
        list(read_coco(images.with_name("nowhere"), path, source="set"))
    path.write_text("{not json")
    with pytest.raises(ValueError, match=r"instances_val\.json: not valid JSON"):
        list(read_coco(images, path, source="set"))


@pytest.fixture
def street(layouts):
    """Semantic: 0 = null, 1 sky, 2 car, 3 = void by its index, 255 = ignore."""
    index = np.zeros(SIZE, int)
    index[:5], index[8:12, 3:9], index[15:, :2], index[19] = 1, 2, 3, 255
    for name in ("x.1", "y"):
        layouts.jpeg(f"street/images/{name}.jpg", *SIZE)
        layouts.palette(f"street/masks/{name}.png", index)
    layouts.put("street/classes.json", ["null", "sky", "rock-bed", "void"])
    layouts.put("street/splits/train.txt", "y\nx.1\n\n")
    return layouts.root / "street", index


def test_mask_folder_masks_to_the_pixel(street):
    folder, index = street
    samples = list(read_mask_folder(folder, "train", source="street", ignore=(3, 255), exhaustive=["sky"]))
    assert [sample.id for sample in samples] == ["street/x.1", "street/y"]
    for sample in samples:
        assert sample.exhaustive == {"sky"}
        assert [(r.category, r.ignore) for r in sample.regions] == [("sky", False), ("rock-bed", False), (None, True)]
        for got, wanted in zip(arrays(sample), (index == 1, index == 2, (index == 3) | (index == 255)), strict=True):
            assert np.array_equal(got, wanted)


def test_mask_folder_index_zero_may_be_a_category(street):
    folder, index = street
    sample = next(
        read_mask_folder(folder, "train", source="street", background=(), ignore=(3, 255), granularity="part")
    )
    assert [r.category for r in sample.regions] == ["null", "sky", "rock-bed", None]
    assert np.array_equal(sample.regions[0].mask.to_array(), index == 0)
    assert sample.regions[0].granularity == "part"


def test_mask_folder_names_what_is_wrong(street, layouts):
    folder, _ = street
    with pytest.raises(ValueError, match=r"x\.1\.png: holds index 255, but the category list has no name"):
        list(read_mask_folder(folder, "train", source="street", ignore=()))
    with pytest.raises(FileNotFoundError, match=r"splits/val\.txt: not found"):
        list(read_mask_folder(folder, "val", source="street"))
    layouts.palette("street/masks/x.1.png", np.ones((20, 29)))
    with pytest.raises(ValueError, match=r"x\.1\.png: the mask is \(20, 29\) and its image \(20, 30\)"):
        list(read_mask_folder(folder, "train", source="street"))
    layouts.jpeg("street/masks/x.1.png", *SIZE)
    with pytest.raises(ValueError, match=r"x\.1\.png: a mask must be a palette or grey PNG"):
        list(read_mask_folder(folder, "train", source="street"))
    (folder / "masks" / "x.1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"masks/x\.1\.png: not found"):
        list(read_mask_folder(folder, "train", source="street"))
    (folder / "images" / "x.1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"images/x\.1\.\*: not found; .*splits/train\.txt names it"):
        list(read_mask_folder(folder, "train", source="street"))


def test_salient_trimap(layouts):
    index = np.full(SIZE, 2)
    index[4:12, 6:20], index[5:11, 7:19] = 3, 1
    for name in ("Abyssinian_1", "beagle_2", "extra"):
        layouts.jpeg(f"pets/images/{name}.jpg", *SIZE)
        layouts.palette(f"pets/masks/{name}.png", index)
    folder = layouts.root / "pets"
    cat, dog = read_salient(
        folder / "images",
        folder / "masks",
        source="pets",
        names=["beagle_2", "Abyssinian_1"],
        foreground=1,
        ignore=(3,),
        category=lambda name: "cat" if name[0].isupper() else "dog",
        exhaustive=("cat", "dog"),
    )
    assert (cat.id, cat.regions[0].category, dog.regions[0].category) == ("pets/Abyssinian_1", "cat", "dog")
    assert cat.exhaustive == {"cat", "dog"}
    animal, rim = cat.regions
    assert animal.captions == ("the most salient object",)
    assert np.array_equal(animal.mask.to_array(), index == 1)
    assert rim.ignore
    assert np.array_equal(rim.mask.to_array(), index == 3)


def test_salient_grey_masks_with_soft_edges(layouts, rectangle):
    grey = rectangle(SIZE, 3, 3, 10, 10) * 255
    grey[3, 3:10], grey[9, 3:10] = 127, 128
    layouts.jpeg("duts/images/one.jpg", *SIZE)
    layouts.jpeg("duts/images/two.jpg", *SIZE)
    from PIL import Image

    (layouts.root / "duts" / "masks").mkdir()
    Image.fromarray(grey.astype(np.uint8)).save(layouts.root / "duts" / "masks" / "one.png")
    Image.new("L", (30, 20)).save(layouts.root / "duts" / "masks" / "two.png")
    one, two = read_salient(layouts.root / "duts" / "images", layouts.root / "duts" / "masks", source="duts")
    assert np.array_equal(one.regions[0].mask.to_array(), grey >= 128)
    assert one.regions[0].category is None
    assert two.regions == ()
    folder = layouts.root / "duts"
    one, _ = read_salient(folder / "images", folder / "masks", source="duts", ignore=(128,))
    assert np.array_equal(one.regions[0].mask.to_array(), grey == 255)
    assert np.array_equal(one.regions[1].mask.to_array(), grey == 128)


def test_region_maps_keep_every_annotator(layouts):
    halves = np.ones(SIZE, int)
    halves[:, 15:] = 2
    layouts.jpeg("bsds/images/n.jpg", *SIZE)
    layouts.palette("bsds/masks/0/n.png", halves)
    layouts.palette("bsds/masks/7/n.png", np.full(SIZE, 4))
    layouts.put("bsds/splits/train.txt", "n\n")
    (sample,) = read_region_maps(layouts.root / "bsds", "train", source="bsds")
    assert [(r.origin["annotator"], r.instance) for r in sample.regions] == [("0", 1), ("0", 2), ("7", 4)]
    assert all(r.category is None and not r.captions for r in sample.regions)
    for got, wanted in zip(arrays(sample), (halves == 1, halves == 2, np.ones(SIZE, bool)), strict=True):
        assert np.array_equal(got, wanted)
    layouts.put("bsds/splits/train.txt", "n\nm\n")
    layouts.jpeg("bsds/images/m.jpg", *SIZE)
    with pytest.raises(FileNotFoundError, match=r"m\.png: not found"):
        list(read_region_maps(layouts.root / "bsds", "train", source="bsds"))


@pytest.fixture
def video(layouts, rectangle):
    expressions = {
        "10": {"exp": "the last one said", "obj_id": "1"},
        "2": {"exp": "a dog", "obj_id": "1"},
        "3": {"exp": "the ball", "obj_id": "2"},
    }
    layouts.put(
        "v/meta_expressions.json", {"videos": {"dog": {"expressions": expressions, "frames": ["00002", "00000"]}}}
    )
    both = rectangle(SIZE, 0, 0, 5, 5) * 1 + rectangle(SIZE, 10, 10, 14, 15) * 2
    for frame, index in (("00000", both), ("00002", (both == 1) * 1), ("00004", both)):
        layouts.jpeg(f"v/JPEGImages/dog/{frame}.jpg", *SIZE)
        layouts.palette(f"v/Annotations/dog/{frame}.png", index)
    return layouts.root / "v", both


def test_video_one_sample_a_frame(video):
    folder, both = video
    first, second = read_video(folder, source="davis")  # frame 00004 is not in the list
    assert (first.id, second.id) == ("davis/dog/00000", "davis/dog/00002")
    dog, ball = first.regions
    assert (dog.instance, dog.captions) == (1, ("a dog", "the last one said"))
    assert (ball.instance, ball.captions) == (2, ("the ball",))
    assert np.array_equal(dog.mask.to_array(), both == 1)
    assert np.array_equal(ball.mask.to_array(), both == 2)
    assert [r.instance for r in second.regions] == [1]  # the ball does not show there


def test_video_names_what_is_missing(video):
    folder, _ = video
    (folder / "Annotations" / "dog" / "00002.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"Annotations/dog/00002\.png: not found"):
        list(read_video(folder, source="davis"))
    (folder / "JPEGImages" / "dog" / "00000.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"00000\.\*: not found; .*meta_expressions\.json names it"):
        list(read_video(folder, source="davis"))
