import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from anygrain.types import Mask, Prediction, Prompt, Region, Sample


@settings(deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans()))
def test_masks_keep_every_pixel_area_and_box(array):
    mask = Mask.from_array(array)
    assert mask.size == array.shape
    assert mask.area == array.sum()
    back = mask.to_array()
    assert back.dtype == bool
    np.testing.assert_array_equal(back, array)
    if array.any():
        ys, xs = array.nonzero()
        assert mask.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    else:
        assert mask.box is None


def test_every_form_of_coco():
    array = np.zeros((6, 8), bool)
    array[1:4, 2:7] = True
    mask = Mask.from_array(array)
    polygon = [[2, 1, 7, 1, 7, 4, 2, 4]]
    plain = {"size": [6, 8], "counts": [13, 3, 3, 3, 3, 3, 3, 3, 3, 3, 8]}  # runs down the columns, outside first
    assert Mask.from_polygons(polygon, (6, 8)) == mask
    for form in (polygon, plain, mask.to_coco(), json.loads(json.dumps(mask.to_coco())), mask._rle):
        assert Mask.from_coco(form, (6, 8)) == mask
    assert Mask.from_coco([], (6, 8)).area == 0


def test_masks_that_are_wrong():
    with pytest.raises(ValueError, match="2-D"):
        Mask.from_array(np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match="at least 3 x,y pairs"):
        Mask.from_polygons([[1, 2, 3, 4]], (6, 8))
    with pytest.raises(ValueError, match=r"RLE size \(6, 8\) differs from the image size \(8, 6\)"):
        Mask.from_coco(Mask.from_array(np.zeros((6, 8))).to_coco(), (8, 6))


def test_prompts_say_what_they_hold():
    assert Prompt(text="the car").kinds == {"text"}
    assert Prompt(text="it", points=((1, 2),), box=(0, 0, 1, 1)).kinds == {"text", "points", "box"}
    with pytest.raises(ValueError, match="the text of a prompt is empty"):
        Prompt(text="  ")
    with pytest.raises(ValueError, match="needs text, points, a box or a mask"):
        Prompt()
    with pytest.raises(ValueError, match="2 points but 1 point labels"):
        Prompt(points=((1, 2), (3, 4)), point_labels=(1,))


def prediction(name="photo.jpg"):
    masks = np.zeros((3, 40, 60), bool)
    masks[0, 10:30, 5:25] = True
    masks[1, 0:40, 40:60] = True
    return Prediction(
        masks=masks,
        scores=np.array([0.9, 0.75, 0.123456], np.float32),
        present=np.array([True, True, False]),
        prompts=(Prompt(text="the cat"), Prompt(box=(40, 0, 60, 40), points=((50, 20),)), Prompt(text="das Ü")),
        low_res_logits=np.zeros((3, 10, 15), np.float32),
        image=Image.new("RGB", (60, 40), (128, 128, 128)),
        name=name,
        model={"name": "nano"},
    )


def test_a_prediction_speaks_of_its_rows():
    result = prediction()
    assert result.labels == ("the cat", "box+points", "das Ü")
    assert result.boxes.tolist() == [[5, 10, 25, 30], [40, 0, 60, 40], [0, 0, 0, 0]]
    regions = result.to_regions()
    assert [r.captions for r in regions] == [("the cat",), ()]
    assert regions[0].mask == Mask.from_array(result.masks[0])
    assert regions[0].origin == {"step": "predict", "name": "nano"}


def test_the_json_record():
    record = json.loads(json.dumps(prediction().to_json()))
    assert record["image"] == {"file": "photo.jpg", "width": 60, "height": 40}
    assert record["model"] == {"name": "nano"}
    cat, box, absent = record["segments"]
    assert cat["prompt"] == {"text": "the cat"}
    assert (cat["id"], cat["score"], cat["present"], cat["box"], cat["area"]) == (0, 0.9, True, [5, 10, 25, 30], 400)
    np.testing.assert_array_equal(Mask.from_coco(cat["segmentation"], (40, 60)).to_array(), prediction().masks[0])
    assert box["area"] == 800
    assert (absent["present"], absent["box"], absent["area"], absent["score"]) == (False, None, 0, 0.1235)


def test_saving_writes_overlay_and_record(tmp_path):
    overlay, record = prediction("dir/photo.jpg").save(tmp_path / "new")
    assert (overlay.name, record.name) == ("photo.overlay.png", "photo.json")
    saved = json.loads(record.read_text(encoding="utf-8"))
    assert saved["segments"][2]["prompt"]["text"] == "das Ü"
    picture = np.asarray(Image.open(overlay)).astype(int)
    assert picture.shape == (40, 60, 3)
    assert np.abs(picture[20, 15] - 128).max() > 30  # the mask is painted
    assert (picture[38, 30] == 128).all()  # the rest is not
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["photo.json", "photo.overlay.png"]


def test_saving_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="cannot write"):
        prediction().save(tmp_path / "file")


def test_samples_hold_encoded_images_and_are_frozen():
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2)).save(buffer, "PNG")
    region = Region(mask=Mask.from_array(np.ones((2, 3))), captions=("it",))
    sample = Sample(id="a/1", image=buffer.getvalue(), size=(2, 3), regions=(region,), source="a")
    with pytest.raises(AttributeError):
        sample.size = (3, 2)  # pyright: ignore[reportAttributeAccessIssue]
    assert [t.caption for t in sample.triplets()] == ["it"]
