"""Interrupted and repeated benchmark runs, all benchmarks at once, part tasks, and the page of the worst answers."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from anygrain.eval.benchmark import run_benchmark
from anygrain.eval.benchmarks import BENCHMARKS
from anygrain.eval.every import find_data, run_all
from anygrain.eval.papers import published, sources
from anygrain.eval.parts import PartRule, part_text
from anygrain.eval.rules import Answer
from anygrain.segmenter import Segmenter
from anygrain.types import Mask, Region, Sample

NAMES = ("dog", "pet", "kite")


def png(index) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.asarray(index, np.uint8)).save(out, "PNG")
    return out.getvalue()


def half(photo):
    with Image.open(photo) as image:
        mask = np.zeros((image.height, image.width), np.uint8)
    mask[:, : mask.shape[1] // 2] = 1
    return mask


@pytest.fixture
def data(photos, tmp_path):
    """ECSSD and VOC 2012 with three photographs below one folder."""
    root = tmp_path / "data"
    voc = root / "VOCdevkit" / "VOC2012"
    folders = [root / "ECSSD" / "images", root / "ECSSD" / "ground_truth_mask", voc / "JPEGImages"]
    for folder in (*folders, voc / "SegmentationClass", voc / "ImageSets" / "Segmentation"):
        folder.mkdir(parents=True)
    for name in NAMES:
        photo, mask = photos / f"{name}.jpg", half(photos / f"{name}.jpg")
        for folder in (folders[0], folders[2]):
            (folder / f"{name}.jpg").write_bytes(photo.read_bytes())
        (folders[1] / f"{name}.png").write_bytes(png(255 * mask))
        (voc / "SegmentationClass" / f"{name}.png").write_bytes(png(12 * mask))
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(NAMES))
    return root


def asked(monkeypatch):
    """Names of the photographs that are encoded from now on."""
    names, embed = [], Segmenter.embed

    def spy(self, images, **options):
        names.extend(image.size for image in images)
        return embed(self, images, **options)

    monkeypatch.setattr(Segmenter, "embed", spy)
    return names


@pytest.mark.parametrize(("task", "folder"), [("ecssd", "ECSSD"), ("voc2012", "VOCdevkit")])
def test_a_killed_run_goes_on_and_ends_with_the_same_figures(task, folder, data, tiny_model, tmp_path, monkeypatch):
    options = {"device": "cpu", "overlays": 2}
    whole = run_benchmark(tiny_model, task, data / folder, out=tmp_path / "whole", **options)
    lines = (tmp_path / "whole" / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    out = tmp_path / "killed"
    out.mkdir()
    (out / "predictions.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][: len(lines[2]) // 2])
    names = asked(monkeypatch)
    again = run_benchmark(tiny_model, task, data / folder, out=out, resume=True, **options)
    assert len(names) == 2
    assert again.figures == whole.figures
    assert (again.samples, again.prompts, again.resumed, whole.resumed) == (3, whole.prompts, 1, 0)
    assert again.examples == whole.examples
    assert "1 samples were answered by an earlier run" in (out / "report.md").read_text()
    kept = [json.loads(line) for line in (out / "predictions.jsonl").read_bytes().splitlines()]
    first = [json.loads(line) for line in lines]
    assert [line["answers"] for line in kept[1:]] == [line["answers"] for line in first[1:]]
    # all is there now: nothing is asked, and without --resume everything is
    names.clear()
    assert run_benchmark(tiny_model, task, data / folder, out=out, resume=True, **options).figures == whole.figures
    assert names == []
    run_benchmark(tiny_model, task, data / folder, out=out, **options)
    assert len(names) == 3


def test_only_what_was_killed_goes_on(data, tiny_model, tmp_path):
    options = {"device": "cpu", "out": tmp_path / "out"}
    run_benchmark(tiny_model, "ecssd", data / "ECSSD", limit=2, **options)
    whole = run_benchmark(tiny_model, "ecssd", data / "ECSSD", resume=True, **options)  # more samples than before
    assert (whole.samples, whole.resumed) == (3, 2)
    with pytest.raises(ValueError, match=r"predictions\.jsonl: of another run \(threshold was 0\.\d+ and is 0\.4\)"):
        run_benchmark(tiny_model, "ecssd", data / "ECSSD", resume=True, threshold=0.4, **options)
    (data / "ECSSD" / "images" / "dog.jpg").unlink()
    (data / "ECSSD" / "ground_truth_mask" / "dog.png").unlink()
    with pytest.raises(ValueError, match="ecssd/dog stands where the data set has ecssd/kite"):
        run_benchmark(tiny_model, "ecssd", data / "ECSSD", resume=True, **options)
    path = tmp_path / "out" / "predictions.jsonl"
    path.write_bytes(path.read_bytes().replace(b'{"id"', b'{id"', 1))
    with pytest.raises(ValueError, match=r"a line at byte \d+ is not JSON"):
        run_benchmark(tiny_model, "ecssd", data / "ECSSD", resume=True, **options)


def test_all_runs_what_is_there_and_names_the_rest(anygrain, data, tiny_model, tmp_path):
    out = tmp_path / "out"
    options = ("--root", data, "--model", tiny_model, "--device", "cpu", "--out", out)
    result = anygrain("evaluate", "--task", "all", *options)
    assert (result.status, result.err) == (0, "")
    assert "to run: voc2012, voc2012_20, ecssd" in result.out
    assert f"- duts: no folder named duts in {data}" in result.out
    assert "- refcoco: refcoco/refs(unc).p not found under" in result.out
    record = json.loads((out / "summary.json").read_text())
    assert [report["task"] for report in record["reports"]] == ["voc2012", "voc2012_20", "ecssd"]
    assert record["missing"].keys() == BENCHMARKS.keys() - {"voc2012", "voc2012_20", "ecssd"}
    assert "does not accept points as a prompt" in record["missing"]["sa1b_clicks"]
    assert (
        record["reports"][0]["figures"]["miou"]
        == json.loads((out / "voc2012/report.json").read_text())["figures"]["miou"]
    )
    page = (out / "summary.md").read_text()
    assert f"{record['reports'][2]['figures']['max_f']:.4f}" in page
    again = run_all(tiny_model, data, out, device="cpu", resume=True)
    assert [report.resumed for report in again.reports] == [3, 3, 3]
    assert "the data of no benchmark are below it" in anygrain("evaluate", "--task", "all", "--root", out).err
    assert "--split belongs to one task" in anygrain("evaluate", "--task", "all", "--split", "val", *options).err
    assert "--resume belongs to --task with --root" in anygrain("evaluate", "--data", out, "--resume").err


def test_a_set_is_found_by_the_name_of_its_folder(tmp_path, data):
    assert find_data(data, "ecssd", "test", own_folder=True) == data / "ECSSD"
    (data / "ECSSD").rename(data / "DUT-x")
    assert find_data(data, "ecssd", "test", own_folder=True) == f"no folder named ecssd in {data}"
    (data / "DUT-x").rename(data / "HKU-IS")
    assert "hku_is" in str(find_data(data, "hku_is", "test", own_folder=True))  # named so, but of another form
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_data(tmp_path / "nowhere", "ecssd", "test", own_folder=True)


def test_the_page_shows_the_worst_answers(data, tiny_model, tmp_path):
    report = run_benchmark(tiny_model, "ecssd", data / "ECSSD", out=tmp_path, device="cpu", overlays=2)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 4
    assert page.index("Worst answers") < page.index("Taken at random")
    worst = report.examples["worst"]
    assert worst[0].iou <= worst[1].iou
    with Image.open(io.BytesIO(worst[0].picture)) as picture:
        assert picture.width > 1.1 * picture.height  # truth and answer
    assert "the most salient object" in page
    for words in (report.cost, report.contamination, report.command, report.model["fingerprint"]):
        assert words in page.replace("&#x27;", "'")
    assert "http" not in page.replace("http://www.w3.org", "")  # stands alone
    assert f"<td>max_f</td><td>{report.figures['max_f']:.4g}</td>" in page
    assert "examples" not in json.loads((tmp_path / "report.json").read_text())


def test_published_figures_stand_beside_ours():
    assert published("refcoco", "testB") == {"UniLSeg-100 (arXiv 2312.01623)": {"ciou": 0.799}}
    assert published("refcoco_by_object", "testB") == {"PSALM (arXiv 2403.14598)": {"ciou": 0.816}}
    assert published("refcocog_google", "val") == published("ecssd", "test") == {}
    assert published("coco_instances_clicks", "val")["Semantic-SAM T (arXiv 2307.04767)"] == {
        "one_click_iou": 0.545,
        "oracle_iou": 0.738,
    }
    for task, benchmark in BENCHMARKS.items():
        for split in benchmark.splits:
            figures = published(task, split)
            assert figures.keys() == sources(task, split).keys()
            assert all(benchmark.headline in row and 0 < min(row.values()) < 1 for row in figures.values())


@pytest.mark.parametrize(
    ("category", "text"),
    [
        ("dog:left ear", "the left ear of the dog"),
        ("car_(automobile):steering_wheel", "the steering wheel of the car"),
        ("Car:Side Mirror", "the side mirror of the car"),
    ],
)
def test_parts_are_asked_for_as_parts_of_their_whole(category, text):
    assert part_text(category) == text


def test_part_miou_over_parts_and_over_wholes():
    def columns(start, end):
        mask = np.zeros((4, 10), bool)
        mask[:, start:end] = True
        return mask

    def sample(*parts, number=1):
        regions = [Region(mask=Mask.from_array(columns(0, 10)), category="dog", granularity="object")]
        regions += [Region(mask=Mask.from_array(columns(*p)), category=c, granularity="part") for c, p in parts]
        regions.append(Region(mask=Mask.from_array(columns(9, 10)), ignore=True))
        return Sample(id=f"set/{number}", image=b"", size=(4, 10), regions=tuple(regions), source="set")

    def answer(start, end):
        return Answer(columns(start, end), end > start, 0.9, lambda: columns(start, end).astype(np.float32))

    rule, other = PartRule(), PartRule()
    first = sample(("dog:head", (0, 2)), ("dog:leg", (2, 3)), ("dog:leg", (4, 5)), ("car:wheel", (5, 9)))
    assert rule.ask(first) == ["the head of the dog", "the leg of the dog", "the wheel of the car"]
    answers = [answer(0, 4), answer(2, 5), answer(5, 10)]
    rule.count(first, json.loads(json.dumps(rule.record(first, answers))))
    second = sample(("dog:head", (0, 4)), number=2)
    other.count(second, json.loads(json.dumps(other.record(second, [answer(0, 0)]))))
    rule.merge(other)
    head, leg, wheel = (2 + 0) / (4 + 4), 2 / 3, 1.0  # sums over photos; the ignored column counts nowhere
    assert rule.compute() == {
        "part_miou": pytest.approx((head + leg + wheel) / 3),
        "whole_miou": pytest.approx(((head + leg) / 2 + wheel) / 2),
        "parts": 3,
        "prompts": 4,
    }
    with pytest.raises(ValueError, match="does not say whole and part"):
        part_text("dog")
