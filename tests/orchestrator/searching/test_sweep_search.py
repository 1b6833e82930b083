"""Searches trained in this process over a real table."""

import pandas as pd
import pytest

from orchestrator import Table, plan, read_sweep
from orchestrator.reporting.laws import laws
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.searching.sweep_search import SweepSearch, best_of, learning_rates
from orchestrator.workers.inline import InlineExecutor

TEXT = """\
sweep: {sweep}
data: {{dataset: digits, validation: 0.2, dataset_size: 320}}
model: {{family: b-mlp, depth: 1, width: {width}}}
train: {{batch_size: 32, lr: {lr}}}
budget: {{epochs: {epochs}}}
seeds: {seeds}
{more}
"""
LOG = "{search: {min: 1e-4, max: 1e-1, distribution: log_uniform}}"
NUMBERS = ["search_cell", "trial", "state", "lr", "error", "val_error", "val_loss", "steps", "flops"]


def text_of(sweep="found", width="16", lr=LOG, epochs="4", seeds="1", more="search: {trials: 6, batch: 3}"):
    return TEXT.format(**locals())


def run(path, text, executor=None):
    """A sweep's runs after its search, or what is missing of it, was trained."""
    sweep = read_sweep(text)
    planned = plan(sweep)
    with Table(path, writable=True) as table:
        if sweep.search:
            table.trials.declare(planned)
        else:
            table.queue.enqueue(planned)
        table.queue.recover()
        search = SweepSearch(table, sweep) if sweep.search else None
        Scheduler(table, executor or InlineExecutor("cpu"), [sweep.sweep], source=search).drain()
        return table.frame("runs", sweep.sweep)


def best(path, text):
    with Table(path) as table:
        return best_of(table, read_sweep(text))


class Cut(InlineExecutor):
    """Is cut off after some stacks have ended."""

    def __init__(self, stacks):
        super().__init__("cpu")
        self._left = stacks

    def submit(self, *asked):
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        super().submit(*asked)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "t.db"
    return path, run(path, text_of(width="[16, 32]"))


def test_every_cell_has_its_trials_and_the_best_is_that_of_the_validation_split(whole):
    path, frame = whole
    assert frame.groupby("search_cell")["trial"].apply(sorted).tolist() == [list(range(6))] * 2
    assert set(frame["state"]) == {"done"}
    for width, found in zip((16, 32), best(path, text_of(width="[16, 32]")), strict=True):
        cell = frame[frame["width"] == width].set_index("trial")
        assert found.cell == {"width": width}
        assert found.value == cell["val_error"].min() == cell.loc[found.trial, "val_error"]
        assert found.parameters == {"lr": cell.loc[found.trial, "lr"]}
        assert found.error == cell.loc[found.trial, "error"]


def test_a_batch_of_proposals_is_one_stack(whole):
    with Table(whole[0]) as table:
        assert set(table.frame("attempts")["stack"]) == {3}


def test_a_search_that_was_cut_off_comes_to_the_numbers_of_an_undisturbed_one(whole, tmp_path):
    for stacks in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "t.db", text_of(width="[16, 32]"), Cut(stacks))
    frame = run(tmp_path / "t.db", text_of(width="[16, 32]"))
    key = ["search_cell", "trial"]
    pd.testing.assert_frame_equal(
        frame.sort_values(key)[NUMBERS].reset_index(drop=True),
        whole[1].sort_values(key)[NUMBERS].reset_index(drop=True),
    )
    with Table(tmp_path / "t.db") as table:
        ends = table.frame("attempts").groupby("run_id")["outcome"].apply(list)
    assert len(ends) == 12
    assert all(sum(outcome != "interrupted" for outcome in outcomes) == 1 for outcomes in ends)


def test_a_finished_search_trains_nothing_more_and_a_longer_one_only_what_is_missing(whole, tmp_path):
    first = run(tmp_path / "t.db", text_of())
    again = run(tmp_path / "t.db", text_of(), Cut(0))
    pd.testing.assert_frame_equal(first, again)
    longer = run(tmp_path / "t.db", text_of(more="search: {trials: 9, batch: 3}"), Cut(1))
    assert len(longer) == 9
    pd.testing.assert_frame_equal(longer[:6], first)


def test_what_another_sweep_has_trained_is_not_trained_again(tmp_path):
    run(tmp_path / "t.db", text_of("axis", lr="[1e-3, 1e-2]", more=""))
    grid = text_of(lr="{search: {values: [1e-3, 1e-2]}}", more="search: {method: grid}")
    frame = run(tmp_path / "t.db", grid, Cut(0))
    assert list(frame["trial"]) == [0, 1]
    assert set(frame["state"]) == {"done"}


