"""The whole program through the real command: Ray, the table, kill -9, Ctrl-C. Slow fixtures have module scope."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

import orchestrator
from orchestrator.store.table import Table
from orchestrator.sweep.planner import run_flops
from tests.commands import command, isoflop
from tests.polling import line_with, table_shows, until
from trainer.checkpoints.checkpoints import storage_of

SWEEP = """\
sweep: line
data: {dataset: digits, dataset_size: [320, 1437]}
model: {family: b-mlp, depth: 1, width: [16, 32, 48]}
train: {lr: 2e-3, batch_size: 32, schedule: cosine}
budget: {epochs: 30}
seeds: 3
"""
LONG = """\
sweep: long
data: {dataset: digits}
model: {family: b-mlp, depth: 1, width: 16}
train: {lr: 2e-3, batch_size: 32, schedule: cosine}
budget: {epochs: 150}
"""
NUMBERS = ["error", "loss", "train_loss", "steps", "examples", "flops", "params", "state"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("line")
    (folder / "line.yaml").write_text(SWEEP)
    (folder / "long.yaml").write_text(LONG)
    return folder


ON_RAY = ("--slots", "2")


def start(
    folder: Path, store: str, *options: str, sweep: str = "line.yaml", on: tuple[str, str] = ON_RAY
) -> subprocess.Popen[str]:
    """The command that trains a sweep, by default on Ray."""
    words = command("run", sweep, "--store", store, *on, *options)
    return subprocess.Popen(words, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(folder: Path, store: str, sweep: str = "line.yaml") -> subprocess.CompletedProcess[str]:
    """The command that trains what is left of a sweep, in its own process."""
    return isoflop("run", sweep, "--store", store, "--executor", "inline", folder=folder)


def rows(folder: Path, store: str) -> pd.DataFrame:
    return orchestrator.results(folder / store).sort_values("run_id").set_index("run_id")


@pytest.fixture(scope="module")
def undisturbed(folder):
    ended = finish(folder, "undisturbed.db")
    assert ended.returncode == 0, ended.stderr
    return rows(folder, "undisturbed.db")


def wait_for_the_middle(folder: Path, store: str, process: subprocess.Popen[str]) -> None:
    """Returns once some runs are done and others are running."""

    def both(table: Table) -> bool:
        counts = table.counts()
        return bool(counts.get("done", 0) and counts.get("running", 0))

    table_shows(folder / store, both, process)


def workers_of(pid: int) -> list[int]:
    """The process numbers of Ray's actors among the descendants of a process."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    workers = []
    for child in parents:
        above = child
        while above in parents and above != pid:
            above = parents[above]
        if above == pid and b"ray::Worker" in Path(f"/proc/{child}/cmdline").read_bytes():
            workers.append(child)
    return workers


def busy_worker(folder: Path, store: str) -> int:
    """The process number of a worker that trains a run."""

    def pids(table: Table) -> list[float]:
        attempts = table.frame("attempts")
        return list(attempts[attempts["ended"].isna()]["pid"].dropna())

    return int(table_shows(folder / store, pids)[-1])


