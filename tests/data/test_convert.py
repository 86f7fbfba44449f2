"""``anygrain data convert``: whole or not at all, and on again after an interruption."""

from __future__ import annotations

import numpy as np
import pytest

from anygrain.data.convert import convert
from anygrain.data.datasets import read_dataset
from anygrain.data.shards import ShardReader, index_path

SIZE = (20, 30)


@pytest.fixture
def ecssd(layouts, rectangle):
    from test_other_sets import png

    for number in range(7):
        layouts.jpeg(f"images/{number:04}.jpg", *SIZE, seed=number)
        layouts.put(f"ground_truth_mask/{number:04}.png", png(rectangle(SIZE, 2, 3, 10 + number, 15) * 255))
    return layouts.root


def test_shards_hold_what_the_reader_reads(anygrain, ecssd, tmp_path):
    result = anygrain("data", "convert", "ecssd", ecssd, tmp_path / "out", "--split", "test")
    assert (result.status, result.err) == (0, "")
    folder = tmp_path / "out" / "test" / "ecssd"
    assert result.out == f"ecssd test: 7 samples, 7 regions, checked -> {folder}\n"
    read = list(read_dataset("ecssd", ecssd, "test"))
    for sample, wanted in zip(ShardReader(folder), read, strict=True):
        assert (sample.id, sample.size, sample.regions) == (wanted.id, wanted.size, wanted.regions)
        assert sample.image == wanted.image.read_bytes()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["ecssd"]


def test_an_interrupted_conversion_goes_on(ecssd, tmp_path):
    out, part = tmp_path / "ecssd", tmp_path / ".ecssd.part"
    image = ecssd / "images" / "0005.jpg"
    image.rename(ecssd / "kept.jpg")
    with pytest.raises(FileNotFoundError, match=r"0005\.\*: not found"):
        convert("ecssd", ecssd, out, "test", samples_per_shard=2)
    assert not out.exists()
    finished = part / "000001.tar"
    assert index_path(finished).exists()
    assert not index_path(part / "000002.tar").exists()  # it was being written
    before = finished.stat().st_mtime_ns
    (ecssd / "kept.jpg").rename(image)
    done = convert("ecssd", ecssd, out, "test", samples_per_shard=2)
    assert (done.samples, done.resumed, done.regions) == (7, 4, 7)
    assert (out / "000001.tar").stat().st_mtime_ns == before
    assert not part.exists()
    assert [sample.id for sample in ShardReader(out)] == [f"ecssd/{n:04}" for n in range(7)]
    once = convert("ecssd", ecssd, tmp_path / "once", "test", samples_per_shard=2)
    assert once.resumed == 0
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "once" / path.name).read_bytes()


def test_a_damaged_index_or_tar_of_an_interrupted_conversion_is_noticed(ecssd, tmp_path):
    (ecssd / "images" / "0006.jpg").rename(ecssd / "kept.jpg")
    with pytest.raises(FileNotFoundError):
        convert("ecssd", ecssd, tmp_path / "out", "test", samples_per_shard=2)
    (ecssd / "kept.jpg").rename(ecssd / "images" / "0006.jpg")
    index = index_path(tmp_path / ".out.part" / "000002.tar")
    index.write_bytes(index.read_bytes()[:40])  # killed while it was written
    tar = tmp_path / ".out.part" / "000000.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 255
    tar.write_bytes(data)
    with pytest.raises(ValueError, match=r"are not whole: .*000000\.tar: .*0000\.jpg is not what the index says"):
        convert("ecssd", ecssd, tmp_path / "out", "test", samples_per_shard=2)
    assert not (tmp_path / "out").exists()


def test_another_conversion_does_not_mix_with_an_interrupted_one(ecssd, layouts, tmp_path):
    (ecssd / "images" / "0006.jpg").rename(ecssd / "kept.jpg")
    with pytest.raises(FileNotFoundError):
        convert("ecssd", ecssd, tmp_path / "out", "test", samples_per_shard=2)
    with pytest.raises(ValueError, match=r"\.out\.part: holds the beginning of another conversion, .*'limit': None"):
        convert("ecssd", ecssd, tmp_path / "out", "test", samples_per_shard=2, limit=3)
    (ecssd / "images" / "0001.jpg").rename(ecssd / "images" / "0009.jpg")
    (ecssd / "ground_truth_mask" / "0001.png").rename(ecssd / "ground_truth_mask" / "0009.png")
    with pytest.raises(ValueError, match="sample 1 is ecssd/0001, the data set now has ecssd/0002; remove the folder"):
        convert("ecssd", ecssd, tmp_path / "out", "test", samples_per_shard=2)


def test_limit_and_older_shards(ecssd, tmp_path):
    assert convert("ecssd", ecssd, tmp_path / "out", "test", limit=3).samples == 3
    assert convert("ecssd", ecssd, tmp_path / "out", "test").samples == 7  # takes the older one's place
    assert len(ShardReader(tmp_path / "out")) == 7
    with pytest.raises(ValueError, match="limit is 0; take at least 1 sample"):
        convert("ecssd", ecssd, tmp_path / "out", "test", limit=0)


def test_what_cannot_be_converted_ends_with_a_sentence(anygrain, ecssd, tmp_path):
    def said(*arguments):
        result = anygrain("data", "convert", *arguments)
        assert result.status == 2
        assert "Traceback" not in result.err
        return result.err

    assert "no data set is named 'refcocog'; there are ade20k_150" in said("refcocog", ecssd, tmp_path / "out")
    assert "ecssd has no split 'train'; it has test" in said("ecssd", ecssd, tmp_path / "out")
    assert "train_images not found under" in said("lip", ecssd, tmp_path / "out")
    assert not (tmp_path / "out" / "train" / ".lip.part").exists()  # nothing was worth keeping
    nowhere = tmp_path / "nowhere"
    assert f"{nowhere}: not found; expected the folder of duts" in said(
        "duts", nowhere, tmp_path / "out", "--split", "test"
    )
    (tmp_path / "out" / "test" / "ecssd").mkdir(parents=True)
    (tmp_path / "out" / "test" / "ecssd" / "mine.txt").touch()
    assert "holds other things than shards" in said("ecssd", ecssd, tmp_path / "out", "--split", "test")
    assert np.any([path.name == "mine.txt" for path in (tmp_path / "out" / "test" / "ecssd").iterdir()])
