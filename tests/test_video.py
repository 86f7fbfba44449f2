"""Video files and folders of frames: what is read, what is written, and what remains when something goes wrong."""

import builtins
import json
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from anygrain import video
from anygrain.images import ImageError
from anygrain.video import FrameFolder, VideoFile, VideoWriter


def picture(number, size=(64, 48)):
    """A picture with a bright square that moves: its place tells the frame's number."""
    array = np.full((size[1], size[0], 3), 40, np.uint8)
    array[8:24, 4 * number : 4 * number + 12] = (230, 120, 20)
    return Image.fromarray(array)


def make_video(path, frames=7, size=(64, 48), rate=Fraction(10)):
    """A video made by PyAV alone, not by our writer."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_image(picture(number, size))))
        container.mux(stream.encode(None))
    return path


def left_edge(image):
    """Column where the bright square begins."""
    red = np.asarray(image)[16, :, 0].astype(int)
    return int(np.argmax(red > 130))


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# ------------------------------------------------------------------------------------------------ reading, writing


def test_frames_come_in_order_with_their_times(folder):
    frames = VideoFile(make_video(folder / "v.mp4"))
    assert (frames.rate, frames.count) == (10, 7)
    read = list(frames)
    assert [frame.index for frame in read] == list(range(7))
    assert [frame.time for frame in read] == pytest.approx([n / 10 for n in range(7)])
    for frame in read:
        assert frame.image.size == (64, 48)
        assert abs(left_edge(frame.image) - 4 * frame.index) <= 1


def test_a_video_held_upright_is_turned(folder):
    make_video(folder / "v.mp4")
    content = bytearray((folder / "v.mp4").read_bytes())
    one, minus, zero, last = b"\0\1\0\0", b"\xff\xff\0\0", b"\0\0\0\0", b"\x40\0\0\0"
    header = content.index(b"tkhd")
    at = content.index(one + zero * 3 + one + zero * 3 + last, header)
    content[at : at + 36] = zero + one + zero + minus + zero * 4 + last  # a quarter turn clockwise when shown
    (folder / "v.mp4").write_bytes(content)
    frame = next(iter(VideoFile(folder / "v.mp4")))
    assert frame.image.size == (48, 64)
    bright = np.argwhere(np.asarray(frame.image)[..., 0] > 130)  # rows 8..24, columns 0..12 before the turn
    assert bright.min(0) == pytest.approx([0, 24], abs=2)
    assert bright.max(0) == pytest.approx([11, 39], abs=2)


@pytest.mark.parametrize("size", [(64, 48), (65, 49), (64, 49)])
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001)])
def test_what_is_written_has_the_same_rate_and_frames(folder, size, rate):
    with VideoWriter(folder / "w.mp4", rate) as writer:
        for number in range(8):
            writer.write(picture(number, size), number / float(rate))
    with av.open(str(folder / "w.mp4")) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(float(rate), rel=1e-3)
        assert (stream.width, stream.height) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
        frames = [frame.to_image() for frame in container.decode(stream)]
    assert len(frames) == 8
    assert all(abs(left_edge(frame) - 4 * number) <= 1 for number, frame in enumerate(frames))
    assert [path.name for path in folder.iterdir()] == ["w.mp4"]


def test_uneven_times_are_kept(folder):
    times = [0.5, 0.6, 1.0, 1.1]
    with VideoWriter(folder / "w.mp4", Fraction(10)) as writer:
        for number, time in enumerate(times):
            writer.write(picture(number), time)
    assert [frame.time for frame in VideoFile(folder / "w.mp4")] == pytest.approx([0, 0.1, 0.5, 0.6], abs=1e-3)


def test_a_frame_of_another_size_is_refused_and_the_frames_before_it_stay(folder):
    def write():
        with VideoWriter(folder / "w.mp4", Fraction(10)) as writer:
            writer.write(picture(0), 0)
            writer.write(picture(1, (32, 32)), 0.1)

    with pytest.raises(ImageError, match="64 x 48 came 32 x 32"):
        write()
    assert len(list(VideoFile(folder / "w.mp4"))) == 1


def test_a_full_disk_leaves_no_video(folder, monkeypatch):
    writer = VideoWriter(folder / "w.mp4", Fraction(10))
    writer.write(picture(0), 0)
    container = writer.container

    class Full:
        def mux(self, packets):
            raise OSError(28, "No space left on device")

        def close(self):
            container.close()

    writer.container = Full()
    with pytest.raises(OSError, match=r"cannot write .*w\.mp4: No space left on device"), writer:
        writer.write(picture(1), 0.1)
    assert list(folder.iterdir()) == []


def test_files_that_are_no_video(folder):
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("I am a text")
    whole = make_video(folder / "v.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    for name in ("empty.mp4", "text.mp4", "cut.mp4", "none.mp4"):
        with pytest.raises(ImageError, match=name):
            list(VideoFile(folder / name))


# ------------------------------------------------------------------------------------------------ the command


def test_a_video_gives_lines_and_an_overlay_video(segment, folder):
    make_video(folder / "v.mp4")
    result = segment("v.mp4", "-t", "the square", "-t", "all else")
    assert (result.status, result.err) == (0, "")
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["v.jsonl", "v.overlay.mp4"]
    rows = lines_of(folder / "out" / "v.jsonl")
    assert [row["frame"] for row in rows] == list(range(7))
    assert [row["time"] for row in rows] == pytest.approx([n / 10 for n in range(7)])
    assert all([s["prompt"]["text"] for s in row["segments"]] == ["the square", "all else"] for row in rows)
    assert all([s["id"] for s in row["segments"]] == [0, 1] for row in rows)
    assert rows[0]["segments"][0]["segmentation"]["size"] == [48, 64]
    overlay = VideoFile(folder / "out" / "v.overlay.mp4")
    assert (overlay.rate, len(list(overlay))) == (10, 7)


def test_a_frame_has_the_masks_it_has_as_a_photo(segment, folder):
    (folder / "frames").mkdir()
    for number in (2, 10, 1):
        picture(number % 7).save(folder / "frames" / f"f{number}.png")
    assert segment("frames", "--as-video", "-t", "the square", "--fps", "5").status == 0
    rows = lines_of(folder / "out" / "frames.jsonl")
    assert [row["image"]["file"] for row in rows] == ["f1.png", "f2.png", "f10.png"]
    assert [row["time"] for row in rows] == [0, 0.2, 0.4]
    assert segment("frames", "-t", "the square", "--out", "photos").status == 0
    for row in rows:
        photo = json.loads((folder / "photos" / row["image"]["file"].replace("png", "json")).read_text())
        assert row["segments"] == photo["segments"]
    assert VideoFile(folder / "out" / "frames.overlay.mp4").rate == 5


def test_the_memory_of_a_video_does_not_grow_with_its_length(segment, folder, monkeypatch):
    make_video(folder / "v.mp4", frames=12)
    alive, most = [0], [0]
    frames = VideoFile.__iter__

    class Counted:
        def __init__(self):
            alive[0] += 1
            most[0] = max(most[0], alive[0])

        def __del__(self):
            alive[0] -= 1

    def counted(self):
        for frame in frames(self):
            frame.image.counted = Counted()
            yield frame

    monkeypatch.setattr(VideoFile, "__iter__", counted)
    assert segment("v.mp4", "-t", "it").status == 0
    assert len(lines_of(folder / "out" / "v.jsonl")) == 12
    assert 0 < most[0] <= 9  # two batches of four, and one


def test_without_pyav_a_folder_gives_pictures_and_a_video_says_what_to_install(segment, folder, monkeypatch):
    make_video(folder / "v.mp4")
    (folder / "frames").mkdir()
    for number in range(3):
        picture(number).save(folder / "frames" / f"{number}.png")
    real = builtins.__import__

    def without_av(name, *rest):
        if name == "av":
            raise ImportError("No module named 'av'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_av)
    monkeypatch.setattr(video, "has_av", lambda: False)
    monkeypatch.setattr("anygrain.outputs.has_av", lambda: False)
    assert segment("frames", "--as-video", "-t", "it").status == 0
    names = sorted(path.name for path in (folder / "out" / "frames.overlay").iterdir())
    assert names == ["000000.png", "000001.png", "000002.png"]
    assert len(lines_of(folder / "out" / "frames.jsonl")) == 3
    result = segment("v.mp4", "-t", "it")
    assert result.status == 2
    assert result.err == "anygrain: error: videos need PyAV, which is not installed: pip install 'anygrain[video]'\n"


def test_a_damaged_video_is_named_and_photos_go_on(segment, photos, folder):
    (folder / "v.mp4").write_text("no video")
    result = segment("v.mp4", photos / "dog.jpg", "-t", "it")
    assert result.status == 2
    assert result.err.startswith("anygrain: error: v.mp4 cannot be read as a video")
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["dog.json", "dog.overlay.png"]


def test_ctrl_c_keeps_the_frames_that_are_finished(segment, folder, monkeypatch):
    make_video(folder / "v.mp4", frames=12)
    frames = VideoFile.__iter__

    def interrupted(self):
        for frame in frames(self):
            if frame.index == 9:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(VideoFile, "__iter__", interrupted)
    assert segment("v.mp4", "-t", "it").status == 130
    monkeypatch.undo()
    assert [row["frame"] for row in lines_of(folder / "out" / "v.jsonl")] == list(range(8))
    assert len(list(VideoFile(folder / "out" / "v.overlay.mp4"))) == 8
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["v.jsonl", "v.overlay.mp4"]


def test_a_folder_frame_is_opened_like_any_photo(folder):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(folder / "a.png")
    (frame,) = FrameFolder([folder / "a.png"], Fraction(25))
    assert frame.image.getpixel((0, 0)) == (255, 255, 255)
