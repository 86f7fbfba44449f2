from __future__ import annotations

import numpy as np
import pytest

from anygrain.data.boxes import complete_with_boxes, merge
from anygrain.data.commands import build, show, verify
from anygrain.data.shards import ShardReader
from anygrain.data.sources import SOURCES
from anygrain.types import Mask, Region, Sample

SIZE = (40, 60)
NAMES = ["person", "car", "dog"]  # stands for COCO's 80


def region(mask: np.ndarray, category: str = "person", **rest) -> Region:
    return Region(mask=Mask.from_array(mask), category=category, **rest)


def sample(*regions: Region) -> Sample:
    return Sample(id="s/1", image=b"", size=SIZE, regions=regions, source="s")


def test_boxes_without_masks_are_ignored_and_never_negatives(rectangle):
    left, right = rectangle(SIZE, 0, 0, 10, 20), rectangle(SIZE, 30, 0, 44, 30)
    boxes = {"person": [(0.4, 0, 10, 20), (5, 10, 25.2, 39.9)], "car": [(50, 0, 60, 10)]}
    done = complete_with_boxes(sample(region(left)), boxes, NAMES)
    assert done.exhaustive == set(NAMES)  # the dog is truly absent, everything else has a mask or a box
    assert all(r.category != "dog" for r in done.regions)
    masked, ignored, bare = done.regions
    assert (bare.mask, bare.box, bare.category) == (None, (50, 0, 60, 10), "car")
    assert (masked.ignore, ignored.ignore, ignored.category) == (False, True, "person")
    assert np.array_equal(ignored.mask.to_array(), rectangle(SIZE, 5, 10, 26, 40) & ~left)
    # Both have masks now, and a mask without any box does no harm.
    both = complete_with_boxes(sample(region(left), region(right)), {"person": [(30, 0, 44, 30)]}, NAMES)
    assert both.exhaustive == set(NAMES)
    assert len(both.regions) == 2


def test_each_mask_accounts_for_one_box_only(rectangle):
    boxes = {"person": [(0, 0, 10, 20), (0, 0, 10, 18)]}
    done = complete_with_boxes(sample(region(rectangle(SIZE, 0, 0, 10, 20))), boxes, NAMES)
    assert done.exhaustive == set(NAMES)
    hidden = done.regions[1]  # the second box lies inside the mask: no pixel to ignore, but there are two people
    assert (len(done.regions), hidden.box, hidden.mask.area, hidden.ignore) == (2, (0, 0, 10, 18), 0, True)


def test_a_crowd_accounts_for_its_box(rectangle):
    crowd = region(rectangle(SIZE, 0, 0, 50, 20), ignore=True)
    done = complete_with_boxes(sample(crowd), {"person": [(0, 0, 50, 20)]}, NAMES)
    assert done.exhaustive == set(NAMES)
    assert done.regions == (crowd,)


def test_merge_keeps_one_mask_of_an_object_and_all_captions(rectangle):
    one, other = rectangle(SIZE, 0, 0, 10, 20), rectangle(SIZE, 30, 0, 40, 20)
    almost = rectangle(SIZE, 0, 0, 10, 19)
    first = sample(region(one, instance=7, captions=("the tall one",)))
    second = sample(
        region(other, instance=7),
        region(almost, instance=9, captions=("the left one",)),
        region(one, "dog", instance=8),
    )
    merged = merge(first, second).regions
    assert [(r.category, r.instance) for r in merged] == [("person", 1), ("person", 2), ("dog", 3)]
    assert merged[0].captions == ("the tall one", "the left one")
    assert np.array_equal(merged[0].mask.to_array(), one)
    assert np.array_equal(merged[1].mask.to_array(), other)


def coco_table(photos: dict[str, list[tuple[int, str, np.ndarray]]]) -> dict:
    """Photos with (annotation number, category, mask)."""
    table = {"images": [], "annotations": [], "categories": [{"id": i, "name": n} for i, n in enumerate(NAMES, 1)]}
    for number, (name, rows) in enumerate(photos.items(), 1):
        table["images"].append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        for identity, category, mask in rows:
            entry = {"id": identity, "image_id": number, "category_id": NAMES.index(category) + 1, "iscrowd": 0}
            table["annotations"].append({**entry, "segmentation": Mask.from_array(mask).to_coco()})
    return table


def fraction(x0, y0, x1, y1):
    return [x0 / SIZE[1], y0 / SIZE[0], x1 / SIZE[1], y1 / SIZE[0]]


