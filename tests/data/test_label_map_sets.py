"""Data sets of label maps: ADE20K, Cityscapes, PASCAL, LIP."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from anygrain.data.datasets import read_dataset
from anygrain.data.readers.pascal_part import part_name

SIZE = (20, 30)


def png(index, dtype=np.uint8) -> bytes:
    out = io.BytesIO()
    Image.fromarray(index.astype(dtype)).save(out, "PNG")
    return out.getvalue()


def same(sample, masks):
    return all(np.array_equal(r.mask.to_array(), m) for r, m in zip(sample.regions, masks, strict=True))


@pytest.fixture
def ade(layouts):
    index = np.zeros(SIZE, int)
    index[:5], index[5:9], index[15:] = 1, 3, 150
    root = "ADEChallengeData2016"
    names = ["wall", "building, edifice", "crane, bird", *(f"thing{n}, other" for n in range(4, 150)), "crane, machine"]
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
    rows += [f"{n}\t0.1\t11664\t1172\t1\t{name}" for n, name in enumerate(names, start=1)]
    layouts.put(f"{root}/objectInfo150.txt", "\n".join(rows) + "\n")
    layouts.put(f"{root}/annotations/validation/ADE_val_00000001.png", png(index))
    layouts.jpeg(f"{root}/images/validation/ADE_val_00000001.jpg", *SIZE)
    return layouts.root, index


def test_ade20k_counts_from_one_and_leaves_zero_out(ade):
    root, index = ade
    (sample,) = read_dataset("ade20k_150", root, "val")
    assert sample.id == "ade20k_150/ADE_val_00000001"
    # two first names are the same: both are said whole
    assert [(r.category, r.ignore) for r in sample.regions] == [
        ("wall", False),
        ("crane, bird", False),
        ("crane, machine", False),
        (None, True),
    ]
    assert same(sample, (index == 1, index == 3, index == 150, index == 0))
    assert len(sample.exhaustive) == 150
    assert "building" in sample.exhaustive


def test_ade20k_names_what_is_missing_or_not_of_its_form(ade, layouts):
    root, index = ade
    with pytest.raises(FileNotFoundError, match="annotations/training not found under"):
        list(read_dataset("ade20k_150", root, "train"))
    layouts.put("ADEChallengeData2016/annotations/validation/ADE_val_00000001.png", png(index + 60))
    with pytest.raises(ValueError, match=r"ADE_val_00000001\.png: holds index 210, but the category list has no name"):
        list(read_dataset("ade20k_150", root, "val"))
    layouts.put("ADEChallengeData2016/annotations/validation/ADE_val_00000001.png", png(index[:10]))
    with pytest.raises(ValueError, match=r"the mask is \(10, 30\) and its image \(20, 30\)"):  # never resized
        list(read_dataset("ade20k_150", root, "val"))
    layouts.put("ADEChallengeData2016/objectInfo150.txt", "Idx\tName\n2\twall\n")
    with pytest.raises(ValueError, match="expected the columns Idx, Ratio, Train, Val, Name, numbered from 1"):
        list(read_dataset("ade20k_150", root, "val"))


LISTED = [{"name": "wall", "id": 2978, "trainId": 0}, {"name": "bank, building", "id": 5, "trainId": 2}]
LISTED += [{"name": "bank, river side", "id": 9, "trainId": 1}, {"name": "hat, lid", "id": 1197, "trainId": 3}]
SCRIPT = "prepare_ade20k_full_sem_seg.py"


@pytest.fixture
def ade_full(layouts):
    index = np.full(SIZE, 65535)
    index[:5], index[5:9], index[15:] = 0, 1, 3
    root = "ADE20K_2021_17_01"
    layouts.put(SCRIPT, f"import cv2\n\nADE20K_SEM_SEG_FULL_CATEGORIES = {LISTED}\n\nraise SystemExit('it was run')\n")
    out = io.BytesIO()
    Image.fromarray(index.astype(np.uint16)).save(out, "TIFF")
    layouts.put(f"{root}/annotations_detectron2/validation/ADE_val_00000001.tif", out.getvalue())
    layouts.jpeg(f"{root}/images_detectron2/validation/ADE_val_00000001.jpg", *SIZE)
    return layouts.root, index


def test_ade20k_847_takes_its_names_from_the_script_without_running_it(ade_full, layouts):
    root, index = ade_full
    (sample,) = read_dataset("ade20k_847", root, "val")
    assert sample.id == "ade20k_847/ADE_val_00000001"
    wanted = [("wall", False), ("bank, river side", False), ("hat", False), (None, True)]
    assert [(r.category, r.ignore) for r in sample.regions] == wanted
    assert same(sample, (index == 0, index == 1, index == 3, index == 65535))
    assert sample.exhaustive == {"wall", "bank, building", "bank, river side", "hat"}
    for content in (
        "x = 1\n",
        "ADE20K_SEM_SEG_FULL_CATEGORIES = load()\n",
        "ADE20K_SEM_SEG_FULL_CATEGORIES = []\n",
        "(\n",
    ):
        layouts.put(SCRIPT, content)
        with pytest.raises(ValueError, match=r"sem_seg\.py: no list ADE20K_SEM_SEG_FULL_CATEGORIES of names"):
            list(read_dataset("ade20k_847", root, "val"))
    (root / SCRIPT).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"MaskFormer's datasets/prepare_ade20k_full_sem_seg\.py, for the names"
    ):
        list(read_dataset("ade20k_847", root, "val"))


@pytest.fixture
def sbd(layouts):
    numbers = np.zeros(SIZE, int)
    numbers[2:8, 2:8], numbers[2:8, 12:18] = 1, 2
    folder = "benchmark_RELEASE/dataset"
    layouts.jpeg(f"{folder}/img/2008_000002.jpg", *SIZE)
    layouts.put(f"{folder}/train.txt", "2008_000002\n")
    (layouts.root / folder / "inst").mkdir()
    truth = {"Segmentation": numbers.astype(np.uint8), "Categories": np.array([[20], [15]], np.uint8), "Boundaries": 0}
    savemat(layouts.root / folder / "inst" / "2008_000002.mat", {"GTinst": truth})
    return layouts.root, numbers, layouts.root / folder


def test_sbd_has_objects_of_voc_categories(sbd, layouts):
    root, numbers, folder = sbd
    (sample,) = read_dataset("sbd", root, "train")
    assert [(r.category, r.instance) for r in sample.regions] == [("tvmonitor", 1), ("person", 2)]
    assert same(sample, (numbers == 1, numbers == 2))
    assert len(sample.exhaustive) == 20
    path = folder / "inst" / "2008_000002.mat"
    savemat(path, {"GTinst": {"Segmentation": numbers.astype(np.uint8), "Categories": np.array([20])}})
    with pytest.raises(ValueError, match=r"000002\.mat: object 2 has the category 0; expected one of 1 to 20"):
        list(read_dataset("sbd", root, "train"))
    savemat(path, {"GTcls": numbers})
    with pytest.raises(ValueError, match=r"000002\.mat: no GTinst with Segmentation and Categories"):
        list(read_dataset("sbd", root, "train"))
    with pytest.raises(FileNotFoundError, match=r"train_noval\.txt not found under"):
        list(read_dataset("sbd", root, "train_noval"))


@pytest.fixture
def cityscapes(layouts):
    """road, car, a car of its own, a group of cars, ego vehicle, trailer."""
    labels = np.full(SIZE, 7)
    labels[5:10, :10], labels[5:10, 12:20], labels[5:10, 22:28], labels[19], labels[0] = 26, 26, 26, 1, 30
    numbers = labels.copy()
    numbers[5:10, :10], numbers[5:10, 12:20] = 26000, 26001  # the third stays 26: a group
    name = "lindau/lindau_000000_000019"
    layouts.put(f"gtFine/val/{name}_gtFine_labelIds.png", png(labels))
    layouts.put(f"gtFine/val/{name}_gtFine_instanceIds.png", png(numbers, np.uint16))
    layouts.put(f"leftImg8bit/val/{name}_leftImg8bit.png", png(np.zeros((*SIZE, 3))))
    return layouts.root, labels, numbers, name


def test_cityscapes_reads_ids_and_leaves_out_what_the_benchmark_does(cityscapes):
    root, labels, *_ = cityscapes
    (sample,) = read_dataset("cityscapes", root, "val")
    assert sample.id == "cityscapes/lindau/lindau_000000_000019"
    assert [(r.category, r.ignore) for r in sample.regions] == [("road", False), ("car", False), (None, True)]
    assert same(sample, (labels == 7, labels == 26, (labels == 1) | (labels == 30)))  # a group counts as car here
    assert len(sample.exhaustive) == 19


def test_cityscapes_instances_ignore_groups(cityscapes):
    root, labels, numbers, _ = cityscapes
    (sample,) = read_dataset("cityscapes_instances", root, "val")
    assert [(r.category, r.instance, r.ignore) for r in sample.regions] == [
        ("car", None, True),
        ("car", 26000, False),
        ("car", 26001, False),
        (None, None, True),
    ]
    assert same(sample, (numbers == 26, numbers == 26000, numbers == 26001, (labels == 1) | (labels == 30)))


def test_cityscapes_panoptic_has_stuff_too(cityscapes):
    root, labels, numbers, _ = cityscapes
    (sample,) = read_dataset("cityscapes_panoptic", root, "val")
    assert [(r.category, r.granularity, r.instance, r.ignore) for r in sample.regions] == [
        ("road", "scene", None, False),
        ("car", "object", None, True),
        ("car", "object", 26000, False),
        ("car", "object", 26001, False),
        (None, None, None, True),
    ]
    assert same(sample, (numbers == 7, numbers == 26, numbers == 26000, numbers == 26001, np.isin(labels, (1, 30))))
    assert len(sample.exhaustive) == 19


def test_cityscapes_refuses_train_ids_and_colours(cityscapes, layouts):
    root, labels, _, name = cityscapes
    path = f"gtFine/val/{name}_gtFine_labelIds.png"
    layouts.put(path, png(np.where(labels == 7, 0, 255)))
    with pytest.raises(ValueError, match="holds 255, but label ids end at 33; a map of trainIds has 255"):
        list(read_dataset("cityscapes", root, "val"))
    layouts.put(path, png(np.full((*SIZE, 3), 128)))
    with pytest.raises(ValueError, match="a mask must be a palette or grey PNG"):
        list(read_dataset("cityscapes", root, "val"))
    (root / path).unlink()
    with pytest.raises(FileNotFoundError, match=r"lindau_000000_000019_gtFine_labelIds\.png not found under"):
        list(read_dataset("cityscapes", root, "val"))
    with pytest.raises(ValueError, match="cityscapes has no split 'test'"):
        list(read_dataset("cityscapes", root, "test"))


@pytest.fixture
def voc(layouts):
    objects = np.zeros(SIZE, int)
    objects[2:8, 2:8], objects[2:8, 12:18], objects[12:18, 2:8] = 1, 2, 3
    classes = np.select([objects == 3, objects > 0], [12, 15], 0)  # two people, a dog
    for index in (objects, classes):
        index[1, 1:9] = 255
    for folder, index in (("SegmentationClass", classes), ("SegmentationObject", objects)):
        layouts.palette(f"VOCdevkit/VOC2012/{folder}/2007_000033.png", index)
    layouts.jpeg("VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg", *SIZE)
    layouts.put("VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", "2007_000033\n")
    return layouts.root, classes, objects


def test_voc_rims_are_ignored(voc):
    root, classes, objects = voc
    (sample,) = read_dataset("voc2012", root, "val")
    assert [(r.category, r.ignore) for r in sample.regions] == [("dog", False), ("person", False), (None, True)]
    assert same(sample, (classes == 12, classes == 15, classes == 255))
    (sample,) = read_dataset("voc2012_instances", root, "val")
    assert [(r.category, r.instance) for r in sample.regions] == [
        ("person", 1),
        ("person", 2),
        ("dog", 3),
        (None, None),
    ]
    assert same(sample, [objects == number for number in (1, 2, 3, 255)])
    with pytest.raises(FileNotFoundError, match=r"Segmentation/train\.txt not found under .*VOCdevkit/VOC2012"):
        list(read_dataset("voc2012", root, "train"))


@pytest.fixture
def context(layouts):
    labels = np.full(SIZE, 2)
    labels[:6], labels[6:9], labels[15:] = 397, 3, 459
    folder = layouts.root / "VOCdevkit" / "VOC2010"
    layouts.jpeg("VOCdevkit/VOC2010/JPEGImages/2008_000002.jpg", *SIZE)
    layouts.put("VOCdevkit/VOC2010/ImageSets/SegmentationContext/val.txt", "2008_000002\n")
    names = {1: "accordion", 2: "aeroplane", 3: "air conditioner", 397: "table", 459: "zebra"}
    layouts.put("labels.txt", "".join(f"{n}: {names.get(n, f'thing{n}')}\n" for n in range(1, 460)))
    layouts.put("59_labels.txt", "1: aeroplane\n2: table\n")
    (layouts.root / "trainval").mkdir()
    savemat(layouts.root / "trainval" / "2008_000002.mat", {"LabelMap": labels.astype(np.uint16)})
    return folder.parents[1], labels


def test_pascal_context_with_all_categories_and_with_59(context, layouts):
    root, labels = context
    (sample,) = read_dataset("pascal_context_459", root, "val")
    assert [r.category for r in sample.regions] == ["aeroplane", "air conditioner", "table", "zebra"]
    assert same(sample, [labels == number for number in (2, 3, 397, 459)])
    assert len(sample.exhaustive) == 459
    (sample,) = read_dataset("pascal_context_59", root, "val")
    assert [(r.category, r.ignore) for r in sample.regions] == [("aeroplane", False), ("table", False), (None, True)]
    assert same(sample, (labels == 2, labels == 397, (labels == 3) | (labels == 459)))
    layouts.put("59_labels.txt", "1: airplane\n")
    with pytest.raises(ValueError, match=r"59_labels\.txt names \['airplane'\], which labels\.txt does not have"):
        list(read_dataset("pascal_context_59", root, "val"))


def test_pascal_part_reads_objects_and_parts(layouts, rectangle):
    dog, head, ear = (rectangle(SIZE, *box) for box in ((2, 2, 20, 15), (2, 2, 10, 8), (3, 2, 5, 5)))
    person = rectangle(SIZE, 21, 0, 29, 20)
    part = np.dtype([("part_name", object), ("mask", object)])
    thing = np.dtype([("class", object), ("class_ind", object), ("mask", object), ("parts", object)])
    parts = np.array([[("head", head.astype(np.uint8)), ("lear", ear.astype(np.uint8))]], part)
    rows = [("dog", 12, dog.astype(np.uint8), parts), ("person", 15, person.astype(np.uint8), np.zeros((0, 0)))]
    anno = np.array([[("2008_000008", np.array([rows], thing))]], [("imname", object), ("objects", object)])
    layouts.jpeg("VOCdevkit/VOC2010/JPEGImages/2008_000008.jpg", *SIZE)
    layouts.put("VOCdevkit/VOC2010/ImageSets/Main/train.txt", "2008_000008\n")
    (layouts.root / "Annotations_Part").mkdir()
    savemat(layouts.root / "Annotations_Part" / "2008_000008.mat", {"anno": anno})
    (sample,) = read_dataset("pascal_part", layouts.root, "train")
    assert [(r.category, r.granularity, r.instance) for r in sample.regions] == [
        ("dog", "object", 1),
        ("dog head", "part", 1),
        ("dog left ear", "part", 1),
        ("person", "object", 2),
    ]
    assert same(sample, (dog, head, ear, person))
    (layouts.root / "Annotations_Part" / "2008_000008.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"2008_000008\.mat: not found"):
        list(read_dataset("pascal_part", layouts.root, "train"))


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("lfuleg", "left front upper leg"),
        ("rblleg", "right back lower leg"),
        ("llleg", "left lower leg"),
        ("lleg", "left leg"),
        ("ruarm", "right upper arm"),
        ("llarm", "left lower arm"),
        ("lfpa", "left front paw"),
        ("rbho", "right back hoof"),
        ("lfoot", "left foot"),
        ("rear", "right ear"),
        ("leye", "left eye"),
        ("lhorn", "left horn"),
        ("rwing", "right wing"),
        ("lhand", "left hand"),
        ("wheel_12", "wheel"),
        ("fliplate", "front licence plate"),
        ("cleftside_3", "coach left side"),
        ("lfleg", "left front leg"),
        ("torso", "torso"),
    ],
)
def test_pascal_part_codes_are_said_in_words(code, name):
    assert part_name(code) == name


def test_lip_parts(layouts):
    index = np.zeros(SIZE, int)
    index[:4], index[8:12], index[18:] = 2, 14, 19
    layouts.jpeg("TrainVal_images/val_images/100034_483681.jpg", *SIZE)
    layouts.put("TrainVal_images/val_id.txt", "100034_483681\n")
    layouts.put("TrainVal_parsing_annotations/val_segmentations/100034_483681.png", png(index))
    (sample,) = read_dataset("lip", layouts.root, "val")
    assert [(r.category, r.granularity) for r in sample.regions] == [
        ("hair", "part"),
        ("left arm", "part"),
        ("right shoe", "part"),
    ]
    assert same(sample, [index == number for number in (2, 14, 19)])
    with pytest.raises(FileNotFoundError, match="train_images not found under"):
        list(read_dataset("lip", layouts.root, "train"))
