"""The coordinator, with an executor that answers from a script and a clock that the tests move."""

import os
import signal
from collections import Counter

import pytest

from orchestrator.host.usage import Usage
from orchestrator.scheduling.failures import MOST_LOSSES
from orchestrator.scheduling.scheduler import GRACE, RECORDS
from orchestrator.sweep.planner import run_flops
from orchestrator.workers.executor import Finished, Measured, Noted, Place, Recorded, WentOn
from tests.orchestrator.fakes import Saved
from trainer.result import Resumed


def states(table):
    return Counter(table.frame()["state"])


def test_everything_is_trained_once(begin, table):
    scheduler, executor, made = begin(width="[16, 32, 48]", seeds=5)
    scheduler.drain()
    trained = [run_id for stack in executor.submitted for run_id in stack]
    assert sorted(trained) == sorted(run.run_id for run in made.runs)
    assert states(table) == {"done": 15}
    assert set(table.frame()["attempt"]) == {1}


def test_what_was_spent_is_what_was_planned_and_the_progress_says_so(begin, table):
    seen = []
    scheduler, _, made = begin(on_progress=lambda p: seen.append((p.spent, p.done, p.running)), seeds=5)
    end = scheduler.drain()
    assert end.spent == end.flops == made.flops == table.frame()["flops"].sum()
    assert (end.done, end.runs, end.running, end.failed, end.diverged) == (10, 10, 0, 0, 0)
    assert end.best_error == 0.25
    assert end.seconds_left == 0
    assert seen == sorted(seen, key=lambda told: told[:2])  # it never goes back
    assert max(running for _, _, running in seen) > 0


def test_records_reach_the_history(begin, table, result_of):
    scheduler, _, made = begin()
    scheduler.drain()
    wanted = Counter(record.run_id for run in made.runs for record in result_of(run).history)
    assert Counter(table.frame("history")["run_id"]) == wanted


def test_records_of_a_run_in_training_reach_the_table_in_half_a_second_together(begin, table, result_of, clock):
    scheduler, executor, made = begin(lambda specs: "hang", width="16", lr="1e-3", epochs="40", seeds=1)
    (run,) = made.runs
    records, seen, began = list(result_of(run, records=40).history), [], clock()

    def a_record_every_tenth_of_a_second(timeout):
        clock.now += 0.1
        seen.append((clock.now, len(table.frame("history")), 40 - len(records)))
        if records:
            return [Recorded(0, records.pop(0))]
        return [Finished(0, [result_of(run, records=40)])]

    executor.poll = a_record_every_tenth_of_a_second
    scheduler.drain()
    assert all(heard - written <= 10 * (RECORDS + 0.1) for _, written, heard in seen)
    assert len({written for _, written, _ in seen}) <= (clock.now - began) / RECORDS + 2
    assert len(table.frame("history")) == 40


def test_a_second_drain_has_nothing_to_do(begin):
    scheduler, _, _ = begin()
    scheduler.drain()
    again, executor, _ = begin()
    assert again.drain().done == 4
    assert executor.submitted == []


def test_slots_are_kept_full_and_never_overfull(begin, planned):
    busy = []
    scheduler, executor, _ = begin(slots=3, width="[16, 24, 32, 40]", lr="[1e-3]", seeds=2)
    executor.on_poll = lambda: busy.append(executor.slots - executor.free)
    scheduler.drain()
    assert max(busy) == 3
    assert busy[0] == 3


# what goes wrong


def test_of_a_stack_that_fails_only_the_guilty_run_fails(begin, table):
    guilty = None
    scheduler, executor, made = begin(
        lambda specs: "raise" if guilty in {s.run_id for s in specs} else "done", slots=1, width="16", seeds=4
    )
    guilty = made.runs[2].run_id
    end = scheduler.drain()
    assert [len(stack) for stack in executor.submitted] == [4, 1, 1, 1, 1]
    assert states(table) == {"done": 3, "failed": 1}
    (failure,) = table.failures("small")
    assert failure["run_id"] == guilty
    assert failure["reason"] == "ValueError: no such data"
    assert failure["traceback"].startswith("Traceback")
    assert (end.done, end.failed) == (3, 1)


