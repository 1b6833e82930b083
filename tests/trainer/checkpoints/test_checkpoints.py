"""Runs that are stopped or killed anywhere and go on: with the numbers, to the last bit, of a run left in peace."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.store.table import Table
from tests import paced
from tests.commands import Started, isoflop
from tests.polling import until
from tests.trainer.reference import forward, let_look, numbers, running, slots
from trainer import RunSpec, cost, train
from trainer.checkpoints.checkpoints import Checkpoints, State, kept_parameters, storage_of
from trainer.data import datasets
from trainer.data.batches import on_device
from trainer.result import Resumed
from trainer.training.loop import training

QUICK = settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
LOOK, STEPS = 8, 60
RUN = RunSpec(width=16, batch_size=32, examples=32 * STEPS, weight_decay=0.01, lr=3e-3)


@pytest.fixture(autouse=True, scope="module")
def _look_often():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.training.loop.LOOK", LOOK)
        patch.setattr("trainer.training.loop.SOON", math.inf)
        yield


def stop_after(looks):
    """A `should_stop` that says so at the given look."""
    asked = iter(range(looks + 1))
    return lambda: next(asked, looks) >= looks


def go(specs, folder, **options):
    return train(specs, device="cpu", evaluations=4, checkpoints=folder, **options)


def in_peace(specs):
    return train(specs, device="cpu", evaluations=4)


def resolved_run():
    return datasets.resolve(RUN, datasets.describe(RUN))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def stopped(folder, looks=3, spec=RUN):
    """The id of a run that was stopped and lies in the folder at two steps."""
    result = go(spec, folder, should_stop=stop_after(looks), every=0)
    assert result.state == "cancelled"
    return result.run_id


@pytest.fixture(scope="module")
def undisturbed():
    return numbers(in_peace(RUN))


# stopped and resumed


def members(optimizer, **more):
    return [
        replace(RUN, optimizer=optimizer, **more, seed=1, lr=1e-3, momentum=0.0),
        replace(RUN, optimizer=optimizer, **more, seed=2, lr=3e-3, schedule="cosine", warmup=0.1, dataset_size=100),
        replace(RUN, optimizer=optimizer, **more, seed=3, lr=1e-3, schedule="wsd", weight_decay=0.1),
    ]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion"])
@pytest.mark.parametrize("looks", [0, 2, 4])
def test_a_run_goes_on_in_any_company_as_if_never_stopped(tmp_path, optimizer, looks):
    specs = members(optimizer)
    expected = [numbers(in_peace(spec)) for spec in specs]
    cut = go(specs, tmp_path, should_stop=stop_after(looks))
    assert {result.state for result in cut} == {"cancelled"}
    alone = go(specs[1], tmp_path)
    others = go([specs[2], specs[0]], tmp_path)
    assert [numbers(result) for result in (others[1], alone, others[0])] == expected
    assert files(tmp_path) == []


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (107, 6, 6, 3), dtype=np.uint8), np.arange(107) % 3
    np.savez(tmp_path / "p.npz", x_train=x[:100], y_train=y[:100], x_test=x[100:], y_test=y[100:])
    return {"dataset": "pictures", "path": str(tmp_path / "p.npz"), "augment": "flip+crop", "label_smoothing": 0.1}


def test_augmentation_goes_on_where_it_was(tmp_path, pictures):
    specs = members("lion", **pictures)
    expected = [numbers(result) for result in in_peace(specs)]
    go(specs, tmp_path / "c", should_stop=stop_after(1))
    assert [numbers(result) for result in go(specs, tmp_path / "c")] == expected


@QUICK
@given(stops=st.lists(st.integers(0, 3), max_size=4), every=st.sampled_from([0.0, 60.0]))
def test_any_number_of_stops_changes_nothing(tmp_path, undisturbed, stops, every):
    shutil.rmtree(tmp_path / "c", ignore_errors=True)
    for looks in stops:
        if go(RUN, tmp_path / "c", should_stop=stop_after(looks), every=every).state == "done":
            break
    assert numbers(go(RUN, tmp_path / "c", every=every)) == undisturbed
    assert files(tmp_path / "c") == []


def test_runs_saved_at_different_steps_go_on_as_one_stack(tmp_path):
    specs = members("adamw")
    expected = [numbers(result) for result in in_peace(specs)]
    go(specs[0], tmp_path, should_stop=stop_after(1))
    go(specs[2], tmp_path, should_stop=stop_after(3))
    resumed = {}
    going = training(specs, device="cpu", evaluations=4, checkpoints=tmp_path)
    while True:
        try:
            event = next(going)
        except StopIteration as end:
            results = end.value
            break
        if isinstance(event, Resumed):
            resumed[event.run_id] = event.step
    assert [numbers(result) for result in results] == expected
    assert [resumed.get(result.run_id) for result in results] == [2 * LOOK, None, 4 * LOOK]
    assert max(result.stack for result in results) == 3  # which shrinks as they end


def test_a_killed_process_loses_the_time_since_its_last_checkpoint_and_nothing_else(tmp_path, undisturbed):
    with running(RUN, str(tmp_path), LOOK) as process:
        let_look(process)
        run_id = json.loads(undisturbed.split("run_id=")[1].split(",")[0].replace("'", '"'))
        until(lambda: storage_of(tmp_path).steps(run_id) == [2 * LOOK, LOOK], process)
        os.kill(process.pid, signal.SIGKILL)
    assert numbers(go(RUN, tmp_path)) == undisturbed


def test_seconds_go_on_from_the_checkpoint_and_records_are_handed_on_once(tmp_path):
    handed = []
    first = go(RUN, tmp_path, should_stop=stop_after(3), on_record=handed.append)
    sidecar = next(tmp_path.rglob("*.json"))
    spent = json.loads(sidecar.read_text())["said"]["seconds"]
    assert spent >= first.history[-1].seconds
    end = go(RUN, tmp_path, on_record=handed.append)
    assert tuple(handed) == end.history
    assert end.seconds > spent
    assert [r.seconds for r in end.history] == sorted(r.seconds for r in end.history)


def test_a_diverged_run_leaves_no_checkpoint(tmp_path):
    bad = replace(RUN, optimizer="sgd", lr=1e30)
    good = replace(RUN, optimizer="sgd", seed=1)
    results = go([bad, good], tmp_path, every=0, should_stop=stop_after(3))
    assert [result.state for result in results] == ["diverged", "cancelled"]
    assert {name.split("/")[0] for name in files(tmp_path)} == {results[1].run_id}


# what lies in the folder


def test_the_checkpoint_before_is_kept_and_older_ones_go(tmp_path):
    run_id = stopped(tmp_path)
    two = [f"{run_id}/{step}.{kind}" for step in (3 * LOOK, 4 * LOOK) for kind in ("json", "safetensors")]
    assert files(tmp_path) == sorted(two)
    assert storage_of(tmp_path).steps(run_id) == [4 * LOOK, 3 * LOOK]


def newest_step(folder, run_id, caplog):
    """Where the run goes on, and the lines that this makes."""
    caplog.clear()
    first = next(training([RUN], device="cpu", checkpoints=folder))
    assert first.run_id == run_id
    return (first.step if isinstance(first, Resumed) else 0), [r.getMessage() for r in caplog.records]


def damages(size):
    """One of every class of lengths that a torn file may have."""
    return sorted({0, 1, 7, 8, 9, size // 2, size - 1})


@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_a_torn_checkpoint_is_refused_and_the_one_before_used(tmp_path, caplog, kind):
    run_id = stopped(tmp_path)
    path = tmp_path / run_id / f"{4 * LOOK}.{kind}"
    whole = path.read_bytes()
    for length in damages(len(whole)):
        path.write_bytes(whole[:length])
        step, said = newest_step(tmp_path, run_id, caplog)
        assert step == 3 * LOOK
        assert len(said) == 1
        assert f"{4 * LOOK}.json is refused: " in said[0]
        assert "\n" not in said[0]
    path.unlink()
    assert newest_step(tmp_path, run_id, caplog)[0] == 3 * LOOK


@QUICK
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_noticed(tmp_path, data):
    run = resolved_run()
    if not (tmp_path / run.run_id).exists():
        stopped(tmp_path, looks=0)
    path = tmp_path / run.run_id / f"{LOOK}.{data.draw(st.sampled_from(['json', 'safetensors']))}"
    whole = path.read_bytes()
    place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
    saved = Checkpoints(tmp_path, 60, ("cpu", 1))
    assert saved.newest(run) is None
    path.write_bytes(whole)
    assert saved.newest(run).step == LOOK


def rewrite(sidecar, **changes):
    """Change what a JSON says, its checksum made good."""
    said = {**json.loads(sidecar.read_text())["said"], **changes}
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    sidecar.write_text(json.dumps({"said": said, "sha256": digest}))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"run_id": "0" * 32}, "belongs to run 0000"), ({"format": 99}, "format is 99"), ({"history": [{}]}, "")],
)
def test_a_foreign_checkpoint_is_refused(tmp_path, caplog, undisturbed, changes, complaint):
    run_id = stopped(tmp_path)
    for step in (3 * LOOK, 4 * LOOK):
        rewrite(tmp_path / run_id / f"{step}.json", **changes)
    step, said = newest_step(tmp_path, run_id, caplog)
    assert step == 0
    assert len(said) == 2
    assert all(complaint in line for line in said)
    assert numbers(go(RUN, tmp_path)) == undisturbed


@pytest.mark.parametrize("missing", ["row", "loss_sum", "optimizer.0.step", "optimizer.0.exp_avg"])
def test_a_checkpoint_that_lacks_a_tensor_is_refused(tmp_path, caplog, missing):
    run_id = stopped(tmp_path)
    data = tmp_path / run_id / f"{4 * LOOK}.safetensors"
    tensors = {name: value.clone() for name, value in safetensors.torch.load_file(data).items()}
    del tensors[missing]
    safetensors.torch.save_file(tensors, data)
    rewrite(data.with_suffix(".json"), sha256=hashlib.sha256(data.read_bytes()).hexdigest())
    step, said = newest_step(tmp_path, run_id, caplog)
    assert step == 3 * LOOK
    assert f"it lacks {missing}" in said[0]


def test_another_thread_count_goes_on_and_says_so(tmp_path, caplog):
    run_id = stopped(tmp_path)
    rewrite(tmp_path / run_id / f"{4 * LOOK}.json", threads=7, device="a GPU")
    step, said = newest_step(tmp_path, run_id, caplog)
    assert step == 4 * LOOK
    assert "on cpu with 1 threads after a GPU with 7" in said[0]


# a disk that is full


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.write_text", "safetensors.torch.save_file"])
def test_a_full_disk_costs_a_warning_and_no_number(tmp_path, monkeypatch, caplog, undisturbed, broken):
    run_id = stopped(tmp_path, looks=1)
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(broken, full)
        result = go(RUN, tmp_path, every=0, should_stop=stop_after(2))
        assert (result.state, result.steps) == ("cancelled", 5 * LOOK)
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings
    assert all("No space left on device; training goes on" in warning for warning in warnings)
    assert files(tmp_path) == before  # the last good one is still there, and nothing half-written
    assert storage_of(tmp_path).steps(run_id)[0] == 2 * LOOK
    assert numbers(go(RUN, tmp_path)) == undisturbed


def test_a_stack_is_saved_as_one_or_not_at_all(tmp_path, monkeypatch):
    specs = members("adamw")
    writes = []
    real = safetensors.torch.save_file

    def third_fails(tensors, path):
        writes.append(path)
        return full() if len(writes) == 3 else real(tensors, path)

    monkeypatch.setattr(safetensors.torch, "save_file", third_fails)
    go(specs, tmp_path, should_stop=stop_after(0))
    assert len(writes) == 3
    assert files(tmp_path) == []


# when


class Simulated:
    """Storage whose writes take so many seconds of the caller and of another thread, on a clock of its own."""

    busy, seconds = False, 0.0

    def __init__(self, waits, works, *, eager):
        self.now, self.eager, self._waits, self._works = 0.0, eager, waits, works

    def write(self, _):
        self.now += self._waits
        self.seconds += self._works


def saved_at(seconds, monkeypatch, *, every=20.0, waits=0.0, works=0.004, eager=True, steps=4000, others=0.0):
    """The times at which a run of so many seconds and steps is saved, and its storage.

    Other programs have the core for a share of the time.
    """
    storage = Simulated(waits, works, eager=eager)
    monkeypatch.setattr(time, "monotonic", lambda: storage.now)
    monkeypatch.setattr("trainer.checkpoints.checkpoints.seconds_without_core", lambda: others * storage.now)
    saver = Checkpoints(None, every, ("cpu", 1))
    saver.storage = storage  # type: ignore[assignment]
    run, times = replace(resolved_run(), steps=steps), []
    for step in range(1, steps):
        storage.now += seconds / steps
        if saver.due([run], seconds / steps):
            times.append(storage.now)
            saver.save([(run, State(step, 0, 0.0, (), {}))])
    return times, storage


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seconds=st.floats(0.2, 5e4), works=st.floats(1e-4, 0.3), waits=st.floats(0, 0.1), eager=st.booleans())
def test_a_kill_costs_20_s_or_a_tenth_and_saving_a_fiftieth(monkeypatch, seconds, works, waits, eager):
    times, storage = saved_at(seconds, monkeypatch, waits=waits, works=works, eager=eager)
    price = works + waits
    gaps = np.diff([0.0, *times, storage.now])
    assert len(times) * price <= 0.02 * storage.now + price
    affordable = (price + 0.004) / 0.02 + waits
    tenth = min(20.0, seconds / 10) if eager else 20.0
    assert max(gaps) <= max(tenth, affordable) + waits + 2 * seconds / 4000


def test_what_other_programs_take_of_the_core_is_no_time_of_the_run(monkeypatch):
    """Three quarters of it, say: then saving takes a fiftieth of the rest."""
    alone, _ = saved_at(100.0, monkeypatch, works=0.1)
    times, storage = saved_at(100.0, monkeypatch, works=0.1, others=0.75)
    assert len(times) * 0.1 <= 0.02 * 0.25 * storage.now + 0.1
    assert 2 <= len(times) < len(alone)


def test_runs_of_a_second_are_saved_and_runs_of_a_tenth_are_not(monkeypatch):
    assert len(saved_at(1.0, monkeypatch)[0]) >= 3
    assert saved_at(0.1, monkeypatch)[0] == []


def test_behind_a_url_a_run_is_saved_no_more_often_than_asked(monkeypatch):
    assert saved_at(15.0, monkeypatch, eager=False)[0] == []
    assert saved_at(50.0, monkeypatch, eager=False)[0] == pytest.approx([20, 40], abs=0.1)


def test_a_slow_disk_is_asked_less_often_and_once_it_hung_not_for_ever(monkeypatch):
    times, _ = saved_at(2000.0, monkeypatch, waits=8.0)
    assert np.diff(times)[1:] == pytest.approx([400] * len(times[2:]), abs=2)
    times, _ = saved_at(2000.0, monkeypatch, waits=80.0, every=20.0)
    assert np.diff(times) == pytest.approx([680] * len(times[1:]), abs=2)


COUNTING = (
    paced.MODULE
    + """
