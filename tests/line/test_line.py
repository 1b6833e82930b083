"""The whole program through the real command: Ray, the table, kill -9, Ctrl-C. Slow fixtures have module scope.

Wide models train slowly where a test says so: narrow ones are done and wide ones in training when a signal comes.
"""

import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import orchestrator
from orchestrator.store.table import Table
from orchestrator.sweep.planner import run_flops
from tests import paced
from tests.commands import Started, isoflop
from tests.polling import says, table_shows, until
from trainer.checkpoints.checkpoints import storage_of

SWEEP = f"""\
sweep: line
data: {{dataset: digits, dataset_size: [320, 1437]}}
model: {{family: b-mlp, depth: 1, width: [16, 32, 48]}}
train: {{optimizer: "{paced.ADAMW}", lr: 2e-3, batch_size: 32, schedule: cosine}}
budget: {{epochs: 10}}
seeds: 3
"""
CHAIN = f"""\
sweep: chain
data: {{dataset: digits, validation: 0.1}}
model: {{depth: 1, width: [16, 48]}}
train: {{optimizer: "{paced.ADAMW}", batch_size: 64}}
budget: {{epochs: 10}}
then:
  - {{stage: probe, train: {{preset: probe, batch_size: 64, lr: 1e-3}}, budget: {{epochs: 2}}}}
  - {{stage: finetune, after: train, train: {{preset: finetune, batch_size: 64}}, budget: {{epochs: 1}}}}
  - {{stage: tta, train: {{preset: tta, tta: 4}}}}
"""
WIDE = 20_000
"""Parameters that only models of width 48 have."""

