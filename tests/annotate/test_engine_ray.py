"""The engine on a local Ray cluster of two workers. Ray is large and no part of the dev extra: skipped without it."""

import json
import sys

import pytest
from stub_steps import STEPS, Find, Keep, Missing, Trouble, records, write_photos

from anygrain.annotate.engine import EngineConfig, annotate
from anygrain.annotate.photos import open_photos

pytest.importorskip("ray", reason="Ray is not installed: pip install 'anygrain[ray]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SMALL = EngineConfig(part=3, batch=2)


@pytest.fixture(scope="module")
def cluster():
    """Two workers' worth of Ray on this machine, started once."""
    import ray

    path = ":".join(entry for entry in sys.path if entry)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    yield ray
    ray.shutdown()


@pytest.fixture
def folder(tmp_path):
    write_photos(tmp_path / "photos", 13)
    annotate(open_photos(tmp_path / "photos"), tmp_path / "whole", STEPS, config=SMALL)
    return tmp_path / "photos"


def on_ray(folder, out, steps, workers=2, **options):
    from anygrain.annotate.ray_executor import RayActors

    return annotate(open_photos(folder), out, steps, config=SMALL, executor=RayActors(workers, **options))


def shared(name, **needs):
    from anygrain.annotate.ray_steps import Needs, Share

    return {"needs": Needs(cpus=0.5, memory=2**20), "shares": [Share(steps=(name,), needs=Needs(**needs))]}


def test_two_actors_make_what_this_process_makes(cluster, folder, tmp_path):
    assert on_ray(folder, tmp_path / "out", STEPS).samples == 13
    assert sorted(records(tmp_path / "out")) == sorted(records(tmp_path / "whole"))
    assert on_ray(folder, tmp_path / "out", STEPS).skipped == 13


@pytest.mark.parametrize(("times", "rejected"), [(1, 0), (10**9, 1)])
def test_an_actor_killed_in_the_middle_is_replaced_and_its_part_done_again(cluster, folder, tmp_path, times, rejected):
    (tmp_path / "flags").mkdir()
    steps = (Find(), Trouble(photo="photos/007.jpg", how="kill", times=times, flags=tmp_path / "flags"), Keep())
    with pytest.warns(UserWarning, match="a worker ended by Ray's ActorDiedError; its part is done again") as warned:
        summary = on_ray(folder, tmp_path / "out", steps)
    assert len(warned) == min(times, 3) == len(list((tmp_path / "flags").iterdir()))
    assert (summary.samples, summary.rejected) == (13 - rejected, rejected)
    expected = [row for row in records(tmp_path / "whole") if not rejected or row[0] != "photos/007.jpg"]
    assert sorted(records(tmp_path / "out")) == sorted(expected)
    if rejected:
        (line,) = map(json.loads, (tmp_path / "out" / "rejected.jsonl").read_text().splitlines())
        assert (line["id"], line["step"], line["tries"]) == ("photos/007.jpg", "worker", 3)


@pytest.mark.parametrize("name", [None, "find"])
def test_a_teacher_that_is_not_there_ends_the_run_with_its_sentence(cluster, folder, tmp_path, name):
    options = {} if name is None else shared(name)
    with pytest.raises(ValueError, match=r"teacher missing .* use --teachers small"):
        on_ray(folder, tmp_path / "out", (Find(level=Missing()),), **options)


def test_a_step_with_an_actor_of_its_own_makes_what_this_process_makes(cluster, folder, tmp_path):
    """All workers share it; the report counts what it left out."""
    options = shared("keep", cpus=0.5)
    assert on_ray(folder, tmp_path / "out", STEPS, **options).samples == 13
    assert sorted(records(tmp_path / "out")) == sorted(records(tmp_path / "whole"))
    counts = [
        [json.loads(path.read_text())["steps"]["keep"]["dropped"] for path in sorted((tmp_path / out).glob("0*.json"))]
        for out in ("out", "whole")
    ]
    assert counts[0] == counts[1] != [{}] * len(counts[0])


@pytest.mark.parametrize(("times", "rejected"), [(1, 0), (10**9, 1)])
def test_a_photograph_that_kills_the_actor_of_a_step_is_rejected_alone(cluster, folder, tmp_path, times, rejected):
    (tmp_path / "flags").mkdir()
    steps = (Find(), Trouble(photo="photos/007.jpg", how="kill", times=times, flags=tmp_path / "flags"), Keep())
    summary = on_ray(folder, tmp_path / "out", steps, **shared("trouble", cpus=0.5))
    assert (summary.samples, summary.rejected) == (13 - rejected, rejected)
    expected = [row for row in records(tmp_path / "whole") if not rejected or row[0] != "photos/007.jpg"]
    assert sorted(records(tmp_path / "out")) == sorted(expected)
    if rejected:
        (line,) = map(json.loads, (tmp_path / "out" / "rejected.jsonl").read_text().splitlines())
        assert (line["id"], line["step"]) == ("photos/007.jpg", "trouble")
        assert "its actor ended by Ray's Actor" in line["reason"]


def test_what_cannot_be_had_is_one_sentence(cluster, folder, tmp_path):
    with pytest.raises(ValueError, match="there is no step 'rank' to share actors for; the steps are find, keep"):
        on_ray(folder, tmp_path / "out", STEPS, **shared("rank"))
    with pytest.raises(ValueError, match=r"too few for a worker of 0.5 cores, .* 1 actors of 1 cores, 4 accelerators"):
        on_ray(folder, tmp_path / "out", STEPS, **shared("keep", gpus=4))
    with pytest.warns(UserWarning, match="Ray has room for 2 workers of the 9 asked for"):
        assert on_ray(folder, tmp_path / "out", STEPS, workers=9, **shared("keep", cpus=1)).samples == 13
