"""Random kill -9 of coordinator and workers: finished runs stay finished, and no number changes.

`./run python benchmarks/bench_kills.py [--kills 50] [--epochs 12] [--seeds 40] [--dice 0]`

A sweep of many short runs is trained through the real command and Ray while a process is killed about every second,
half of the time within 0.2 s after a run has ended; a killed coordinator is started again. After each
kill the table is checked: no finished run has left that state or was started again. At the end all numbers
equal those of the same sweep undisturbed, bit for bit, histories included.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

import orchestrator
from orchestrator import Table, TableError

SWEEP = """\
sweep: kills
data: {dataset: digits, dataset_size: [720, 1437]}
model: {depth: 1, width: [16, 20, 24, 28, 32, 36, 40, 48]}
train: {lr: 2e-3, batch_size: 32, schedule: cosine}
budget: {epochs: %d}
seeds: %d
"""
NUMBERS = ["state", "error", "loss", "train_loss", "steps", "examples", "flops", "params"]
RECORDED = ["run_id", "step", "train_loss", "loss", "error", "flops"]


def command(folder: Path, store: str, *options: str) -> subprocess.Popen[str]:
    said = ["run", "kills.yaml", "--store", store, "--no-canary", *options]
    words = [sys.executable, "-c", "from orchestrator.cli.main import main; main()", *said]
    return subprocess.Popen(words, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(folder: Path, store: str, *options: str) -> None:
    process = command(folder, store, *options)
    said, _ = process.communicate()
    assert process.returncode == 0, said


def in_training(store: Path) -> list[int]:
    """Process numbers of the workers that train, according to the table."""
    try:
        with Table(store) as table:
            return sorted({row["pid"] for row in table.running() if row["pid"]})
    except TableError:
        return []


def done(store: Path) -> pd.DataFrame:
    frame = orchestrator.results(store).set_index("run_id")
    return frame[frame["state"] == "done"][["attempt", *NUMBERS]]


def moment(store: Path, process: subprocess.Popen[str], dice: random.Random) -> None:
    """Waits for a random moment during training: any, or just after some runs have ended."""
    while not in_training(store) and process.poll() is None:
        time.sleep(0.02)
    if dice.random() < 0.5:
        time.sleep(dice.expovariate(1.0))
        return
    with Table(store) as table:
        wanted = table.counts().get("done", 0) + dice.randint(1, 6)
        while table.counts().get("done", 0) < wanted and process.poll() is None:
            time.sleep(0.01)
    time.sleep(dice.uniform(0, 0.2))


def storm(folder: Path, kills: int, dice: random.Random) -> dict[str, int]:
    """Kills processes `kills` times or until the sweep ends; returns the counts of kills and of finished runs."""
    store, before = folder / "killed.db", pd.DataFrame()
    seen = dict.fromkeys(("coordinators", "workers", "flying", "after"), 0)
    process = command(folder, store.name, "--slots", "2", "--checkpoint-every", "0.2")
    while seen["coordinators"] + seen["workers"] < kills:
        moment(store, process, dice)
        if process.poll() is not None:
            break
        with Table(store) as table:
            flying = len(table.running())
        if dice.random() < 0.4:
            process.kill()
            process.wait()
            seen["coordinators"] += 1
            process = command(folder, store.name, "--slots", "2", "--checkpoint-every", "0.2")
        elif pids := in_training(store):
            with contextlib.suppress(ProcessLookupError):  # it ended already, with an earlier coordinator
                os.kill(dice.choice(pids), signal.SIGKILL)
                seen["workers"] += 1
        now = done(store)
        lost = before.index.difference(now.index)
        assert lost.empty, f"{len(lost)} finished runs are no longer done"
        if len(before):
            # Columns are float64 while a run is unfinished, int64 afterwards.
            pd.testing.assert_frame_equal(now.loc[before.index], before, check_dtype=False, check_exact=True)
        seen["flying"] += flying
        seen["after"] += len(now) > len(before)
        before = now
        print(f"kill {seen['coordinators'] + seen['workers']}: {len(now)} done", file=sys.stderr, flush=True)
    seen["done"] = len(before)
    process.communicate()
    return seen


def check(folder: Path) -> tuple[int, int]:
    """Compares the two tables; returns the number of runs, and of attempts in the disturbed sweep."""
    killed, quiet = (orchestrator.results(folder / name).set_index("run_id") for name in ("killed.db", "quiet.db"))
    unfinished = killed.index[killed["state"] != "done"]
    assert unfinished.empty, f"{len(unfinished)} runs are {', '.join(sorted(set(killed['state'][unfinished])))}"
    pd.testing.assert_frame_equal(killed[NUMBERS], quiet[NUMBERS], check_dtype=False, check_exact=True)
    histories = [
        orchestrator.history(folder / name).sort_values(["run_id", "step"], ignore_index=True)[RECORDED]
        for name in ("killed.db", "quiet.db")
    ]
    pd.testing.assert_frame_equal(*histories, check_dtype=False, check_exact=True)
    with Table(folder / "killed.db") as table:
        attempts = table.frame("attempts")
    assert (attempts[attempts["outcome"] == "done"]["run_id"].value_counts() == 1).all()
    return len(killed), len(attempts)


def main() -> None:
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would starve them beside other programs
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--dice", type=int, default=0, help="seed of the random moments")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kills.yaml").write_text(SWEEP % (asked.epochs, asked.seeds))
        finish(folder, "quiet.db", "--slots", "2")
        began = time.monotonic()
        seen = storm(folder, asked.kills, random.Random(asked.dice))
        finish(folder, "killed.db", "--slots", "2", "--retry-failed")
        runs, attempts = check(folder)
        with Table(folder / "killed.db") as table:
            (row,) = table.sweeps()
        lost, took = row["wasted_flops"] / row["flops"], time.monotonic() - began
        print(f"{seen['coordinators']} coordinators and {seen['workers']} workers killed in {took:.0f} s")
        print(f"{seen['flying']} runs in flight then; {seen['done']} were done when the kills ended")
        print(f"{seen['after']} kills came when more runs were done than at the one before")
        print(f"{runs} runs, each done once, in {attempts} attempts; numbers equal the undisturbed ones")
        print(f"{lost:.1%} of the FLOPs were lost with what had not been saved")


if __name__ == "__main__":
    main()
