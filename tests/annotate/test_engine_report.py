"""What is shown of annotations, how they are measured against the truth, and the commands."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stub_steps import SLOW, STEPS, Find, Missing, corrupt, records, write_photos

from anygrain.annotate.check import Check, judge, score
from anygrain.annotate.engine import EngineConfig, annotate
from anygrain.annotate.photos import open_photos
from anygrain.annotate.report import read_report
from anygrain.data.loader import open_sources
from anygrain.data.shards import write_shards
from anygrain.images import open_image
from anygrain.types import Mask, Region, Sample


@pytest.fixture
def folder(tmp_path):
    write_photos(tmp_path / "photos", 10)
    return tmp_path / "photos"


def test_the_report_adds_up_what_the_parts_say(folder, tmp_path):
    corrupt(folder / "003.jpg")
    annotate(open_photos(folder), tmp_path / "out", STEPS, config=EngineConfig(part=4))
    report = read_report(tmp_path / "out", count=3)
    assert (report.samples, len(report.rejected)) == (9, 1)
    find, keep = report.steps["find"], report.steps["keep"]
    assert (report.steps["open"].photos_in, find.photos_in, keep.photos_out) == (10, 9, 9)
    assert find.regions_out - keep.regions_out == keep.dropped["too small"] > 0
    assert keep.regions_out == report.regions == sum(n for _, n in report.histograms["score"])
    assert dict(report.histograms["captions and names"]).keys() == {"dark", "bright"}
    sizes = dict(report.histograms["mask size, share of the photograph"])
    assert sizes["30 to 100 %"] == report.regions  # Keep leaves nothing smaller
    text = str(report)
    assert re.search(r"\| find +\| +level \| +9 \| +9 \|", text)
    assert f"{keep.dropped['too small']} too small" in text
    assert "damaged or cut short" in text


def test_the_sheets_show_the_best_the_median_and_the_worst(folder, tmp_path, anygrain, monkeypatch):
    annotate(open_photos(folder), tmp_path / "out", STEPS)
    shown = []
    real = __import__("anygrain.data.show", fromlist=["sheet"]).sheet
    monkeypatch.setattr("anygrain.annotate.report.sheet", lambda pictures: shown.append(pictures) or real(pictures))
    result = anygrain("annotate", "report", tmp_path / "out", "--count", "3")
    assert (result.status, result.err) == (0, "")
    scores = [[float(caption.split()[0]) for _, caption in pictures] for pictures in shown]
    every = sorted(
        float(s) for _, record, _ in records(tmp_path / "out") for s in re.findall(r"'score': ([\d.]+)", record)
    )
    best, median, worst = scores
    assert best[0] == round(every[-1], 3)
    assert worst[0] == round(every[0], 3)
    assert abs(every.index(min(every, key=lambda s: abs(s - median[0]))) - len(every) // 2) <= 1
    page = (tmp_path / "out" / "report" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3
    assert open_image(tmp_path / "out" / "report" / "worst.jpg").width > 300


SIZE = (20, 30)


def rect(y0, x0, y1, x1):
    array = np.zeros(SIZE, bool)
    array[y0:y1, x0:x1] = True
    return Mask.from_array(array)


def sample(*regions, exhaustive=(), name="s/1"):
    return Sample(id=name, image=b"", size=SIZE, regions=tuple(regions), source="s", exhaustive=frozenset(exhaustive))


def region(mask, name, score=None, **fields):
    return Region(mask=mask, category=name, score=score, **fields)


LEFT, RIGHT, BOTH = (
    rect(0, 0, 20, 10),
    rect(0, 20, 20, 30),
    Mask.from_array(rect(0, 0, 20, 10).to_array() | rect(0, 20, 20, 30).to_array()),
)
TRUTH = sample(region(LEFT, "dog"), region(RIGHT, "dog"), exhaustive=("dog", "car"))


@pytest.mark.parametrize(
    ("mask", "name", "right"),
    [
        (LEFT, "dog", True),
        (BOTH, "dogs", True),  # all of them at once, and the name in the plural
        (rect(0, 0, 20, 20), "dog", True),  # IoU with the left one is exactly 0.5
        (rect(0, 0, 20, 21), "dog", False),
        (LEFT, "car", False),  # there is none, and every car would be annotated
        (LEFT, "cat", False),  # on a true mask of something else
        (LEFT, "animal", None),  # more general: not told
        (rect(0, 11, 20, 19), "tree", None),
    ],
)
def test_a_pair_is_right_wrong_or_not_told(mask, name, right):
    (pair,), wanted = judge(sample(region(mask, name, 0.7)), TRUTH)
    assert pair.right is right
    assert [(want.category, want.score) for want in wanted] == [("dog", 0.7 if right else None)]


def test_a_bare_box_of_the_name_leaves_a_pair_untold():
    box = Region(box=(20.0, 0.0, 30.0, 20.0), category="cow")
    truth = sample(region(LEFT, "dog"), box, exhaustive=("dog", "cow"))
    for mask, right in ((RIGHT, None), (LEFT, False)):
        (pair,), _ = judge(sample(region(mask, "cow", 0.5)), truth)
        assert pair.right is right


def test_ignored_pixels_count_on_neither_side():
    crowd = region(rect(0, 10, 20, 30), "dog", ignore=True)
    truth = sample(region(LEFT, "dog"), crowd, exhaustive=("dog",))
    (pair,), _ = judge(sample(region(Mask.from_array(np.ones(SIZE, bool)), "dog", 0.5)), truth)
    assert pair.right


def test_precision_and_recall_along_the_threshold():
    predicted = [
        sample(region(LEFT, "dog", 0.9), region(rect(0, 11, 20, 19), "car", 0.4), name="s/1"),
        sample(region(LEFT, "dog", 0.6), region(LEFT, "wolf", 0.8), name="s/2"),
        sample(name="s/3"),
        sample(region(LEFT, "dog", 0.9), name="only/annotated"),
    ]
    truth = [replace(TRUTH, id=f"s/{number}") for number in (1, 2, 3, 4)]
    rows = {row.threshold: row for row in score(predicted, truth, thresholds=(0.0, 0.5, 0.7, 0.95))}
    got = {t: (r.pairs, r.right, r.wrong, r.precision, r.recall) for t, r in rows.items()}
    assert got == {
        0.0: (4, 2, 2, 2 / 4, 2 / 3),
        0.5: (3, 2, 1, 2 / 3, 2 / 3),
        0.7: (2, 1, 1, 1 / 2, 1 / 3),
        0.95: (0, 0, 0, None, 0.0),
    }
    assert rows[0.5].categories == {"dog": 2 / 3}
    assert "| s      |       0.5 |     3 |     2 |     1 |        0 |     0.667 |  0.667 |" in str(
        Check(rows=list(rows.values()))
    )
    with pytest.raises(ValueError, match="no annotated photograph is among the true ones"):
        score(predicted, [replace(TRUTH, id="t/9")])


def test_check_matches_photographs_by_file_name_and_draws_the_curve(folder, tmp_path, anygrain):
    annotate(open_photos(folder), tmp_path / "out", (Find(),))
    samples = []
    for path in sorted(folder.iterdir()):
        grey = np.asarray(Image.open(path).convert("L"))
        samples.append(
            Sample(
                id=f"truth/{path.stem}",
                image=path,
                size=grey.shape,
                regions=(Region(mask=Mask.from_array(grey < 100), category="dark"),) if (grey < 100).any() else (),
                source="truth",
                exhaustive=frozenset({"dark"}),
            )
        )
    write_shards(samples, tmp_path / "truth")
    picture = tmp_path / "curve.png"
    result = anygrain("annotate", "check", tmp_path / "out", "--truth", tmp_path / "truth", "--picture", picture)
    assert (result.status, result.err) == (0, "")
    assert re.search(r"\| truth +\| +0 \| +\d+ \| +\d+ \| +0 \| +\d+ \| +1.000 \| +1.000 \|", result.out)
    assert picture.read_bytes().startswith(b"\x89PNG")


# ------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def stub_route(monkeypatch):
    """The command with steps of known answers."""
    from anygrain.annotate import routes

    chosen = {"steps": STEPS}
    monkeypatch.setattr(routes, "route", lambda name, teachers, proposer: chosen["steps"])
    return chosen


def test_the_command_annotates_goes_on_and_gives_what_training_and_data_read(folder, tmp_path, anygrain, stub_route):
    out = tmp_path / "out"
    result = anygrain("annotate", folder, "--out", out, "--limit", "6", "--part", "4")
    assert (result.status, result.err) == (0, "")
    assert "6 photographs: 6 annotated with" in result.out
    result = anygrain("annotate", folder, "--out", out)
    assert "10 photographs: 4 annotated with" in result.out
    assert "6 were there already, 0 rejected" in result.out
    assert anygrain("data", "verify", out).out == f"{out}: whole\n"
    assert anygrain("data", "show", out, tmp_path / "sheet.png", "--count", "4").status == 0
    assert len(open_sources([out])["out"]) == 10
    corrupt(folder / "001.jpg")
    assert anygrain("annotate", folder, "--out", out).status == 1


def test_a_dry_run_says_what_and_how_long_and_writes_nothing(folder, tmp_path, anygrain, stub_route):
    result = anygrain("annotate", folder, "--out", tmp_path / "out", "--dry-run", "--sample", "4")
    assert (result.status, result.err) == (0, "")
    assert "10 photographs, 0 already in" in result.out
    assert re.search(r"\| find +\| +level \| +1 byte \|", result.out)
    assert "all 10 photographs: about" in result.out
    assert not (tmp_path / "out").exists()
    stub_route["steps"] = (Find(level=Missing()),)
    listed = anygrain("annotate", folder, "--out", tmp_path / "out", "--dry-run", "--sample", "0")
    assert listed.status == 0
    assert "missing" in listed.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gone", "--out", "out"], "there is no gone: name a folder of photographs or shards, or a COCO JSON"),
        (["photos", "--out", "photos/out"], "photos/out lies inside photos: name an OUT elsewhere"),
        (["photos", "--out", "full"], "full holds other things than annotations: name a new folder"),
        (["photos", "--out", "full/file"], "full/file is a file: name a new folder"),
        (["photos", "--out", "out", "--workers", "0"], "workers is 0; give at least 1"),
        (["photos", "--out", "out", "--batch", "0"], "batch is 0; give at least 1"),
        (["photos", "--out", "out", "--limit", "0"], "limit is 0; give at least 1"),
        (["photos", "--out", "out", "--gpus", "1"], "--address, --gpus, --memory and --share are for --executor ray"),
        (
            ["photos", "--out", "out", "--share", "a:b"],
            "--address, --gpus, --memory and --share are for --executor ray",
        ),
        (["report", "gone"], "gone holds no annotations: name the OUT of an `anygrain annotate`"),
        (["check", "gone", "--truth", "photos"], "there is no folder gone: name one with shards"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(folder, tmp_path, anygrain, stub_route, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    result = anygrain("annotate", *arguments)
    assert result.status == 2
    assert result.err.startswith(f"anygrain: error: {sentence}")
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


INTERRUPTED = """
import sys
from anygrain.annotate import routes
from stub_steps import SLOW
routes.route = lambda name, teachers, proposer: SLOW

