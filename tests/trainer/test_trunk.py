"""Runs that differ in length only: what they share is trained once, and changes no number."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.reference import numbers, resolved
from trainer import RunSpec, train, trunk
from trainer.data import datasets
from trainer.evaluations import record_steps
from trainer.result import Resumed
from trainer.training.loop import training
from trainer.training.optimise import lr_factor

SHARING: list[dict[str, Any]] = [
    {"schedule": "constant"},
    {"schedule": "wsd"},
    {"schedule": "wsd", "cooldown": 0.5},
]


def quick(steps, **said):
    return RunSpec(**{"width": 16, "batch_size": 32, "examples": 32 * steps, **said})


def of_lengths(*steps, **said):
    return [resolved(batch_size=32, examples=32 * n, **said) for n in steps]


@pytest.mark.parametrize("recipe", SHARING)
@given(short=st.integers(1, 400), more=st.integers(1, 400))
@settings(deadline=None, max_examples=30)
def test_up_to_the_stem_all_longer_runs_have_one_learning_rate(recipe, short, more):
    low, high = of_lengths(short, short + more, **recipe)
    shared = trunk.shared_steps(low)
    assert [lr_factor(low, i) for i in range(shared)] == [lr_factor(high, i) for i in range(shared)]
    assert low.trunk_id == high.trunk_id
    assert low.run_id != high.run_id


@pytest.mark.parametrize("said", [{"schedule": "cosine"}, {"schedule": "linear"}, {"warmup": 0.1}])
def test_what_depends_on_the_length_from_the_start_shares_nothing(said):
    runs = of_lengths(10, 20, **said)
    assert [trunk.shared_steps(run) for run in runs] == [0, 0]
    assert trunk.by_recipe(runs) == [[run] for run in runs]
    assert all(trunk.begins(recipe) == [0] for recipe in trunk.by_recipe(runs))


def test_a_recipe_is_trained_shortest_first_each_from_where_it_parts_from_the_one_before():
    runs = [run for seed in (0, 1) for run in of_lengths(100, 25, 50, schedule="wsd", seed=seed)]
    recipes = trunk.by_recipe(runs)
    assert [[run.steps for run in recipe] for recipe in recipes] == [[25, 50, 100]] * 2
    assert [trunk.begins(recipe) for recipe in recipes] == [[0, 20, 40]] * 2
    assert trunk.phases(runs) == [trunk.Phase(2, 25), trunk.Phase(2, 30), trunk.Phase(2, 60)]


@given(lengths=st.lists(st.integers(1, 2000), min_size=1, max_size=20))
@settings(deadline=None, max_examples=60)
def test_a_stack_trains_all_steps_of_its_runs_and_shrinks_where_that_pays(lengths):
    runs = [run for seed, n in enumerate(lengths) for run in of_lengths(n, schedule="cosine", seed=seed)]
    phases = trunk.phases(runs)
    assert phases[0].rows == len(lengths)
    assert sum(phase.steps for phase in phases) == max(lengths)
    assert all(after.rows < before.rows for before, after in pairwise(phases))
    # rows of ended runs cost less, from one end to the next, than building a smaller stack would
    trained = sum(phase.rows * phase.steps for phase in phases)
    running = [sum(n > end for n in lengths) for end in sorted(set(lengths))]
    assert sum(lengths) <= trained <= sum(lengths) + trunk.REBUILD * sum(running)


def test_doubling_budgets_save_what_the_arithmetic_says():
    """Five of them at a cool-down of a fifth: 0.8 + 0.2 x 1.9375 of the longest instead of 1.9375."""
    runs = of_lengths(*(100 * 2**i for i in range(5)), schedule="wsd")
    alone = sum(sum(trunk.charged_flops([run]).values()) for run in runs)
    assert alone / sum(trunk.charged_flops(runs).values()) == pytest.approx(1.9375 / 1.1875)


SCHEDULES = [*SHARING, {"schedule": "cosine"}]
RECIPES: list[dict[str, Any]] = [{}, {"optimizer": "lion", "lr": 1e-4, "augment": "crop"}, {"mixup": 0.5}]


@pytest.mark.parametrize(
    ("recipe", "own"),
    [
        pytest.param(schedule, recipe, marks=[] if j == i % len(RECIPES) else pytest.mark.slow)
        for i, schedule in enumerate(SCHEDULES)
        for j, recipe in enumerate(RECIPES)
    ],
)
def test_a_ladder_changes_no_number(recipe, own):
    specs = [quick(steps, seed=seed, **recipe, **own) for seed in (0, 1) for steps in (130, 20, 65)]
    alone = [numbers(train(spec, device="cpu")) for spec in specs]
    assert [numbers(result) for result in train(specs, device="cpu")] == alone


def test_families_of_unlike_schedules_may_share_a_stack():
    """They part at different steps."""
    recipes = SCHEDULES
    specs = [quick(steps, seed=seed, **recipe) for seed, recipe in enumerate(recipes) for steps in (40, 80)]
    alone = [numbers(train(spec, device="cpu")) for spec in specs]
    assert [numbers(result) for result in train(specs, device="cpu")] == alone


def test_a_length_that_is_a_step_of_the_grid_changes_no_number():
    """The shared record stands in both histories; one past it does not."""
    grid = [step for step in record_steps(200) if 20 < step < 150]
    specs = [quick(steps) for steps in (grid[0], grid[1] - 1, grid[-1] + 1, 200)]
    alone = [numbers(train(spec, device="cpu")) for spec in specs]
    assert [numbers(result) for result in train(specs, device="cpu")] == alone


def test_only_what_is_new_is_trained():
    asked = [quick(steps, schedule="wsd") for steps in (20, 65, 130)]
    specs = [datasets.resolve(spec, datasets.describe(spec)) for spec in asked]
    went_on = {e.run_id: e.step for e in training(specs, device="cpu") if isinstance(e, Resumed)}
    assert went_on == {specs[1].run_id: 16, specs[2].run_id: 52}


def test_a_run_that_diverges_leaves_nothing_and_its_heir_diverges_by_itself():
    specs = [quick(steps, lr=1e30) for steps in (70, 140)]
    results = train(specs, device="cpu")
    assert [result.state for result in results] == ["diverged", "diverged"]


def test_the_same_run_asked_twice_is_trained_once():
    one, other = train([quick(20), quick(20)], device="cpu")
    assert one == other
    assert np.isfinite(one.loss)


def test_a_ladder_that_is_cut_off_goes_on_from_its_files_to_the_last_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.training.loop.SOON", np.inf)
    specs = [quick(steps, schedule="wsd") for steps in (100, 200, 400)]
    expected = [numbers(result) for result in train(specs, device="cpu")]
    looks = iter(range(1000))
    cut = train(specs, device="cpu", checkpoints=tmp_path, should_stop=lambda: next(looks) >= 3)
    assert {result.state for result in cut} == {"done", "cancelled"}
    steps = [e.step for e in training(specs, device="cpu", checkpoints=tmp_path) if isinstance(e, Resumed)]
    assert max(steps) > 100
    assert not list(tmp_path.glob("*/*"))
    assert [numbers(result) for result in train(specs, device="cpu", checkpoints=tmp_path)] == expected
