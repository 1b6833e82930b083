"""Time to resume a sweep of 10,000 runs after kill -9 of its coordinator: from the executor to the first claim.

`./run python benchmarks/bench_resume.py [--rounds 3] [--profile]`

The real command `run` with Ray and two workers. A second after its first claim the coordinator is killed and
the same command is started again, `--rounds` times. Wall-clock times: median (smallest to largest).
"""

import argparse
import cProfile
import os
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_table import text

STEPS = ("typed", "executor up", "worker ready", "claimed")


def command(file: str, store: str, marks: str, *, profile: bool) -> None:
    """The command, in this process, with its steps written to a file as they are reached."""
    from orchestrator.cli import main as cli
    from orchestrator.scheduling.write_buffer import WriteBuffer
    from orchestrator.workers.ray_executor import RayExecutor

    profiler = cProfile.Profile()

    def marking(owner: Any, name: str, step: str) -> None:
        real = getattr(owner, name)

        def marked(*arguments: Any, **options: Any) -> Any:
            found = real(*arguments, **options)
            if step != "claimed" or found:
                with Path(marks).open("a") as out:
                    out.write(f"{time.monotonic()} {step}\n")
            if profile and step == "executor up":
                profiler.enable()
            if profile and step == "claimed" and found:
                profiler.disable()
                pstats.Stats(profiler, stream=sys.stderr).sort_stats("cumulative").print_stats(30)
            return found

        setattr(owner, name, marked)

    marking(RayExecutor, "__init__", "executor up")
    marking(RayExecutor, "_warmed", "worker ready")
    marking(WriteBuffer, "write", "claimed")
    sys.argv = ["isoflop", "run", file, "--store", store, "--slots", "2", "--no-canary"]
    cli.main()


def times(file: str, store: str, folder: Path, *, profile: bool) -> dict[str, float]:
    """Type the command, kill it a second after its first claim; when each step was first reached."""
    marks = folder / "marks"
    marks.unlink(missing_ok=True)
    words = [sys.executable, __file__, "--command", file, store, str(marks), *(["--profile"] if profile else [])]
    typed = time.monotonic()
    process = subprocess.Popen(words, stderr=None if profile else subprocess.DEVNULL)
    found = {"typed": typed}
    while "claimed" not in found:
        assert process.poll() is None, "the command ended"
        time.sleep(0.02)
        for line in marks.read_text().splitlines() if marks.exists() else ():
            moment, _, step = line.partition(" ")
            found.setdefault(step, float(moment))
    time.sleep(1)
    process.kill()
    process.wait()
    return found


def main() -> None:
    os.environ.setdefault("RAY_worker_niceness", "0")
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="print a profile instead of times")
    parser.add_argument("--command", nargs=3, metavar=("FILE", "STORE", "MARKS"))
    asked = parser.parse_args()
    if asked.command:
        command(*asked.command, profile=asked.profile)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, store = str(folder / "many.yaml"), str(folder / "many.db")
        Path(file).write_text(text())
        times(file, store, folder, profile=False)
        found = [times(file, store, folder, profile=asked.profile) for _ in range(asked.rounds)]
        print("| from | to the first claim, s |\n|---|---|")
        for step in STEPS[:-1]:
            took = np.array([one["claimed"] - one[step] for one in found])
            print(f"| {step} | {np.median(took):.2f} ({took.min():.2f} to {took.max():.2f}) |")


if __name__ == "__main__":
    main()