@pytest.fixture
def root(layouts, rectangle):
    """coco, coco_person with coco_extra, unlabelled and the language files: two or three photos each."""
    left, right = rectangle(SIZE, 0, 0, 10, 20), rectangle(SIZE, 30, 0, 44, 30)
    photos = {
        "coco/annotations/instances_train.json": {"000.jpg": [(1, "dog", left), (2, "person", right)]},
        "coco/annotations/instances_val.json": {"009.jpg": [(5, "person", right)]},
        "coco_person/annotations/instances_train.json": {
            "001.jpg": [(1, "person", left)],
            "002.jpg": [(2, "person", left)],
            "003.jpg": [(3, "person", left)],
        },
        "coco_extra/coco_person_train.json": {"002.jpg": [(1, "person", left), (2, "person", right)]},
        "coco_extra/unlabelled_train.json": {"004.jpg": [(1, "person", right)]},
    }
    for path, table in photos.items():
        layouts.put(path, coco_table(table))
    for name in ("coco/images/000", "coco/images/009", *(f"coco_person/images/00{i}" for i in (1, 2, 3))):
        layouts.jpeg(f"{name}.jpg", *SIZE)
    layouts.jpeg("unlabelled/images/004.jpg", *SIZE)
    people = {
        "001.jpg": [[1, *fraction(0, 0, 10, 20)], [2, *fraction(50, 0, 60, 10)]],
        "002.jpg": [[1, *fraction(0, 0, 10, 20)], [1, *fraction(30, 0, 44, 30)]],
        "003.jpg": [[1, *fraction(0, 0, 10, 20)], [1, *fraction(50, 20, 60, 40)]],
    }
    rows = [{"dir": "coco_person", "split": "train", "file": name, "boxes": boxes} for name, boxes in people.items()]
    rows.append({"dir": "unlabelled", "split": "train", "file": "004.jpg", "boxes": [[1, *fraction(30, 0, 44, 30)]]})
    layouts.put("language/boxes80.json", {"rows": rows})
    links = [
        ("train", "the dog that looks away", "refcocos", "coco/annotations/instances_train.json", 1),
        ("val", "a phrase of another split", "refcocos", "coco/annotations/instances_train.json", 2),
        ("train", "man", "vg_object", "coco/annotations/instances_train.json", 2),
        ("train", "the person on the left", "refcocos", "coco_extra/coco_person_train.json", 1),
        ("val", "the only one", "refcocos", "coco/annotations/instances_val.json", 5),
    ]
    phrases = [{"split": s, "text": t, "source": o, "mask": {"file": f, "id": i}} for s, t, o, f, i in links]
    layouts.put(
        "language/refexp.json", {"rows": [*phrases, {"split": "train", "text": "no mask", "source": "refcocos"}]}
    )
    return layouts.root


def test_human_phrases_reach_their_region_and_their_split(root):
    (train,) = SOURCES["coco"].read(root, "train")
    assert [r.captions for r in train.regions] == [("the dog that looks away",), ()]
    assert train.exhaustive == set(NAMES)
    (val,) = SOURCES["coco"].read(root, "val")
    assert val.regions[0].captions == ("the only one",)


def test_coco_person_knows_who_else_is_there(root, rectangle):
    alone, pair, unmasked = SOURCES["coco_person"].read(root, "train")
    assert alone.regions[0].captions == ("the person",)
    assert alone.exhaustive == set(NAMES)
    # coco_extra masks the second person; the one both files mask comes once, with its phrase.
    assert [(r.captions, r.ignore) for r in pair.regions] == [(("the person on the left",), False), ((), False)]
    assert pair.exhaustive == set(NAMES)
    # Only a box says where the second person is.
    assert [(r.captions, r.ignore) for r in unmasked.regions] == [((), False), ((), True)]
    assert np.array_equal(unmasked.regions[1].mask.to_array(), rectangle(SIZE, 50, 20, 60, 40))
    assert unmasked.exhaustive == set(NAMES)


def test_build_verify_show(root, tmp_path):
    out = tmp_path / "shards"
    wanted = {"coco": 1, "coco_extra": 1, "coco_person": 3}
    assert build(root, out, "train", sources=list(wanted)) == wanted
    assert verify(out) == []
    reader = ShardReader(out)
    assert [s.id for s in reader] == ["coco/000", "coco_extra/004", *(f"coco_person/00{i}" for i in (1, 2, 3))]
    assert reader[0].image == (root / "coco" / "images" / "000.jpg").read_bytes()
    for name in ("sheet.png", "again.png", "other.png"):
        assert show(out, tmp_path / name, count=4, seed=name == "other.png") == 4
    pictures = [(tmp_path / name).read_bytes() for name in ("sheet.png", "again.png", "other.png")]
    assert pictures[0] == pictures[1] != pictures[2]
    assert show(out, tmp_path / "page.html", count=100) == 5  # as many as there are samples
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img") == 5
    assert "coco_extra/004" in page
    assert "all person" in page


