"""``anygrain experiment``: the shipped scales and recipes, with a network small enough for a test."""

import json
import os
import signal
import sys
from collections import defaultdict
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from anygrain.data.language import say_salient
from anygrain.data.mixture import Mixture
from anygrain.experiments.rows import SCALES, Labels, Row, fig5, fig6, table8
from anygrain.experiments.table import Table, measured
from anygrain.experiments.tasks import TaskView
from anygrain.images import decode_image
from anygrain.recipes import RECIPES
from anygrain.train.trainer import Trainer
from anygrain.types import Mask, Region, Sample

SALIENT = "the most salient object"
# Of each source two photos, with the captions and the category of the one thing in them.
SOURCES = {
    "pets": {"dog": ((SALIENT,), "dog"), "pet": ((SALIENT,), "cat")},
    "coco": {"dog": ((), "dog"), "kite": ((), "person")},
    "davis": {"dog": (("the dog in the grass",), None), "kite": (("the one who flies a kite", SALIENT), None)},
    "pseudo_voc": {"pet": ((), "cat"), "kite": ((), "person")},
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory, photos):
    """A folder of shards; "coco" says that there is no bus."""
    from anygrain.data.shards import write_shards

    folder = tmp_path_factory.mktemp("shards")
    for source, things in SOURCES.items():
        samples = []
        for name, (captions, category) in things.items():
            mask = Mask.from_array(np.asarray(decode_image(photos / f"{name}.png")) == 1)
            samples.append(
                Sample(
                    id=f"{source}/{name}",
                    image=photos / f"{name}.jpg",
                    size=mask.size,
                    regions=(Region(mask=mask, captions=captions, category=category),),
                    source=source,
                    exhaustive=frozenset({"bus"} if source == "coco" else ()),
                    absent=("the dog on the roof",) if source == "davis" else (),
                )
            )
        write_shards(samples, folder / source)
    return folder


@pytest.fixture
def small_recipes(monkeypatch, tiny_model):
    """The shipped recipes with the tiny model, tiny squares and batches of two."""
    from anygrain.hub import read_model
    from anygrain.models.unilseg import UniLSeg

    start = read_model(tiny_model)

    def shrink(path):
        def config(data):
            full = import_module(path).config(data)
            batch = replace(full.batch, size=64)
            small = {"model": start.config, "batch": batch, "batch_images": 2, "freeze": ()}
            return replace(full, **small, workers=0, device="cpu", bf16=False)

        return config

    for name, path in list(RECIPES.items()):
        module = ModuleType(f"small_{name}")
        vars(module).update(config=shrink(path), build=lambda config: UniLSeg(config.model, start.tokenizer))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(RECIPES, name, module.__name__)
    monkeypatch.setattr("anygrain.train.trainer.draw_curves", lambda *_: None)  # most of the time of so short a run


@pytest.fixture
def trained(monkeypatch):
    """Step numbers and texts by run folder, as they are trained; a stop can be asked for: ``trained.stop[folder] = 1``.

    Folders are ROW/seed-N/STAGE.
    """

    class Trained:
        def __init__(self):
            self.steps, self.texts, self.stop = defaultdict(list), defaultdict(set), {}

    seen, step = Trained(), Trainer._step

    def watched(self, number, batch):
        folder = "/".join(self.out_dir.parts[-3:])
        seen.steps[folder].append(number)
        seen.texts[folder] |= set(batch.texts)
        if seen.stop.get(folder) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number, batch)

    monkeypatch.setattr(Trainer, "_step", watched)
    return seen


@pytest.fixture
def command(small_recipes, shards, tmp_path):
    """Arguments of an experiment of two steps."""

    def arguments(name, *more):
        folders = ("--data", shards, "--val", shards, "--out", tmp_path / "out")
        return ("experiment", name, *folders, "--steps", "2", "--seeds", "0", "--val-photos", "1", *more)

    return arguments


def stage_config(out: Path, folder: str) -> dict:
    return json.loads((out / folder / "config.json").read_text())


def sources_of(config: dict) -> set[str]:
    return {Path(folder).name for folder in config["data"]}


