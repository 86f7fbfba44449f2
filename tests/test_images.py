import contextlib
import errno
import io
import os
import re
import struct
import subprocess
import sys
import textwrap
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from anygrain.images import ImageError, open_image, write_atomic, write_image
from anygrain.resize import Resize

PHOTOS = Path(__file__).parent / "fixtures" / "photos"
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels(source):
    return np.asarray(open_image(source))


def huge_png(width, height):
    """A PNG that says how large it is and holds nothing else."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = b"IDAT" + zlib.compress(b"\0" * 10)
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))


# ---------------------------------------------------------------------------------------------------- opening


def test_every_way_to_name_an_image_gives_the_same_pixels():
    path = PHOTOS / "dog.jpg"
    expected = np.asarray(Image.open(path).convert("RGB"))
    data = path.read_bytes()
    with open(path, "rb") as file:
        sources = [path, str(path), data, bytearray(data), io.BytesIO(data), file, expected, Image.open(path)]
        for source in sources:
            image = open_image(source)
            assert image.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(image), expected)


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "JPEG"])
def test_formats(format):
    picture = Image.new("RGB", (12, 8), (200, 40, 90))
    opened = pixels(encoded(picture, format, **({"lossless": True} if format == "WEBP" else {})))
    assert opened.shape == (8, 12, 3)
    assert np.abs(opened.astype(int) - (200, 40, 90)).max() <= (3 if format == "JPEG" else 0)


def test_animations_give_their_first_frame():
    frames = [Image.new("RGB", (4, 4), c) for c in (RED, BLUE)]
    for format in ("GIF", "WEBP", "TIFF", "PNG"):
        options = {"lossless": True} if format == "WEBP" else {}
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
        assert tuple(pixels(data)[0, 0]) == RED


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_camera_orientation_is_applied_once(orientation, format):
    upright = Image.new("RGB", (48, 32), BLUE)
    upright.paste(RED, (0, 0, 16, 16))  # upper left
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that a camera held this way has done
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(stored, format, exif=exif, **({} if format in ("PNG", "TIFF") else {"quality": 95}))
    opened = open_image(data)
    assert opened.size == (48, 32)
    for again in (opened, open_image(opened), open_image(Image.open(io.BytesIO(data)))):
        red = np.asarray(again).astype(int)[..., 0] > 128
        assert red[4:12, 4:12].all()
        assert not red[20:].any()
        assert not red[:, 20:].any()


def test_a_damaged_note_on_orientation_does_not_hide_the_picture():
    data = encoded(Image.new("RGB", (4, 2), RED), "WEBP", lossless=True, exif=b"Exif\0\0neither II nor MM")
    assert (pixels(data) == RED).all()


def test_transparency_lies_over_white():
    rgba = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    rgba.putpixel((1, 0), (0, 0, 0, 128))
    assert pixels(encoded(rgba)).tolist() == [[[255] * 3, [127] * 3]]
    assert pixels(encoded(rgba.convert("LA"))).tolist() == [[[255] * 3, [127] * 3]]
    assert pixels(np.array([[[255, 0, 0, 0]]], np.uint8)).tolist() == [[[255] * 3]]


def test_palettes_with_and_without_transparency():
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    assert pixels(encoded(image)).tolist() == [[[*RED], [*GREEN], [*BLUE]]]
    assert pixels(encoded(image, transparency=1)).tolist() == [[[*RED], [*WHITE], [*BLUE]]]
    assert pixels(encoded(image, transparency=b"\xff\xff\x00")).tolist() == [[[*RED], [*GREEN], [*WHITE]]]
    assert pixels(encoded(image, "GIF", transparency=0)).tolist() == [[[*WHITE], [*GREEN], [*BLUE]]]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(format):
    deep = np.array([[0, 128, 129, 257, 32768, 65407, 65535]], np.uint16)
    expected = [0, 0, 1, 1, 128, 255, 255]  # 65407 / 257 = 254.502
    opened = pixels(encoded(Image.fromarray(deep), format))
    assert opened[0, :, 0].tolist() == expected
    assert (opened == opened[..., :1]).all()


def test_16_bit_grey_in_32_bit_and_the_transparent_value():
    wide = Image.fromarray(np.array([[0, 65535, 514]], np.int32))
    assert pixels(wide)[0, :, 0].tolist() == [0, 255, 2]
    keyed = Image.fromarray(np.array([[0, 514]], np.uint16))
    assert pixels(encoded(keyed, transparency=0))[0, :, 0].tolist() == [255, 2]
    with pytest.raises(ImageError, match=r"outside 0\.\.65535"):
        open_image(Image.fromarray(np.array([[70000]], np.int32)))


def test_grey_one_bit_and_cmyk():
    assert pixels(encoded(Image.new("L", (1, 1), 77))).tolist() == [[[77] * 3]]
    assert pixels(encoded(Image.new("1", (1, 1), 1))).tolist() == [[[255] * 3]]
    assert pixels(np.array([[9, 8]], np.uint8)).tolist() == [[[9] * 3, [8] * 3]]
    cyan = pixels(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=95))[4, 4].astype(int)
    assert np.abs(cyan - (0, 255, 255)).max() < 8


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
def test_narrow_images(size):
    assert pixels(encoded(Image.new("RGB", size[::-1], RED))).shape == (*size, 3)


def test_the_limit_is_checked_on_the_header_without_memory():
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"20000 x 20000 = 400,000,000 pixels, more than the limit of 100,000,000"):
        open_image(huge_png(20000, 20000))
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


@pytest.mark.parametrize("limit", [None, 10])
def test_the_limit_is_ours_not_pillows(limit, monkeypatch):
    picture = Image.new("RGB", (10, 10), RED)
    sources = [encoded(picture, format) for format in ("PNG", "JPEG", "GIF", "BMP")]
    sources += [picture, np.asarray(picture)]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for source in sources:
        assert open_image(source, max_pixels=100).size == (10, 10)
        with pytest.raises(ImageError, match="more than the limit of 99"):
            open_image(source, max_pixels=99)
    assert limit == Image.MAX_IMAGE_PIXELS


def broken_files(folder):
    """name -> what the sentence must say."""
    photo = (PHOTOS / "dog.jpg").read_bytes()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    png = encoded(Image.fromarray(noise))
    float_tiff = encoded(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")
    contents = {
        "empty.png": (b"", "is empty"),
        "text.jpg": (b"hello, I am a text\n", "is not an image"),
        "half.jpg": (photo[: len(photo) // 2], "is damaged or cut short"),
        "head.jpg": (photo[:10], "is damaged or cut short"),
        "half.png": (png[: len(png) // 2], "is damaged or cut short"),
        "head.png": (png[:20], "is damaged or cut short"),
        "flipped.png": (png[:60] + bytes(byte ^ 255 for byte in png[60:80]) + png[80:], "is damaged or cut short"),
        "phone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0", "is HEIC, which cannot be read: convert it"),
        "layers.psd": (b"8BPS\0\1" + bytes(20), "is PSD"),
        "float.tif": (float_tiff, "not 8- or 16-bit"),
        "huge.png": (huge_png(20000, 20000), "400,000,000 pixels"),
    }
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    (folder / "folder.jpg").mkdir()
    return {**{name: says for name, (_, says) in contents.items()}, "folder.jpg": "is a folder", "no.jpg": "no file"}


def test_what_cannot_be_opened_is_told_in_one_sentence(tmp_path):
    for name, says in broken_files(tmp_path).items():
        with pytest.raises(ImageError, match=re.escape(says)) as caught:
            open_image(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2, 3)), np.zeros((2, 2, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8)],
)
def test_arrays_that_are_no_images(array):
    with pytest.raises(ImageError, match="must be uint8"):
        open_image(array)


def test_other_objects_and_cut_pil_images():
    with pytest.raises(ImageError, match="got int"):
        open_image(7)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ImageError, match="got StringIO"):
        open_image(io.StringIO("text"))  # pyright: ignore[reportArgumentType]
    data = (PHOTOS / "dog.jpg").read_bytes()
    with pytest.raises(ImageError, match="cut short"):
        open_image(Image.open(io.BytesIO(data[: len(data) // 2])))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]))
def test_damaged_bytes_never_raise_anything_else(seed, format):
    rng = np.random.default_rng(seed)
    data = bytearray(encoded(Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)), format))
    for _ in range(rng.integers(1, 6)):
        data[rng.integers(len(data))] = rng.integers(256)
    with warnings.catch_warnings(), contextlib.suppress(ImageError):
        warnings.simplefilter("ignore")  # Pillow's own remarks on damaged metadata
        assert open_image(bytes(data[: rng.integers(1, len(data) + 1)])).mode == "RGB"


# ---------------------------------------------------------------------------------------------------- resizing

BOTH = pytest.mark.parametrize("make", [Resize.letterbox, Resize.fit])


def test_fit_keeps_the_aspect_and_pads_to_a_multiple():
    resize = Resize.fit((300, 400), 384)
    assert (resize.content, resize.canvas) == ((288, 384), (288, 384))
    resize = Resize.fit((375, 500), 384, multiple=64)
    assert (resize.content, resize.canvas) == ((288, 384), (320, 384))
    pixels = resize.image(np.full((375, 500, 3), 200, np.uint8))
    assert (pixels[:288] == 200).all()
    assert (pixels[288:] == 0).all()


def test_letterbox_centres_in_clips_mean():
    resize = Resize.letterbox((100, 200), 64)
    assert (resize.content, resize.canvas) == ((32, 64), (64, 64))
    pixels = resize.image(Image.new("RGB", (200, 100), WHITE))
    assert (pixels[:12] == (123, 117, 104)).all()
    assert (pixels[20:44, 4:60] == 255).all()


@BOTH
@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 7)])
def test_extreme_sizes_go_there_and_back(make, size):
    resize = make(size, 96)
    assert resize.image(np.full((*size, 3), 9, np.uint8)).shape == (*resize.canvas, 3)
    assert resize.mask(np.ones(size, bool)).shape == resize.canvas
    back = resize.maps_back(np.ones((2, *resize.canvas), np.float32))
    assert back.shape == (2, *size)
    assert np.isfinite(back).all()
    np.testing.assert_allclose(resize.boxes_back(resize.boxes([[0, 0, *size[::-1]]])), [[0, 0, *size[::-1]]], atol=1e-3)


@BOTH
def test_masks_survive_the_way_there_and_back(make):
    mask = np.asarray(Image.open(PHOTOS / "dog.png")) == 1
    resize = make(mask.shape, 352)
    back = resize.mask_back(resize.mask(mask))
    assert (back & mask).sum() / (back | mask).sum() > 0.97


@BOTH
def test_points_and_boxes_follow_the_pixels(make):
    source = (150, 230)
    mask = np.zeros(source, bool)
    mask[40:90, 50:130] = True
    resize = make(source, 640)
    ys, xs = np.nonzero(resize.mask(mask))
    found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    box = resize.boxes(np.array([[50, 40, 130, 90]]))
    np.testing.assert_allclose(box[0], found, atol=1.1)
    np.testing.assert_allclose((box[0, :2] + box[0, 2:]) / 2, [xs.mean() + 0.5, ys.mean() + 0.5], atol=0.4)
    points = np.array([[50.5, 40.5], [0, 0], [229.0, 149.0]])
    np.testing.assert_allclose(resize.points_back(resize.points(points)), points, atol=1e-9)
    np.testing.assert_allclose(resize.boxes_back(box), [[50, 40, 130, 90]], atol=1e-9)


@pytest.mark.parametrize("source", [(9, 20), (33, 50), (50, 31)])
def test_maps_come_back_to_a_photo_smaller_than_they_are_as_pillow_does_it(source):
    resize = Resize.fit(source, 256)
    values = np.random.default_rng(0).normal(size=(1, resize.canvas[0] // 4, resize.canvas[1] // 4)).astype(np.float32)
    part = (0, 0, resize.content[1] / 4, resize.content[0] / 4)
    expected = Image.fromarray(values[0]).resize(source[::-1], Image.Resampling.BILINEAR, box=part)
    back = resize.maps_back(values)
    np.testing.assert_allclose(back[0], np.asarray(expected), atol=1e-5)
    for threshold in (-9, 0.0, 1.0, 9):
        np.testing.assert_array_equal(resize.masks_back(values, threshold), back > np.float32(threshold))


def test_maps_come_back_like_torch_and_without_the_padding():
    resize = Resize.fit((200, 256), 128, multiple=64)  # content 100 x 128 in 128 x 128
    maps = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)
    back = resize.maps_back(maps)
    whole = torch.nn.functional.interpolate(torch.from_numpy(maps)[None], (256, 256), mode="bilinear")[0, :, :200]
    np.testing.assert_allclose(back, whole.numpy(), atol=1e-5)
    np.testing.assert_array_equal(resize.masks_back(maps, 0.3), back > np.float32(0.3))
    np.testing.assert_array_equal(resize.maps_back(maps[1:2])[0], back[1])


def test_shrinking_is_antialiased():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(Resize.fit((256, 256), 64).image(stripes)[:, 4:-4].astype(int) - 127).max() <= 2


def test_what_does_not_fit_is_refused():
    resize = Resize.letterbox((10, 20), 32)
    with pytest.raises(ValueError, match=r"image must have shape \[10, 20, 3\]"):
        resize.image(np.zeros((20, 10, 3), np.uint8))
    with pytest.raises(ValueError, match="must be RGB"):
        resize.image(Image.new("L", (20, 10)))
    with pytest.raises(ValueError, match=r"mask must have shape \[10, 20\]"):
        resize.mask(np.zeros((32, 32), bool))
    with pytest.raises(ValueError, match=r"maps must have shape \[32, 32\]"):
        resize.maps_back(np.zeros((1, 8, 8), np.float32))
    with pytest.raises(ValueError, match="maps must be"):
        Resize.fit((10, 20), 32).maps_back(np.zeros((8, 8), np.float32))
    with pytest.raises(ValueError, match="at least 1"):
        Resize.fit((0, 20), 32)


# ---------------------------------------------------------------------------------------------------- writing


def test_writing_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    write_atomic(path, b"first")
    write_atomic(path, b"second")
    assert path.read_bytes() == b"second"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]
    (tmp_path / "plain").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # not the private mode of temporary files


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    """A real failure of write(2): the process may not write files above 1,000 bytes."""
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    script = f"""
        import resource, signal
        from anygrain.images import write_atomic
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_atomic({str(path)!r}, bytes(5000))
        except OSError as error:
            print(error)
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == f"cannot write {path}: {os.strerror(errno.EFBIG)}"
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_a_failure_before_the_swap_leaves_nothing(tmp_path, monkeypatch, failure):
    def fail(*_):
        raise failure

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(type(failure)) as caught:
        write_atomic(tmp_path / "file.bin", b"new")
    assert list(tmp_path.iterdir()) == []
    if isinstance(failure, OSError):
        assert str(caught.value) == f"cannot write {tmp_path / 'file.bin'}: No space left on device"
        assert caught.value.errno == errno.ENOSPC


def test_places_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file" / "below.png", tmp_path, Path("/proc/no/such.png")):
        with pytest.raises(OSError, match=f"cannot write {path}: "):
            write_atomic(path, b"data")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_images_are_written_in_the_format_of_their_ending(tmp_path):
    picture = Image.open(PHOTOS / "dog.jpg").convert("RGB")
    formats = {".png": "PNG", ".JPG": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF"}
    for ending, format in formats.items():
        write_image(tmp_path / f"x{ending}", picture)
        with Image.open(tmp_path / f"x{ending}") as image:
            assert image.format == format
        difference = np.abs(pixels(tmp_path / f"x{ending}").astype(int) - np.asarray(picture))
        assert difference.mean() < (3 if format in ("JPEG", "WEBP") else 1e-9)
    with pytest.raises(ValueError, match=r"x\.svg: the ending must be one of"):
        write_image(tmp_path / "x.svg", picture)
    assert len(list(tmp_path.iterdir())) == len(formats)