def test_a_lost_workers_runs_are_trained_again(begin, table):
    deaths = []

    def once(specs):
        if deaths:
            return "done"
        deaths.append(specs)
        return "die"

    scheduler, executor, _ = begin(once, slots=1, width="16", seeds=3)
    end = scheduler.drain()
    assert states(table) == {"done": 3}
    assert (end.done, end.failed) == (3, 0)
    attempts = table.frame("attempts")
    assert Counter(attempts["outcome"]) == {"lost": 3, "done": 3}
    assert [len(stack) for stack in executor.submitted] == [3, 1, 1, 1]


def test_a_run_that_kills_its_worker_every_time_is_failed(begin, table):
    killer = None
    scheduler, executor, made = begin(
        lambda specs: "die" if killer in {s.run_id for s in specs} else "done", width="[16, 32]", seeds=2
    )
    killer = made.runs[0].run_id
    end = scheduler.drain()
    assert sum(killer in stack for stack in executor.submitted) == MOST_LOSSES
    assert states(table) == {"done": 3, "failed": 1}
    (failure,) = table.failures("small")
    assert failure["run_id"] == killer
    assert failure["reason"] == "its worker died (ActorDiedError), 3 times"
    assert end.failed == 1


def test_a_diverged_run_is_kept_and_is_no_failure(begin, table):
    scheduler, _, _ = begin(lambda specs: "diverged" if specs[0].width == 16 else "done")
    end = scheduler.drain()
    assert states(table) == {"done": 2, "diverged": 2}
    assert (end.done, end.diverged, end.failed) == (2, 2, 0)
    assert end.best_error == 0.25
    assert table.failures("small") == []


def test_a_bug_in_the_coordinator_leaves_nothing_running(begin, table):
    scheduler, executor, _ = begin(lambda specs: "hang")

    def broken():
        raise RuntimeError("a bug")

    executor.on_poll = broken
    with pytest.raises(RuntimeError, match="a bug"):
        scheduler.drain()
    assert states(table) == {"queued": 4}


# checkpoints


def test_a_run_that_goes_on_keeps_its_records_and_is_charged_once(begin, table, result_of):
    scheduler, executor, made = begin(width="16", seeds=2)
    whole = {run.run_id: result_of(run, "done", 0.25) for run in made.runs}
    events = executor.events

    def goes_on(stack, specs, fate):
        """The records of the first half come with the checkpoint, the others as they are made."""
        *rest, end = events(stack, specs, fate)
        halves = [whole[spec.run_id].history[0] for spec in specs]
        resumed = [Resumed(h.run_id, h.step, h.flops, h.seconds, (h,)) for h in halves]
        made = [event for event in rest if event.record not in halves]
        return [*(WentOn(stack, r) for r in resumed), Noted(stack, "a disk is full"), *made, end]

    executor.events = goes_on
    end = scheduler.drain()
    assert end.message == "a disk is full"
    assert end.spent == end.flops == table.frame()["flops"].sum()
    assert sorted(table.frame("history")["step"]) == sorted(r.step for w in whole.values() for r in w.history)
    attempts = table.frame("attempts").set_index("run_id")
    for run_id, result in whole.items():
        half = result.history[0]
        assert attempts.loc[run_id, "resumed_step"] == half.step
        assert attempts.loc[run_id, "flops"] == result.flops - half.flops
        assert attempts.loc[run_id, "seconds"] == pytest.approx(result.seconds - half.seconds)


def test_runs_saved_at_different_steps_go_on_together(begin, planned):
    made = planned(width="16", seeds=4)
    files = Saved(steps={made.runs[1].run_id: 64, made.runs[3].run_id: 32})
    scheduler, executor, made = begin(files=files, width="16", seeds=4)
    scheduler.drain()
    assert sorted(run_id for stack in executor.submitted for run_id in stack) == sorted(r.run_id for r in made.runs)
    assert len(executor.submitted) == executor.slots == 2


# chains

CHAIN = """\
then:
  - {stage: probe, train: {trains: head, lr: [1e-3, 1e-2]}, budget: {epochs: 1}}
  - {stage: again, train: {lr: 1e-3}, budget: {epochs: 1}}
"""


def stage_states(table):
    frame = table.frame()
    return {stage: dict(Counter(rows["state"])) for stage, rows in frame.groupby("stage")}


