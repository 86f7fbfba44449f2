from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import tarfile
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anygrain.data.commands import verify
from anygrain.data.shards import ShardReader, index_path, write_shards
from anygrain.types import Mask, Region, Sample
from layouts import jpeg

SIZE = (20, 30)


def make(number: int, image: bytes | Path | None = None) -> Sample:
    rng = np.random.default_rng(number)
    return Sample(
        id=f"set/video.{number}/photo.rf.{number}",
        image=jpeg(*SIZE, seed=number) if image is None else image,
        size=SIZE,
        source="set",
        exhaustive=frozenset({"café", "car"}),
        regions=(
            Region(
                mask=Mask.from_array(rng.random(SIZE) > 0.5),
                captions=("the red café", "it"),
                category="café",
                granularity="part",
                instance=number,
                score=0.25,
                origin={"step": "teacher", "model": "x"},
            ),
            Region(mask=Mask.from_array(rng.random(SIZE) > 0.9), ignore=True),
            Region(box=(1.0, 2.5, 7.0, 9.0), category="car"),
        ),
    )


@pytest.fixture
def folder(tmp_path):
    """Seven samples, three a shard."""
    assert write_shards(map(make, range(7)), tmp_path / "set", samples_per_shard=3) == 7
    return tmp_path / "set"


def test_what_goes_in_comes_out(folder):
    reader = ShardReader(folder)
    assert len(reader) == 7
    assert list(reader) == [make(i) for i in range(7)]
    assert reader[-1] == make(6)
    assert reader[np.int64(3)] == make(3)
    assert reader.record(4)["id"] == make(4).id
    for number in (7, -8):
        with pytest.raises(IndexError, match=rf"sample {number} asked for, but there are 7"):
            reader[number]


def test_image_bytes_are_the_originals(tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpeg(*SIZE, seed=5) + b"trailing camera data")
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, "PNG")
    write_shards([make(1, photo), make(2, buffer.getvalue())], tmp_path / "out")
    first, second = ShardReader(tmp_path / "out")
    assert first.image == photo.read_bytes()
    assert second.image == buffer.getvalue()
    with tarfile.open(tmp_path / "out" / "000000.tar") as tar:
        assert [Path(name).suffix for name in tar.getnames()] == [".jpg", ".json", ".png", ".json"]


def test_plain_tar_tools_read_the_shards(folder):
    """As webdataset groups: one key up to the first dot of the name, members of a key side by side."""
    found = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = [(member.name, tar.extractfile(member).read()) for member in tar]
        for (image_name, image), (record_name, record) in zip(members[::2], members[1::2], strict=True):
            folder_name, _, base = image_name.rpartition("/")
            key = f"{folder_name}/{base.partition('.')[0]}"
            assert (image_name, record_name) == (f"{key}.jpg", f"{key}.json")
            assert Image.open(io.BytesIO(image)).size == (30, 20)
            found.append(json.loads(record))
    assert [record["id"] for record in found] == [make(i).id for i in range(7)]
    segmentation = found[3]["regions"][0]["mask"]
    assert np.array_equal(
        Mask.from_coco(segmentation, SIZE).to_array(), make(3).regions[0].mask.to_array()
    )  # COCO RLE as it is


def test_shards_are_the_same_bytes_each_time(folder, tmp_path):
    write_shards(map(make, range(7)), tmp_path / "again", samples_per_shard=3)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_long_ids_keep_their_offsets(tmp_path):
    """Names over 100 characters take another form of tar header."""
    from dataclasses import replace

    long = replace(make(0), id="a" * 90 + "/" + "b" * 90)
    write_shards([long, make(1)], tmp_path / "long")
    assert list(ShardReader(tmp_path / "long")) == [long, make(1)]
    assert verify(tmp_path / "long") == []


def test_subfolders_make_one_reader(folder, tmp_path):
    write_shards([make(10)], tmp_path / "other")
    (tmp_path / ".set.half.tmp").mkdir()
    (tmp_path / ".set.half.tmp" / "000000.tar").write_bytes(b"being written")
    assert [sample.id for sample in ShardReader(tmp_path)] == [make(i).id for i in (10, 0, 1, 2, 3, 4, 5, 6)]


def test_a_failed_write_leaves_the_old_shards(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def broken():
        yield make(0)
        raise RuntimeError("the reader failed")

    with pytest.raises(RuntimeError, match="the reader failed"):
        write_shards(broken(), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


def test_a_second_write_replaces_the_first(folder):
    assert write_shards([make(9)], folder) == 1
    assert [sample.id for sample in ShardReader(folder)] == [make(9).id]
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


def test_foreign_folders_are_not_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"x")
    with pytest.raises(FileExistsError, match="photos: holds other things than shards"):
        write_shards([make(0)], tmp_path / "photos")
    assert (tmp_path / "photos" / "mine.jpg").exists()


def test_bad_samples_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"set/video\.1/photo\.rf\.1: the id comes twice"):
        write_shards([make(1), make(1)], tmp_path / "twice", samples_per_shard=1)
    with pytest.raises(ValueError, match="the image is not JPEG, PNG or WebP"):
        write_shards([make(1, b"GIF89a")], tmp_path / "gif")
    with pytest.raises(ValueError, match="samples_per_shard is 0"):
        write_shards([make(1)], tmp_path / "none", samples_per_shard=0)
    assert list(tmp_path.iterdir()) == []


