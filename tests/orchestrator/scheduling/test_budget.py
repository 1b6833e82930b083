"""The budget: what is set aside, charged, lost, and what would unblock what a limit holds back."""

import pytest

from analysis.numbers import short
from orchestrator.scheduling.budget import HOUR, Budget, remedy
from orchestrator.store.requests import Request, obey
from orchestrator.store.table import End, Table
from orchestrator.sweep.planner import run_flops
from trainer.result import Resumed
from trainer.trunk import charged_flops


@pytest.fixture
def opened(planned, clock):
    """A budget of one sweep with so many FLOPs to spend, and the sweep's runs, all of one price."""

    def open_(most, **said):
        runs = planned(width="16", seeds=4).runs
        budget = Budget(clock)
        row = {"sweep": "small", "charged_flops": 0, "seconds": 0.0, "gpu_seconds": 0.0}
        row["limits"] = {"total_flops": most * run_flops(runs[0]), **said}
        budget.open([row], {run.run_id: ["small"] for run in runs})
        return budget, runs

    return open_


def test_what_is_set_aside_cannot_be_spent_twice(opened):
    budget, runs = opened(2.5)
    assert budget.affordable(runs)[0] == list(runs[:2])
    budget.reserve(charged_flops(runs[:2]))
    kept, reason = budget.affordable(runs[2:])
    assert kept == []
    assert reason.startswith("limits.total_flops")


def test_an_attempt_that_spends_less_gives_the_rest_back(opened):
    budget, runs = opened(2)
    price = run_flops(runs[0])
    budget.reserve(charged_flops(runs[:2]))
    assert not budget.settle(runs[0].run_id, price)
    assert budget.affordable(runs[2:])[0] == []
    assert budget.settle(runs[1].run_id, 0)  # diverged at once
    assert budget.affordable(runs[2:])[0] == [runs[2]]


def test_time_counts_while_any_run_of_the_sweep_trains_and_a_share_of_each_gpu(opened, clock):
    budget, runs = opened(9, hours=1, gpu_hours=0.5)
    clock.now += HOUR / 2
    budget.pass_time([], 0.25)
    assert budget.affordable(runs[:1])[1] == ""
    clock.now += HOUR / 2
    budget.pass_time([[run] for run in runs[:2]], 0.25)  # two slots of four: half a GPU for half an hour
    assert budget.seconds() == {"small": HOUR / 2}
    assert budget.affordable(runs[:1])[1] == ""
    clock.now += HOUR / 2
    budget.pass_time([[run] for run in runs[:2]], 0.25)
    assert budget.affordable(runs[:1]) == ([], "limits.hours 1 reached")
    budget, runs = opened(9, gpu_hours=0.5)
    clock.now += HOUR
    budget.pass_time([[run] for run in runs[:2]], 0.25)
    assert budget.affordable(runs[:1]) == ([], "limits.gpu_hours 0.5 reached")


def test_shorter_runs_are_paid_for_first(planned, clock):
    long, short = sorted(planned(width="16", seeds=1, epochs="[1, 4]").runs, key=run_flops, reverse=True)
    budget = Budget(clock)
    row = {"sweep": "small", "charged_flops": 0, "seconds": 0.0, "gpu_seconds": 0.0}
    row["limits"] = {"total_flops": max(charged_flops([long, short]).values())}  # of either, not of both
    budget.open([row], {long.run_id: ["small"], short.run_id: ["small"]})
    assert budget.affordable([long, short])[0] == [short]


def test_a_run_of_two_sweeps_needs_the_means_of_both(opened):
    budget, runs = opened(9)
    row = {"sweep": "poor", "charged_flops": 0, "seconds": 0.0, "gpu_seconds": 0.0, "limits": {"total_flops": 1}}
    owners = {run.run_id: ["small"] for run in runs} | {runs[0].run_id: ["small", "poor"]}
    budget.open([row], owners)
    assert budget.affordable(runs)[0] == list(runs[1:])


@pytest.fixture
def table(tmp_path):
    with Table(tmp_path / "t.db", writable=True) as made:
        yield made


def row_of(table):
    (row,) = table.sweeps()
    return row