def test_a_run_is_trained_after_its_parent(begin, table):
    scheduler, executor, made = begin(width="[16, 32]", seeds=2, more=CHAIN)
    end = scheduler.drain()
    assert stage_states(table) == {"train": {"done": 4}, "probe": {"done": 8}, "again": {"done": 8}}
    assert end.seconds_left == 0
    order = [run_id for stack in executor.submitted for run_id in stack]
    assert len(order) == 20
    for run in made.runs:
        assert not run.parent or order.index(run.parent) < order.index(run.run_id)
    assert executor.kept == {run.parent for run in made.runs if run.parent}


@pytest.mark.parametrize(("fate", "said"), [("diverged", "diverged"), ("raise", "failed"), ("die", "failed")])
def test_what_waits_for_a_run_that_failed_fails_with_a_reason(begin, table, fate, said):
    bad = []
    scheduler, _, made = begin(lambda specs: fate if specs[0].run_id in bad else "done", width="24", more=CHAIN)
    bad.append(made.runs[0].run_id)
    end = scheduler.drain()
    frame = table.frame().set_index("run_id")
    children = frame[frame["parent"] == bad[0]]
    assert set(children["reason"]) == {f"its parent {bad[0][:8]} {said}"}
    assert stage_states(table)["again"] == {"done": 2, "failed": 2}
    assert end.failed == len(table.failures(made.sweep)) == (4 if fate == "diverged" else 5)


def test_a_parent_that_was_not_kept_is_trained_again(begin, table, planned):
    begin(width="16", seeds="1")[0].drain()
    scheduler, executor, made = begin(width="16", seeds="1", more=CHAIN)
    scheduler.drain()
    assert sum(map(len, executor.submitted)) == 5
    assert dict(table.frame().set_index("run_id")["attempt"])[made.runs[0].run_id] == 2


def test_a_parent_that_was_kept_is_left_alone(begin, table):
    scheduler, executor, made = begin(width="16", seeds="1", more=CHAIN)
    executor.kept.add(made.runs[0].run_id)
    table.queue.finish([executor.result_of(made.runs[0])], table.queue.claim([made.runs[0].run_id]))
    scheduler.drain()
    assert sum(map(len, executor.submitted)) == 4


# limits


def test_total_flops_holds_back_the_rest(begin, table, planned):
    price = max(map(run_flops, planned(width="16", seeds=4).runs))
    more = f"limits: {{total_flops: {price * 2.5!r}}}"
    scheduler, _, _ = begin(width="16", seeds=4, more=more)
    end = scheduler.drain()
    assert states(table) == {"done": 2, "blocked": 2}
    assert table.frame()["flops"].sum() <= price * 2.5
    assert "limits.total_flops" in end.message
    assert not scheduler.interrupted


def test_a_limit_counts_what_was_spent_before(begin, table, planned):
    price = max(map(run_flops, planned(width="16", seeds=4).runs))
    for allowed, done in ((2.5, 2), (2.5, 2), (3.5, 3)):
        scheduler, _, _ = begin(width="16", seeds=4, more=f"limits: {{total_flops: {price * allowed!r}}}")
        scheduler.drain()
        assert states(table)["done"] == done


def test_hours_hold_back_what_has_not_begun(begin, table, clock):
    scheduler, executor, _ = begin(slots=1, width="[16, 24, 40]", seeds=1, more="limits: {hours: 1}")
    executor.on_poll = lambda: setattr(clock, "now", clock.now + 2000)
    end = scheduler.drain()
    assert states(table) == {"done": 2, "blocked": 1}
    assert end.message == "limits.hours 1 reached; the rest is blocked"


# out of memory