@pytest.mark.parametrize("scale", ["nano", "base"])
def test_pseudo_labels_not_at_all_mixed_in_or_first(anygrain, command, trained, tmp_path, scale):
    result = anygrain(*command("fig5", "--scale", scale))
    assert result.status == 0, result.err
    out, true = tmp_path / "out", {"pets", "coco", "davis"}
    assert {folder: len(steps) for folder, steps in trained.steps.items()} == {
        "none/seed-0/finetune": 2,
        "joint/seed-0/joint": 2,
        "pretrain+finetune/seed-0/pretrain": 1,
        "pretrain+finetune/seed-0/finetune": 1,
    }
    configs = {folder: stage_config(out, folder) for folder in trained.steps}
    assert sources_of(configs["none/seed-0/finetune"]) == true
    assert sources_of(configs["joint/seed-0/joint"]) == true | {"pseudo_voc"}
    assert sources_of(configs["pretrain+finetune/seed-0/pretrain"]) == {"pseudo_voc"}
    assert sources_of(configs["pretrain+finetune/seed-0/finetune"]) == true
    hidden = {folder: config["batch"]["augment"]["hide_and_seek"] for folder, config in configs.items()}
    assert sorted(folder for folder, part in hidden.items() if part) == [
        "joint/seed-0/joint",
        "pretrain+finetune/seed-0/pretrain",
    ]

    record = json.loads((out / "table.json").read_text())
    assert [(row["run"], row["steps"]) for row in record["rows"]] == [
        ("none", 2),
        ("joint", 2),
        ("pretrain+finetune", 2),
    ]
    for row in record["rows"]:
        figures = record["sources"][row["run"]]["0"]
        assert set(figures) == true
        assert row["mean"]["categories"] == figures["coco"]["category_miou"]
        assert row["mean"]["salient"] == figures["pets"]["salient_iou"]
        assert row["mean"]["phrases"] == figures["davis"]["phrase_iou"]
        assert row["mean"].keys() >= {"mean", "absent_called_absent", "present_called_absent"}
    written = (out / "table.md").read_text()
    assert written in result.out + "\n"
    assert "1 steps on pseudo-labels, then 1 on true labels" in written


def test_what_is_finished_is_not_repeated(anygrain, command, trained, tmp_path):
    assert anygrain(*command("fig5")).status == 0
    table = (tmp_path / "out" / "table.md").read_text()
    trained.steps.clear()
    again = anygrain(*command("fig5"))
    assert again.status == 0
    assert not trained.steps
    assert table in again.out + "\n"
    assert not list((tmp_path / "out").rglob("checkpoints"))

    more = anygrain(*command("fig5", "--seeds", "0", "1", "--val-photos", "2"))
    assert more.status == 0, more.err
    assert set(trained.steps) == {
        "none/seed-1/finetune",
        "joint/seed-1/joint",
        "pretrain+finetune/seed-1/pretrain",
        "pretrain+finetune/seed-1/finetune",
    }
    record = json.loads((tmp_path / "out" / "table.json").read_text())
    assert {len(row["seeds"]) for row in record["rows"]} == {2}
    assert record["sources"]["none"]["0"]["coco"]["photos"] == 2  # measured anew, not trained

    other = anygrain(*command("fig5", "--steps", "3"))
    assert other.status == 2
    assert "other settings (" in other.err
    assert "steps" in other.err
    assert "another --out" in other.err


def test_a_stopped_experiment_goes_on_where_it_was(anygrain, command, trained, tmp_path):
    four = command("fig5", "--steps", "4")
    trained.stop["pretrain+finetune/seed-0/finetune"] = 1
    stopped = anygrain(*four)
    assert stopped.status == 130
    assert "pretrain+finetune, seed 0: stopped after step 1 of 2 of the stage finetune" in stopped.out
    line = next(line for line in stopped.out.split("\n") if line.startswith("| pretrain+finetune"))
    assert line.split("|")[3].strip() == "0"
    assert line.split("|")[4].strip() == "-"
    trained.stop.clear()
    assert anygrain(*four).status == 0
    assert trained.steps == {
        "none/seed-0/finetune": [1, 2, 3, 4],
        "joint/seed-0/joint": [1, 2, 3, 4],
        "pretrain+finetune/seed-0/pretrain": [1, 2],
        "pretrain+finetune/seed-0/finetune": [1, 2],
    }


def test_a_second_stage_starts_from_the_first(anygrain, command, monkeypatch):
    weights, start = {}, Trainer._start

    def watched(self, resume):
        weights[self.out_dir.name] = self.model.language_path.norm.weight.detach().clone()
        return start(self, resume)

    step = Trainer._step

    def moved(self, number, batch):
        losses = step(self, number, batch)
        if self.out_dir.name == "pretrain":
            weights["after pretrain"] = self.average.weights["language_path.norm.weight"].clone()
        return losses

    monkeypatch.setattr(Trainer, "_start", watched)
    monkeypatch.setattr(Trainer, "_step", moved)
    assert anygrain(*command("fig5")).status == 0
    assert (weights["finetune"] == weights["after pretrain"]).all()
    assert (weights["finetune"] != weights["pretrain"]).any()


