"""DAVIS and the sets of referring video."""

from __future__ import annotations

import numpy as np
import pytest

from anygrain.data.datasets import read_dataset
from anygrain.types import Mask

SIZE = (20, 30)


@pytest.fixture
def both(rectangle):
    return rectangle(SIZE, 0, 0, 5, 5) * 1 + rectangle(SIZE, 10, 10, 14, 15) * 2


@pytest.fixture
def davis(layouts, both):
    for frame, index in (("00000", both), ("00001", np.where(both == 2, 255, both)), ("00002", both * 0)):
        layouts.jpeg(f"DAVIS/JPEGImages/480p/classic-car/{frame}.jpg", *SIZE)
        layouts.palette(f"DAVIS/Annotations/480p/classic-car/{frame}.png", index)
    layouts.put("DAVIS/ImageSets/2017/val.txt", "classic-car\n")
    layouts.put("DAVIS/ImageSets/2016/val.txt", "classic-car\n")
    return layouts.root


def test_davis_2017_has_objects_and_2016_one_foreground(davis, both):
    first, second, third = read_dataset("davis2017", davis, "val")
    assert first.id == "davis2017/classic-car/00000"
    assert [(r.instance, r.ignore) for r in first.regions] == [(1, False), (2, False)]
    assert [np.array_equal(r.mask.to_array(), both == n) for r, n in zip(first.regions, (1, 2), strict=True)] == [
        True
    ] * 2
    assert [(r.instance, r.ignore) for r in second.regions] == [(1, False), (None, True)]  # 255 is void
    assert third.regions == ()  # hidden, but a frame
    first, second, third = read_dataset("davis2016", davis, "val")
    for sample in (first, second):
        assert np.array_equal(sample.regions[0].mask.to_array(), both > 0)  # 255 is foreground
    assert third.regions == ()


def test_davis_2016_as_downloaded_lists_pairs_of_files(davis, layouts):
    (davis / "DAVIS" / "ImageSets" / "2016" / "val.txt").unlink()
    line = "/JPEGImages/480p/classic-car/{0}.jpg /Annotations/480p/classic-car/{0}.png\n"
    layouts.put("DAVIS/ImageSets/480p/val.txt", "".join(line.format(f"0000{n}") for n in range(3)))
    assert len(list(read_dataset("davis2016", davis, "val"))) == 3
    with pytest.raises(FileNotFoundError, match=r"ImageSets/2017/train\.txt not found under"):
        list(read_dataset("davis2017", davis, "train"))
    layouts.palette("DAVIS/Annotations/480p/classic-car/00007.png", np.zeros(SIZE))
    with pytest.raises(FileNotFoundError, match=r"00007\.\*: not found; expected the frame of a mask"):
        list(read_dataset("davis2016", davis, "val"))


def test_ref_davis_has_four_expressions_an_object(davis, layouts, both):
    texts = {
        "annot1": "an old car",
        "annot1_full_video": "the car turning",
        "annot2": "café racer",
        "annot2_full_video": "car",
    }
    for name, text in texts.items():
        # three videos are misspelled, and annotator 2 wrote Latin-1
        content = f'clasic-car 1 "{text}"\nclasic-car 2 "the {name}"\n'
        layouts.put(f"davis_text_annotations/Davis17_{name}.txt", content.encode("latin-1" if "2" in name else "utf-8"))
    first, second, _ = read_dataset("ref_davis", davis, "val")
    assert [r.captions for r in first.regions] == [tuple(texts.values()), tuple(f"the {name}" for name in texts)]
    assert np.array_equal(first.regions[1].mask.to_array(), both == 2)
    assert [r.instance for r in second.regions] == [1]
    assert second.absent == tuple(f"the {name}" for name in texts)
    layouts.palette("DAVIS/Annotations_unsupervised/480p/classic-car/00000.png", both)
    assert len(list(read_dataset("ref_davis", davis, "val"))) == 1  # these are taken where they are
    layouts.put("davis_text_annotations/Davis17_annot2.txt", "classic-car car\n")
    with pytest.raises(ValueError, match=r"Davis17_annot2\.txt: 'classic-car car': expected lines as"):
        list(read_dataset("ref_davis", davis, "val"))
    (davis / "davis_text_annotations" / "Davis17_annot1.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"Davis17_annot1\.txt not found under .*davis_text_annotations"):
        list(read_dataset("ref_davis", davis, "val"))


def test_ref_youtube_vos_says_what_is_hidden(layouts, both):
    expressions = {"0": {"exp": "a dog", "obj_id": "1"}, "1": {"exp": "the ball", "obj_id": "2"}}
    meta = {"videos": {"003234408d": {"expressions": expressions, "frames": ["00005", "00000"]}}}
    layouts.put("meta_expressions/train/meta_expressions.json", meta)
    for frame, index in (("00000", both), ("00005", (both == 1) * 1)):
        layouts.jpeg(f"train/JPEGImages/003234408d/{frame}.jpg", *SIZE)
        layouts.palette(f"train/Annotations/003234408d/{frame}.png", index)
    first, second = read_dataset("ref_youtube_vos", layouts.root, "train")
    assert first.id == "ref_youtube_vos/003234408d/00000"
    assert [(r.captions, r.instance) for r in first.regions] == [(("a dog",), 1), (("the ball",), 2)]
    assert first.absent == ()
    assert [r.captions for r in second.regions] == [("a dog",)]
    assert second.absent == ("the ball",)
    with pytest.raises(ValueError, match="ref_youtube_vos has no split 'valid'"):
        list(read_dataset("ref_youtube_vos", layouts.root, "valid"))


def test_mevis_joins_objects_and_expressions(layouts, both):
    one, two = both == 1, both == 2
    expressions = {
        "0": {"exp": "both moving", "obj_id": [0, 1], "anno_id": [7, 8]},
        "1": {"exp": "the pair", "obj_id": [1, 0], "anno_id": [8, 7]},
        "2": {"exp": "the one that leaves", "obj_id": [1], "anno_id": [8]},
    }
    meta = {"videos": {"v": {"expressions": expressions, "vid_id": 1, "frames": ["00000", "00001", "00002"]}}}
    layouts.put("valid_u/meta_expressions.json", meta)
    codes = {"7": [Mask.from_array(one).to_coco()] * 2 + [None], "8": [Mask.from_array(two).to_coco(), None, None]}
    layouts.put("valid_u/mask_dict.json", codes)
    for frame in ("00000", "00001", "00002"):
        layouts.jpeg(f"valid_u/JPEGImages/v/{frame}.jpg", *SIZE)
    first, second, third = read_dataset("mevis", layouts.root, "valid_u")
    pair, leaver = first.regions
    assert (pair.captions, pair.instance) == (("both moving", "the pair"), None)
    assert np.array_equal(pair.mask.to_array(), one | two)
    assert (leaver.captions, leaver.instance) == (("the one that leaves",), 8)
    assert np.array_equal(leaver.mask.to_array(), two)
    assert np.array_equal(second.regions[0].mask.to_array(), one)
    assert second.absent == ("the one that leaves",)
    assert third.regions == ()
    assert len(third.absent) == 3
    layouts.put("valid_u/mask_dict.json", {"7": codes["7"]})
    with pytest.raises(ValueError, match=r"mask_dict\.json: no masks of annotation 8, which v names"):
        list(read_dataset("mevis", layouts.root, "valid_u"))
