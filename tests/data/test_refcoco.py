"""The RefCOCO family in the folders and files of lichengunc/refer and henghuiding/gRefCOCO."""

from __future__ import annotations

import pickle
import struct

import numpy as np
import pytest

from anygrain.data.datasets import read_dataset
from anygrain.data.readers.pickles import read_plain_pickle

SIZE = (30, 40)
IMAGES = "images/mscoco/images/train2014"


def of_python_2(value) -> bytes:
    """A pickle as Python 2 wrote it (the opcodes of protocol 2, texts as bytes), without marks for repeated objects."""

    def code(value) -> bytes:
        if isinstance(value, dict):
            return b"}(" + b"".join(code(part) for pair in value.items() for part in pair) + b"u"
        if isinstance(value, list):
            return b"](" + b"".join(map(code, value)) + b"e"
        if isinstance(value, int):
            return b"J" + struct.pack("<i", value)
        return b"U" + bytes([len(value)]) + value.encode()

    return b"\x80\x02" + code(value) + b"."


def box(x0, y0, x1, y1):
    """A polygon and its mask."""
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return [[x0, y0, x1, y0, x1, y1, x0, y1]], mask


MAN, MAN_MASK = box(2, 3, 12, 20)
DOG, DOG_MASK = box(15, 5, 30, 25)
CROWD_MASK = box(0, 0, 40, 3)[1]


def instances():
    runs, value = [0], False
    for pixel in CROWD_MASK.ravel(order="F"):
        if pixel != value:
            runs, value = [*runs, 0], pixel
        runs[-1] += 1
    crowd = {"size": list(SIZE), "counts": runs}
    rows = [(11, 581857, 1, MAN), (12, 581857, 18, DOG), (13, 9, 1, MAN), (15, 9, 1, [[5, 5, 5, 5, 5, 5]])]
    annotations = [{"id": i, "image_id": image, "category_id": c, "segmentation": s, "iscrowd": 0, "bbox": [5, 5, 3, 2]}
                   for i, image, c, s in rows]  # fmt: skip
    annotations.append({"id": 14, "image_id": 581857, "category_id": 1, "segmentation": crowd, "iscrowd": 1})
    images = [
        {"id": n, "file_name": f"COCO_train2014_{n:012d}.jpg", "height": 30, "width": 40} for n in (581857, 9, 77)
    ]
    names = [
        {"id": 1, "name": "person", "supercategory": "person"},
        {"id": 18, "name": "dog", "supercategory": "animal"},
    ]
    return {"images": images, "annotations": annotations, "categories": names}


def ref(number, image, annotation, split, *sentences):
    """As in the file: file_name carries the annotation's number, and is no file."""
    said = [
        {"tokens": s.split(), "raw": s.upper(), "sent_id": 10 * number + place, "sent": s}
        for place, s in enumerate(sentences)
    ]
    return {
        "sent_ids": [s["sent_id"] for s in said],
        "file_name": f"COCO_train2014_{image:012d}_{number}.jpg",
        "ann_id": annotation,
        "ref_id": number,
        "image_id": image,
        "split": split,
        "sentences": said,
        "category_id": 1,
    }


@pytest.fixture
def refer(layouts):
    refs = [
        ref(1, 581857, 11, "val", "the man", "guy on left", "the man"),
        ref(2, 581857, 12, "val", "brown dog"),
        ref(3, 581857, 14, "train", "people at the top"),
        ref(4, 9, 13, "val", "only man"),
        ref(5, 9, 15, "testA", "a speck"),
    ]
    for n in (581857, 9, 77):
        layouts.jpeg(f"{IMAGES}/COCO_train2014_{n:012d}.jpg", *SIZE)
    for name, by in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd"), ("refcoco", "google")):
        layouts.put(f"{name}/refs({by}).p", of_python_2(refs))
        layouts.put(f"{name}/instances.json", instances())
    layouts.put(
        "refcocog/refs(google).p", pickle.dumps([ref(1, 581857, 11, "val", "him"), ref(2, 581857, 12, "train", "it")])
    )
    return layouts.root


def test_one_sample_an_image_with_every_sentence_of_every_object(refer):
    first, second = read_dataset("refcoco", refer, "val")
    assert [first.id, second.id] == [f"refcoco_unc/COCO_train2014_{n:012d}" for n in (9, 581857)]
    man, dog = second.regions
    assert man.captions == ("the man", "guy on left", "the man")  # as often as in the file: the official counts
    assert dog.captions == ("brown dog",)
    assert np.array_equal(man.mask.to_array(), MAN_MASK)
    assert np.array_equal(dog.mask.to_array(), DOG_MASK)
    assert (man.instance, dog.instance) == (11, 12)
    assert (man.category, man.origin["category"], man.origin["ref_id"]) == (None, "person", "1")
    assert second.image == refer / IMAGES / "COCO_train2014_000000581857.jpg"


def test_a_crowd_may_be_referred_to_and_is_drawn_from_uncompressed_runs(refer):
    (sample,) = read_dataset("refcoco+", refer, "train")
    assert np.array_equal(sample.regions[0].mask.to_array(), CROWD_MASK)
    assert not sample.regions[0].ignore