def test_a_single_task_sees_its_own_prompts_only(anygrain, command, trained, tmp_path):
    result = anygrain(*command("fig6", "--steps", "4"))
    assert result.status == 0, result.err
    texts = {folder.split("/")[0]: words for folder, words in trained.texts.items() if folder.endswith("/finetune")}
    captions = {"the dog in the grass", "the one who flies a kite", "the dog on the roof"}
    assert texts["single-task-phrases"] <= captions
    ways = {say_salient(np.random.default_rng(seed)) for seed in range(500)}
    assert not texts["single-task-categories"] & (captions | ways)
    assert texts["single-task-salient"] <= ways
    record = json.loads((tmp_path / "out" / "table.json").read_text())
    rows = {row["run"]: row for row in record["rows"]}
    assert list(rows) == [
        "single-task-categories",
        "single-task-salient",
        "single-task-phrases",
        "single-task, all 3",
        "multi-task",
        "pretrain+multi-task",
    ]
    together = rows["single-task, all 3"]
    assert together["steps"] == 12
    assert {row["steps"] for name, row in rows.items() if name != "single-task, all 3"} == {4}
    own = {task: rows[f"single-task-{task}"]["mean"][task] for task in ("categories", "salient", "phrases")}
    assert {task: together["mean"][task] for task in own} == own
    assert together["mean"]["mean"] == pytest.approx(sum(own.values()) / 3)


def test_eight_networks(anygrain, command, tmp_path):
    from anygrain.hub import read_model

    result = anygrain(*command("table8"))
    assert result.status == 0, result.err
    names = [row["run"] for row in json.loads((tmp_path / "out" / "table.json").read_text())["rows"]]
    assert len(set(names)) == 8
    for name in names:
        network = read_model(tmp_path / "out" / name / "seed-0" / "model")
        parts = {"pre_fusion": network.pre_fusion, "vision_path": network.blocks}
        there = [part for part, modules in parts.items() if len(modules)]
        there += ["language_path"] if len(network.language_path.layers) else []
        assert name == ("+".join(there) or "baseline")


def test_annotated_shards_of_their_own_are_the_pseudo_labels(anygrain, command, shards, trained, tmp_path, tiny_model):
    """What `anygrain annotate` has made lies elsewhere: nothing else is pseudo-labelled; start, rows and fields are
    those asked for, and another start is refused."""
    from shutil import copytree

    mine = copytree(shards / "pseudo_voc", tmp_path / "mine")
    options = ("--pseudo", mine, "--only", "none", "joint", "--init", tiny_model, "--optim.lr", "1e-5")
    result = anygrain(*command("fig5", *options, "--batch.size", "32"))
    assert result.status == 0, result
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["joint", "none"]
    joint, none = (
        stage_config(out, f"{row}/seed-0/{stage}") for row, stage in (("joint", "joint"), ("none", "finetune"))
    )
    assert sources_of(joint) - sources_of(none) == {"mine"}
    assert [config["optim"]["lr"] for config in (joint, none)] == [1e-5, 1e-5]
    assert [config["batch"]["size"] for config in (joint, none)] == [32, 32]
    assert joint["mixture"]["weights"]["mine"] == pytest.approx(sum(joint["mixture"]["weights"].values()) / 2)
    assert f"start {tiny_model} (" in result.out
    trained.steps.clear()
    assert anygrain(*command("fig5", *options, "--batch.size", "32")).status == 0
    assert not trained.steps
    other = anygrain(*command("fig5", "--pseudo", mine, "--only", "none", "--optim.lr", "1e-5", "--batch.size", "32"))
    assert other.status == 2
    assert "its runs start from" in other.err


def labels(shards, steps=100, scale="nano"):
    return Labels(scale=SCALES[scale], data=shards, pseudo=("pseudo_voc",), steps=steps)


@pytest.mark.parametrize("rows", [fig5, fig6, table8])
@pytest.mark.parametrize("scale", ["nano", "base"])
def test_all_rows_cost_the_same(shards, rows, scale):
    compared = rows(labels(shards, 101, scale))
    assert {row.steps for row in compared} == {101}
    stages = [stage.config for row in compared for stage in row.stages]
    for shared in ("batch_images", "freeze", "bf16", "workers"):
        assert len({getattr(config, shared) for config in stages}) == 1
    assert len({(config.batch.size, config.batch.prompts_per_image, config.optim.lr) for config in stages}) <= 2
    for config in stages:
        assert config.optim.warmup <= 0.1 * config.steps