def test_flops_are_reserved_at_the_claim_and_settled_with_what_was_counted(table, planned, result_of):
    made = planned(width="16", seeds=2)
    table.queue.enqueue(made)
    price = charged_flops(made.runs)
    tokens = table.queue.claim(list(price), price)
    assert row_of(table)["reserved_flops"] == made.flops
    table.queue.finish([result_of(made.runs[0])], tokens)
    row = row_of(table)
    assert row["charged_flops"] == row["reserved_flops"] == run_flops(made.runs[0])
    table.queue.record(result_of(made.runs[1]).history[:1], tokens)
    table.queue.release({made.runs[1].run_id: tokens[made.runs[1].run_id]}, "lost", "its worker died")
    row = row_of(table)
    assert row["reserved_flops"] == 0
    assert row["charged_flops"] == run_flops(made.runs[0]) + result_of(made.runs[1]).history[0].flops


def test_lost_is_what_an_attempt_had_done_beyond_where_the_next_one_began(table, planned, result_of):
    (run,) = planned(width="16", seeds=1).runs
    table.queue.enqueue(planned(width="16", seeds=1))
    half = result_of(run).history[0]
    step = half.flops // half.step
    tokens = table.queue.claim([run.run_id])
    table.queue.record([half], tokens)
    table.queue.release(tokens, "lost", "its worker died")
    assert row_of(table)["wasted_flops"] == 0  # a checkpoint may hold all of it
    tokens = table.queue.claim([run.run_id])
    table.queue.resume(Resumed(run.run_id, 1, step, 0.0, ()), tokens[run.run_id])
    assert row_of(table)["wasted_flops"] == half.flops - step
    table.queue.finish([result_of(run)], tokens)
    row = row_of(table)
    assert row["wasted_flops"] == half.flops - step
    assert row["charged_flops"] == row["flops"] + row["wasted_flops"]


def test_what_a_failed_run_had_done_is_lost_and_what_a_diverged_one_had_is_not(table, planned, result_of):
    made = planned(width="16", seeds=2)
    table.queue.enqueue(made)
    tokens = table.queue.claim([run.run_id for run in made.runs])
    bad, datum = made.runs
    table.queue.record(result_of(bad).history[:1], tokens)
    table.queue.fail({bad.run_id: tokens[bad.run_id]}, "ValueError: no", "")
    table.queue.settle([End(datum.run_id, 1, "diverged", "diverged", result=result_of(datum, "diverged"))])
    assert row_of(table)["wasted_flops"] == result_of(bad).history[0].flops


def test_the_remedy_is_enough(table, planned, price):
    """Raised to the figure that it names, the limit pays for everything."""
    made = planned(width="[16, 32]", more="limits: {total_flops: 1e6}")
    table.queue.enqueue(made)
    assert remedy(row_of(table)) is None
    table.queue.move(
        [run.run_id for run in made.runs], "blocked", of=["queued"], reason="limits.total_flops 1e6 reached"
    )
    said = remedy(row_of(table))
    assert said.startswith(
        f"4 runs of small are blocked: raise limits.total_flops to {short(sum(map(price, made.runs)))}"
    )
    obey(table, Request("retry", ("small",)))
    assert remedy(row_of(table)) is None


def test_the_remedy_adds_what_was_charged_and_what_is_reserved_to_what_is_blocked(table, planned, price, result_of):
    """Of runs of different prices one is done, one in training, one blocked."""
    made = planned(width="[16, 32, 64]", seeds=1, more="limits: {total_flops: 1e6}")
    done, running, blocked = made.runs
    table.queue.enqueue(made)
    tokens = table.queue.claim([done.run_id, running.run_id], charged_flops([done, running]))
    table.queue.finish([result_of(done)], tokens)
    table.queue.move([blocked.run_id], "blocked", of=["queued"], reason="limits.total_flops 1e6 reached")
    row = row_of(table)
    figures = row["charged_flops"], row["reserved_flops"], row["blocked_flops"]
    assert figures == (price(done), price(running), price(blocked))
    assert f"raise limits.total_flops to {short(sum(figures))} (now 1e6)" in remedy(row)
