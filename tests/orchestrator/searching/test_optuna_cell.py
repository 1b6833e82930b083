"""A cell's search, with a planted answer in place of training."""

import importlib.util
import math

import pytest

from orchestrator import read_sweep
from orchestrator.searching.optuna_cell import CellSearch
from orchestrator.store.trials import RunState
from orchestrator.sweep.planner import makers
from trainer.result import Record

TEXT = """\
sweep: planted
data: {{dataset: digits, validation: 0.2}}
model: {{family: b-mlp, depth: 1, width: 16}}
train: {{batch_size: 32}}
budget: {{epochs: 2}}
seeds: {seeds}
search:
  {search}
  parameters:
    lr: {lr}
    weight_decay: {weight_decay}
"""
LOG = "{min: 1e-5, max: 1, distribution: log_uniform}"
DECAY = "{min: 0, max: 0.1}"


def cell_of(search="method: tpe", lr=LOG, weight_decay=DECAY, seeds="1"):
    return searching(read_sweep(TEXT.format(search=search, lr=lr, weight_decay=weight_decay, seeds=seeds)))


def searching(sweep):
    """The search of a sweep's only cell."""
    ((cell, make),) = makers(sweep)
    assert sweep.search is not None
    return CellSearch(sweep.search, cell, make, sweep.seed_list)


def planted(run):
    """A bowl with its bottom at lr 1e-2, weight decay 0.05."""
    error = 0.1 + 0.05 * (math.log10(run.lr) + 2) ** 2 + 20 * (run.weight_decay - 0.05) ** 2
    return RunState("done", min(error, 0.9), error, error)


def searched(cell, rounds=99, answer=planted):
    """Trials in their order, until the search has no more, or after some rounds; what is last stays in flight."""
    trials, standing = [], {}
    for i in range(rounds):
        asked = cell.ask()
        trials += asked
        if not asked or i == rounds - 1:
            break
        standing |= {run.run_id: answer(run) for trial in asked for run in trial.runs}
        cell.settle(standing)
    return trials, standing


def ids(trials):
    return [(trial.number, [run.run_id for run in trial.runs]) for trial in trials]


METHODS = [
    "method: tpe, trials: 24, batch: 4",
    "method: random, trials: 24, batch: 4",
    "method: gp, trials: 14, batch: 4",
    pytest.param(
        "method: cmaes, trials: 24, batch: 6",
        marks=pytest.mark.skipif(not importlib.util.find_spec("cmaes"), reason="needs the package cmaes"),
    ),
]


def lines(search):
    return search.replace(", ", "\n  ")


@pytest.mark.parametrize("search", METHODS)
@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_a_search_that_was_cut_off_has_the_trials_that_it_would_have_had(search, rounds):
    whole, _ = searched(cell_of(lines(search)))
    before, standing = searched(cell_of(lines(search)), rounds)
    in_flight = before[len(standing) :]
    assert in_flight
    standing |= {run.run_id: RunState("queued", None, None, None) for trial in in_flight for run in trial.runs}
    again = cell_of(lines(search))
    again.restore(before, standing, {})
    assert again.ask() == []
    assert sorted(again.pending) == sorted(run.run_id for trial in in_flight for run in trial.runs)
    again.settle({run.run_id: planted(run) for trial in in_flight for run in trial.runs})
    rest, _ = searched(again)
    assert ids(before + rest) == ids(whole)


def test_tpe_comes_nearer_to_a_planted_optimum_than_chance():
    def off(search):
        trials, standing = searched(cell_of(lines(search)))
        return min(standing[trial.runs[0].run_id].val_error for trial in trials) - 0.1

    seeds = range(4)
    tpe, random = ([off(f"method: {m}, trials: 48, seed: {s}") for s in seeds] for m in ("tpe", "random"))
    assert sum(tpe) < 0.5 * sum(random)


def test_searches_of_another_seed_try_something_else():
    first, _ = searched(cell_of("seed: 0"), 1)
    other, _ = searched(cell_of("seed: 1"), 1)
    assert not {t.runs[0].lr for t in first} & {t.runs[0].lr for t in other}


def test_a_grid_is_every_combination_once_in_even_ratios():
    cell = cell_of(
        "method: grid",
        lr="{min: 1e-4, max: 1e-2, distribution: log_uniform, points: 3}",
        weight_decay="{values: [0, 0.1]}",
    )
    trials, _ = searched(cell)
    found = [(t.runs[0].lr, t.runs[0].weight_decay) for t in trials]
    assert found == [(1e-4, 0), (1e-4, 0.1), (1e-3, 0), (1e-3, 0.1), (1e-2, 0), (1e-2, 0.1)]


@pytest.mark.parametrize("method", ["tpe", "random"])
def test_nothing_is_tried_twice_and_a_small_space_is_tried_whole(method):
    cell = cell_of(
        f"method: {method}\n  trials: 50", lr="{values: [1e-4, 1e-3, 1e-2]}", weight_decay="{values: [0, 0.1]}"
    )
    trials, _ = searched(cell)
    found = [(t.runs[0].lr, t.runs[0].weight_decay) for t in trials]
    assert sorted(found) == sorted(set(found))
    assert len(found) == 6


def test_a_small_space_that_was_cut_off_goes_on_under_the_same_numbers():
    asked = {
        "search": "trials: 5\n  batch: 2",
        "lr": "{values: [1e-4, 1e-3, 1e-2]}",
        "weight_decay": "{values: [0, 0.1]}",
    }
    whole, _ = searched(cell_of(**asked))
    before, standing = searched(cell_of(**asked), 2)
    done = before[: len(standing)]
    again = cell_of(**asked)
    again.restore(done, standing, {})
    rest, _ = searched(again)
    assert ids(done + rest) == ids(whole)


