"""Runs of one shape train as one stack whatever their lengths, recipes and steps, with their own numbers."""

from __future__ import annotations

import functools
import itertools
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.reference import numbers
from trainer import RunSpec, train, trunk
from trainer.data import datasets
from trainer.result import Record, Resumed, RunResult
from trainer.training.loop import training

LOOK, WIDTH, BATCH = 8, 16, 32
RUNS = st.builds(
    lambda steps, **said: RunSpec(width=WIDTH, depth=1, batch_size=BATCH, examples=BATCH * steps, **said),
    st.integers(1, 24),
    lr=st.sampled_from([1e-3, 1e-2, 1e30]),
    weight_decay=st.sampled_from([0.0, 0.1]),
    schedule=st.sampled_from(["constant", "linear", "cosine", "wsd"]),
    warmup=st.sampled_from([0.0, 0.2]),
    dataset_size=st.sampled_from([None, 100]),
    label_smoothing=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 2),
)
MIXES = st.lists(RUNS, min_size=2, max_size=4, unique_by=repr)


@pytest.fixture(autouse=True, scope="module")
def _look_at_known_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.training.loop.LOOK", LOOK)
        patch.setattr("trainer.training.loop.SOON", math.inf)
        patch.setattr("trainer.trunk.REBUILD", 1)
        yield


@functools.cache
def alone(run):
    return numbers(train(run, device="cpu"))


@given(mix=MIXES)
@settings(deadline=None, max_examples=8)
def test_a_run_is_the_same_to_the_last_bit_in_any_mix(mix):
    assert [numbers(result) for result in train(mix, device="cpu")] == [alone(run) for run in mix]


@given(mix=MIXES, looks=st.integers(0, 4), first=st.integers(1, 4))
@settings(deadline=None, max_examples=5)
def test_a_mix_that_is_stopped_goes_on_in_any_company(tmp_path_factory, mix, looks, first):
    """Stopped together; some go on alone or together and are stopped again; at last all go on together."""
    folder, asked = tmp_path_factory.mktemp("c"), itertools.count()
    train(mix, device="cpu", checkpoints=folder, should_stop=lambda: next(asked) >= looks)
    train(mix[:first], device="cpu", checkpoints=folder, should_stop=lambda: next(asked) >= looks + 2)
    assert [numbers(result) for result in train(mix, device="cpu", checkpoints=folder)] == [alone(r) for r in mix]
    assert not list(folder.glob("*/*.json"))
    shutil.rmtree(folder)


def of(steps, **said):
    return RunSpec(**{"width": WIDTH, "batch_size": BATCH, "examples": BATCH * steps, **said})


@pytest.mark.parametrize(
    "own",
    [
        {"augment": "flip+crop"},
        {"mixup": 0.5},
        {"dropout": 0.2},
        {"optimizer": "lion", "lr": 1e-4},
        {"validation": 0.2},
        {"augment": "crop", "tta": 2},
        {"dataset": "zipf", "zipf_tokens": 300, "dataset_size": 50},
    ],
)
def test_mixes_of_every_kind_change_no_number(own):
    lengths = {"wsd": 40, "cosine": 9, "linear": 24}
    mix = [of(steps, seed=steps, schedule=how, **own) for how, steps in lengths.items()]
    mix.append(of(12, seed=40, schedule="wsd", **own))  # shares steps with the first
    assert [numbers(result) for result in train(mix, device="cpu")] == [alone(run) for run in mix]


def test_shorter_runs_leave_early_and_the_stack_shrinks():
    mix = [of(steps, seed=steps, schedule="cosine") for steps in (10, 20, 60, 70)]
    items, results = _events(mix)
    ended = [item.run_id for item in items if isinstance(item, RunResult)]
    assert ended == [result.run_id for result in results[:3]]
    assert [result.stack for result in results] == [4, 3, 2, 1]
    reached = [item.step for item in itertools.takewhile(lambda i: not isinstance(i, RunResult), items)]
    assert max(reached) <= 10


def test_the_stacks_that_train_are_those_that_were_planned(monkeypatch):
    """Speed and memory are computed from their rows and steps."""
    trained = []
    monkeypatch.setattr("trainer.training.loop.Stack", _counting(trained))
    lengths = (9, 10, 30, 41, 80, 81)
    mix = [of(steps, seed=steps, schedule="cosine") for steps in lengths]
    recipe = [of(steps, schedule="wsd") for steps in (20, 40)]
    results = train([*mix, *recipe], device="cpu")
    runs = [datasets.resolve(run, datasets.describe(run)) for run in (*mix, *recipe)]
    phases = trunk.phases(runs)
    assert sum(phase.steps for phase in phases) == 81
    assert [phase.rows for phase in phases] == trained
    assert phases[0].rows == len(trunk.by_recipe(runs)) == 7
    assert {result.state for result in results} == {"done"}


def _counting(rows):
    from trainer.training.stack import Stack

    class Counting(Stack):
        def __init__(self, specs, *rest):
            rows.append(len(specs))
            super().__init__(specs, *rest)

    return Counting


def test_saved_runs_go_on_together_from_steps_of_their_own(tmp_path):
    mix = [of(60, seed=0, schedule="cosine"), of(60, seed=1, schedule="wsd"), of(50, seed=2)]
    for run, looks in zip(mix, (0, 1, 3), strict=True):
        answers = iter([*[False] * looks, True])
        train(run, device="cpu", checkpoints=tmp_path, should_stop=answers.__next__)
    items, results = _events(mix, checkpoints=tmp_path)
    assert sorted(item.step for item in items if isinstance(item, Resumed)) == [2 * LOOK, 3 * LOOK, 5 * LOOK]
    assert max(result.stack for result in results) == 3
    assert [numbers(result) for result in results] == [alone(run) for run in mix]


def test_seconds_are_shared_by_those_that_train():
    short, long = train([of(5, schedule="cosine"), of(70, seed=1, schedule="cosine")], device="cpu")
    assert 0 < short.seconds < long.seconds
    assert long.seconds >= long.history[-1].seconds >= short.history[-1].seconds
    assert min(short.eval_seconds, long.eval_seconds) > 0


def test_a_run_is_evaluated_where_it_can_afford_it_and_its_end_is_complete():
    every, some = train(of(60), device="cpu", evaluations=12), train(of(60), device="cpu")
    assert [record.step for record in some.history] == [record.step for record in every.history]
    assert [record.train_loss for record in some.history] == [record.train_loss for record in every.history]
    evaluated = [record for record in some.history if not np.isnan(record.error)]
    assert 1 < len(evaluated) < len(some.history)
    whole = {record.step: (record.error, record.loss) for record in every.history}
    assert all(whole[record.step] == (record.error, record.loss) for record in evaluated)
    assert numbers(replace(some, history=())) == numbers(replace(every, history=()))


def _events(specs, **options):
    going = training(specs, device="cpu", **options)
    items: list[Record | Resumed | RunResult] = []
    while True:
        try:
            items.append(next(going))
        except StopIteration as end:
            return items, end.value
