"""The coordinator: hands stacks of queued runs to an executor and writes what comes back. No ray in it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from orchestrator.host.interrupts import Interrupts
from orchestrator.scheduling.budget import Budget
from orchestrator.scheduling.failures import ALIKE, MOST_LOSSES, Failures, is_lost
from orchestrator.scheduling.memory import DeviceMemory
from orchestrator.scheduling.progress import Progress, Tally
from orchestrator.scheduling.ready import ReadyQueue
from orchestrator.scheduling.running import RunningStack, failed, finished, lost
from orchestrator.scheduling.smoke_test import SmokeTests
from orchestrator.scheduling.write_buffer import WriteBuffer
from orchestrator.store.requests import BY_HAND
from orchestrator.store.retry import Retry
from orchestrator.store.table import LEASE, End
from orchestrator.workers.executor import (
    Began,
    Executor,
    Failed,
    Finished,
    Left,
    Lost,
    Measured,
    Noted,
    Recorded,
    WentOn,
)
from orchestrator.workers.worker import NO_FILES, OUT_OF_MEMORY, Files
from trainer.trunk import charged_flops

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from orchestrator.host.speed import Speed
    from orchestrator.scheduling.ready import Orphan
    from orchestrator.store.requests import Changes, Inbox
    from orchestrator.store.table import Table
    from orchestrator.workers.executor import Event
    from trainer.result import Record, Resumed, RunResult
    from trainer.spec import RunSpec


class RunSource(Protocol):
    """Where a sweep's further runs come from as it goes, and who ends some of them before their time."""

    def more(self) -> bool:
        """Put the runs that are to be trained next into the table's queue; whether there are any."""

    def judge(self, record: Record) -> Collection[str]:
        """Runs in training to be pruned, now that one has recorded this."""


GRACE = 5.0
"""Seconds that runs about to end are given after Ctrl-C before they are stopped."""

TOLD = 2.0
"""Seconds between two notes in the table about how far the sweeps are."""

RECORDS = 0.5
"""Seconds for which records may wait for others: a transaction each took 5 % of two cores beside short runs."""


class _Picked(NamedTuple):
    """A stack that is about to be claimed, and the place that it was given."""

    stack: int
    runs: list[RunSpec]
    place: str


