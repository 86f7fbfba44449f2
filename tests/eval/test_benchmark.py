"""``anygrain evaluate --task`` on data sets of a few photographs in their official form, with a real small network."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anygrain import hub
from anygrain.data.ledger import image_hashes
from anygrain.data.readers.files import image_size
from anygrain.data.readers.pascal import VOC
from anygrain.data.shards import write_shards
from anygrain.eval.benchmark import run_benchmark
from anygrain.types import Mask, Prompt, Sample


def png(index) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.asarray(index, np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def dogs(photos, put):
    """grefcoco with three photographs."""
    table = {"images": [], "annotations": [], "categories": [{"id": 18, "name": "dog"}]}
    refs = []
    for number, name in enumerate(("dog", "pet", "kite"), start=1):
        data = (photos / f"{name}.jpg").read_bytes()
        width, height = Image.open(io.BytesIO(data)).size
        file = f"COCO_train2014_{number:012d}.jpg"
        put(f"images/train2014/{file}", data)
        half = np.zeros((height, width), bool)
        half[:, : width // 2] = True
        base = {"image_id": number, "category_id": 18, "iscrowd": 0}
        table["images"].append({"id": number, "file_name": file, "height": height, "width": width})
        table["annotations"].append({"id": number, "segmentation": Mask.from_array(half).to_coco(), **base})
        for place, (annotation, *texts) in enumerate((([number], "the left", "left half"), ([-1], "an elephant"))):
            said = [{"sent": text, "raw": text, "sent_id": 0, "tokens": text.split()} for text in texts]
            ref = {"ref_id": 10 * number + place, "split": "val", "ann_id": annotation, "sentences": said}
            refs.append(base | ref)
    put("grefcoco/instances.json", table)
    put("grefcoco/grefs(unc).json", refs)


def test_a_task_from_the_command_line(anygrain, tiny_model, dogs, tmp_path):
    out = tmp_path / "out"
    options = ("--root", tmp_path, "--model", tiny_model, "--device", "cpu", "--out", out)
    result = anygrain("evaluate", "--task", "grefcoco", *options)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(
        "grefcoco val, 3 samples, 9 prompts\n\nIt is not known whether the model was trained on"
    )
    report = json.loads((out / "report.json").read_text())
    assert report["figures"]["prompts"] == 9
    assert 0 <= report["figures"]["n_acc"] <= 1
    assert (report["task"], report["split"], report["settings"]["limit"]) == ("grefcoco", "val", None)
    assert len(report["model"]["fingerprint"]) > 8
    page = (out / "report.md").read_text()
    assert "| ciou" in page
    assert "Protocol: By ReLA" in page
    head, *samples = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert (head["task"], head["split"]) == ("grefcoco", "val")
    lines = [{"id": one["id"], **answer} for one in samples for answer in one["answers"]]
    assert [line["text"] for line in lines] == ["the left", "left half", "an elephant"] * 3
    for line in lines:
        assert line["present"] == ("segmentation" in line)
    # the figures follow from the predictions
    intersections = unions = 0
    for line in lines:
        if line["text"] != "an elephant" and line["present"]:
            height, width = line["segmentation"]["size"]
            found, half = (
                Mask.from_coco(line["segmentation"], (height, width)).to_array(),
                np.zeros((height, width), bool),
            )
            half[:, : width // 2] = True
            intersections, unions = intersections + (found & half).sum(), unions + (found | half).sum()
        elif line["present"]:
            unions += Mask.from_coco(line["segmentation"], tuple(line["segmentation"]["size"])).area
        elif line["text"] != "an elephant":
            photo = next(e for e in json.loads((tmp_path / "grefcoco/instances.json").read_text())["images"]
                         if line["id"].endswith(f"{e['id']:012d}"))  # fmt: skip
            unions += photo["height"] * (photo["width"] // 2)
    assert report["figures"]["ciou"] == intersections / unions


def test_limit_is_said_loudly(anygrain, tiny_model, dogs, tmp_path):
    command = ("evaluate", "--task", "grefcoco", "--root", tmp_path, "--model", tiny_model, "--out", tmp_path / "out")
    result = anygrain(*command, "--limit", "1", "--threshold", "0.35", "--device", "cpu")
    assert "(only the first 1: not comparable with published figures), 1 samples, 3 prompts" in result.out
    assert json.loads((tmp_path / "out" / "report.json").read_text())["settings"]["threshold"] == 0.35


def test_salient_objects(photos, put, tiny_model, tmp_path):
    put("images/pet.jpg", (photos / "pet.jpg").read_bytes())
    with Image.open(photos / "pet.jpg") as image:
        truth = np.zeros((image.height, image.width))
    truth[10:60, 10:60] = 255
    put("ground_truth_mask/pet.png", png(truth))
    figures = run_benchmark(tiny_model, "ecssd", tmp_path, device="cpu").figures
    assert figures["photos"] == 1
    assert {"mae", "max_f", "mean_f", "adaptive_f", "weighted_f", "s_measure", "max_e"} < figures.keys()
    assert 0 < figures["mae"] < 1


def test_label_maps(photos, put, tiny_model, tmp_path):
    put("VOC2012/JPEGImages/dog.jpg", (photos / "dog.jpg").read_bytes())
    with Image.open(photos / "dog.jpg") as image:
        index = np.zeros((image.height, image.width))
    index[20:90, 20:90], index[20:23, 20:90] = 12, 255
    put("VOC2012/SegmentationClass/dog.png", png(index))
    put("VOC2012/ImageSets/Segmentation/val.txt", b"dog\n")
    report = run_benchmark(tiny_model, "voc2012", tmp_path, device="cpu")
    assert report.prompts == 20
    assert {"miou", "pixel_accuracy", "present_miou"} < report.figures.keys()
    segmenter = hub.load(tiny_model, device="cpu")
    (embedding,) = segmenter.embed([tmp_path / "VOC2012" / "JPEGImages" / "dog.jpg"])
    answers = segmenter.answer(embedding, [Prompt(text=f"all {name}") for name in sorted(VOC)])
    logits = torch.from_numpy(np.concatenate([answer.low_res_logits for answer in answers]))
    soft = segmenter.model.probabilities(logits, embedding.resize)
    names = ["background", *sorted(VOC)]
    found = np.where(soft.max(0) > 0.5, 1 + soft.argmax(0), 0)
    truth = np.where(index == 12, names.index("dog"), index)
    assert report.figures["pixel_accuracy"] == (found == truth)[index != 255].mean()
    dog = (found == names.index("dog")) & (index != 255)
    assert dog.any() or found.max() > 0  # the small network finds something


def test_what_cannot_be_run_ends_with_a_sentence(anygrain, tmp_path):
    def said(*arguments):
        result = anygrain("evaluate", *arguments)
        assert result.status == 2
        return result.err

    assert "give either --data DIR (shards) or --task NAME --root DIR" in said()
    assert "give either --data DIR" in said("--task", "refcoco", "--data", tmp_path)
    assert "--task refcoco needs --root DIR" in said("--task", "refcoco")
    assert "no task is named 'refcocog'; there are refcoco, " in said("--task", "refcocog", "--root", tmp_path)
    assert "refcoco has no split 'test'" in said("--task", "refcoco", "--root", tmp_path, "--split", "test")
    assert "refs(unc).p not found under" in said("--task", "refcoco", "--root", tmp_path)  # before a model is loaded
    assert "limit is 0" in said("--task", "refcoco", "--root", tmp_path, "--limit", "0")
    assert "--figures belongs to --data" in said("--task", "refcoco", "--root", tmp_path, "--figures")


@pytest.fixture
def trained(tiny_model, dogs, photos, tmp_path, anygrain):
    """The small model, "trained" on two photographs: a file of the benchmark under another name, and another file under
    the public name of one of its images, as resized copies are."""
    model = tmp_path / "trained"
    shutil.copytree(tiny_model, model)
    files = {"mine/pet": photos / "pet.jpg", "mine/000000000003_jpg.rf.1a2b": photos / "facade.jpg"}
    samples = [Sample(id=n, image=p, size=image_size(p), regions=(), source="mine") for n, p in files.items()]
    write_shards(samples, tmp_path / "shards" / "mine")
    command = ("data", "ledger", model, "--shards", tmp_path / "shards")
    assert anygrain(*command).out == f"3 hashes of files and names added, 3 in all -> {model / 'trained_on.npy'}\n"
    assert anygrain(*command).out.startswith("0 hashes of files and names added, 3 in all")
    return model


def test_images_of_the_training_are_told_loudly_and_refused_strictly(anygrain, trained, tiny_model, tmp_path):
    options = ("--task", "grefcoco", "--root", tmp_path, "--device", "cpu", "--out", tmp_path / "out")
    result = anygrain("evaluate", *options, "--model", trained)
    assert "WARNING: the model was TRAINED ON 2 of these 3 samples' images." in result.out
    assert "TRAINED ON 2" in (tmp_path / "out" / "report.md").read_text()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["trained_on"] == 2
    result = anygrain("evaluate", *options, "--model", trained, "--strict")
    assert result.status == 2
    assert "trained on the image of grefcoco/COCO_train2014_000000000002" in result.err
    result = anygrain("evaluate", *options, "--model", trained, "--strict", "--limit", "1")  # the seen one is second
    assert "None of these images is in the ledger of the model's training." in result.out
    result = anygrain("evaluate", *options, "--model", tiny_model, "--strict")
    assert "--strict needs a model with a ledger" in result.err


def test_ledgers_of_another_form_are_refused(trained, tmp_path, anygrain):
    for content in (
        np.arange(3),
        np.array([2, 1], np.uint64),
        np.array([1, 1], np.uint64),
        np.zeros((2, 2), np.uint64),
    ):
        np.save(trained / "trained_on.npy", content)
        with pytest.raises(ValueError, match=r"trained_on\.npy: not a ledger of images \(sorted uint64\)"):
            run_benchmark(trained, "grefcoco", tmp_path, device="cpu")
    (trained / "trained_on.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"trained_on\.npy: not a ledger of images"):
        run_benchmark(trained, "grefcoco", tmp_path, device="cpu")
    assert "name the shards" in anygrain("data", "ledger", trained).err
    assert "not a model folder" in anygrain("data", "ledger", tmp_path, "--shards", tmp_path / "shards").err


def report_page(out):
    return (out / "report.html").read_text()


@pytest.mark.slow
def test_two_processes_give_the_same_figures(tiny_model, dogs, tmp_path):
    alone = run_benchmark(tiny_model, "grefcoco", tmp_path, device="cpu", out=tmp_path / "alone")
    source = str(Path(__file__).parents[2] / "src")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "anygrain"]
    command += ["evaluate", "--task", "grefcoco", "--root", tmp_path, "--model", tiny_model, "--device", "cpu"]
    command += ["--out", tmp_path / "out"]
    environment = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["figures"] == alone.figures
    assert (report["samples"], report["settings"]["processes"]) == (3, 2)
    assert done.stdout.count("grefcoco val, 3 samples, 9 prompts") == 1
    lines = [len((tmp_path / "out" / f"predictions.{rank}.jsonl").read_text().splitlines()) for rank in (0, 1)]
    assert lines == [3, 2]  # the first is the head
    pages = (report_page(tmp_path / "out"), report_page(tmp_path / "alone"))
    assert pages[0].count("<figure>") == pages[1].count("<figure>") == 12


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("refcoco_unc/COCO_train2014_000000217285", "coco/000000217285_jpg.rf.9f"),
        ("lvis/train2017/000000217285", "coco_instances/000000217285"),
        ("ade20k_150/ADE_train_00016869", "mine/ADE_train_00016869_small"),
        ("voc2012/2008_000002", "pascal_part/2008_000002"),
        ("imagenet/n01440764_18", "partimagenet/n01440764/n01440764_18"),
        ("sa1b/sa_11", "mine/sa_11"),
    ],
)
def test_images_of_several_sets_share_a_public_name(one, other):
    hashes = [image_hashes(Sample(id=n, image=n.encode(), size=(1, 1), regions=(), source="x")) for n in (one, other)]
    assert hashes[0][0] != hashes[1][0]  # other files
    assert hashes[0][1:] == hashes[1][1:]
    assert len(hashes[0]) == 2


def test_frames_and_own_names_have_no_public_name():
    for name in (
        "davis2017/bear/00005",
        "mine/photo_1234",
        "phrasecut/2315",
        "mine/usa_11",
        "cityscapes/a/a_000000_000019",
    ):
        assert len(image_hashes(Sample(id=name, image=b"", size=(1, 1), regions=(), source="x"))) == 1
