"""Any week: whatever happens in whatever order, the accounts agree, and in the end everything is trained once.

The table, the requests and the coordinator are the real ones; what a worker would do is drawn by hypothesis.
"""

import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.host.process import this_process
from orchestrator.scheduling.options import SchedulerOptions
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.scheduling.write_buffer import WriteBuffer
from orchestrator.store.requests import Inbox, Request, add
from orchestrator.store.table import Table
from orchestrator.workers.executor import Began, Failed, Finished, Left, Lost, Recorded, WentOn
from tests.orchestrator.fakes import Clock, FakeExecutor, Saved
from trainer.result import Resumed

RAN = {"done", "diverged"}
MORE = "limits: {total_flops: 1e7}"


class Killed(BaseException):
    """kill -9: no handler of ours runs."""


class Fate(FakeExecutor):
    """An executor whose workers do what a script says, an entry a poll; at its end, all come to theirs."""

    def __init__(self, script, result_of, clock, ask):
        super().__init__(result_of, clock)
        self._script, self._ask = script, ask
        self.training, self.on_kill = {}, lambda: None

    @property
    def free(self):
        return self.slots - len(self.training)

    def submit(self, stack, specs, keep=(), place=None):
        assert self.free
        self.training[stack] = {spec.run_id: (spec, self._records(spec)) for spec in specs}

    def _records(self, spec):
        return list(self.result_of(spec, records=3).history)

    def poll(self, timeout):
        self.clock.now += 0.4
        what, which = self._script.pop(0) if self._script else ("end", 0)
        if what == "kill":
            self.on_kill()
            raise Killed
        if what in ("cancel", "retry", "prioritise", "pause", "resume"):
            self._ask(what, which)
            return []
        if not self.training:
            return []
        stack = sorted(self.training)[which % len(self.training)]
        return getattr(self, what)(stack)

    def begin(self, stack):
        return [Began(stack, this_process())]

    def train(self, stack):
        """A record of every run; those that are to leave have left at the end only."""
        return [Recorded(stack, left.pop(0)) for _, left in self.training[stack].values() if len(left) > 1]

    def part(self, stack):
        """Those that are to leave have left, and of those that are not the first is done or has diverged."""
        runs = self.training[stack]
        gone = [run_id for run_id in runs if run_id in self.leaving]
        ended = [run_id for run_id in runs if run_id not in gone][: len(runs) > len(gone) + 1]
        left = [(run_id, "cancelled") for run_id in gone] + [(run_id, "diverged") for run_id in ended]
        results = [self.result_of(runs[run_id][0], state, records=3) for run_id, state in left]
        self.training[stack] = {run_id: run for run_id, run in runs.items() if run_id not in dict(left)}
        return [Left(stack, result) for result in results]

    def go_on(self, stack):
        """Goes on behind its first record, as if there had been a checkpoint."""
        found = []
        for run_id, (_, left) in self.training[stack].items():
            if len(left) == 3:
                first = left.pop(0)
                found.append(WentOn(stack, Resumed(run_id, first.step, first.flops, first.seconds, (first,))))
        return found

    def end(self, stack):
        return self._ended(stack, "done")

    def diverge(self, stack):
        return self._ended(stack, "diverged")

    def _ended(self, stack, state):
        results = []
        for run_id, (spec, _) in self.training.pop(stack).items():
            left = run_id in self.leaving
            results.append(self.result_of(spec, "cancelled" if left else state, records=3))
        return [Finished(stack, results)]

    def fail(self, stack):
        traceback = f'  File "line {len(self.training.pop(stack))}"\nValueError: no'
        return [Failed(stack, "ValueError: no", traceback, "ValueError")]

    def exhaust(self, stack):
        del self.training[stack]
        return [Failed(stack, "OutOfMemoryError: no", "OutOfMemoryError: no", "OutOfMemoryError")]

    def die(self, stack):
        del self.training[stack]
        return [Lost(stack, "its worker died")]

    def stop(self):
        self.leaving |= {run_id for runs in self.training.values() for run_id in runs}

    def leave(self, stack, run_ids):
        self.leaving |= set(run_ids)