def test_a_trial_that_diverges_is_an_answer_and_one_of_several_seeds_a_mean(tmp_path):
    text = text_of(lr="{search: {values: [1e-3, 1e30]}}", seeds="2", more="search: {method: grid}")
    frame = run(tmp_path / "t.db", text)
    assert frame.groupby("lr")["state"].unique().map(list).to_dict() == {1e-3: ["done"], 1e30: ["diverged"]}
    (found,) = best(tmp_path / "t.db", text)
    assert found.states == {"done": 1, "diverged": 1}
    assert found.parameters == {"lr": 1e-3}
    assert found.value == pytest.approx(frame[frame["lr"] == 1e-3]["val_error"].mean())


def test_pruned_runs_keep_what_they_recorded_and_enter_no_fit(tmp_path):
    more = "search: {method: grid, batch: 9, pruner: successive_halving}"
    text = text_of(
        epochs="40", lr="{search: {min: 1e-6, max: 1e-2, distribution: log_uniform, points: 9}}", more=more
    )
    frame = run(tmp_path / "t.db", text)
    pruned, done = (frame[frame["state"] == state] for state in ("pruned", "done"))
    assert len(pruned) >= 4
    assert len(pruned) + len(done) == 9
    assert (pruned["steps"] < done["steps"].max()).all()
    assert (pruned["flops"] < done["flops"].min()).all()
    assert pruned["val_error"].notna().all()
    assert pruned["error"].isna().all()  # the test split was not looked at
    assert done["val_error"].min() < pruned["val_error"].min()
    alone = run(tmp_path / "alone.db", text_of(epochs="40", lr=str(done["lr"].iloc[0]), more=""))
    assert alone["val_error"].iloc[0] == done["val_error"].iloc[0]
    assert all(law.fit is None or law.fit.n == len(done) for law in laws(frame, resamples=0))
    with Table(tmp_path / "t.db") as table:
        assert set(table.frame("attempts").groupby("run_id")["outcome"].last()) == {"done", "pruned"}
    again = run(tmp_path / "t.db", text, Cut(0))
    pd.testing.assert_frame_equal(frame, again)


def test_after_a_grid_the_best_rate_is_a_parabola_or_flagged_at_the_edge(tmp_path):
    grid = "{{search: {{min: {}, max: {}, distribution: log_uniform, points: 6}}}}"
    inside, below = (
        text_of(
            sweep, lr=grid.format(*ends), epochs="8", seeds="4", more="search: {method: grid, metric: val_loss}"
        )
        for sweep, ends in (("inside", ("3e-4", "1")), ("below", ("1e-6", "1e-4")))
    )
    found = {}
    for text in (inside, below):
        run(tmp_path / "t.db", text)
        with Table(tmp_path / "t.db") as table:
            found[text] = learning_rates(table, read_sweep(text)).best.iloc[0]
    assert found[inside]["flag"] == ""
    assert 3e-4 < found[inside]["lr_low"] <= found[inside]["lr"] <= found[inside]["lr_high"] < 1
    assert found[below]["flag"] == "the best rate is the largest tried"
    assert best(tmp_path / "t.db", below)[0].edges == ("lr",)
    assert best(tmp_path / "t.db", inside)[0].edges == ()


def test_an_ordinary_sweep_that_becomes_a_search_leaves_its_runs_out(tmp_path):
    run(tmp_path / "t.db", text_of(lr="3e-3", more=""))
    frame = run(tmp_path / "t.db", text_of(more="search: {trials: 2}"))
    assert len(frame) == 2
    assert frame["trial"].notna().all()


def test_a_run_that_an_earlier_search_has_tried_is_a_trial_of_the_later_one(tmp_path):
    both = "search: {method: grid, parameters: {weight_decay: {values: [0, 0.1]}}}"
    run(tmp_path / "t.db", text_of(lr="{search: {values: [1e-3, 1e-2]}}", more=both))
    text = text_of(lr="{search: {values: [1e-3, 1e-2]}}", more="search: {method: grid}")
    frame = run(tmp_path / "t.db", text, Cut(0))
    (found,) = best(tmp_path / "t.db", text)
    assert found.trials == 2
    assert sorted(frame[frame["weight_decay"] == 0]["trial"]) == [0, 1]