def test_show_without_captions_is_an_error(tmp_path, rectangle, root):
    from anygrain.data.shards import write_shards

    photo = root / "coco" / "images" / "000.jpg"
    nothing = Sample(id="n/1", image=photo, size=SIZE, regions=(), source="n")
    write_shards([nothing], tmp_path / "n")
    with pytest.raises(ValueError, match="no sample has a caption or a category"):
        show(tmp_path / "n", tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="count is 0"):
        show(tmp_path / "n", tmp_path / "sheet.png", count=0)
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    ("split", "sources", "sentence"),
    [
        ("train", ["coko"], "no source is named 'coko'; the sources are ade20k_sample"),
        ("val", ["coco_extra"], "coco_extra has no split 'val', only train"),
        ("test", None, "no source has a split 'test'"),
    ],
)
def test_build_names_wrong_wishes(root, tmp_path, split, sources, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(root, tmp_path / "out", split, sources=sources)
    assert not (tmp_path / "out").exists()


def test_build_names_missing_data(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"faces/classes\.json: not found"):
        build(root, tmp_path / "out", "train", sources=["faces"])
    (root / "language" / "refexp.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"language/refexp\.json: not found"):
        build(root, tmp_path / "out", "train", sources=["coco"])
    assert list((tmp_path / "out").iterdir()) == []


def test_pets_are_cats_and_dogs(layouts):
    index = np.full(SIZE, 2)
    index[5:20, 5:20], index[4, 5:20] = 1, 3
    for name in ("Bengal_7", "american_bulldog_3"):
        layouts.jpeg(f"pets/images/{name}.jpg", *SIZE)
        layouts.palette(f"pets/masks/{name}.png", index)
    layouts.put("pets/splits/val.txt", "american_bulldog_3\nBengal_7\n")
    cat, dog = SOURCES["pets"].read(layouts.root, "val")
    rest = ["the background", "everything except the cat"]
    assert [t.caption for t in cat.triplets()] == ["the most salient object", *rest, "all cat"]
    assert [t.caption for t in dog.triplets()][-1] == "all dog"
    assert np.array_equal(cat.regions[2].mask.to_array(), index == 2)
    assert cat.exhaustive == dog.exhaustive == {"cat", "dog"}
    assert np.array_equal(dog.regions[1].mask.to_array(), index == 3)
    assert dog.regions[1].ignore


def test_teacher_labels_keep_what_the_teacher_finds_reliably(layouts):
    index = np.zeros(SIZE, int)
    index[:10], index[10:15], index[15:20] = 1, 2, 255
    layouts.put("pseudo_voc/classes.json", ["background", "person", "bottle"])
    layouts.palette("pseudo_voc/coco/000.png", index)
    layouts.jpeg("coco/images/000.jpg", *SIZE)
    layouts.palette("pseudo_voc/davis/car-turn_x_00012.png", index)
    layouts.jpeg("davis/train/JPEGImages/car-turn_x/00012.jpg", *SIZE)
    photo, frame = SOURCES["pseudo_voc"].read(layouts.root, "train")
    assert (photo.id, frame.id) == ("pseudo_voc/coco/000", "pseudo_voc/davis/car-turn_x_00012")
    for got in (photo, frame):
        assert [(r.category, r.ignore) for r in got.regions] == [("person", False), (None, True)]
        assert got.regions[0].origin["step"] == "teacher"
        assert got.exhaustive == frozenset()
        assert np.array_equal(got.regions[0].mask.to_array(), index == 1)


def test_salient_phrases_of_bsds_objects(layouts):
    index = np.zeros(SIZE, int)
    index[:10], index[10:12] = 1, 255
    layouts.jpeg("bsds500/images/val_1.jpg", *SIZE)
    layouts.palette("bsds_objects/masks/val_1.png", index)
    entry = {"split": "train", "texts": ["the penguin", "a bird on the rock"]}
    layouts.put("bsds_objects/objects.json", {"objects": {"val_1": entry}})
    (got,) = SOURCES["bsds_objects"].read(layouts.root, "train")
    assert [t.caption for t in got.triplets()] == ["the penguin", "a bird on the rock", "the most salient object"]


def test_human_phrases_have_boxes_masks_or_no_place(layouts):
    layouts.jpeg("coco_people/images/000.jpg", *SIZE)
    mask = np.zeros(SIZE, bool)
    mask[4:20, 6:30] = True
    layouts.put("coco_people/annotations/instances_train.json", coco_table({"000.jpg": [(7, "person", mask)]}))
    photo = {"file": "000.jpg", "dir": "coco_people", "split": "train"}
    link = {"file": "coco_people/annotations/instances_train.json", "id": 7}
    rows = [
        {**photo, "text": "the tall man", "box": fraction(6, 4, 30, 20), "mask": link},
        {**photo, "text": "his bag", "box": fraction(0, 0, 12, 10)},
        {**photo, "text": "the red pushbike", "box": fraction(0, 0, 12, 10)},
        {**photo, "text": "the blue horse", "box": None},
        {**photo, "split": "val", "text": "the other split", "box": None},
    ]
    layouts.put("language/refexp.json", {"rows": rows})
    (got,) = SOURCES["refexp"].samples(layouts.root, "train")
    assert [r.captions for r in got.regions] == [("the tall man",), ("his bag",), ()]  # "pushbike" is held out
    assert np.array_equal(got.regions[0].mask.to_array(), mask)
    assert got.regions[1].mask is None
    assert got.regions[1].box == pytest.approx((0, 0, 12, 10))
    assert got.absent == ("the blue horse",)

    triple = {"verb": "hold obj", "object": "bag", "object_box": fraction(0, 0, 2, 2)}
    row = {**photo, **triple, "text": "person holding a bag", "person_box": fraction(6, 4, 30, 20)}
    layouts.put("language/hoi.json", {"rows": [row]})
    (got,) = SOURCES["hoi"].samples(layouts.root, "train")
    assert [r.captions for r in got.regions] == [("person holding a bag",)]
    assert got.regions[0].box == pytest.approx((6, 4, 30, 20))

    layouts.put("language/sugarcrepe.json", {"rows": [{**photo, "kind": "add_obj", "true": "A man.", "false": "Men."}]})
    layouts.put("language/spatial.json", {"rows": [{**photo, "text": "The cat is on it.", "label": False}]})
    (got,) = SOURCES["statements"].samples(layouts.root, "train")
    assert [(r.captions, r.mask, r.box) for r in got.regions] == [(("A man.",), None, None)]
    assert got.absent == ("Men.", "The cat is on it.")


def test_the_teacher_is_believed_where_it_fills_a_human_box(layouts):
    layouts.jpeg("unlabelled/images/000.jpg", *SIZE)
    index = np.zeros(SIZE, int)
    index[0:20, 0:10] = 1  # fills the first person's box, and a strip of the second's
    index[0:20, 30:32] = 1
    layouts.put("pseudo_voc/classes.json", ["background", "person", "sofa"])
    layouts.palette("pseudo_voc/unlabelled/000.png", index)
    names = ["person", "car", "couch"]
    table = {"images": [], "annotations": [], "categories": [{"id": i, "name": n} for i, n in enumerate(names, 1)]}
    layouts.put("coco/annotations/instances_train.json", table)
    boxes = [[1, *fraction(0, 0, 10, 20)], [1, *fraction(30, 0, 50, 20)], [3, *fraction(0, 20, 20, 40)]]
    row = {"file": "000.jpg", "dir": "unlabelled", "split": "train", "boxes": boxes}
    layouts.put("language/boxes80.json", {"rows": [row]})
    (got,) = SOURCES["boxes80"].samples(layouts.root, "train")
    kinds = [(r.category, r.mask is not None, r.ignore) for r in got.regions]
    assert kinds == [("person", True, False), ("person", True, True), ("couch", False, False)]
    assert got.regions[0].origin["step"] == "teacher"
    assert got.exhaustive == set(names)


def test_a_person_is_all_that_is_worn_and_not_what_is_carried(layouts):
    index = np.zeros(SIZE, int)
    index[0:10, 0:10], index[10:30, 0:10], index[10:20, 10:16] = 1, 2, 3
    layouts.jpeg("clothing/images/000.jpg", *SIZE)
    layouts.palette("clothing/masks/000.png", index)
    layouts.put("clothing/classes.json", ["null", "hair", "coat", "bag"])
    layouts.put("clothing/splits/train.txt", "000\n")
    (got,) = SOURCES["clothing"].samples(layouts.root, "train")
    whole = got.regions[-1]
    assert whole.category is None
    assert all("person" in caption for caption in whole.captions)
    assert np.array_equal(whole.mask.to_array(), np.isin(index, (1, 2)))
    assert got.whole == "person"
    assert "giraffe" in got.exhaustive
    assert "hat" in got.exhaustive
    assert "coat" not in got.exhaustive