def test_whole_numbers_are_drawn_whole():
    text = TEXT.replace("width: 16", "depth: 1").replace("depth: 1, depth: 1", "depth: 1")
    sweep = read_sweep(
        text.format(search="trials: 30", lr=LOG, weight_decay=DECAY, seeds=1) + "    width: {min: 8, max: 64}\n"
    )
    trials, _ = searched(searching(sweep))
    widths = {trial.runs[0].width for trial in trials}
    assert all(isinstance(width, int) and 8 <= width <= 64 for width in widths)
    assert len(widths) > 5


def test_a_trial_of_several_seeds_is_worth_their_mean():
    cell = cell_of("trials: 4", seeds="3")
    (trial, *_) = cell.ask()
    assert [run.seed for run in trial.runs] == [0, 1, 2]
    assert cell.value([RunState("done", e, 1.0, 0.5) for e in (0.1, 0.2, 0.6)]) == pytest.approx(0.3)
    assert cell.value([RunState("done", 0.1, 1.0, 0.5), RunState("diverged", None, None, None)]) == pytest.approx(
        0.55
    )


def test_a_round_is_told_when_all_of_it_is_over():
    cell = cell_of("batch: 2")
    first, second = cell.ask()
    standing = {
        first.runs[0].run_id: planted(first.runs[0]),
        second.runs[0].run_id: RunState("running", None, None, None),
    }
    cell.settle(standing)
    assert cell.ask() == []
    cell.settle({**standing, second.runs[0].run_id: RunState("failed", None, None, None)})
    assert len(cell.ask()) == 2


def test_trials_outside_of_todays_range_do_not_count():
    trials, standing = searched(cell_of("trials: 16"))
    narrow = cell_of("trials: 16", lr="{min: 1e-3, max: 1e-1, distribution: log_uniform}")
    narrow.restore(trials, standing, {})
    inside = sum(1e-3 <= trial.runs[0].lr <= 1e-1 for trial in trials)
    assert 0 < narrow.count == inside < 16
    rest, _ = searched(narrow)
    assert len(rest) == 16 - inside
    assert [trial.number for trial in rest] == list(range(16, 32 - inside))  # a number is of one trial for good


def test_the_cell_is_the_same_whatever_the_range_and_another_where_the_recipe_is():
    assert cell_of().cell_id == cell_of(lr="{values: [1e-3, 1e-2]}").cell_id
    sweep = read_sweep(
        TEXT.format(search="trials: 3", lr=LOG, weight_decay=DECAY, seeds=1).replace("epochs: 2", "epochs: 3")
    )
    assert searching(sweep).cell_id != cell_of().cell_id


# pruning


def record(run, step, error):
    return Record(
        run_id=run.run_id, step=step, examples=1, flops=1, seconds=0.0, train_loss=1.0, loss=error, error=error
    )


def halved(cell, seeds=1):
    """Which trials of a round are stopped at which step, as their curves come in: 0.1, 0.2, ... all along."""
    trials, stopped = cell.ask(), {}
    steps = trials[0].runs[0].steps
    for step in (2, 6, 18, 54, steps):
        for i, trial in enumerate(trials):
            if i in stopped:
                continue
            for run in trial.runs:
                told = cell.judge(record(run, step, 0.1 * (i + 1)))
                assert set(told) in (set(), {r.run_id for r in trial.runs})
                if told:
                    stopped[i] = step
    return trials, stopped


def test_successive_halving_stops_the_worse_ones_and_never_at_the_end():
    trials, stopped = halved(cell_of("pruner: successive_halving\n  batch: 9"))
    assert len(trials) == 9
    assert set(stopped) >= {3, 4, 5, 6, 7, 8}
    assert 0 not in stopped
    assert max(stopped.values()) < trials[0].runs[0].steps


def test_a_trial_of_two_seeds_is_judged_when_both_have_recorded_and_stops_whole():
    _, stopped = halved(cell_of("pruner: successive_halving\n  batch: 9", seeds="2"))
    assert stopped


def test_the_median_pruner_judges_by_finished_trials_also_after_a_restart():
    def curve(i):
        return dict.fromkeys((2, 6, 18, 54, 72), 0.1 * (i + 1))

    fresh = cell_of("pruner: median\n  batch: 6\n  trials: 12")
    trials = fresh.ask()
    for i, trial in enumerate(trials):
        for step, error in curve(i).items():
            assert not fresh.judge(record(trial.runs[0], step, error))
    standing = {t.runs[0].run_id: RunState("done", 0.1 * (i + 1), 1.0, 0.5) for i, t in enumerate(trials)}
    fresh.settle(standing)
    again = cell_of("pruner: median\n  batch: 6\n  trials: 12")
    again.restore(trials, standing, {t.runs[0].run_id: curve(i) for i, t in enumerate(trials)})
    for cell in (fresh, again):
        good, bad, *_ = cell.ask()
        assert not cell.judge(record(good.runs[0], 6, 0.1))
        assert list(cell.judge(record(bad.runs[0], 6, 0.6))) == [bad.runs[0].run_id]


def test_without_a_pruner_nothing_is_stopped():
    cell = cell_of()
    assert not any(cell.judge(record(trial.runs[0], 18, 0.9)) for trial in cell.ask())
