"""``anygrain calibrate-presence``: how sure a PSALM must be of a phrase, from labelled phrases."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tiny_psalm
from anygrain.calibrate import Evidence, fit_presence
from anygrain.data.shards import write_shards
from anygrain.hub import load
from anygrain.types import Mask, Prompt, Region, Sample

PHRASES = {"dog": (("the brown dog", "a pet"), ("a red boat", "two men")), "kite": (("a kite",), ("a cup of tea",))}


@pytest.fixture
def folder(tmp_path):
    return tiny_psalm.save(tmp_path / "model")


@pytest.fixture
def shards(photos, tmp_path):
    samples = []
    for name, (there, absent) in PHRASES.items():
        mask = Mask.from_array(np.asarray(np.ones(load_size(photos / f"{name}.jpg"), bool)))
        regions = tuple(Region(mask=mask, captions=(text,), origin={"step": "human"}) for text in there)
        image = photos / f"{name}.jpg"
        samples.append(Sample(id=name, image=image, size=mask.size, regions=regions, source="mine", absent=absent))
    write_shards(samples, tmp_path / "shards")
    return tmp_path / "shards"


def load_size(path):
    from anygrain.data.readers.files import image_size

    return image_size(path)


def test_the_fit_finds_the_slope_and_offset_that_labels_were_drawn_from():
    rng = np.random.default_rng(0)
    logits, quality = rng.normal(3, 4, 20000), rng.uniform(0.7, 1, 20000)
    made = Evidence(logits, quality, np.zeros(20000, bool))
    there = rng.random(20000) < made.scores(0.6, -2.5)
    slope, offset = fit_presence(made._replace(there=there))
    assert slope == pytest.approx(0.6, rel=0.05)
    assert offset == pytest.approx(-2.5, rel=0.05)


def test_a_perfect_split_gives_no_step():
    logits = np.array([-1.0, -0.5, 0.5, 1.0])
    slope, offset = fit_presence(Evidence(logits, np.ones(4), logits > 0))
    assert slope == pytest.approx(10)
    assert abs(offset) < 5


def test_evidence_is_what_scores_are_made_of(folder, photos):
    segmenter = load(folder, device="cpu", presence_threshold=1e-6)
    (embedding,) = segmenter.embed([photos / "dog.jpg"])
    texts = ["the brown dog", "a red boat"]
    for (logit, quality), found in zip(
        segmenter.evidence(embedding, texts),
        segmenter.answer(embedding, [Prompt(text=text) for text in texts]),
        strict=True,
    ):
        assert 0.5 <= quality <= 1
        assert quality / (1 + np.exp(-logit)) == pytest.approx(float(found.scores[0]), rel=1e-5)


def test_the_command_prints_and_writes_the_fit(anygrain, folder, shards):
    options = ("calibrate-presence", "--model", folder, "--data", shards, "--device", "cpu")
    before = (folder / "config.json").read_text()
    shown = anygrain(*options)
    assert (shown.status, shown.err) == (0, "")
    assert shown.out.startswith("6 phrases, 3 of them mean something in their photo\n")
    assert (folder / "config.json").read_text() == before
    written = anygrain(*options, "--write")
    assert written.status == 0
    values = json.loads((folder / "config.json").read_text())
    fitted = {name: values["model"].pop(name) for name in ("presence_slope", "presence_offset")}
    old = json.loads(before)
    assert {name: old["model"].pop(name) for name in fitted} == {"presence_slope": 1.0, "presence_offset": 0.0}
    assert values == old
    assert fitted["presence_slope"] > 0
    segmenter = load(folder, device="cpu")
    assert segmenter.model.config.presence_offset == fitted["presence_offset"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "give either --data DIR (shards) or --dataset NAME --root DIR"),
        (["--dataset", "grefcoco"], "--dataset grefcoco needs --root DIR"),
        (["--dataset", "grefcoco", "--root", "nowhere"], "nowhere: not found"),
    ],
)
def test_bad_options_are_one_sentence(anygrain, folder, options, sentence):
    result = anygrain("calibrate-presence", "--model", folder, "--device", "cpu", *options)
    assert result.status == 2
    assert sentence in result.err
    assert result.err.count("\n") == 1


def test_other_models_and_phrases_of_one_kind_are_refused(anygrain, folder, shards, tiny_model, photos, tmp_path):
    result = anygrain("calibrate-presence", "--model", tiny_model, "--data", shards, "--device", "cpu")
    assert result.status == 2
    assert "learns by itself what is there" in result.err
    mask = Mask.from_array(np.ones(load_size(photos / "dog.jpg"), bool))
    region = Region(mask=mask, captions=("a dog",), origin={"step": "human"})
    one = Sample(id="a", image=photos / "dog.jpg", size=mask.size, regions=(region,), source="mine")
    write_shards([one], tmp_path / "one")
    result = anygrain("calibrate-presence", "--model", folder, "--data", tmp_path / "one", "--device", "cpu")
    assert result.status == 2
    assert "of 1 phrases 1 mean something" in result.err