def test_a_target_without_a_pixel_keeps_its_sentences_and_box(refer):
    (sample,) = read_dataset("refcoco", refer, "testA")
    (speck,) = sample.regions
    assert speck.mask is None
    assert (speck.captions, speck.box) == (("a speck",), (5, 5, 8, 7))


def test_the_two_splits_of_refcocog_are_two_data_sets(refer):
    by_image = [sample.id.split("/")[1] for sample in read_dataset("refcocog_umd", refer, "val")]
    assert len(by_image) == 2
    val, train = (list(read_dataset("refcocog_google", refer, split)) for split in ("val", "train"))
    assert val[0].id == train[0].id  # divided by object: one image in both
    assert val[0].regions[0].instance != train[0].regions[0].instance
    with pytest.raises(ValueError, match="refcocog_google has no split 'test'; it has train, val"):
        list(read_dataset("refcocog_google", refer, "test"))
    with pytest.raises(ValueError, match="refcoco has no split 'test'; it has train, val, testA, testB"):
        list(read_dataset("refcoco", refer, "test"))


def test_missing_parts_are_named(refer, layouts):
    (refer / "refcoco" / "refs(unc).p").rename(refer / "refs.p")
    with pytest.raises(FileNotFoundError, match=r"refs\(unc\)\.p not found under .*refcoco"):
        list(read_dataset("refcoco", refer, "val"))
    with pytest.raises(FileNotFoundError, match=r"grefcoco/grefs\(unc\)\.json not found under"):
        list(read_dataset("grefcoco", refer, "val"))
    (refer / "refcoco+" / "instances.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"instances\.json not found under .*refcoco\+"):
        list(read_dataset("refcoco+", refer, "val"))
    (refer / "images").rename(refer / "pictures")
    with pytest.raises(FileNotFoundError, match=r"COCO train2014 images not found under .*; looked for images/mscoco"):
        list(read_dataset("refcocog_umd", refer, "val"))
    with pytest.raises(FileNotFoundError, match=r"nowhere: not found; expected the folder of refcoco, from https"):
        list(read_dataset("refcoco", refer / "nowhere", "val"))
    with pytest.raises(ValueError, match="no data set is named 'refcocog'; there are ade20k_150"):
        list(read_dataset("refcocog", refer, "val"))


def test_references_to_nothing_are_named(refer, layouts):
    layouts.put("refcoco/refs(unc).p", of_python_2([ref(1, 581857, 99, "val", "who")]))
    with pytest.raises(ValueError, match=r"instances\.json: annotation 99 of reference 1 is missing in its image"):
        list(read_dataset("refcoco", refer, "val"))
    layouts.put("refcoco/refs(unc).p", of_python_2([ref(1, 5, 11, "val", "who")]))
    with pytest.raises(ValueError, match="image 5 is missing"):
        list(read_dataset("refcoco", refer, "val"))
    with pytest.raises(ValueError, match=r"no reference of the split 'train', only \['val'\]"):
        list(read_dataset("refcoco", refer, "train"))


class Trap:
    def __reduce__(self):
        import os

        return os.mkdir, ("broken_into",)


def test_a_pickle_that_runs_code_is_refused(refer, layouts, folder):
    path = layouts.put("refcoco/refs(unc).p", pickle.dumps([Trap()]))
    with pytest.raises(ValueError, match=r"refs\(unc\)\.p: not loaded: it asks for (posix|os|nt)\.mkdir"):
        list(read_dataset("refcoco", refer, "val"))
    assert not list(folder.glob("broken_into"))
    for damaged in (
        b"",
        b"no pickle",
        pickle.dumps([1, 2])[:-2],
        pickle.dumps(np.arange(3)),
        b"cos\nsystem\n(S'x'\ntR.",
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"refs\(unc\)\.p: not loaded: .*; expected a table"):
            read_plain_pickle(path, "a table")


@pytest.fixture
def grefcoco(refer, layouts):
    refs = [
        ref(1, 581857, [11, 12, 14], "val", "man and dog", "both of them"),
        ref(2, 581857, [12], "val", "the dog"),
        ref(3, 581857, [-1], "val", "the cat", "a bird"),
        ref(4, 9, [-1], "val", "nobody"),
        ref(5, 9, [13], "testB", "him"),
    ]
    layouts.put("grefcoco/grefs(unc).json", [{**r, "no_target": r["ann_id"] == [-1]} for r in refs])
    layouts.put("grefcoco/instances.json", instances())
    return refer


def test_grefcoco_means_several_one_or_none(grefcoco):
    nobody, sample = read_dataset("grefcoco", grefcoco, "val")
    assert (nobody.regions, nobody.absent) == ((), ("nobody",))
    both, dog = sample.regions
    assert both.captions == ("man and dog", "both of them")
    assert np.array_equal(both.mask.to_array(), MAN_MASK | DOG_MASK)  # the crowd among the three is left out
    assert (both.instance, both.origin["category"]) == (None, "person, dog")
    assert (dog.instance, dog.captions) == (12, ("the dog",))
    assert sample.absent == ("the cat", "a bird")
    assert [s.id for s in read_dataset("grefcoco", grefcoco, "testB")] == ["grefcoco/COCO_train2014_000000000009"]
