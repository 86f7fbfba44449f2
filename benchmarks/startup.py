"""How much CPU time it costs to begin: ``python benchmarks/startup.py [RUNS]``. Exit status 1 past the limits."""

import os
import subprocess
import sys

LIMITS = {"import anygrain": 0.2, "anygrain --help": 0.4, "anygrain segment --help": 0.4}  # seconds of CPU
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import anygrain": [sys.executable, "-c", "import anygrain"],
    "anygrain --help": [sys.executable, "-m", "anygrain", "--help"],
    "anygrain segment --help": [sys.executable, "-m", "anygrain", "segment", "--help"],
}


def cpu_seconds(command: list[str]) -> float:
    """User and system time of one run."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    best = {name: min(cpu_seconds(command) for _ in range(runs)) for name, command in COMMANDS.items()}
    bare = best["python -c pass"]
    print(f"{'best of ' + str(runs):28} {'CPU s':>7} {'x bare':>7} {'limit':>7}")
    for name, seconds in best.items():
        limit = f"{LIMITS[name]:.2f}" if name in LIMITS else ""
        print(f"{name:28} {seconds:7.3f} {seconds / bare:7.1f} {limit:>7}")
    slow = [name for name, limit in LIMITS.items() if best[name] > limit]
    if slow:
        print(f"too slow: {', '.join(slow)}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
