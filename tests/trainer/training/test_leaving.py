"""Runs leave a stack one by one; what stays trains on, in a smaller stack, with its own numbers to the last bit."""

import os
import time
from dataclasses import replace

import pytest

from tests.trainer.reference import numbers
from trainer import RunSpec, train
from trainer.checkpoints.checkpoints import storage_of
from trainer.data.datasets import describe, resolve
from trainer.result import Record, RunResult
from trainer.training.loop import training

RUN = RunSpec(width=16, batch_size=32, examples=32 * 60, weight_decay=0.01)


@pytest.fixture(autouse=True)
def _look_often(monkeypatch):
    monkeypatch.setattr("trainer.training.loop.LOOK", 8)
    monkeypatch.setattr("trainer.trunk.REBUILD", 1)


def trained(specs, gone_at, **options):
    """Results by lr, of runs that are asked to leave at their first record from the given step on.

    And those that were handed out before the end, each with the step that others had recorded by then.
    """
    leaving, lr_of = set(), {resolve(spec, describe(spec)).run_id: spec.lr for spec in specs}
    going = training(specs, device="cpu", evaluations=6, leaving=lambda: leaving, **options)
    early, reached = [], 0
    while True:
        try:
            item = next(going)
        except StopIteration as end:
            return {spec.lr: result for spec, result in zip(specs, end.value, strict=True)}, early
        if isinstance(item, RunResult):
            early.append((item, reached))
            continue
        assert isinstance(item, Record)
        reached = max(reached, item.step)
        if item.step >= gone_at.get(lr_of[item.run_id], 10**9):
            leaving.add(item.run_id)


def test_the_others_do_not_notice_who_leaves():
    specs = [replace(RUN, lr=lr, seed=i) for i, lr in enumerate([1e-4, 3e-4, 1e-3, 3e-3, 1e-2])]
    found, early = trained(specs, {1e-4: 1, 1e-2: 1, 3e-4: 10})
    assert [found[spec.lr].state for spec in specs] == ["cancelled", "cancelled", "done", "done", "cancelled"]
    assert found[1e-4].steps == found[1e-4].history[-1].step < found[3e-4].steps < 60
    for lr in (1e-3, 3e-3):
        alone = train(next(spec for spec in specs if spec.lr == lr), device="cpu", evaluations=6)
        assert numbers(found[lr]) == numbers(alone)
        assert found[lr].stack == 2  # a stack of which half is gone goes on as a smaller one
    assert found[1e-4].stack == 5
    assert {result.run_id for result, _ in early} == {found[lr].run_id for lr in (1e-4, 1e-2, 3e-4)}
    assert all(result == found[lr_of(result, specs)] for result, _ in early)
    assert all(reached < 60 and result.steps == reached for result, reached in early)


def lr_of(result, specs):
    return next(spec.lr for spec in specs if resolve(spec, describe(spec)).run_id == result.run_id)


def test_what_diverges_or_is_shorter_is_not_kept_waiting():
    bad, short = replace(RUN, optimizer="sgd", lr=1e30), replace(RUN, optimizer="sgd", lr=1e-3, examples=32 * 30)
    others = [replace(short, seed=seed, examples=32 * 60) for seed in (1, 2, 3)]
    found, early = trained([bad, short, *others], {})
    assert {result.state: result.run_id for result, _ in early} == {
        "diverged": found[1e30].run_id,
        "done": resolve(short, describe(short)).run_id,
    }
    assert all(reached < 60 for _, reached in early)


def test_who_leaves_goes_on_from_where_it_left(tmp_path):
    specs = [replace(RUN, lr=lr) for lr in (1e-3, 3e-3)]
    found, _ = trained(specs, {1e-3: 10}, checkpoints=tmp_path)
    assert found[1e-3].state == "cancelled"
    assert (tmp_path / found[1e-3].run_id / f"{found[1e-3].steps}.json").exists()
    again = train(specs[0], device="cpu", evaluations=6, checkpoints=tmp_path)
    assert numbers(again) == numbers(train(specs[0], device="cpu", evaluations=6))


def test_who_has_left_is_saved_while_the_others_train_on(tmp_path, monkeypatch):
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (time.sleep(0.02), real(file)))  # a slow disk
    leaving = set()
    going = training([RUN, replace(RUN, seed=7)], device="cpu", checkpoints=tmp_path, leaving=lambda: leaving)
    leaving.add(next(going).run_id)
    left = next(event for event in going if isinstance(event, RunResult))
    assert left.run_id in leaving
    assert storage_of(tmp_path).steps(left.run_id)[0] == left.steps
    going.close()


def test_a_run_leaves_at_the_very_record_for_which_it_is_asked_to():
    leaving = set()
    going = training([RUN], device="cpu", evaluations=2, leaving=lambda: leaving)
    leaving.add(next(going).run_id)
    with pytest.raises(StopIteration) as end:
        next(going)
    assert (end.value.value[0].state, end.value.value[0].steps) == ("cancelled", 1)
