"""A script that calls orchestrator.run, with Ray and without a guard of its main module: Ctrl-C, kill -9, again."""

import subprocess
import sys

import pytest

import orchestrator
from tests import paced
from tests.commands import LIMIT, Started
from tests.polling import table_shows

SWEEP = f"""\
sweep: script
data: {{dataset: digits}}
model: {{family: b-mlp, depth: 1, width: 16}}
train: {{optimizer: "{paced.ADAMW}", lr: 2e-3, batch_size: 32, schedule: cosine}}
budget: {{epochs: 20}}
seeds: 2
"""
OPTIONS = "slots=1, checkpoint_every=0.1, smoke_test=False"
SCRIPT = f"""\
import orchestrator

print(orchestrator.run("script.yaml", "script.db", {OPTIONS}, executor="EXECUTOR"))
"""
TWICE = f"""\
import orchestrator

for store in ("a.db", "b.db"):
    print(orchestrator.run("script.yaml", store, executor="ray", {OPTIONS}).done)
"""
OWN = f"""\
import orchestrator, ray

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
try:
    orchestrator.run("script.yaml", "own.db", executor="ray", {OPTIONS})
except orchestrator.UserError as error:
    print(error)
print(orchestrator.run("script.yaml", "own.db", address="auto", {OPTIONS}).done)
print(ray.get(ray.remote(lambda: "still here").remote()))
"""
NUMBERS = ["error", "loss", "train_loss", "steps", "flops", "state"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "script.yaml").write_text(SWEEP)
    paced.write_optimizer(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray, started by the caller, keeps a token
    return tmp_path


def rows(store):
    return orchestrator.results(store).sort_values("run_id").set_index("run_id")[NUMBERS]


def undisturbed():
    orchestrator.run("script.yaml", "whole.db", executor="inline", device="cpu", smoke_test=False)
    return rows("whole.db")


def started(folder):
    return Started(path="script.py", folder=folder)


def wait_for_a_record(folder, process):
    """Returns once a run is in training and has made records."""
    table_shows(folder / "script.db", lambda table: any(run["step"] for run in table.running()), process)


def ended(source):
    """What a script has printed, at its end."""
    words = [sys.executable, "-c", source]
    process = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("executor", ["inline", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_script_that_is_interrupted_and_killed_resumes_to_the_numbers_of_an_undisturbed_run(folder, executor):
    paced.slow_down(folder)  # 900 steps outlast the 5 s that Ctrl-C grants
    script = SCRIPT.replace("EXECUTOR", executor)
    (folder / "script.py").write_text(script)
    with started(folder) as process:
        wait_for_a_record(folder, process)
        process.interrupt()
        output = process.ended()
    assert process.returncode != 0
    assert "Interrupted: interrupted; the same call resumes" in output
    halted = orchestrator.progress(folder / "script.db")
    assert halted.running == 0
    assert halted.ended < halted.runs
    with started(folder) as process:
        wait_for_a_record(folder, process)
        process.kill()
    paced.speed_up(folder)
    (line,) = ended(script)
    assert line.startswith("script  2/2 runs")
    assert rows("script.db").equals(undisturbed())


@pytest.mark.slow
def test_two_calls_in_one_process_each_start_ray_and_agree(folder):
    assert ended(TWICE) == ["2", "2"]
    assert rows("a.db").equals(rows("b.db"))


@pytest.mark.slow
def test_the_callers_own_ray_is_used_when_asked_for_and_left_running(folder):
    refusal, *rest = ended(OWN)
    assert refusal.startswith("Ray is initialised in this process already; pass address='auto' to train on it")
    assert rest == ["2", "still here"]
