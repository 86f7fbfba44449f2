"""PhraseCut, the saliency benchmarks, SA-1B, ImageNet, and the table of data sets."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from anygrain.data.datasets import DATASETS, read_dataset
from anygrain.data.readers.files import each_record
from anygrain.data.readers.saliency_sets import LAYOUTS
from anygrain.types import Mask

SIZE = (20, 30)


def png(grey) -> bytes:
    out = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def task(image, number, phrase, *instances):
    structure = {
        "name": phrase.split()[-1],
        "attributes": [],
        "relation_ids": [],
        "relation_descriptions": [],
        "type": "name",
    }
    return {
        "task_id": f"{image}__{number}",
        "image_id": image,
        "ann_ids": list(range(len(instances))),
        "instance_boxes": [[0, 0, 1, 1] for _ in instances],
        "Polygons": list(instances),
        "phrase": phrase,
        "phrase_structure": structure,
    }


@pytest.fixture
def phrasecut(layouts):
    square = [[[2.9, 3.2], [8.0, 3.0], [8.7, 6.9], [2, 6]]]
    two = [[[20, 10], [24, 10], [24, 12], [20, 12]], [[1, 1]]]
    tasks = [
        task(2315, 1, "white dogs", square, two),
        task(10, 2, "a line", [[[5, 5], [5, 9]]]),
        task(2315, 3, "dog", two),
        task(2315, 4, "nothing drawn", []),
    ]
    layouts.put("VGPhraseCut_v0/refer_miniv.json", tasks)
    for number in (10, 2315):
        layouts.jpeg(f"VGPhraseCut_v0/images/{number}.jpg", *SIZE)
    return layouts.root


def test_phrasecut_draws_outlines_as_its_own_code_does(phrasecut):
    line, sample = read_dataset("phrasecut", phrasecut, "miniv")
    assert [line.id, sample.id] == ["phrasecut/10", "phrasecut/2315"]
    dogs, dog = sample.regions  # a phrase without a pixel is left out
    assert (dogs.captions, dogs.origin["task_id"]) == (("white dogs",), "2315__1")
    wanted = np.zeros(SIZE, bool)
    wanted[3:7, 2:9] = True  # corners cut to whole numbers, the outline inside
    wanted[10:13, 20:25] = True
    assert np.array_equal(dogs.mask.to_array(), wanted)
    wanted[3:7, 2:9] = False
    assert np.array_equal(dog.mask.to_array(), wanted)
    assert line.regions[0].mask.box == (5, 5, 6, 10)  # COCO's rule would draw nothing here


def test_phrasecut_names_what_is_missing(phrasecut):
    (phrasecut / "VGPhraseCut_v0" / "images" / "10.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"image 10\.jpg not found under"):
        list(read_dataset("phrasecut", phrasecut, "miniv"))
    with pytest.raises(FileNotFoundError, match=r"refer_test\.json not found under"):
        list(read_dataset("phrasecut", phrasecut, "test"))


@pytest.mark.parametrize(
    "text", ["[]", " [ ]\n", '[{"a": 1}]', '[{"a": [1, 2]},\n\n {"b": "]"} \n\t]\n', "[1, [2], 3]"]
)
def test_a_list_is_read_record_by_record(tmp_path, text):
    (tmp_path / "list.json").write_text(text)
    assert list(each_record(tmp_path / "list.json", "a list")) == json.loads(text)


@pytest.mark.parametrize("text", ["{}", "[1, 2", "[1, nan]", "[{}}]", ""])
def test_what_is_no_list_is_named(tmp_path, text):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(ValueError, match=r"list\.json: not .*; expected a list"):
        list(each_record(tmp_path / "list.json", "a list"))


@pytest.mark.parametrize(("name", "split"), [(name, split) for name, splits in LAYOUTS.items() for split in splits])
def test_saliency_sets_in_each_of_their_layouts(layouts, name, split):
    soft = np.zeros(SIZE)
    soft[5:10, 5:15], soft[10, 5:15], soft[11, 5:15] = 255, 128, 129
    for place, (images, masks) in enumerate(LAYOUTS[name][split]):
        layouts.jpeg(f"{place}/{images}/0001.jpg", *SIZE)
        layouts.put(f"{place}/{masks}/0001.png", png(soft))
        (sample,) = read_dataset(name, layouts.root / f"{place}", split)
        (region,) = sample.regions
        assert region.captions == ("the most salient object",)
        assert np.array_equal(region.mask.to_array(), soft > 128)  # 128 itself is not salient, as in PySODMetrics
    with pytest.raises(FileNotFoundError, match=f"the images of {name} {split} not found under .*; looked for"):
        list(read_dataset(name, layouts.root, split))


def test_saliency_names_an_image_without_a_mask(layouts):
    layouts.jpeg("images/0001.jpg", *SIZE)
    with pytest.raises(FileNotFoundError, match=r"the masks of ecssd test not found under .*ground_truth_mask"):
        list(read_dataset("ecssd", layouts.root, "test"))


def test_sa1b_masks_have_no_names(layouts, rectangle):
    mask = rectangle(SIZE, 3, 3, 20, 12)
    annotation = {
        "id": 550069001,
        "segmentation": Mask.from_array(mask).to_coco(),
        "area": 153,
        "bbox": [3.0, 3.0, 17.0, 9.0],
        "predicted_iou": 0.93,
        "point_coords": [[5.0, 5.0]],
        "crop_box": [0, 0, 30, 20],
        "stability_score": 0.97,
    }
    entry = {"image_id": 11, "width": 30, "height": 20, "file_name": "sa_11.jpg"}
    layouts.put("sa_000020/sa_11.json", {"image": entry, "annotations": [annotation]})
    layouts.jpeg("sa_000020/sa_11.jpg", *SIZE)
    (sample,) = read_dataset("sa1b", layouts.root, "train")
    (region,) = sample.regions
    assert (sample.id, region.category, region.captions, region.score) == ("sa1b/sa_11", None, (), 0.93)
    assert region.origin == {"step": "sam", "stability_score": "0.97"}
    assert np.array_equal(region.mask.to_array(), mask)
    (layouts.root / "sa_000020" / "sa_11.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"sa_11\.jpg not found under"):
        list(read_dataset("sa1b", layouts.root, "train"))
    (layouts.root / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"sa_\*\.json not found under .*, nor sa_\*\.tar; put the tars"):
        list(read_dataset("sa1b", layouts.root / "empty", "train"))


def test_sa1b_is_read_from_its_tars(layouts, rectangle):
    mask, other = rectangle(SIZE, 3, 3, 20, 12), layouts.root / "tars"
    rows = {"segmentation": Mask.from_array(mask).to_coco(), "predicted_iou": 0.93, "stability_score": 0.97, "id": 1}
    members = []
    for number in (11, 12):
        entry = {"image_id": number, "width": 30, "height": 20, "file_name": f"sa_{number}.jpg"}
        members.append((f"./sa_{number}.jpg", layouts.jpeg(f"loose/{number}", *SIZE, seed=number).read_bytes()))
        members.append((f"./sa_{number}.json", json.dumps({"image": entry, "annotations": [rows]}).encode()))
    members[2:] = reversed(members[2:])  # the masks before their image

    def write(members):
        other.mkdir(exist_ok=True)
        with tarfile.open(other / "sa_000020.tar", "w") as tar:
            for name, content in [("./README", b"hello"), *members]:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))

    write(members)
    samples = list(read_dataset("sa1b", other, "train"))
    assert [sample.id for sample in samples] == ["sa1b/sa_11", "sa1b/sa_12"]
    assert [sample.image for sample in samples] == [members[0][1], members[3][1]]
    assert all(np.array_equal(sample.regions[0].mask.to_array(), mask) for sample in samples)
    write(members[:3])
    with pytest.raises(ValueError, match=r"sa_000020\.tar: sa_12\.json is there without its other half"):
        list(read_dataset("sa1b", other, "train"))
    write([members[0], (members[1][0], b"{")])
    with pytest.raises(ValueError, match=r"sa_000020\.tar/sa_11\.json: not valid JSON"):
        list(read_dataset("sa1b", other, "train"))
    write([("sa_1.jpg", layouts.jpeg("loose/1", 4, 4).read_bytes()), ("sa_1.json", members[1][1])])
    with pytest.raises(ValueError, match=r"sa_1\.json: says \(20, 30\), but the image is \(4, 4\)"):
        list(read_dataset("sa1b", other, "train"))
    (other / "sa_000020.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(ValueError, match=r"sa_000020\.tar: not a whole tar"):
        list(read_dataset("sa1b", other, "train"))


def test_imagenet_by_folder_and_flat(layouts):
    names = "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane, lifting machine\n"
    layouts.put("LOC_synset_mapping.txt", names)
    layouts.jpeg("train/n01440764/n01440764_18.JPEG", *SIZE)
    layouts.jpeg("train/n03126707/n03126707_5.JPEG", *SIZE)
    tench, crane = read_dataset("imagenet", layouts.root, "train")
    assert (tench.regions[0].category, tench.regions[0].mask, tench.regions[0].box) == ("tench", None, None)
    assert crane.regions[0].category == "crane, lifting machine"
    layouts.jpeg("val/ILSVRC2012_val_00000001.JPEG", *SIZE)
    answers = "ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 85 1 499 272 \n"
    layouts.put("LOC_val_solution.csv", answers)
    (sample,) = read_dataset("imagenet", layouts.root, "val")
    assert sample.regions[0].category == "tench"
    layouts.jpeg("train/n99999999/n99999999_1.JPEG", *SIZE)
    with pytest.raises(ValueError, match="its synset 'n99999999' has no name"):
        list(read_dataset("imagenet", layouts.root, "train"))


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_says_what_it_lacks(name, tmp_path):
    dataset = DATASETS[name]
    assert dataset.licence
    assert dataset.home.startswith("http")
    for split in dataset.splits:
        with pytest.raises(FileNotFoundError, match="not found under"):
            list(read_dataset(name, tmp_path, split))
    with pytest.raises(ValueError, match=f"{name.replace('+', '.')} has no split 'nonsense'; it has"):
        list(read_dataset(name, tmp_path, "nonsense"))