def test_missing_shards_are_named(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"nothing: no shards \(\*\.tar\)"):
        ShardReader(tmp_path / "nothing")
    index_path(folder / "000001.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"000001\.index\.npy: not found"):
        ShardReader(folder)


def _ids(reader: ShardReader, numbers: list[int], results) -> None:
    results.put([reader[i].id for i in numbers])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_readers_cross_processes(folder, method):
    reader = ShardReader(folder)
    assert reader[0].id == make(0).id  # a file is open when the process starts
    context = multiprocessing.get_context(method)
    results = context.Queue()
    numbers = [6, 0, 3]
    worker = context.Process(target=_ids, args=(reader, numbers, results))
    worker.start()
    assert results.get(timeout=60) == [make(i).id for i in numbers]
    worker.join(timeout=60)
    assert worker.exitcode == 0
    assert pickle.loads(pickle.dumps(reader))[5] == make(5)


def test_readers_share_between_threads_and_close(folder):
    reader, wanted = ShardReader(folder), [make(i) for i in range(7)]
    wrong: list[int] = []

    def read():
        wrong.extend(i for _ in range(20) for i in range(7) if reader[i] != wanted[i])

    before = len(os.listdir("/proc/self/fd"))
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(os.listdir("/proc/self/fd")) == before + 3  # one a shard
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert reader[2] == wanted[2]


def test_reading_damaged_shards_is_an_error(folder):
    reader = ShardReader(folder)
    damage(folder / "000001.tar", reader.indices[1][1, 0] + 10)
    assert reader[3] == make(3)
    with pytest.raises(ValueError, match=r"000001\.tar: sample 4 differs from its index"):
        reader[4]
    path = folder / "000002.tar"
    os.truncate(path, 600)
    with pytest.raises(ValueError, match=r"000002\.tar: sample 6 differs from its index"):
        reader[6]


def damage(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(bytes(data))


def test_verify_finds_nothing_in_whole_shards(folder):
    assert verify(folder) == []


def test_verify_names_damaged_members(folder):
    index = np.load(index_path(folder / "000000.tar"))
    damage(folder / "000000.tar", index[1, 0] + 20)
    damage(folder / "000000.tar", index[2, 3] + 5)
    names = ["set/video_1/photo_rf_1.jpg", "set/video_2/photo_rf_2.json"]
    assert verify(folder) == [
        f"{folder / '000000.tar'}: {name} is not what the index says (place, length or CRC-32)" for name in names
    ]


def test_verify_names_truncated_tars_and_wrong_counts(folder):
    np.save(index_path(folder / "000001.tar"), np.load(index_path(folder / "000001.tar"))[:2])
    os.truncate(folder / "000002.tar", 700)
    first, second = verify(folder)
    assert first == f"{folder / '000001.tar'}: 6 members, but its index has 2 samples of 2"
    assert second.startswith(f"{folder / '000002.tar'}: ")


@pytest.mark.parametrize(
    ("sample", "problem"),
    [
        ({"image": jpeg(21, 30)}, "the image is (21, 30) (height, width), the record says (20, 30)"),
        ({"image": jpeg(*SIZE)[:500]}, "the image does not decode"),
        (
            {"regions": (Region(mask=Mask.from_array(np.ones((30, 20)))),)},
            "the mask of region 0 is (30, 20)",
        ),
        *(
            ({"regions": (Region(mask=Mask(SIZE, counts)),)}, "the mask of region 0 is not a valid run-length code")
            for counts in (b"R8", b"", b"hb0 ", b"d0h0o", b"hb0c", b"Kmb0", Mask.from_array(np.ones((30, 30))).counts)
        ),
        ({"regions": (Region(mask=Mask.from_array(np.zeros(SIZE))),)}, "the mask of region 0 is empty"),
    ],
)
def test_verify_names_wrong_content(tmp_path, sample, problem):
    from dataclasses import replace

    write_shards([make(0), replace(make(1), **sample)], tmp_path / "set")
    (found,) = verify(tmp_path / "set")
    assert found.startswith(f"{tmp_path / 'set' / '000000.tar'}: set/video_1/photo_rf_1: {problem}")


def test_verify_refuses_rotated_photos_and_doubled_ids(tmp_path):
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(buffer, "JPEG", exif=exif)
    write_shards([make(0, buffer.getvalue())], tmp_path / "a")
    write_shards([make(0)], tmp_path / "b")
    rotated, doubled = verify(tmp_path)
    assert "carries an EXIF rotation" in rotated
    assert doubled.endswith(f"the id is also in {tmp_path / 'a' / '000000.tar'}")


def test_the_index_is_what_it_says(folder):
    """Offsets point at the members' own bytes, so any tool may use them."""
    data = (folder / "000000.tar").read_bytes()
    for number, row in enumerate(np.load(index_path(folder / "000000.tar")).tolist()):
        image, record = data[row[0] : row[0] + row[1]], data[row[3] : row[3] + row[4]]
        assert (zlib.crc32(image), zlib.crc32(record)) == (row[2], row[5])
        assert image == make(number).image
        assert json.loads(record)["id"] == make(number).id
