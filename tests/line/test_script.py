"""A script that calls orchestrator.run, with Ray and without a guard of its main module: Ctrl-C, kill -9, again."""

import signal
import subprocess
import sys

import pytest

import orchestrator
from orchestrator.store.table import Table
from tests.polling import table_shows

SWEEP = """\
sweep: script
data: {dataset: digits}
model: {family: b-mlp, depth: 1, width: [16, 32]}
train: {lr: 2e-3, batch_size: 32, schedule: cosine}
budget: {epochs: 100}
seeds: 2
"""
SCRIPT = """\
import orchestrator

progress = orchestrator.run("script.yaml", "script.db", slots=1, checkpoint_every=0.1, smoke_test=False)
print(progress)
print(orchestrator.run("script.yaml", "again.db", slots=1, smoke_test=False))  # Ray starts a second time
"""
NUMBERS = ["error", "loss", "train_loss", "steps", "flops", "state"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "script.yaml").write_text(SWEEP)
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(store):
    return orchestrator.results(store).sort_values("run_id").set_index("run_id")[NUMBERS]


def begun(folder):
    """The script, once a run is in training and has made records."""
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )

    def trains(table: Table) -> bool:
        return any(run["step"] for run in table.running())

    table_shows(folder / "script.db", trains, process)
    return process


def test_a_script_is_interrupted_killed_and_run_again_and_its_numbers_are_those_of_an_undisturbed_run(folder):
    process = begun(folder)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Interrupted: interrupted; the same call resumes" in said
    halted = orchestrator.progress(folder / "script.db")
    assert halted.running == 0
    assert halted.ended < halted.runs
    process = begun(folder)
    process.kill()
    process.communicate()
    ended = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    assert [line.split("  ")[:2] for line in ended.stdout.splitlines()] == [["script", "4/4 runs"]] * 2
    assert ended.stderr == ""
    orchestrator.run("script.yaml", "whole.db", executor="inline", device="cpu", smoke_test=False)
    assert rows("script.db").equals(rows("whole.db"))
    assert rows("again.db").equals(rows("whole.db"))


def test_the_callers_own_ray_is_used_when_asked_for_and_left_running(folder):
    (folder / "own.py").write_text(
        "import ray, orchestrator\n"
        "ray.init(address='local', num_cpus=1, include_dashboard=False, log_to_driver=False)\n"
        "try: orchestrator.run('script.yaml', 'own.db', slots=1, smoke_test=False)\n"
        "except orchestrator.UserError as error: print(error)\n"
        "print(orchestrator.run('script.yaml', 'own.db', slots=1, smoke_test=False, address='auto').done)\n"
        "print(ray.get(ray.remote(lambda: 'still here').remote()))\n"
    )
    ended = subprocess.run([sys.executable, "own.py"], capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    refusal, *rest = ended.stdout.splitlines()
    assert refusal.startswith("Ray is initialised in this process already; pass address='auto' to train on it")
    assert rest == ["4", "still here"]
