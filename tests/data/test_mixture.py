from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image

from anygrain.data.batch import BatchConfig
from anygrain.data.loader import TextDataset, batches, open_sources
from anygrain.data.mixture import Mixture, MixtureConfig
from anygrain.data.shards import write_shards
from anygrain.types import Mask, Region, Sample

SIZES = {"big": 400, "middle": 100, "small": 4}


def draws(mixture, count, start=0):
    return [mixture[position] for position in range(start, start + count)]


def test_default_proportions_are_square_roots():
    counts = Counter(name for name, _ in draws(Mixture(SIZES, MixtureConfig(), 0), 2048))
    for name, size in SIZES.items():
        assert counts[name] / 2048 == pytest.approx(np.sqrt(size) / (20 + 10 + 2), abs=0.001)


def test_weights_override_and_zero_leaves_out():
    config = MixtureConfig(weights={"small": 10, "middle": 0})
    counts = Counter(name for name, _ in draws(Mixture(SIZES, config, 0), 1024))
    assert counts["small"] / counts["big"] == pytest.approx(0.5, abs=0.01)
    assert "middle" not in counts


def test_every_image_once_before_any_comes_again():
    found = draws(Mixture(SIZES, MixtureConfig(), 3), 3000)
    for name, size in SIZES.items():
        indices = [index for source, index in found if source == name]
        for start in range(0, len(indices) - size, size):
            assert sorted(indices[start : start + size]) == list(range(size))
    small = [index for source, index in found if source == "small"]
    assert len({tuple(small[i : i + 4]) for i in range(0, 80, 4)}) > 5  # shuffled anew each time


def test_any_position_can_be_read_alone_and_seeds_differ():
    straight = draws(Mixture(SIZES, MixtureConfig(), 5), 2500)
    fresh = Mixture(SIZES, MixtureConfig(), 5)
    assert [fresh[i] for i in (2499, 1024, 0, 1023)] == [straight[i] for i in (2499, 1024, 0, 1023)]
    assert draws(Mixture(SIZES, MixtureConfig(), 6), 100) != straight[:100]


def test_rare_sources_are_not_rounded_away():
    config = MixtureConfig(weights={"big": 1e6, "middle": 1e6, "small": 1e-3})
    assert Counter(name for name, _ in draws(Mixture(SIZES, config, 0), 1024))["small"] == 1


@pytest.mark.parametrize(
    ("sizes", "weights", "words"),
    [
        ({"a": 3}, {"b": 1.0}, "name.*'b'"),
        ({"a": 3}, {"a": -1.0}, "'a'.*-1"),
        ({"a": 3}, {"a": 0.0}, "empty"),
        ({"a": 0}, {}, "empty"),
    ],
)
def test_impossible_mixtures_are_named(sizes, weights, words):
    with pytest.raises(ValueError, match=words):
        Mixture(sizes, MixtureConfig(weights=weights), 0)


def make_shards(folder, count):
    rng = np.random.default_rng(0)

    def sample(number):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(path)
        mask = np.zeros((20, 30), bool)
        mask[:10, :10] = True
        regions = (Region(mask=Mask.from_array(mask), category=f"thing {number}"),) if number % 3 else ()
        return Sample(id=f"t/{number}", image=path, size=(20, 30), regions=regions, source="t")

    folder.mkdir()
    write_shards((sample(number) for number in range(count)), folder / "shards")
    return folder / "shards"


def same(one, two):
    pairs = ((getattr(one, f.name), getattr(two, f.name)) for f in fields(one))
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def test_batches_depend_on_seed_and_step_only(tmp_path):
    sources = open_sources([make_shards(tmp_path / "x", 12)])
    config = BatchConfig(size=32, prompts_per_image=2)

    def dataset(seed=0):
        return TextDataset(sources, MixtureConfig(), config, images=3, seed=seed)

    here = list(batches(dataset(), 0, 6, workers=0))
    away = list(batches(dataset(), 3, 6, workers=2))
    assert len(here) == 6
    assert len(away) == 3
    assert all(same(a, b) for a, b in zip(here[3:], away, strict=True))
    assert not same(here[3], here[4])
    assert not same(here[3], dataset(seed=1)[3])
    texts = {text for batch in here for text in batch.texts}
    assert not texts & {f"all thing {number}" for number in (0, 3, 6, 9)}  # photos without regions are passed over


def test_a_source_without_anything_to_ask_is_named():
    nothing = [Sample(id=f"t/{i}", image=b"", size=(2, 2), regions=(), source="t") for i in range(3)]
    dataset = TextDataset({"bare": nothing}, MixtureConfig(), BatchConfig(size=32), images=1, seed=0)
    with pytest.raises(ValueError, match="'bare'"):
        dataset[0]


def test_two_folders_of_one_name_are_refused(tmp_path):
    one, two = make_shards(tmp_path / "x", 2), make_shards(tmp_path / "y", 2)
    with pytest.raises(ValueError, match="'shards'"):
        open_sources([one, two])