PACED, STEPS = update, pathlib.Path(__file__).with_name("steps")

def update(*arguments):
    PACED(*arguments)
    with STEPS.open("ab") as file:
        file.write(b".")

ADAMW = dataclasses.replace(RULE, update=update)
"""
)
SWEEP = f"""\
sweep: killed
data: {{dataset: digits}}
model: {{family: b-mlp, depth: 1, width: 16}}
train: {{optimizer: "{paced.ADAMW}", lr: 2e-3, batch_size: 32}}
budget: {{epochs: 8}}
"""


def test_a_killed_sweep_loses_a_tenth_of_a_run(tmp_path):
    (tmp_path / "paced_optimizer.py").write_text(COUNTING)
    (tmp_path / "killed.yaml").write_text(SWEEP)
    count, words = (
        tmp_path / "steps",
        ("run", "killed.yaml", "--store", "t.db", "--executor", "inline", "--no-canary"),
    )
    count.touch()
    paced.slow_down(tmp_path, seconds=0.02)  # the run takes seven seconds
    steps = 8 * 1437 // 32
    with Started(*words, "--device", "cpu", folder=tmp_path) as process:
        until(lambda: count.stat().st_size >= 0.7 * steps, process)
        process.kill()
        process.ended()
    made = count.stat().st_size
    paced.speed_up(tmp_path)
    again = isoflop(*words, "--device", "cpu", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    with Table(tmp_path / "t.db") as table:
        first, second = table.frame("attempts").sort_values("attempt").to_dict("records")
    assert first["outcome"] != "done"
    assert made - second["resumed_step"] <= 0.1 * steps + 20  # 0.4 s, in which a save is due and done
    assert count.stat().st_size - made == steps - second["resumed_step"]


# kept parameters


def test_kept_parameters_are_those_that_the_run_ended_with(tmp_path):
    specs = members("adamw")
    results = go(specs, tmp_path, keep=True)
    assert len(files(tmp_path)) == 2 * len(specs)
    for spec, result in zip(specs, results, strict=True):
        said, weights = kept_parameters(tmp_path, result.run_id)
        assert said["seed"] == spec.seed
        assert weights.keys() == {slot.name for slot in slots(cost.shape_of(resolved_run()))}
        assert error_of(weights, spec) == result.error
    again = go(specs, tmp_path, keep=True)
    assert [numbers(r) for r in again] == [numbers(r) for r in results]
    with pytest.raises(OSError, match="No such file"):
        kept_parameters(tmp_path, "f" * 32)


def error_of(weights, spec):
    run = datasets.resolve(spec, datasets.describe(spec))
    arrays = datasets.load(run)
    x, y = on_device(arrays, torch.device("cpu"), "resident").read(
        torch.from_numpy(datasets.split(arrays, run).test[None])
    )
    logits = forward({n: w[None] for n, w in weights.items()}, x, cost.shape_of(run), run.activation)
    return (logits.argmax(-1) != y).double().mean().item()


def test_keeping_needs_a_folder():
    with pytest.raises(ValueError, match="folder"):
        train(RUN, device="cpu", keep=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion"])
@pytest.mark.parametrize("then", ["cuda", "cpu"])
def test_a_run_on_cuda_goes_on_there_and_elsewhere(tmp_path, optimizer, then):
    specs = members(optimizer)
    expected = train(specs, device="cuda", evaluations=4)
    train(specs, device="cuda", evaluations=4, checkpoints=tmp_path, should_stop=stop_after(2))
    assert [path.name for path in sorted(tmp_path.iterdir())] == sorted(result.run_id for result in expected)
    results = train(specs, device=then, evaluations=4, checkpoints=tmp_path)
    for a, b in zip(results, expected, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=2e-2)
        assert [record.step for record in a.history] == [record.step for record in b.history]
