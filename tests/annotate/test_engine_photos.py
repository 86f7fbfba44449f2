"""What can be annotated: folders, COCO JSON and shards, with the photographs as steps and shards need them."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from stub_steps import PHOTOS, STEPS, as_png, records, write_photos

from anygrain.annotate.engine import annotate
from anygrain.annotate.photos import open_photos
from anygrain.data.shards import ShardReader
from anygrain.data.verify import problems
from anygrain.images import ImageError, open_image
from anygrain.types import Mask


def names(photos):
    return [photos.name(number) for number in range(len(photos))]


def test_a_folder_is_read_at_any_depth_in_natural_order_without_hidden_files_and_overlays(tmp_path):
    folder = tmp_path / "street"
    for name in ("10.jpg", "2.PNG", "sub/1.jpg", ".hidden/1.jpg", "2.overlay.png", "notes.txt", ".3.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((PHOTOS / "dog.jpg").read_bytes())
    assert names(open_photos(folder)) == ["street/2.PNG", "street/10.jpg", "street/sub/1.jpg"]
    (folder / "1.jpg").write_bytes(b"")
    assert names(open_photos(folder))[1:] == ["street/2.PNG", "street/10.jpg", "street/sub/1.jpg"]
    assert names(open_photos(folder / "10.jpg")) == ["street/10.jpg"]


def test_every_format_ends_in_shards_that_are_whole_upright_and_as_the_steps_saw_them(tmp_path):
    photo = Image.open(PHOTOS / "dog.jpg").convert("RGB").resize((60, 40))
    folder = tmp_path / "photos"
    folder.mkdir()
    for ending in ("bmp", "gif", "tif", "webp", "png", "jpg"):
        photo.save(folder / f"plain.{ending}")
    turned = Image.Exif()
    turned[0x0112] = 6
    photo.save(folder / "turned.jpg", exif=turned, quality=95)
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    (folder / ("long" * 40 + ".png")).write_bytes(as_png(photo))
    (folder / "ünï ✓.png").write_bytes(as_png(photo))
    summary = annotate(open_photos(folder), tmp_path / "out", STEPS)
    assert (summary.samples, summary.rejected) == (10, 0)
    assert list(problems(tmp_path / "out")) == []
    reader = ShardReader(tmp_path / "out")
    for sample in map(reader.__getitem__, range(10)):
        image = open_image(sample.image)
        assert sample.size == ((60, 40) if "turned" in sample.id else (40, 60)) == (image.height, image.width)
        grey = np.asarray(image.convert("L"))
        for region in sample.regions:
            assert (region.mask.to_array() == ((grey < 100) == (region.category == "dark"))).all()
        if sample.id.endswith(("plain.webp", "plain.png", "plain.jpg")):
            assert sample.image == (folder / sample.id.split("/")[1]).read_bytes()


def coco(folder, annotations, **image):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    Image.open(PHOTOS / "dog.jpg").convert("RGB").resize((60, 40)).save(folder / "images" / "dog.jpg")
    entry = {"id": 1, "file_name": "dog.jpg", "height": 40, "width": 60, **image}
    table = {"images": [entry], "annotations": annotations, "categories": [{"id": 3, "name": "dog"}]}
    path = folder / "boxes.json"
    path.write_text(json.dumps(table))
    return path


def test_a_coco_json_gives_boxes_and_masks(tmp_path):
    box = {"id": 7, "image_id": 1, "category_id": 3, "bbox": [10, 5, 20, 30]}
    mask = Mask.from_array(np.eye(40, 60, dtype=bool))
    drawn = {"id": 8, "image_id": 1, "category_id": 3, "segmentation": mask.to_coco(), "bbox": [0, 0, 40, 40]}
    path = coco(tmp_path, [box, drawn])
    sample, _ = open_photos(path).read(0).open()
    assert (sample.id, sample.source, sample.size) == ("boxes/dog.jpg", "boxes", (40, 60))
    assert [(r.box, r.mask, r.category, r.instance) for r in sample.regions] == [
        ((10, 5, 30, 35), None, "dog", 7),
        (None, mask, "dog", 8),
    ]
    assert open_photos(path, known=False).read(0).open()[0].regions == ()
    assert open_photos(path, images=tmp_path / "images").read(0).checksum == open_photos(path).read(0).checksum


def test_other_annotations_or_another_file_are_another_photograph(tmp_path):
    box = {"id": 7, "image_id": 1, "category_id": 3, "bbox": [10, 5, 20, 30]}
    first = open_photos(coco(tmp_path / "a", [box])).read(0).checksum
    assert open_photos(coco(tmp_path / "b", [box])).read(0).checksum == first
    assert open_photos(coco(tmp_path / "b", [box | {"bbox": [10, 5, 20, 31]}])).read(0).checksum != first
    path = coco(tmp_path / "c", [box])
    write_photos(tmp_path / "c" / "images", 1)
    (tmp_path / "c" / "images" / "000.jpg").rename(tmp_path / "c" / "images" / "dog.jpg")
    assert open_photos(path).read(0).checksum != first


def test_annotations_of_another_size_or_of_turned_pixels_are_refused(tmp_path):
    box = {"id": 7, "image_id": 1, "category_id": 3, "bbox": [10, 5, 20, 30]}
    with pytest.raises(ImageError, match=r"boxes/dog.jpg is \(40, 60\) .* its annotations say \(60, 40\)"):
        open_photos(coco(tmp_path / "a", [box], height=60, width=40)).read(0).open()
    path = coco(tmp_path / "b", [box])
    turned, buffer = Image.Exif(), io.BytesIO()
    turned[0x0112] = 3
    Image.open(tmp_path / "b" / "images" / "dog.jpg").save(buffer, "JPEG", exif=turned)
    (tmp_path / "b" / "images" / "dog.jpg").write_bytes(buffer.getvalue())
    with pytest.raises(ImageError, match="carries an EXIF rotation"):
        open_photos(path).read(0).open()


def test_what_cannot_be_read_is_said_once_and_tried_again_by_the_next_run(tmp_path):
    box = {"id": 7, "image_id": 1, "category_id": 3, "bbox": [10, 5, 20, 30]}
    path = coco(tmp_path / "a", [box])
    (tmp_path / "a" / "images" / "dog.jpg").rename(tmp_path / "a" / "images" / "gone")
    for _ in range(2):
        assert annotate(open_photos(path), tmp_path / "out", STEPS).rejected == 1
        (line,) = map(json.loads, (tmp_path / "out" / "rejected.jsonl").read_text().splitlines())
        assert (line["id"], line["step"], line["reason"]) == ("boxes/dog.jpg", "read", "No such file or directory")
    (tmp_path / "a" / "images" / "gone").rename(tmp_path / "a" / "images" / "dog.jpg")
    assert annotate(open_photos(path), tmp_path / "out", STEPS).samples == 1
    assert (tmp_path / "out" / "rejected.jsonl").read_text() == ""


def test_two_photographs_with_one_key_are_not_mixed_up(tmp_path):
    write_photos(tmp_path / "photos", 1)
    (tmp_path / "photos" / "000_jpg.png").write_bytes(as_png(Image.open(PHOTOS / "dog.jpg").resize((30, 30))))
    (tmp_path / "photos" / "000.jpg.png").write_bytes((tmp_path / "photos" / "000_jpg.png").read_bytes())
    summary = annotate(open_photos(tmp_path / "photos"), tmp_path / "out", STEPS)
    assert (summary.samples, summary.rejected) == (2, 1)
    assert "rename one of them" in (tmp_path / "out" / "rejected.jsonl").read_text()
    assert len({name for name, *_ in records(tmp_path / "out")}) == 2


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("gone", "there is no .*gone: name a folder"), ("empty", "holds no photographs"), ("a.txt", "is no photograph")],
)
def test_no_input_is_one_sentence(tmp_path, name, sentence):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=sentence):
        open_photos(tmp_path / name)