def assert_same(disturbed: pd.DataFrame, undisturbed: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(disturbed[NUMBERS], undisturbed[NUMBERS], check_exact=True)


def test_what_was_spent_is_what_was_planned(undisturbed):
    planned = {run.run_id: run_flops(run) for run in orchestrator.plan(orchestrator.read_sweep(SWEEP)).runs}
    assert dict(undisturbed["flops"]) == planned


def test_a_second_run_trains_nothing(folder, undisturbed):
    began = time.monotonic()
    ended = isoflop("run", "line.yaml", "--store", "undisturbed.db", folder=folder)
    assert ended.returncode == 0
    assert "0 of 18 runs to do" in ended.stderr
    assert "Ray" not in ended.stderr
    assert time.monotonic() - began < 30
    pd.testing.assert_frame_equal(rows(folder, "undisturbed.db"), undisturbed)


def test_a_killed_worker_changes_no_number(folder, undisturbed):
    process = start(folder, "worker.db")
    wait_for_the_middle(folder, "worker.db", process)
    os.kill(busy_worker(folder, "worker.db"), signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert_same(rows(folder, "worker.db"), undisturbed)
    with Table(folder / "worker.db") as table:
        assert "lost" in set(table.frame("attempts")["outcome"])


def test_a_killed_driver_changes_no_number(folder, undisturbed):
    process = start(folder, "driver.db")
    wait_for_the_middle(folder, "driver.db", process)
    process.kill()
    process.wait()
    before = rows(folder, "driver.db")
    assert (before["state"] == "running").any()
    ended = finish(folder, "driver.db")
    assert ended.returncode == 0, ended.stderr
    after = rows(folder, "driver.db")
    assert_same(after, undisturbed)
    done = before[before["state"] == "done"].index
    assert (after.loc[done, "attempt"] == 1).all()  # finished runs were not trained again
    history = orchestrator.history(folder / "driver.db")
    assert not history.duplicated(["run_id", "step"]).any()


def test_ctrl_c_leaves_within_seconds_and_the_same_command_goes_on(folder, undisturbed):
    process = start(folder, "stopped.db")
    wait_for_the_middle(folder, "stopped.db", process)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode == 130, output
    assert "run the same command to resume" in output
    states = rows(folder, "stopped.db")["state"].value_counts()
    assert set(states.index) == {"done", "queued"}
    assert finish(folder, "stopped.db").returncode == 0
    assert_same(rows(folder, "stopped.db"), undisturbed)


def test_a_second_ctrl_c_has_everything_queued_again_at_once(folder):
    process = start(folder, "twice.db")
    wait_for_the_middle(folder, "twice.db", process)
    process.send_signal(signal.SIGINT)
    line_with(process, "stopping")
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    counts = table_shows(
        folder / "twice.db", lambda table: None if table.counts().get("running", 0) else table.counts(), seconds=30
    )
    took = time.monotonic() - began
    output, _ = process.communicate(timeout=60)
    assert took < 2, output
    assert process.returncode == 130, output
    assert set(counts) == {"done", "queued"}


def test_the_queue_is_changed_from_another_terminal_while_it_is_trained(folder, undisturbed):
    """Cancel, retry, pause and resume through the real command; the numbers are those of an undisturbed sweep."""
    process = start(folder, "live.db", on=("--executor", "inline"))
    wait_for_the_middle(folder, "live.db", process)
    with Table(folder / "live.db") as table:
        waiting = table.listed("line", ["queued", "running"])[-1]["run_id"]

    def ask(*words: str) -> None:
        isoflop("queue", *words, "--store", "live.db", folder=folder).check_returncode()

    ask("pause", "line")
    ask("cancel", waiting)
    ask("prioritise", waiting, "--priority", "5")
    ask("resume", "line")
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    states = rows(folder, "live.db")["state"]
    assert set(states) <= {"done", "cancelled"}
    ask("retry", "line")
    assert finish(folder, "live.db").returncode == 0
    assert_same(rows(folder, "live.db"), undisturbed)


def wait_for_a_checkpoint(folder: Path, store: str, process: subprocess.Popen[str], after: int) -> int:
    """Waits for a checkpoint beyond a step of the store's only run and returns the step of the newest."""
    (run,) = orchestrator.plan(orchestrator.read_sweep(LONG)).runs

    def newest() -> int:
        steps = storage_of(folder / f"{store}.checkpoints").steps(run.run_id)
        return steps[0] if steps and steps[0] > after else 0

    return until(newest, process)


def test_a_long_run_goes_on_when_its_worker_and_then_its_driver_is_killed(folder):
    ended = finish(folder, "peace.db", "long.yaml")
    assert ended.returncode == 0, ended.stderr
    assert not list(folder.glob("peace.db.checkpoints/*"))
    process = start(folder, "long.db", "--checkpoint-every", "0.1", sweep="long.yaml")
    first = wait_for_a_checkpoint(folder, "long.db", process, 0)
    for victim in workers_of(process.pid):
        os.kill(victim, signal.SIGKILL)
    second = wait_for_a_checkpoint(folder, "long.db", process, first + 300)
    victims = workers_of(process.pid)  # an orphaned worker lives for seconds and could finish the run
    process.kill()
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    process.wait()
    ended = finish(folder, "long.db", "long.yaml")
    assert ended.returncode == 0, ended.stderr
    assert_same(rows(folder, "long.db"), rows(folder, "peace.db"))
    with Table(folder / "long.db") as table:
        attempts, flops = table.frame("attempts"), table.frame()["flops"].item()
    # The run may go to the other worker before that one is known to be dead: such an attempt has no process.
    attempts = attempts[attempts["pid"].notna()]
    assert list(attempts["outcome"]) == ["lost", "lost", "done"]
    steps = list(attempts["resumed_step"])
    assert steps[0] == 0
    assert first <= steps[1] < second <= steps[2]
    assert 0 < attempts["flops"].iloc[-1] < flops
    columns = ["step", "train_loss", "loss", "error", "flops"]
    killed, undisturbed = (orchestrator.history(folder / store)[columns] for store in ("long.db", "peace.db"))
    pd.testing.assert_frame_equal(killed, undisturbed, check_exact=True)
    assert not list(folder.glob("long.db.checkpoints/*"))


CHAIN = """\
sweep: chain
data: {dataset: digits, validation: 0.1}
model: {depth: 1, width: [16, 32]}
train: {batch_size: 64}
budget: {epochs: 3}
then:
  - {stage: probe, train: {preset: probe, batch_size: 64, lr: 1e-3}, budget: {epochs: 2}}
  - {stage: finetune, after: train, train: {preset: finetune, batch_size: 64}, budget: {epochs: 1}}
  - {stage: tta, train: {preset: tta, tta: 4}}
"""


def test_a_chain_is_the_same_on_ray_and_in_one_process(folder):
    (folder / "chain.yaml").write_text(CHAIN)
    process = start(folder, "ray.db", sweep="chain.yaml")
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    ended = finish(folder, "inline.db", "chain.yaml")
    assert ended.returncode == 0, ended.stderr
    on_ray, inline = rows(folder, "ray.db"), rows(folder, "inline.db")
    numbers = [*NUMBERS, "parent", "cell_id", "stage", "val_error", "top5_error"]
    pd.testing.assert_frame_equal(on_ray[numbers], inline[numbers])
    assert on_ray.groupby("stage").size().to_dict() == {"train": 2, "probe": 2, "finetune": 2, "tta": 2}
    assert (on_ray["state"] == "done").all()
    assert on_ray[on_ray["stage"] == "tta"]["flops"].sum() == 0