NUMBERS = ["error", "loss", "train_loss", "steps", "examples", "flops", "params", "state"]
ON_RAY, INLINE = ("--executor", "ray", "--slots", "2"), ("--executor", "inline")
PROCESSES = ("--executor", "processes", "--slots", "2")
WORKERS = pytest.mark.parametrize(
    "workers", [PROCESSES, pytest.param(ON_RAY, marks=pytest.mark.slow)], ids=["processes", "ray"]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("line")
    (folder / "line.yaml").write_text(SWEEP)
    (folder / "chain.yaml").write_text(CHAIN)
    paced.write_optimizer(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture
def slow(folder):
    """Wide models train slowly."""
    paced.slow_down(folder, parameters=WIDE)
    yield
    paced.speed_up(folder)


def start(folder: Path, store: str, *options: str, sweep: str = "line.yaml") -> Started:
    """The command that trains a sweep."""
    return Started("run", sweep, "--store", store, *options, folder=folder)


def finish(folder: Path, store: str, sweep: str = "line.yaml") -> None:
    """Trains what is left of a sweep, at full speed."""
    ended = isoflop("run", sweep, "--store", store, *INLINE, folder=folder, UNPACED="1")
    assert ended.returncode == 0, ended.stderr


def rows(folder: Path, store: str) -> pd.DataFrame:
    return orchestrator.results(folder / store).sort_values("run_id").set_index("run_id")


@pytest.fixture(scope="module")
def undisturbed(folder):
    finish(folder, "undisturbed.db")
    return rows(folder, "undisturbed.db")


def wait_for_the_middle(folder: Path, store: str, process: Started, model: str = "") -> dict[str, Any]:
    """Returns a run of a model that is in training on a worker, once other runs are done."""

    def one(table: Table) -> dict[str, Any] | None:
        training = (run for run in table.running() if run["pid"] and model in run["model"])
        return next(training, None) if table.counts().get("done", 0) else None

    return table_shows(folder / store, one, process)


def assert_same(disturbed: pd.DataFrame, undisturbed: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(disturbed[NUMBERS], undisturbed[NUMBERS], check_exact=True)


def test_what_was_spent_is_what_was_planned(undisturbed):
    planned = {run.run_id: run_flops(run) for run in orchestrator.plan(orchestrator.read_sweep(SWEEP)).runs}
    assert dict(undisturbed["flops"]) == planned


def test_a_second_run_trains_nothing(folder, undisturbed):
    ended = isoflop("run", "line.yaml", "--store", "undisturbed.db", folder=folder)
    assert ended.returncode == 0
    assert "0 of 18 runs to do" in ended.stderr
    assert "Ray" not in ended.stderr
    pd.testing.assert_frame_equal(rows(folder, "undisturbed.db"), undisturbed)


@WORKERS
def test_a_killed_worker_changes_no_number_of_a_chain_and_its_run_goes_on_from_its_checkpoint(
    folder, slow, workers
):
    store, calm = f"worker-{workers[1]}.db", f"peace-{workers[1]}.db"
    saved = storage_of(folder / f"{store}.checkpoints")
    with start(folder, store, *workers, "--checkpoint-every", "0", sweep="chain.yaml") as process:
        wide = wait_for_the_middle(folder, store, process, "Wi-48")
        step = until(lambda: saved.begun().get(wide["run_id"], 0), process)
        os.kill(wide["pid"], signal.SIGKILL)
        table_shows(folder / store, lambda table: "lost" in set(table.frame("attempts")["outcome"]), process)
        paced.speed_up(folder)
        output = process.ended()
    assert process.returncode == 0, output
    finish(folder, calm, "chain.yaml")
    killed, peace = rows(folder, store), rows(folder, calm)
    numbers = [*NUMBERS, "parent", "cell_id", "stage", "val_error", "top5_error"]
    pd.testing.assert_frame_equal(killed[numbers], peace[numbers])
    assert killed.groupby("stage").size().to_dict() == {"train": 2, "probe": 2, "finetune": 2, "tta": 2}
    assert (killed["state"] == "done").all()
    assert killed[killed["stage"] == "tta"]["flops"].sum() == 0
    with Table(folder / store) as table:
        attempts = table.frame("attempts")
    attempts = attempts[attempts["run_id"] == wide["run_id"]]
    assert list(attempts["outcome"]) == ["lost", "done"]
    assert step <= attempts["resumed_step"].iloc[-1] < killed.loc[wide["run_id"], "steps"]
    assert 0 < attempts["flops"].iloc[-1] < killed.loc[wide["run_id"], "flops"]
    columns = ["run_id", "step", "train_loss", "loss", "error", "flops"]
    one, other = (
        orchestrator.history(folder / name)[columns].sort_values(["run_id", "step"], ignore_index=True)
        for name in (store, calm)
    )
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert saved.begun() == {}


@pytest.mark.parametrize("workers", [PROCESSES, ON_RAY], ids=["processes", "ray"])
def test_a_killed_driver_changes_no_number(folder, undisturbed, slow, workers):
    """Its workers end with it, or the next command ends them."""
    store = f"driver-{workers[1]}.db"
    saved = storage_of(folder / f"{store}.checkpoints")
    with start(folder, store, *workers, "--checkpoint-every", "0") as process:
        wide = wait_for_the_middle(folder, store, process, "Wi-48")
        step = until(lambda: saved.begun().get(wide["run_id"], 0), process)
        process.kill()
    before = rows(folder, store)
    assert before.loc[wide["run_id"], "state"] == "running"
    finish(folder, store)
    after = rows(folder, store)
    assert_same(after, undisturbed)
    done = before[before["state"] == "done"].index
    assert (after.loc[done, "attempt"] == 1).all()  # finished runs were not trained again
    with Table(folder / store) as table:
        attempts = table.frame("attempts")
    assert attempts[attempts["run_id"] == wide["run_id"]]["resumed_step"].iloc[-1] >= step
    history = orchestrator.history(folder / store)
    assert not history.duplicated(["run_id", "step"]).any()


@WORKERS
def test_ctrl_c_stops_what_does_not_end_soon_and_the_same_command_goes_on(folder, undisturbed, slow, workers):
    store = f"stopped-{workers[1]}.db"
    with start(folder, store, *workers) as process:
        wait_for_the_middle(folder, store, process, "Wi-48")
        process.interrupt()
        output = process.ended()
    assert process.returncode == 130, output
    assert "run the same command to resume" in output
    states = rows(folder, store)["state"]
    assert set(states) == {"done", "queued"}
    finish(folder, store)
    assert_same(rows(folder, store), undisturbed)


@pytest.mark.parametrize(
    "how",
    [INLINE, PROCESSES, pytest.param(ON_RAY, marks=pytest.mark.slow)],
    ids=["inline", "processes", "ray"],
)
def test_a_second_ctrl_c_has_everything_queued_again_though_nothing_ends(folder, slow, how):
    paced.slow_down(folder, seconds=1e6, parameters=WIDE)
    with start(folder, f"{how[1]}.db", *how) as process:
        wait_for_the_middle(folder, f"{how[1]}.db", process, "Wi-48")
        process.interrupt()
        says(process, "stopping")
        output = process.interrupt_until_ended()
    assert process.returncode == 130, output
    assert set(rows(folder, f"{how[1]}.db")["state"]) == {"done", "queued"}


def test_the_queue_is_changed_from_another_terminal_while_it_is_trained(folder, undisturbed, slow):
    """Cancel, retry, pause and resume through the real command; the numbers are those of an undisturbed sweep."""

    def ask(*words: str) -> None:
        isoflop("queue", *words, "--store", "live.db", folder=folder).check_returncode()

    def last_waiting(table: Table) -> str | None:
        queued = table.listed("line", ["queued"]) if table.running() else []
        return queued[-1]["run_id"] if queued else None

    paced.slow_down(folder)  # all of them: the last stack leaves nothing queued
    with start(folder, "live.db", *INLINE) as process:
        waiting = table_shows(folder / "live.db", last_waiting, process)
        ask("pause", "line")
        ask("cancel", waiting)
        ask("resume", "line")
        paced.speed_up(folder)
        output = process.ended()
    assert process.returncode == 0, output
    states = rows(folder, "live.db")["state"]
    assert states.pop(waiting) == "cancelled"
    assert set(states) == {"done"}
    ask("retry", "line")
    finish(folder, "live.db")
    assert_same(rows(folder, "live.db"), undisturbed)
