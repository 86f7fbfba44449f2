"""The engine: what comes in, what comes out, what is passed over, and what it refuses."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from stub_steps import STEPS, Find, Keep, Missing, Trouble, corrupt, records, write_photos

from anygrain.annotate.engine import EngineConfig, annotate
from anygrain.annotate.executors import Processes
from anygrain.annotate.parts import PartFolder, read_manifest, read_parts
from anygrain.annotate.photos import open_photos
from anygrain.annotate.settings import difference, settings_of
from anygrain.annotate.step import Worker
from anygrain.annotate.work import Job, Task, Worked
from anygrain.data.shards import ShardReader, write_shards
from anygrain.data.verify import problems
from anygrain.types import Mask, Region, Sample

SMALL = EngineConfig(part=4, batch=3)


@pytest.fixture
def folder(tmp_path):
    write_photos(tmp_path / "photos", 10)
    return tmp_path / "photos"


def run(source, out, steps=STEPS, config=SMALL, **options):
    return annotate(open_photos(source), out, steps, config=config, **options)


def test_every_photograph_comes_out_once_with_what_the_steps_say_and_the_shards_are_whole(folder, tmp_path):
    summary = run(folder, tmp_path / "out")
    assert (summary.photos, summary.samples, summary.skipped, summary.rejected, summary.parts) == (10, 10, 0, 0, 3)
    reader = ShardReader(tmp_path / "out")
    assert [reader[i].id for i in range(len(reader))] == [f"photos/{i:03d}.jpg" for i in range(10)]
    for sample in map(reader.__getitem__, range(10)):
        (file,) = [folder / sample.id.split("/")[1]]
        assert sample.image == file.read_bytes()
        grey = np.asarray(Image.open(file).convert("RGB").convert("L"))
        expected = {"dark": grey < 100, "bright": grey >= 100}
        kept = {name for name, mask in expected.items() if mask.mean() >= 0.3}
        assert {region.category for region in sample.regions} == kept
        assert all((region.mask.to_array() == expected[region.category]).all() for region in sample.regions)
        assert all(region.origin == {"step": "find", "find": "level@v100"} for region in sample.regions)
    assert list(problems(tmp_path / "out")) == []


def test_a_part_says_how_it_was_made_and_the_manifest_lists_them(folder, tmp_path):
    run(folder, tmp_path / "out")
    parts, manifest = read_parts(tmp_path / "out"), read_manifest(tmp_path / "out")
    assert [part.samples for part in parts] == [4, 4, 2] == [entry["samples"] for entry in manifest["parts"]]
    assert [part.sha256 for part in parts] == [entry["sha256"] for entry in manifest["parts"]]
    assert parts[0].teachers == {"level": "v100"} == manifest["settings"]["teachers"]
    assert parts[0].settings == manifest["settings_digest"]
    keep, found = parts[0].steps["keep"], parts[0].steps["find"]
    assert list(parts[0].steps) == ["open", "find", "keep"]
    assert found.photos_in == found.photos_out == 4
    assert found.regions_in == 0
    assert found.regions_out == keep.regions_in
    assert keep.regions_in - keep.regions_out == keep.dropped.get("too small", 0)
    assert sum(part.steps["keep"].dropped["too small"] for part in parts) > 0


def test_a_second_run_takes_only_what_is_new_or_has_changed(folder, tmp_path):
    out = tmp_path / "out"
    run(folder, out, config=EngineConfig(part=4, batch=3, limit=7))
    before = {name: rest for name, *rest in records(out)}
    assert len(before) == 7
    summary = run(folder, out)
    assert (summary.samples, summary.skipped) == (3, 7)
    assert run(folder, out).samples == 0
    write_photos(tmp_path / "other", 1, size=40)
    (tmp_path / "other" / "000.jpg").rename(folder / "002.jpg")  # another photograph under an old name
    write_photos(folder, 12)  # 10 and 11 are new, and 2 is as it was
    (folder / "002.jpg").write_bytes((folder / "011.jpg").read_bytes())
    summary = run(folder, out)
    assert (summary.samples, summary.skipped) == (3, 9)
    after = {name: rest for name, *rest in records(out)}
    assert len(after) == len(list(records(out))) == 12
    assert after["photos/002.jpg"][1] == (folder / "002.jpg").read_bytes() != before["photos/002.jpg"][1]
    assert {name: after[name] for name in before if name != "photos/002.jpg"} == {
        name: rest for name, rest in before.items() if name != "photos/002.jpg"
    }
    assert list(problems(out)) == []


def test_other_settings_other_things_and_a_second_run_at_once_are_refused(folder, tmp_path):
    out = tmp_path / "out"
    run(folder, out)
    with pytest.raises(ValueError, match=r"other settings \(steps.keep.share 0.3 there, 0.5 here\): name a new folder"):
        run(folder, out, (Find(), Keep(share=0.5)))
    with pytest.raises(ValueError, match=r'other settings \(steps \["find", "keep"\] there, \["find"\] here\)'):
        run(folder, out, (Find(),))
    with pytest.raises(ValueError, match="holds other things than annotations"):
        run(folder, folder)
    with (
        PartFolder(out, settings_of(STEPS)),
        pytest.raises(ValueError, match="another `anygrain annotate` is at work in"),
    ):
        run(folder, out)
    assert run(folder, out).skipped == 10


def test_a_corrupt_photograph_lands_in_rejected_and_disturbs_no_other(folder, tmp_path):
    run(folder, tmp_path / "whole")
    corrupt(folder / "003.jpg")
    (folder / "005.jpg").write_bytes(b"no image")
    (folder / "007.jpg").unlink()
    (folder / "007.jpg").symlink_to(folder / "gone.jpg")  # is_file() is false: not even listed
    summary = run(folder, tmp_path / "out")
    assert (summary.samples, summary.rejected) == (7, 2)
    lines = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [(line["id"], line["step"], line["tries"]) for line in lines] == [
        ("photos/003.jpg", "open", 1),
        ("photos/005.jpg", "open", 1),
    ]
    assert "damaged or cut short" in lines[0]["reason"]
    assert "is not an image" in lines[1]["reason"]
    bad = {"photos/003.jpg", "photos/005.jpg", "photos/007.jpg"}
    assert list(records(tmp_path / "out")) == [row for row in records(tmp_path / "whole") if row[0] not in bad]
    again = run(folder, tmp_path / "out")
    assert (again.skipped, again.rejected) == (9, 0)
    write_photos(folder, 7)  # mended: another checksum, so it is tried again
    mended = run(folder, tmp_path / "out")
    assert (mended.samples, mended.rejected) == (2, 0)
    assert (tmp_path / "out" / "rejected.jsonl").read_text() == ""


@pytest.mark.parametrize("how", ["raise", "memory"])
@pytest.mark.parametrize(("times", "rejected"), [(1, 0), (4, 0), (10**9, 1)])
def test_a_failing_teacher_is_tried_again_and_a_poison_photograph_rejected_alone(
    folder, tmp_path, how, times, rejected
):
    run(folder, tmp_path / "whole")
    (tmp_path / "flags").mkdir()
    steps = (Find(), Trouble(photo="photos/004.jpg", how=how, times=times, flags=tmp_path / "flags"), Keep())
    summary = run(folder, tmp_path / "out", steps)
    assert (summary.samples, summary.rejected) == (10 - rejected, rejected)
    expected = [row for row in records(tmp_path / "whole") if not rejected or row[0] != "photos/004.jpg"]
    assert list(records(tmp_path / "out")) == expected
    if rejected:
        (line,) = map(json.loads, (tmp_path / "out" / "rejected.jsonl").read_text().splitlines())
        reason = "MemoryError: no memory left" if how == "memory" else "RuntimeError: the teacher is confused"
        assert (line["id"], line["step"], line["tries"]) == ("photos/004.jpg", "trouble", 3)
        assert line["reason"].startswith(reason)
    failures = sum(part.steps["trouble"].failures for part in read_parts(tmp_path / "out"))
    assert failures == min(times, 5)  # twice in its batch, three times alone


def test_rejected_photographs_can_be_tried_again(folder, tmp_path):
    (tmp_path / "flags").mkdir()
    steps = (Find(), Trouble(photo="photos/004.jpg", how="raise", times=5, flags=tmp_path / "flags"), Keep())
    assert run(folder, tmp_path / "out", steps).rejected == 1
    assert run(folder, tmp_path / "out", steps).skipped == 10
    summary = run(folder, tmp_path / "out", steps, config=EngineConfig(part=4, batch=3, retry_rejected=True))
    assert (summary.samples, summary.skipped, summary.rejected) == (1, 9, 0)
    assert Counter(name for name, *_ in records(tmp_path / "out")) == Counter(f"photos/{i:03d}.jpg" for i in range(10))


@dataclass(frozen=True)
class Wrong:
    """A step that breaks the rules."""

    how: str
    name: ClassVar[str] = "wrong"
    teachers: ClassVar[tuple] = ()

    def __call__(self, samples, worker):
        from dataclasses import replace

        if self.how == "fewer":
            return samples[:-1]
        if self.how == "order":
            return samples[::-1]
        if self.how == "image":
            return [replace(sample, image=sample.image + b" ") for sample in samples]
        mask = Mask.from_array(np.zeros((3, 3) if self.how == "size" else samples[0].size, bool))
        return [replace(sample, regions=(Region(mask=mask),)) for sample in samples]


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("fewer", "must return the samples it was given"),
        ("order", "must return the samples it was given"),
        ("image", "changed the photograph of photos/000.jpg"),
        ("size", r"made a mask of size \(3, 3\)"),
        ("empty", "with 0 pixels"),
    ],
)
def test_a_step_that_breaks_the_rules_ends_the_run_with_its_name(folder, tmp_path, how, sentence):
    whole = EngineConfig(part=9, batch=9)
    if how == "order":  # alone nothing is out of order
        job = Job(steps=(Wrong(how),), batch=10, tries=1)
        photos = open_photos(folder)
        done = list(job.work(Task(number=0, photos=tuple(photos.read(i) for i in range(3))), Worker()))[-1]
        assert len(done.samples) == 3
        assert done.steps["wrong"].failures == 1
        return
    with pytest.raises(ValueError, match=f"step wrong failed for all 9 photographs of a part.*{sentence}"):
        run(folder, tmp_path / "out", (Wrong(how),), config=whole)
    assert read_parts(tmp_path / "out") == []


def test_a_teacher_that_is_not_there_ends_the_run_and_rejects_nobody(folder, tmp_path):
    steps = (Find(level=Missing()),)
    for executor in (None, Processes(1)):
        with pytest.raises(ValueError, match=r"teacher missing .* use --teachers small"):
            run(folder, tmp_path / "out", steps, executor=executor)
    assert (tmp_path / "out" / "rejected.jsonl").read_text() == ""


def test_batches_are_cut_by_number_and_by_pixels(folder):
    photos = open_photos(folder)
    task = Task(number=0, photos=tuple(photos.read(i) for i in range(10)))

    def sizes(**options):
        return [e.photos for e in Job(steps=STEPS, **options).work(task, Worker()) if isinstance(e, Worked)]

    assert sizes(batch=4) == [4, 4, 2]
    assert sizes(batch=8, batch_pixels=3 * 48 * 48) == [3, 3, 3, 1]
    assert sizes(batch=8, batch_pixels=1) == [1] * 10


def test_nothing_of_a_photograph_stays_in_the_worker_and_each_is_decoded_once(folder, monkeypatch):
    opened = Counter()
    from anygrain.annotate import photos as module

    monkeypatch.setattr(module, "decode_image", lambda data: opened.update([hash(data)]) or real(data))
    real = __import__("anygrain.images", fromlist=["decode_image"]).decode_image
    photos, worker = open_photos(folder), Worker()
    task = Task(number=0, photos=tuple(photos.read(i) for i in range(10)))
    list(Job(steps=(Find(), Find(), Keep())).work(task, worker))
    assert sorted(opened.values()) == [1] * 10
    assert not worker._images
    assert not worker._embeddings


def test_two_processes_make_what_one_makes(folder, tmp_path):
    run(folder, tmp_path / "one")
    summary = run(folder, tmp_path / "two", executor=Processes(2))
    assert summary.samples == 10
    assert sorted(records(tmp_path / "two")) == sorted(records(tmp_path / "one"))


@pytest.mark.parametrize(("times", "rejected"), [(2, 0), (10**9, 1)])
def test_a_worker_that_is_killed_is_replaced_and_its_part_done_again(folder, tmp_path, times, rejected):
    run(folder, tmp_path / "whole")
    (tmp_path / "flags").mkdir()
    steps = (Find(), Trouble(photo="photos/005.jpg", how="kill", times=times, flags=tmp_path / "flags"), Keep())
    with pytest.warns(UserWarning, match="a worker ended by SIGKILL; its part is done again") as warned:
        summary = run(folder, tmp_path / "out", steps, executor=Processes(2))
    assert len(warned) == min(times, 3)
    assert (summary.samples, summary.rejected) == (10 - rejected, rejected)
    expected = [row for row in records(tmp_path / "whole") if not rejected or row[0] != "photos/005.jpg"]
    assert sorted(records(tmp_path / "out")) == sorted(expected)
    if rejected:
        (line,) = map(json.loads, (tmp_path / "out" / "rejected.jsonl").read_text().splitlines())
        assert (line["id"], line["step"], line["tries"]) == ("photos/005.jpg", "worker", 3)
        assert "the worker died 3 times with it in hand" in line["reason"]


def test_shards_keep_ids_sources_and_regions_unless_nothing_is_to_be_known(folder, tmp_path):
    whole = Mask.from_array(np.ones((48, 48), bool))
    samples = [
        Sample(
            id=f"mine/{number}",
            image=folder / "000.jpg",
            size=(48, 48),
            regions=(Region(mask=whole, category="cat"),),
            source="mine",
            exhaustive=frozenset({"cat", "dog"}),
        )
        for number in range(3)
    ]
    write_shards(samples, tmp_path / "shards")
    run(tmp_path / "shards", tmp_path / "out")
    reader = ShardReader(tmp_path / "out")
    assert [(reader[i].id, reader[i].source) for i in range(3)] == [(f"mine/{i}", "mine") for i in range(3)]
    assert reader[0].regions[0] == Region(mask=whole, category="cat")
    assert len(reader[0].regions) > 1
    assert reader[0].exhaustive == {"cat", "dog"}  # no cat was left out
    blind = open_photos(tmp_path / "shards", known=False).read(0)
    assert blind.open()[0].regions == ()
    assert blind.open()[0].exhaustive == frozenset()


def test_settings_name_the_place_where_they_differ_and_refuse_what_cannot_be_compared():
    one, other = settings_of((Find(), Keep(), Keep())), settings_of((Find(), Keep(), Keep(share=0.9)))
    assert difference(one, one) == ""
    assert difference(one, other) == "steps.keep.share 0.3 there, 0.9 here"

    @dataclass(frozen=True)
    class Odd(Keep):
        rule: object = max

    with pytest.raises(ValueError, match=r"field keep.rule of a step is a builtin_function"):
        settings_of((Odd(),))
