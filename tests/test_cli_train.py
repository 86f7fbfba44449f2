"""``anygrain train`` and ``anygrain evaluate``, with a recipe small enough for a test."""

import json
import re
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

import anygrain as package
from anygrain.commands.train import read_options
from anygrain.images import decode_image
from anygrain.recipes import RECIPES
from anygrain.types import Mask, Region, Sample


@pytest.fixture(scope="module")
def shards(tmp_path_factory, photos):
    """Shards of one source with three photographs."""
    from anygrain.data.shards import write_shards

    def sample(name, category):
        mask = Mask.from_array(np.asarray(decode_image(photos / f"{name}.png")) == 1)
        region = Region(mask=mask, category=category)
        return Sample(id=f"zoo/{name}", image=photos / f"{name}.jpg", size=mask.size, regions=(region,), source="zoo")

    folder = tmp_path_factory.mktemp("shards")
    write_shards([sample("dog", "dog"), sample("pet", "cat"), sample("kite", "person")], folder / "zoo")
    return folder


@pytest.fixture
def recipe(monkeypatch, tiny_model):
    """Name of a recipe like the shipped one, for the tiny model."""
    from anygrain.hub import read_model
    from anygrain.models.unilseg import UniLSeg
    from anygrain.recipes import unilseg_nano

    start = read_model(tiny_model)
    module = ModuleType("tiny_recipe")

    def config(data):
        full = unilseg_nano.config(data)
        batch = replace(full.batch, size=64)
        full = replace(full, workers=0, device="cpu", bf16=False)
        return replace(
            full,
            model=start.config,
            batch=batch,
            batch_images=2,
            steps=3,
            freeze=(),
            workers=0,
            device="cpu",
            bf16=False,
        )

    def build(config):
        return UniLSeg(config.model, start.tokenizer)

    vars(module).update(config=config, build=build)
    monkeypatch.setitem(sys.modules, "tiny_recipe", module)
    monkeypatch.setitem(RECIPES, "tiny", "tiny_recipe")
    return "tiny"


def test_a_run_ends_with_a_model_that_every_command_takes(anygrain, recipe, shards, photos, tmp_path):
    run = tmp_path / "run"
    result = anygrain("train", recipe, "--data", shards, "--val", shards, "--out", run, "--optim.lr", "0.002")
    assert result.status == 0, result.err
    assert json.loads((run / "config.json").read_text())["optim"]["lr"] == 0.002
    card = (run / "model" / "README.md").read_text()
    assert "3 steps of 2 images" in card
    assert "zoo" in card
    assert re.search(r"\| mean +\| 0\.\d{4} \|", card)

    result = anygrain("segment", photos / "dog.jpg", "-t", "the dog", "--model", run / "model", "--json", "-")
    assert result.status == 0
    assert json.loads(result.out)["segments"][0]["prompt"] == {"text": "the dog"}

    result = anygrain("evaluate", "--model", run / "model", "--data", shards, "--out", tmp_path / "report")
    assert result.status == 0, result.err
    assert "zoo" in result.out
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.html", "report.json"]


def test_a_stopped_run_says_so_and_goes_on(anygrain, recipe, shards, tmp_path, monkeypatch):
    from anygrain.train.trainer import Trainer

    steps = []
    step = Trainer._step

    def stopping(self, number, batch):
        steps.append(number)
        if number == 2 and steps.count(2) == 1:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number, batch)

    monkeypatch.setattr(Trainer, "_step", stopping)
    command = ("train", recipe, "--data", shards, "--out", tmp_path / "run")
    result = anygrain(*command)
    assert result.status == 130
    assert "stopped after step 2 of 3" in result.out
    assert not (tmp_path / "run" / "model").exists()
    assert anygrain(*command).status == 0
    assert steps == [1, 2, 3]
    assert package.load(tmp_path / "run" / "model", device="cpu")


def test_start_weights_of_another_model(anygrain, recipe, shards, tiny_model, tmp_path, monkeypatch):
    command = ("train", recipe, "--data", shards, "--init", tiny_model)
    assert anygrain(*command, "--out", tmp_path / "same", "--optim.lr", "1e-12", "--steps", "1").status == 0
    from anygrain.hub import read_model

    got, given = (read_model(f).state_dict() for f in (tmp_path / "same" / "model", tiny_model))
    assert all((got[key] - given[key]).abs().max() < 1e-6 for key in given if key.endswith("proj.weight"))
    result = anygrain(*command, "--out", tmp_path / "other", "--model.mask-dim", "24")
    assert result.status == 2
    assert "mask_dim" in result.err
    assert "another network" in result.err


def test_fields_are_changed_by_name_and_unknown_ones_named(anygrain, recipe, shards):
    arguments = [recipe, "--data", str(shards), "--out", "run", "--batch.size", "96", "--freeze", "a.", "b."]
    options, config = read_options(arguments)
    assert (options.recipe, config.batch.size, config.freeze, config.steps) == ("tiny", 96, ("a.", "b."), 3)
    result = anygrain("train", *arguments, "--bach-images", "4")
    assert result.status == 2
    assert "--batch-images" in result.err


