"""Whatever dies, a second run makes what an undisturbed run makes, bit for bit. ``faults.py`` prints it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import faults
import pytest
from stub_steps import records, write_photos

from anygrain.annotate.parts import read_parts


def table(*options):
    """Run faults.py in a process of its own, for it forks; returns its rows. It fails where a figure is not 0."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    command = [sys.executable, "-W", "ignore", faults.__file__, *options]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_fault_at_any_moment_loses_nothing_and_doubles_nothing(fault):
    rows = table("--faults", fault, "--stride", "9" if fault == "full disk" else "13")
    assert {row[1] for row in rows} == {"new folder", "changed folder"}
    assert {row[0] for row in rows} == {fault}
    assert all(row[4:] == ["0", "0", "0"] for row in rows)


@pytest.mark.slow
def test_a_fault_at_every_moment_loses_nothing_and_doubles_nothing():
    rows = table()
    assert {row[2] for row in rows} >= set(faults.PLACES)
    assert len({row[0] for row in rows}) == 10


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("times", [1, 10**9])
def test_a_teacher_that_raises_at_any_step_loses_and_doubles_nothing(place, times):
    assert faults.troubled(place, "raise", times) == (0, 0, 0)


def test_the_comparison_sees_what_is_lost_doubled_and_different(tmp_path):
    """Else the zeros above would mean nothing."""
    write_photos(tmp_path / "photos", 7)
    faults.run(tmp_path / "photos", tmp_path / "out")
    expected = list(records(tmp_path / "out"))
    for ending in (".tar", ".index.npy"):
        os.link(tmp_path / "out" / f"000001{ending}", tmp_path / "out" / f"000009{ending}")
        (tmp_path / "out" / f"000000{ending}").unlink()
    assert faults.compared(tmp_path / "out", expected) == (3, 3, 0)
    assert faults.compared(tmp_path / "out", [(name, "", b"") for name, *_ in expected])[2] == 4


WITH_TWO_PROCESSES = """
import sys
from pathlib import Path
from anygrain.annotate.engine import annotate
from anygrain.annotate.executors import Processes
from anygrain.annotate.photos import open_photos
from faults import CONFIG
from stub_steps import SLOW

if __name__ == "__main__":
    annotate(open_photos(sys.argv[1]), sys.argv[2], SLOW, config=CONFIG, executor=Processes(2))
"""


def test_killing_the_engine_ends_its_processes_and_loses_no_part(tmp_path):
    write_photos(tmp_path / "photos", 13)
    faults.run(tmp_path / "photos", tmp_path / "whole")
    out, flags, script = tmp_path / "out", tmp_path / "flags", tmp_path / "script.py"
    flags.mkdir()
    script.write_text(WITH_TWO_PROCESSES)
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    command = [sys.executable, str(script), str(tmp_path / "photos"), str(out)]
    environment = os.environ | {"PYTHONPATH": path, "FLAGS": str(flags)}
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 60
    while not list(out.glob("*.tar")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    there = list(records(out))
    assert there
    assert set(there) <= set(records(tmp_path / "whole"))
    workers = [int(flag.name) for flag in flags.iterdir()]
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    numbers = {part.number for part in read_parts(out)}
    subprocess.run(command, env=environment, check=True, timeout=60)
    assert sorted(records(out)) == sorted(records(tmp_path / "whole"))
    assert numbers < {part.number for part in read_parts(out)}