EVENTS = ["begin", "go_on", "train", "train", "part", "end", "diverge", "fail", "exhaust", "die"]
VERBS = ["cancel", "retry", "prioritise", "pause", "resume", "kill"]
SCRIPT = st.lists(st.tuples(st.sampled_from(EVENTS + VERBS), st.integers(0, 7)), max_size=40)


def check(table, before):
    """The accounts of runs, attempts and records agree, and what was done has stayed as it was."""
    runs, attempts = table.frame().fillna({"charged_flops": 0}), table.frame("attempts")
    tried = attempts.groupby("run_id")
    for row in runs.to_dict("records"):
        mine = tried.get_group(row["run_id"]) if row["run_id"] in tried.groups else attempts.iloc[:0]
        assert row["attempt"] == len(mine)
        assert row["charged_flops"] == mine["flops"].fillna(0).sum()
        assert (row["state"] == "running") == mine["ended"].isna().any()
        assert mine["ended"].isna().sum() <= 1
        assert sum(mine["outcome"].isin(RAN)) == (row["state"] in RAN)
        if row["state"] in RAN:
            assert mine["outcome"].iloc[-1] == row["state"]
    finished = runs[runs["state"].isin(RAN)].set_index("run_id")[["state", "error", "flops", "attempt"]]
    assert before.keys() <= set(finished.index)
    assert all(finished.loc[run_id].to_dict() == was for run_id, was in before.items())
    history = table.frame("history")
    for _, steps in history.groupby("run_id")["step"]:
        assert all(a < b for a, b in pairwise(steps))
    return finished.to_dict("index")


def session(table, plans, script, result_of, clock, ask):
    """One coordinator, until nothing is left or it is killed."""
    table.queue.recover()
    inbox = Inbox(Path(table.store).with_name("t.db.requests"))
    executor = Fate(script, result_of, clock, ask)

    def sleep():
        if not script:
            ask("resume", 0)  # it would wait for ever for somebody to do it
        else:
            executor.poll(0)

    names = [plan.sweep for plan in plans]
    scheduler = Scheduler(table, executor, names, SchedulerOptions(Saved()), inbox=inbox, clock=clock)
    clock.on_sleep = sleep
    try:
        with pytest.MonkeyPatch.context() as patch:
            executor.on_kill = lambda: patch.setattr(WriteBuffer, "write", dead)
            scheduler.drain()
    except Killed:
        return True
    return False


def dead(*_):
    """What a process writes that was killed."""
    raise OSError("killed")


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(script=SCRIPT, limited=st.booleans())
def test_whatever_happens_the_accounts_agree_and_everything_is_trained_once(script, limited, planned, result_of):
    plans = [planned(seeds=2), planned(sweep="wide", width="[32, 48]", seeds=3, lr="[1e-3, 2e-3]")]
    if limited:
        plans[0] = planned(seeds=2, more=MORE)
    with tempfile.TemporaryDirectory() as name:
        folder, clock, before = Path(name), Clock(), {}
        inbox = Inbox(folder / "t.db.requests")
        ids = sorted({run.run_id for plan in plans for run in plan.runs})

        def ask(verb, which):
            whole = verb in ("pause", "resume")
            what = plans[which % 2].sweep if whole else ids[which % len(ids)]
            inbox.ask(Request(verb, () if verb == "resume" else (what,), priority=which))

        with Table(folder / "t.db", writable=True) as table:
            for plan in plans:
                table.queue.enqueue(plan)
        killed = True
        while killed:
            with Table(folder / "t.db", writable=True) as table:
                killed = session(table, plans, script, result_of, clock, ask)
                before = check(table, before)
        if limited:
            spent = sum(row["charged_flops"] for row in Table(folder / "t.db").sweeps() if row["sweep"] == "small")
            assert spent <= 1e7
            inbox.ask(add(planned(seeds=2)))
        for _ in range(3):  # a sweep that paused after three alike needs more than one look
            inbox.ask(Request("resume"))
            inbox.ask(Request("retry", ("small",)))
            inbox.ask(Request("retry", ("wide",)))
            with Table(folder / "t.db", writable=True) as table:
                inbox.obey(table)
                session(table, plans, [], result_of, clock, ask)
                before = check(table, before)
        with Table(folder / "t.db") as table:
            assert set(Counter(table.frame()["state"])) <= RAN