if __name__ == "__main__":
    from anygrain.__main__ import main
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_keeps_what_was_committed(folder, tmp_path, monkeypatch, workers):
    out, script = tmp_path / "out", tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    command = [sys.executable, str(script), "annotate", str(folder), "--out", str(out), "--part", "2", "--workers"]
    options = {"env": os.environ | {"PYTHONPATH": path}, "stderr": subprocess.PIPE, "cwd": tmp_path}
    process = subprocess.Popen([*command, workers], start_new_session=True, text=True, **options)
    deadline = time.monotonic() + 60
    while not list(out.glob("*.tar")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error.count("\n\n"), "Traceback" in error) == (130, 0, False), error
    there = {name for name, *_ in records(out)}
    assert 0 < len(there) < 10
    monkeypatch.chdir(tmp_path)
    assert annotate(open_photos(folder), out, SLOW, config=EngineConfig(part=2)).skipped == len(there)
    assert sorted(name for name, *_ in records(out)) == [f"photos/{number:03d}.jpg" for number in range(10)]


def test_the_small_route_really_runs(tmp_path, photos, anygrain):
    result = anygrain("annotate", photos / "pet.jpg", "--out", tmp_path / "out", "--device", "cpu")
    assert (result.status, result.err) == (0, "")
    (record,) = [record for _, record, _ in records(tmp_path / "out")]
    assert "'category': 'cat'" in record
    assert "nano@" in record