class Scheduler:
    """Drains the queues of some sweeps. `on_progress` is called after every event, on the caller's thread.

    `files` says where checkpoints lie, from which runs go on and with which the stages of a chain begin. A run with
    a parent waits for its end; where the parent has none to give, it fails. `speed` is this machine's, where it is
    known: stacks are as large as it says. `inbox` brings what other terminals ask for, a `search` adds runs
    as others end. With `smoke_test`, a sweep of which nothing has trained
    yet must first beat chance on a tiny budget.
    """

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        table: Table,
        executor: Executor,
        sweeps: Sequence[str],
        on_progress: Callable[[Progress], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        files: Files = NO_FILES,
        *,
        keep_all: bool = False,
        speed: Speed | None = None,
        inbox: Inbox | Changes | None = None,
        search: RunSource | None = None,
        smoke_test: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table, self._executor, self._sweeps = table, executor, list(sweeps)
        self._on_progress, self._clock, self._sleep = on_progress, clock, sleep
        self._inbox, self._keep_all, self._files = inbox, keep_all, files
        self._search, self._seeks = search, search is not None
        self._ready = ReadyQueue(table, files, speed, executor.slots)
        self._memory = DeviceMemory(lambda: executor.places, table.devices.get("memory"))
        self._smoke_tests = SmokeTests(table, asked=smoke_test)
        self._budget, self._failures, self._tally, self._buffer = Budget(), Failures(), Tally(), WriteBuffer()
        self._running: dict[int, RunningStack] = {}
        self._endings: dict[str, tuple[str, str]] = {}
        self._paused: dict[str, str] = {}
        self._kept: set[str] = set()
        self._next = 0
        self._interrupts = Interrupts(clock, self._wind)
        self._retry = Retry(self._say, sleep, lambda: self.interrupted)
        self._stale = True

    def drain(self) -> Progress:
        """Train every queued run of the sweeps, within their limits; returns where they then stand.

        Ctrl-C once gives runs in training GRACE seconds to end, queues the others again and returns. Raises
        KeyboardInterrupt on the second, with everything queued again. Waits while a sweep is paused by hand, while
        the disk is full, and while another program has locked the table.
        """
        self._renewed = self._told = self._passed = self._written = self._clock()
        self._tally.start(self._passed)
        with self._interrupts.watched():
            try:
                while self._turn():
                    events = self._poll()
                    self._pass_time()
                    for event in events:
                        self._take(event)
                    self._on_progress(self._tally.now(self._running.values(), self._clock()))
                    self._obey()
                    self._wind_down()
                self._note_times(None)
                self._commit([])
                self._remember()
            except BaseException:
                with suppress(Exception):  # where the table itself is why we are here, recover() does it next time
                    self._give_back("interrupted", "its coordinator stopped")
                raise
        return self.progress

    def end(self, run_id: str, state: str, reason: str) -> None:
        """Have a run in flight leave its stack and end as cancelled, diverged or pruned; others are left alone."""
        if any(run_id in running.runs for running in self._running.values()):
            self._endings[run_id] = state, reason

    def reread(self, sweeps: Iterable[str] = ()) -> None:
        """Take the queue from the table anew, with further sweeps: somebody has changed it."""
        self._sweeps += [name for name in sweeps if name not in self._sweeps]
        self._stale = True

    # one turn

    def _turn(self) -> bool:
        """Write what was heard, claim and start what may start; False where there is nothing left to wait for."""
        if self._seeks and not self.interrupted:
            self._seek()
        if self._stale:
            self._commit([])
            self._read()
        picked = [] if self.interrupted else self._pick()
        if picked or self._buffer.urgent or self._clock() - self._written > RECORDS:
            self._commit(picked)
        by_hand = BY_HAND in self._paused.values() and self._inbox is not None and not self.interrupted
        later = (
            bool(self._ready.waiting or self._smoke_tests.waiting) and not self.interrupted
        )  # no worker is ready, or no machine is left
        return bool(self._running) or later or by_hand

    def _seek(self) -> None:
        """Have the search propose, now that it can read in the table what has ended."""
        assert self._search is not None
        self._seeks = False
        self._commit([])
        self._stale |= self._retry(self._search.more)

    def _read(self) -> None:
        """The queue as it stands in the table."""
        self._stale = False
        rows = self._rows()
        if any(row["blocked"] for row in rows):  # their limits may allow them now
            known = self._retry(lambda: self._table.standing(self._sweeps))
            self._retry(lambda: self._table.queue.move(known, "queued", of=["blocked"]))
            rows = self._rows()
        self._tally.read(rows)
        self._paused = {row["sweep"]: row["paused"] for row in rows if row["paused"]}
        unpaused = [row for row in rows if not row["paused"]]
        held = self._paused.keys() | self._retry(lambda: self._smoke_tests.hold(unpaused))
        going = [name for name in self._sweeps if name not in held]
        self._orphaned(self._retry(lambda: self._ready.read(going, self._sweeps)))
        standing = self._ready.standing
        self._budget.open(rows, {run_id: row["sweeps"] for run_id, row in standing.items()})
        self._kept = set(standing) if self._keep_all else {row["parent"] for row in standing.values()}
        self._tally.expect(self._ready.predicted(), self._running.values())

    def _rows(self) -> list[dict[str, Any]]:
        return [row for row in self._retry(self._table.sweeps) if row["sweep"] in self._sweeps]

    def _pick(self) -> list[_Picked]:
        """Bundles for the free slots, their FLOPs set aside; what a limit does not pay for any more is blocked."""
        picked: list[_Picked] = []
        waiting, free = self._ready.waiting, list(self._executor.open)
        while free and (smoke_test := self._smoke_tests.next()):
            self._send_smoke_test(*smoke_test, free)
        while waiting and free:
            if len(stack := waiting[0]) > 1 and not self._memory.fits(stack):
                waiting[:1] = [stack[0::2], stack[1::2]]
                continue
            place = self._memory.give(self._next, stack, free)
            if place is None:
                break  # until one of those in training has ended
            waiting.pop(0)
            kept, reason = self._budget.affordable(stack)
            if reason:
                blocked = [run.run_id for run in stack if run not in kept]
                self._buffer.moves += [(run_id, "blocked", reason) for run_id in blocked]
                self.progress.blocked += len(blocked)
                self._say(f"{reason}; the rest is blocked")
            if kept:
                self._budget.reserve(charged_flops(kept))
                picked.append(_Picked(self._next, kept, place))
                free.remove(place)
                self._next += 1
            else:
                self._memory.take_back(self._next)
        return picked

    def _send_smoke_test(self, sweep: str, runs: list[RunSpec], free: list[str]) -> None:
        place = self._memory.give(self._next, runs, free)
        if place is None:
            self._smoke_tests.again(sweep, runs)
            free.clear()  # until one of those in training has ended
            return
        free.remove(place)
        self._running[self._next] = RunningStack({run.run_id: run for run in runs}, {}, self._clock(), sweep)
        self._executor.submit(self._next, runs, (), place)
        self._next += 1

    def _commit(self, picked: Sequence[_Picked]) -> None:
        """One transaction: what was heard, and the claims of what was picked. Then that starts."""
        buffer, claimed = self._buffer, dict[str, int]()
        if picked or not buffer.empty:
            claimed = self._retry(lambda: buffer.write(self._table, [pick.runs for pick in picked]))
        self._buffer, self._written = WriteBuffer(), self._clock()
        for number, stack, place in picked:
            runs = {run.run_id: run for run in stack if run.run_id in claimed}
            for run in stack:
                if run.run_id not in claimed:  # it is no longer queued
                    self._budget.settle(run.run_id, 0)
            if runs:
                self._running[number] = RunningStack(runs, {r: claimed[r] for r in runs}, self._clock())
                tried = self._memory.as_tried(list(runs.values()))
                self._executor.submit(number, tried, self._kept & runs.keys(), place)
            else:
                self._memory.take_back(number)

    def _poll(self) -> list[Event]:
        if self._running or self._ready.waiting or self._smoke_tests.waiting:  # or no worker would ever be ready
            return self._executor.poll(0.5)
        self._sleep(0.5)
        return []

    # what an executor says

    def _take(self, event: Event) -> None:
        running = self._running[event.stack]
        if running.smoke_test:
            self._hear_smoke_test(running, event)
            return
        if not isinstance(event, Began):
            self._tally.heard(self._clock())
        match event:
            case Began():
                self._buffer.began.append((running.claimed, event.worker))
            case Recorded():
                self._record(running, event.record)
            case WentOn():
                self._go_on(running, event.resumed)
            case Left():
                self._leave(running, event.result)
            case Noted():
                self._say(event.text)
            case Measured():
                running.used = event.used
            case _:
                self._end(running, event)

    def _hear_smoke_test(self, running: RunningStack, event: Event) -> None:
        if isinstance(event, Measured):
            running.used = event.used
        if not isinstance(event, Finished | Failed | Lost):
            return
        del self._running[event.stack]
        self._memory.take_back(event.stack, running.all, running.used.peak_memory)
        wrong = self._smoke_tests.heard(running.smoke_test, running.all, event)
        self._stale = True
        if wrong and not self.interrupted:
            self._pause(running.smoke_test, wrong)

    def _record(self, running: RunningStack, record: Record) -> None:
        run = running.runs[record.run_id]
        self._buffer.records.append(record)
        self._buffer.tokens[record.run_id] = running.claimed[record.run_id]
        running.record(record)
        if record.step == run.steps:
            self.progress.note_error(record.error)
        elif is_lost(running.losses[record.run_id], run.steps or 0, run.classes or 2):
            self.end(record.run_id, "diverged", "its loss stayed above chance")
        self._judge(record)

    def _judge(self, record: Record) -> None:
        for run_id in self._search.judge(record) if self._search is not None else ():
            self.end(run_id, "pruned", f"the search's pruner, at step {record.step}")

    def _go_on(self, running: RunningStack, resumed: Resumed) -> None:
        self._buffer.resumed.append(resumed)
        self._buffer.tokens[resumed.run_id] = running.claimed[resumed.run_id]
        running.go_on(resumed)
        for record in resumed.history:
            self._judge(record)
        self._tally.went_on(resumed.run_id, running)

    def _leave(self, running: RunningStack, result: RunResult) -> None:
        """A run has ended, the rest of its stack trains on."""
        used = running.columns(self._clock(), self._gpu_share)
        for end in finished(running, [result], self._endings, used):
            self._settle(running, end)
            running.leave(end)

    def _end(self, running: RunningStack, event: Finished | Failed | Lost) -> None:
        del self._running[event.stack]
        self._memory.take_back(event.stack, running.all, running.used.peak_memory)
        self._seeks = self._search is not None
        used = running.columns(self._clock(), self._gpu_share)
        if running.over and not isinstance(event, Finished):  # their worker cannot do it any more
            self._files.drop(running.over)
        if not running.runs:
            return
        if isinstance(event, Finished):
            for end in finished(running, event.results, self._endings, used):
                self._settle(running, end)
        elif isinstance(event, Failed):
            self._fail(running, event, used)
        else:
            hopeless = self._failures.lost(running.runs)
            for end in lost(running, event.reason, hopeless, MOST_LOSSES, used):
                self._settle(running, end)
            self._ready.again(run for run_id, run in running.runs.items() if run_id not in hopeless)

    @property
    def _gpu_share(self) -> float:
        return self._executor.gpus / max(1, self._executor.slots)

    def _fail(self, running: RunningStack, event: Failed, used: dict[str, Any]) -> None:
        """A run that fails alone is a failed row; nobody knows whose fault a stack's was, so each goes alone.

        What ran out of memory is tried again with less of it, and fails with the figure where there is no less.
        """
        runs, full = list(running.runs.values()), event.exception == OUT_OF_MEMORY
        again = [run for run in runs if (full and self._memory.exhausted(run)) or len(runs) > 1]
        figure = self._memory.figure(runs[0]) if full and not again else None
        for end in failed(running, event, figure, again=bool(again), used=used):
            self._settle(running, end)
            for sweep in () if again or full else self._ready.standing[end.run_id]["sweeps"]:
                if self._failures.raised(sweep, end.run_id, event.traceback):
                    self._pause(sweep, f"{ALIKE} runs raised the same: {event.reason}")
        self._ready.again(again)

    def _settle(self, running: RunningStack, end: End) -> None:
        """An attempt is over: note it, charge it, and let go what waited for the run."""
        state, reason = self._endings.pop(end.run_id, ("", ""))
        if end.state == "queued" and state == "cancelled":  # it was to leave, and its worker died
            end = replace(end, state=state, reason=reason)
        self._buffer.ends.append(end)
        back = self._budget.settle(end.run_id, running.own(end))
        self._stale |= back and self.progress.blocked > 0
        if end.state == "queued":
            return
        if end.state == "pruned":
            self._files.drop([end.run_id])
        self._tally.ended(end.run_id, end.state, end.result)
        self._orphaned(self._ready.ended(end.run_id, end.state))

    def _orphaned(self, orphans: Iterable[Orphan]) -> None:
        """Fail runs whose parent ended without parameters to begin with, and theirs."""
        for run, reason in orphans:
            self._buffer.moves.append((run.run_id, "failed", reason))
            self._tally.ended(run.run_id, "failed")
            self._orphaned(self._ready.ended(run.run_id, "failed"))

    def _pause(self, sweep: str, reason: str) -> None:
        self._buffer.tell(sweep, paused=reason)
        self._say(f"{sweep} is paused: {reason}; `isoflop queue resume {sweep}` or `isoflop run` goes on")
        self._stale = True

    # what time brings

    def _pass_time(self) -> None:
        """Keep the accounts' clock, the leases of what is in training, and what the table says of the sweeps."""
        now = self._clock()
        self._budget.pass_time(
            now - self._passed, [f.runs.values() for f in self._running.values()], self._gpu_share
        )
        self._passed = now
        if now - self._renewed > LEASE / 3:
            self._buffer.renewed = {k: v for f in self._running.values() for k, v in f.claimed.items()}
            self._renewed = now
            self._remember()
            if self._table.shared:  # what others have changed, and what they left when they died
                self._retry(self._table.queue.recover)
                self.reread()
        if now - self._told > TOLD:
            self._note_times(self.progress.seconds_left)
            self._told = now

    def _remember(self) -> None:
        """Keep with the table what peaks have taught."""
        learned = {**self._retry(lambda: self._table.devices), "memory": self._memory.to_dict()}
        self._retry(lambda: setattr(self._table, "devices", learned))

    def _note_times(self, seconds_left: float | None) -> None:
        for sweep, seconds in self._budget.seconds().items():
            message = self.progress.message if self._running else ""
            self._buffer.tell(sweep, seconds=seconds, seconds_left=seconds_left, message=message or None)

    def _say(self, text: str) -> None:
        self.progress.message = text
        self._on_progress(self.progress)

    def _obey(self) -> None:
        """Do what other terminals ask for, and have leave what is to leave: again and again, until it has."""
        inbox = self._inbox
        if inbox is not None and self._retry(lambda: inbox.pending(self._table)):
            self._commit([])  # they are to see what we have heard
            for done in self._retry(lambda: inbox.obey(self._table)):
                self.reread(done.wanted)
            for run_id in self._retry(self._table.leaving):
                self.end(run_id, "cancelled", "cancelled by hand")
        for stack, running in self._running.items():
            if leaving := running.runs.keys() & self._endings.keys():
                self._executor.leave(stack, leaving)

    def _wind(self) -> None:
        self._say(f"stopping: what ends within {GRACE:g} s is kept; Ctrl-C again to leave now")

    def _wind_down(self) -> None:
        if self._running and self.interrupted and self._interrupts.seconds > GRACE:
            self._executor.stop()  # again after every poll: a stack that was only about to start did not hear it

    def _give_back(self, outcome: str, reason: str) -> None:
        for running in self._running.values():
            self._buffer.ends += [End(r, t, "queued", outcome, reason) for r, t in running.claimed.items()]
        self._running.clear()
        self._buffer.write(self._table, [])

    @property
    def progress(self) -> Progress:
        """How far the sweeps are."""
        return self._tally.progress

    @property
    def interrupted(self) -> bool:
        """Whether the sweep was stopped by a signal before its end."""
        return self._interrupts.count > 0