def test_joint_training_shows_a_source_as_often_as_both_stages_together(shards):
    none, joint, pretrained = (row.stages for row in fig5(labels(shards)))

    def shares(config):
        mixture = Mixture({Path(folder).name: 2 for folder in config.data}, config.mixture, 0)
        return dict(zip(mixture.sources, mixture.counts / mixture.counts.sum(), strict=True))

    first, then = (shares(stage.config) for stage in pretrained)
    assert then == shares(none[0].config)
    for name, share in shares(joint[0].config).items():
        assert share == pytest.approx((first.get(name, 0) + then.get(name, 0)) / 2, abs=2e-3)


def test_a_view_of_a_task(shards):
    assert len(TaskView(shards / "coco", "salient", boxes=True)) == 0
    assert len(TaskView(shards / "coco", "categories", boxes=True)) == 2
    kite = TaskView(shards / "davis", "salient", boxes=True)
    assert [sample.id for sample in kite] == ["davis/kite"]
    assert [region.captions for region in kite[0].regions] == [(SALIENT,)]
    assert kite[0].absent == ()
    dog, kite = TaskView(shards / "davis", "phrases", boxes=True)
    assert (dog.regions[0].captions, kite.regions[0].captions) == (
        ("the dog in the grass",),
        ("the one who flies a kite",),
    )
    assert dog.absent == ("the dog on the roof",)
    cat = TaskView(shards / "pets", "categories", boxes=True)[1]
    assert (cat.regions[0].category, cat.regions[0].captions) == ("cat", ())


def counted(**figures):
    return {"photos": 1, "prompts": 1, "present_prompts": 3, "absent_prompts": 1, **figures}


def test_figures_of_tasks():
    figures = measured(
        {
            "camvid": counted(category_miou=0.2, absent_called_absent=1.0, present_called_absent=0.0),
            "coco": counted(category_miou=0.4, absent_called_absent=0.0, present_called_absent=0.5),
            "pets": counted(category_miou=0.9, salient_iou=0.7, absent_prompts=0, present_called_absent=1.0),
        }
    )
    assert figures == pytest.approx(
        {
            "categories": 0.3,
            "salient": 0.7,
            "mean": 0.5,
            "absent_called_absent": 0.5,
            "present_called_absent": 0.5,
        }
    )


def test_a_table_shows_mean_and_spread_over_seeds(shards):
    rows = fig5(labels(shards))
    table = Table(experiment="fig5", rows=rows, settings={"scale": "nano"})
    for seed, value in ((0, 0.5), (1, 0.7)):
        table.add(rows[0], seed, {"coco": counted(category_miou=value, present_called_absent=0.25)})
    table.add(rows[1], 0, {"coco": counted(category_miou=0.25)})
    head, rule, none, joint, pretrained, *_ = str(table).split("\n")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, none, joint, pretrained)]
    assert cells[0][:4] == ["run", "steps", "seeds", "categories"]
    assert cells[1] == ["none", "100", "2", "0.600 ± 0.141", "-", "-", "0.600 ± 0.141", "-", "25.0% ± 0.0%"]
    assert cells[2][:4] == ["joint", "100", "1", "0.250"]
    assert cells[3] == ["pretrain+finetune", "100", "0", *["-"] * 6]
    assert set(rule) <= set("|-: ")
    assert len({len(line) for line in (head, rule, none, joint, pretrained)}) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fig7"], "there is no experiment 'fig7'; give one of fig5, fig6, table8"),
        (["fig5", "--scale", "huge"], "there is no scale 'huge'; give one of nano, base"),
        (["fig5", "--steps", "1"], "steps is 1"),
        (["fig5", "--seeds", "1", "1"], "seeds are '1 1'"),
        (["fig5", "--seeds", "-1"], "seeds are '-1'"),
        (["fig5", "--val-photos", "0"], "val_photos is 0"),
        (["fig5", "--pseudo", "sam"], "no pseudo-labelled source (sam)"),
        (["fig5", "--only", "all"], "fig5 has no row all; its rows are none, joint, pretrain+finetune"),
        (["fig5", "--init", "nano"], "--init nano is another network than the recipe's"),
        (["fig5", "--data", "none"], "none: no such folder"),
        (["fig5", "--val", "none"], "none: no such folder"),
        (["fig5", "--val", "PSEUDO"], "none of the sources that the table measures"),
    ],
)
def test_wrong_arguments(anygrain, command, shards, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    name, *more = [str(shards / "pseudo_voc") if argument == "PSEUDO" else argument for argument in arguments]
    result = anygrain(*command(name, *more))
    assert result.status == 2, result
    assert words in result.err
    assert len(result.err.strip().split("\n")) == 1
    assert not list(tmp_path.iterdir())


def test_a_row_with_a_seed_has_it_in_every_stage(shards):
    row = fig5(labels(shards))[2].seeded(7)
    assert isinstance(row, Row)
    assert [stage.config.seed for stage in row.stages] == [7, 7]
