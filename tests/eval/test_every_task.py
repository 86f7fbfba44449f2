"""Every benchmark of the table end to end on its data set in the official form, with small networks of each kind."""

import itertools
import json

import pytest
from official_layouts import Official

import tiny_psalm
import tiny_semantic_sam
from anygrain import hub
from anygrain.data import convert as conversion
from anygrain.data import shards
from anygrain.data.datasets import DATASETS, read_dataset
from anygrain.data.verify import problems
from anygrain.eval.benchmark import run_benchmark
from anygrain.eval.benchmarks import BENCHMARKS
from anygrain.eval.every import find_data, run_all


@pytest.fixture(scope="module")
def data(tmp_path_factory, photos):
    return Official(tmp_path_factory.mktemp("official"), photos).everything()


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return hub.load(tiny_psalm.save(tmp_path_factory.mktemp("models") / "psalm"), device="cpu")


@pytest.fixture(scope="module")
def clicker(tmp_path_factory):
    return hub.save(tiny_semantic_sam.build(), tmp_path_factory.mktemp("models") / "clicks", card="# tiny\n")


def finite(figures):
    return figures and all(isinstance(value, (int, float)) and value == value for value in figures.values())


def test_texts(data, tiny_model, tmp_path):
    """Everything that a model of texts can be asked, with --task all, and again from what is on disk."""
    summary = run_all(tiny_model, data, tmp_path, device="cpu", overlays=1, limit=1)
    wanted = [task for task, benchmark in BENCHMARKS.items() if benchmark.needs == {"text"}]
    assert [report.task for report in summary.reports] == wanted
    assert all("does not accept" in why for why in summary.missing.values())
    for report in summary.reports:
        assert finite(report.figures), report.task
        assert report.headline in report.figures
        assert report.samples == 1
        assert (tmp_path / report.task / "report.html").read_text().count("<figure>") >= 1, report.task
    again = run_all(tiny_model, data, tmp_path, device="cpu", overlays=0, limit=1, resume=True)
    assert [report.figures for report in again.reports] == [report.figures for report in summary.reports]
    assert all(report.resumed == 1 for report in again.reports)


def test_clicks(data, clicker, tmp_path):
    summary = run_all(clicker, data, tmp_path, device="cpu", overlays=1, limit=1, clicks=2)
    wanted = [task for task, benchmark in BENCHMARKS.items() if benchmark.needs == {"points"}]
    assert [report.task for report in summary.reports] == wanted
    for report in summary.reports:
        assert finite(report.figures), report.task
        assert {report.headline, "oracle_iou", "iou_2", "noc_80", "good"} <= report.figures.keys()
        assert report.figures["oracle_iou"] >= report.figures["one_click_iou"]
        assert report.prompts == report.figures["masks"]
        assert report.settings["clicks"] == 2


NAMED = [task for task, benchmark in BENCHMARKS.items() if benchmark.by_names or "categories" in benchmark.needs]


@pytest.mark.filterwarnings("ignore:the prompt is")  # a letter is a token here: 171 names are too long
@pytest.mark.parametrize("task", [*NAMED, "coco_instances_clicks"])
def test_names_at_once(task, data, reader, tmp_path):
    benchmark = BENCHMARKS[task]
    root = find_data(data, benchmark.data or task, benchmark.splits[0], own_folder=benchmark.own_folder)
    report = run_benchmark(reader, task, root, out=tmp_path, limit=1, overlays=1)
    assert finite(report.figures)
    assert benchmark.headline in report.figures
    assert (report.prompts == 1) == (task != "coco_instances_clicks")
    assert not any(name.startswith("present_") for name in report.figures)
    assert "in one prompt" in report.notes or "click" in report.notes
    again = run_benchmark(reader, task, root, out=tmp_path, limit=1, overlays=1, resume=True)
    assert again.figures == report.figures
    assert again.examples == report.examples


def test_what_a_model_cannot_be_asked_is_said(anygrain, data, tiny_model, tmp_path):
    def said(*arguments):
        result = anygrain("evaluate", "--root", data / "coco", "--model", tiny_model, "--out", tmp_path, *arguments)
        assert result.status == 2
        return result.err

    assert "does not accept categories as a prompt, which coco_panoptic asks with; it accepts text" in said(
        "--task", "coco_panoptic"
    )
    assert "does not accept points as a prompt, which coco_instances_clicks asks" in said(
        "--task", "coco_instances_clicks"
    )
    assert "more than 1 only in tasks named ..._clicks" in said("--task", "coco_stuff", "--clicks", "3")
    assert "1 to 20 on each mask" in said("--task", "coco_instances_clicks", "--clicks", "21")


def test_a_task_all_of_clicks_from_the_command_line(anygrain, data, clicker, tmp_path):
    options = ("--root", data / "coco", "--model", clicker, "--out", tmp_path, "--device", "cpu", "--limit", "1")
    result = anygrain("evaluate", "--task", "all", *options)
    assert (result.status, result.err) == (0, "")
    assert "to run: coco_instances_clicks, coco_panoptic_clicks, lvis_clicks, paco_clicks" in result.out
    missing = json.loads((tmp_path / "summary.json").read_text())["missing"]
    assert "does not accept text" in missing["refcoco"]


SPLITS = {benchmark.data or task: benchmark.splits[0] for task, benchmark in BENCHMARKS.items()}
SPLITS |= dict.fromkeys(("sbd", "objects365", "imagenet", "davis2016", "ref_youtube_vos"), "train")
SPLITS |= dict.fromkeys(("refcoco_google", "refcoco+_google"), "val") | {"llava": "finetune"}
NESTED = {"ade20k_panoptic", "ade20k_full"}  # converted in tests/train/test_joint_training.py


def test_no_set_is_left_out():
    assert set(DATASETS) == set(SPLITS) | NESTED


@pytest.mark.parametrize("name", sorted(SPLITS))
def test_every_set_is_converted(name, data, tmp_path, monkeypatch):
    """All that the reader reads stands in the shards, also when the conversion was interrupted behind the first one."""
    split = SPLITS[name]
    root = find_data(data, name, split, own_folder=name in ("duts", "sa1b"))
    wanted = list(read_dataset(name, root, split))
    assert len(wanted) == 2
    write, calls = shards.append_shards, []

    def killed(samples, *arguments, **options):
        calls.append(1)
        return write(itertools.islice(samples, 1) if len(calls) == 1 else samples, *arguments, **options)

    monkeypatch.setattr(conversion, "append_shards", killed)
    monkeypatch.setattr(conversion, "problems", lambda folder: ["killed"] if len(calls) == 1 else problems(folder))
    with pytest.raises(ValueError, match="killed"):
        conversion.convert(name, root, tmp_path / "out", split, samples_per_shard=1)
    done = conversion.convert(name, root, tmp_path / "out", split, samples_per_shard=1)
    assert (done.samples, done.resumed, done.regions) == (2, 1, sum(len(sample.regions) for sample in wanted))
    for sample, one in zip(shards.ShardReader(tmp_path / "out"), wanted, strict=True):
        assert (sample.id, sample.size, sample.regions) == (one.id, one.size, one.regions)
        assert (sample.exhaustive, sample.absent) == (one.exhaustive, one.absent)
    assert list(problems(tmp_path / "out")) == []