def test_help_lists_every_field_of_a_recipe(anygrain, recipe, shards):
    result = anygrain("train", recipe, "--data", shards, "--out", "run", "--help")
    assert result.status == 0
    for name in ("--optim.lr", "--batch.augment.flip", "--model.mask-dim", "--steps", "--freeze-text"):
        assert name in result.out or name.replace("--", "--no-") in result.out, name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nanoo", "--data", "x"], "no recipe 'nanoo'"),
        (["unilseg_nano", "--data", "none", "--out", "run"], "none: no such folder"),
        (["tiny", "--data", "SHARDS", "--val", "none", "--out", "run"], "none: no such folder"),
        (["tiny", "--data", "SHARDS", "--out", "run", "--steps", "0"], "steps must be at least 1"),
        (["tiny", "--data", "SHARDS", "--out", "run", "--device", "abacus"], "device 'abacus'"),
    ],
)
def test_wrong_arguments(anygrain, recipe, shards, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    result = anygrain("train", *[str(shards) if argument == "SHARDS" else argument for argument in arguments])
    assert result.status == 2, result
    assert words in result.err
    assert "Traceback" not in result.err
    assert not list(tmp_path.iterdir())


def test_nothing_to_evaluate(anygrain, tiny_model, tmp_path):
    result = anygrain("evaluate", "--model", tiny_model, "--data", tmp_path / "none", "--out", tmp_path / "report")
    assert result.status == 2
    assert "no such folder" in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def click_recipe(monkeypatch):
    """Name of a recipe like the shipped one of clicks, for a tiny network."""
    from anygrain.models.clip_text import CLIPTextConfig
    from anygrain.models.clip_tokenizer import ClipTokenizer
    from anygrain.models.semantic_sam import SemanticSAM
    from anygrain.models.swin import SwinConfig
    from anygrain.recipes import semantic_sam_nano

    module = ModuleType("tiny_clicks")

    def config(data):
        monkeypatch.setitem(semantic_sam_nano.WEIGHTS, "zoo", 1.0)
        full = semantic_sam_nano.config(data)
        small = replace(
            full.model,
            image_encoder=SwinConfig(embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4),
            text_encoder=CLIPTextConfig(width=16, heads=2, layers=1, embed_dim=16),
            pixel_decoder=replace(full.model.pixel_decoder, hidden_dim=64, num_layers=1),
            num_layers=2,
            input_size=64,
        )
        batch = replace(full.batch, size=64)
        return replace(full, model=small, batch=batch, batch_images=2, steps=2, freeze=(), workers=0, device="cpu")

    def build(config):
        return SemanticSAM(config.model, ClipTokenizer())

    vars(module).update(config=config, build=build)
    monkeypatch.setattr("anygrain.train.trainer._draw", lambda out_dir: None)  # slow, and the other recipe's runs draw
    monkeypatch.setitem(sys.modules, "tiny_clicks", module)
    monkeypatch.setitem(RECIPES, "tiny_clicks", "tiny_clicks")
    return "tiny_clicks"


def test_a_run_of_clicks_ends_with_a_model_to_click_with(anygrain, click_recipe, shards, photos, tmp_path):
    run = tmp_path / "run"
    fields = ("--batch.box-ratio", "0.5", "--model.loss.points", "64", "--optim.drop-at", "0.5", "0.9")
    result = anygrain("train", click_recipe, "--data", shards, "--val", shards, "--out", run, *fields)
    assert result.status == 0, result.err
    written = json.loads((run / "config.json").read_text())
    assert (written["batch"]["box_ratio"], written["model"]["loss"]["points"]) == (0.5, 64)
    assert written["optim"]["drop_at"] == [0.5, 0.9]
    card = (run / "model" / "README.md").read_text()
    for figure in ("zoo", "zoo/oracle", "mean", "oracle"):
        assert re.search(rf"\| {figure} +\| 0\.\d{{4}} \|", card), card
    assert not (run / "model" / "vocabulary.json").exists()
    result = anygrain("segment", photos / "dog.jpg", "--point", "100,80", "--model", run / "model", "--json", "-")
    assert result.status == 0, result.err
    assert len(json.loads(result.out)["segments"]) >= 1


def test_recipes_of_clicks(tmp_path, shards):
    from anygrain.recipes import semantic_sam_nano, semantic_sam_swinl, semantic_sam_swint

    small, large = semantic_sam_swint.config(shards), semantic_sam_swinl.config(shards)
    assert small.batch.size == 1024
    assert small.model.loss.points == 12544
    assert replace(large, model=small.model) == small
    assert large.model.image_encoder.embed_dim == 192
    with pytest.raises(ValueError, match="holds none of the sources of this recipe"):
        semantic_sam_nano.config(shards)