def test_a_stack_that_runs_out_of_memory_is_tried_in_pieces_then_in_parts_and_nothing_is_lost(begin, table):
    """The device holds two runs' worth of one micro-batch of 8."""

    def full(specs):
        return sum(spec.batch_size // spec.accumulate for spec in specs) > 16

    scheduler, executor, made = begin(
        lambda specs: "exhaust" if full(specs) else "done", slots=1, width="16", seeds=3
    )
    scheduler.drain()
    assert states(table) == {"done": 3}
    assert set(table.frame()["run_id"]) == {run.run_id for run in made.runs}
    assert set(table.frame()["accumulate"]) == {4}
    attempts = table.frame("attempts")
    assert Counter(attempts["outcome"]) == {"failed": 6, "done": 3}
    assert set(attempts["exception"].dropna()) == {"OutOfMemoryError"}
    assert [len(stack) for stack in executor.submitted] == [3, 1, 1, 1, 1, 1, 1]


def test_what_fits_in_no_parts_fails_with_the_figure(begin, table):
    scheduler, executor, _ = begin(lambda specs: "exhaust", width="16", seeds=1)
    scheduler.drain()
    assert states(table) == {"failed": 1}
    assert "out of memory: about 0" in table.frame()["reason"].item()
    assert "GiB on here, with batches in 32 parts" in table.frame()["reason"].item()
    assert [spec.accumulate for spec in executor.tried] == [1, 1, 4, 16, 32]


def test_a_stack_larger_than_the_device_is_cut_before_it_is_tried(begin, table):
    scheduler, executor, _ = begin(width="16", seeds=8)
    executor.places = [Place("here", "cpu", 2**20)]
    scheduler.drain()
    assert states(table) == {"done": 8}
    assert {len(stack) for stack in executor.submitted} == {1}


def test_what_peaks_taught_is_kept_with_the_table(begin, table):
    scheduler, executor, _ = begin(width="16", seeds=1)
    executor.events = lambda stack, specs, fate: [
        Measured(stack, Usage(peak_memory=12345)),
        Finished(stack, [executor.result_of(s, "done") for s in specs]),
    ]
    scheduler.drain()
    assert table.devices["memory"]["cpu"]["context"] == 12345
    again, _, _ = begin(width="16", seeds=2)
    again.drain()
    assert table.devices["memory"]["cpu"]["context"] == 12345


# Ctrl-C


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_lets_what_is_about_to_end_end_and_begins_nothing_new(begin, table, number):
    scheduler, executor, _ = begin(slots=1, width="[16, 24, 40]", seeds=1)
    executor.on_poll = lambda: len(executor.submitted) == 1 and os.kill(os.getpid(), number)
    before = signal.getsignal(number)
    scheduler.drain()
    assert scheduler.interrupted
    assert states(table) == {"done": 1, "queued": 2}
    assert executor.stops == 0
    assert signal.getsignal(number) == before


def test_after_its_grace_what_still_trains_is_stopped_and_queued_again(begin, table):
    scheduler, executor, made = begin(lambda specs: "hang", width="[16, 32]", seeds=2)
    polls = []

    def interrupt_first():
        polls.append(executor.stops)
        if len(polls) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    executor.on_poll = interrupt_first
    end = scheduler.drain()
    assert len(polls) > GRACE
    assert not any(polls[: int(GRACE)])
    assert executor.stops > 0
    assert states(table) == {"queued": 4}
    assert set(table.frame("attempts")["outcome"]) == {"interrupted"}
    assert end.message.startswith("stopping: ")
    again, _, _ = begin()
    again.drain()
    assert states(table) == {"done": len(made.runs)}


def test_a_stop_that_was_not_heard_is_said_again(begin, table):
    """A worker that is only about to begin a stack forgets a stop from before."""
    deaf = 3
    scheduler, executor, _ = begin(
        lambda specs: "hang" if executor.stops < deaf else "cancelled", slots=1, width="16", seeds=1
    )
    executor.ends = executor.fate
    sent = []
    executor.on_poll = lambda: sent or (sent.append(1), os.kill(os.getpid(), signal.SIGINT))
    scheduler.drain()
    assert executor.stops == deaf
    assert states(table) == {"queued": 1}


def test_a_second_interrupt_leaves_now_with_everything_queued(begin, table):
    scheduler, executor, _ = begin(lambda specs: "hang")
    executor.on_poll = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        scheduler.drain()
    assert states(table) == {"queued": 4}
    assert executor.stops == 0


def test_leases_are_renewed_while_a_run_trains(begin, table, clock):
    trained = []
    scheduler, executor, _ = begin(
        lambda specs: "hang" if len(trained) < 3 else "done", slots=1, width="16", seeds=1
    )

    def poll():
        trained.append(table.frame("attempts")["lease"].iloc[0])
        clock.now += 30

    executor.on_poll = poll
    scheduler.drain()
    assert trained == sorted(trained)
    assert trained[-1] > trained[0]
