"""The scheduler: hands stacks of queued runs to an executor and writes what comes back. It does not know Ray."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator.host.clock import CLOCK, Clock
from orchestrator.host.interrupts import Interrupts
from orchestrator.scheduling.budget import Budget
from orchestrator.scheduling.failures import Failures
from orchestrator.scheduling.forecast import Lessons
from orchestrator.scheduling.memory import DeviceMemory
from orchestrator.scheduling.options import DEFAULTS, RunSource, SchedulerOptions
from orchestrator.scheduling.progress import Progress, Tally
from orchestrator.scheduling.ready import ReadyQueue
from orchestrator.scheduling.running import EndedRun, Running
from orchestrator.scheduling.smoke_test import SmokeTests
from orchestrator.scheduling.stacks import Chosen, choose
from orchestrator.scheduling.write_buffer import WriteBuffer
from orchestrator.store.queue import LEASE
from orchestrator.store.requests import BY_HAND
from orchestrator.store.retry import Retry
from orchestrator.workers.executor import Finished, StackEnd
from trainer.host import installation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.store.requests import Changes, Inbox
    from orchestrator.store.table import Table
    from orchestrator.workers.executor import Event, Executor
    from trainer.spec import RunSpec


GRACE = 5.0
"""Seconds that runs about to end are given after Ctrl-C before they are stopped."""

RECORDS = 0.5
"""Seconds for which records may wait for others: a transaction each took 5 % of two cores beside short runs."""


class Scheduler:
    """Trains the queued runs of some sweeps on an executor.

    A run with a parent waits for the parent's end, and fails where that leaves no parameters. `on_progress` is
    called after every event, on the caller's thread. `inbox` brings requests of other terminals, `source` brings
    further runs.
    """

    def __init__(
        self,
        table: Table,
        executor: Executor,
        sweeps: Sequence[str],
        options: SchedulerOptions = DEFAULTS,
        *,
        on_progress: Callable[[Progress], None] = lambda _: None,
        inbox: Inbox | Changes | None = None,
        source: RunSource | None = None,
        clock: Clock = CLOCK,
    ) -> None:
        self._table, self._executor, self._inbox, self._source = table, executor, inbox, source
        self._clock = clock
        self._ready = ReadyQueue(table, sweeps, options, executor.slots)
        self._memory = DeviceMemory(lambda: executor.places, table.devices.get("memory"))
        self._running = Running(executor, self._memory, options.files, clock, source.judge if source else None)
        self._smoke_tests = SmokeTests(asked=options.smoke_test)
        self._budget, self._failures, self._buffer = Budget(clock), Failures(), WriteBuffer()
        self._tally = Tally(on_progress, clock)
        stopping = f"stopping: what ends within {GRACE:g} s is kept; Ctrl-C again to leave now"
        self._interrupts = Interrupts(clock, lambda: self._tally.say(stopping))
        self._retry = Retry(self._tally.say, clock.sleep, lambda: self.interrupted)
        self.lessons = Lessons(options.speed)
        self._asks = source is not None
        self._written = self._renewed = clock()

    @property
    def interrupted(self) -> bool:
        """Whether a signal has stopped the sweeps before their end."""
        return self._interrupts.count > 0

    def drain(self) -> Progress:
        """Train every queued run of the sweeps, within their limits; returns where they then stand.

        Ctrl-C once gives runs in training GRACE seconds to end, queues the others again and returns. Raises
        KeyboardInterrupt on the second, with everything queued again. Waits while a sweep is paused by hand, while
        the disk is full, and while another program has locked the table.
        """
        with self._interrupts.watched():
            try:
                while self._turn():
                    events = self._poll()
                    self._pass_time()
                    for event in events:
                        self._take(event)
                    self._tally.show(self._running.stacks.values(), self._ready.waiting)
                    self._obey()
                self._tally.tell(self._buffer, self._budget.seconds(), self._running.stacks, over=True)
                self._commit()
                self._retry(self._save_peaks)
            except BaseException:
                with suppress(Exception):  # where the table itself is why we are here, recover() does it next time
                    self._buffer.ends += self._running.give_back()
                    self._buffer.write(self._table, [])
                raise
        return self._tally.progress

    def _turn(self) -> bool:
        """Write what was reported, claim and start what may start; returns whether to go on."""
        if self._source is not None and self._asks and not self.interrupted:
            self._asks = False
            self._commit()  # the source reads in the table what has ended
            self._ready.stale |= self._retry(self._source.more)
        if self._ready.stale:
            self._commit()
            self._read()
        chosen = [] if self.interrupted else self._choose()
        if chosen or self._buffer.urgent or self._clock() - self._written > RECORDS:
            self._commit(chosen)
        if self.interrupted:
            return bool(self._running.stacks)
        by_hand = BY_HAND in self._ready.paused.values() and self._inbox is not None
        return self._has_work or by_hand

    @property
    def _has_work(self) -> bool:
        """Whether anything trains or waits for a worker: if no worker is ready, or no machine is left."""
        return bool(self._running.stacks or self._ready or self._smoke_tests.waiting)

    def _poll(self) -> list[Event]:
        if self._has_work:  # polled, or no worker would ever be ready
            return self._executor.poll(0.5)
        self._clock.sleep(0.5)
        return []

    def _read(self) -> None:
        """Take the queue from the table as it stands."""
        rows = self._retry(self._ready.unblock)
        self._tally.read(rows)
        row_of, tests = {row["sweep"]: row for row in rows}, self._smoke_tests

        def holds(sweep: str, queued: Sequence[RunSpec]) -> bool:
            return sweep in row_of and tests.holds(row_of[sweep], queued)

        orphans = self._retry(lambda: self._ready.read(holds))
        self._buffer.moves += orphans
        self._tally.moved(orphans)
        self._budget.open(rows, self._ready.owners)
        self._tally.expect(self._ready.predicted(), self._running.stacks.values())

    def _choose(self) -> list[Chosen]:
        """Return the stacks that start now, smoke tests first, their FLOPs set aside."""
        places, numbers = list(self._executor.open), self._running.numbers
        tests = self._smoke_tests.choose(places, self._memory, numbers)
        chosen, blocked = choose(self._ready.waiting, places, self._memory, self._budget, numbers)
        self._buffer.moves += blocked
        self._tally.moved(blocked)
        return tests + chosen

    def _commit(self, chosen: Sequence[Chosen] = ()) -> None:
        """Write what was reported and claim what was chosen, in one transaction; then start that."""
        buffer, claims = self._buffer, [stack.runs for stack in chosen if not stack.smoke_test]
        tokens = dict[str, int]()
        if claims or not buffer.empty:
            tokens = self._retry(lambda: buffer.write(self._table, claims))
        self._written = self._clock()
        for stack in chosen:
            self.lessons.begin()
            for run in self._running.start(stack, tokens, self._ready.kept):
                self._budget.settle(run.run_id, 0)

    def _take(self, event: Event) -> None:
        """Take in an event of a stack in training."""
        stack = self._running.stacks[event.stack]
        ended = self._running.take(event)
        if not stack.smoke_test:
            self._buffer.take(event, stack.tokens)
            self._tally.take(event, stack)
            self._asks |= isinstance(event, StackEnd)
            if isinstance(event, Finished):
                self.lessons.take(stack, event)
            self._settle(ended)
        elif isinstance(event, StackEnd):
            self._ready.stale = True
            wrong = self._smoke_tests.ended(stack.smoke_test, stack.all, event)
            if wrong and not self.interrupted:
                self._pause(stack.smoke_test, wrong)

    def _settle(self, ended: Sequence[EndedRun]) -> None:
        """Note and charge attempts that are over, release what waited for their runs, or try those again."""
        for run, end, spent in ended:
            self._buffer.ends.append(end)
            freed = self._budget.settle(run.run_id, spent)
            self._ready.stale |= freed and self._tally.progress.blocked > 0
            if end.state == "queued":
                if end.outcome != "interrupted":
                    self._ready.again(run)
                continue
            self._tally.ended(run.run_id, end.state, end.result)
            orphans = self._ready.ended(run.run_id, end.state)
            self._buffer.moves += orphans
            self._tally.moved(orphans)
            for sweep, reason in self._failures.pauses(end, self._ready.standing[run.run_id].sweeps):
                self._pause(sweep, reason)

    def _pause(self, sweep: str, reason: str) -> None:
        self._buffer.tell(sweep, paused=reason)
        resume = installation.command(f"queue resume {sweep}")
        self._tally.say(f"{sweep} is paused: {reason}; `{resume}` resumes it")
        self._ready.stale = True

    def _pass_time(self) -> None:
        """Charge time to the sweeps, renew leases, and note the progress in the table."""
        stacks, now = self._running.stacks, self._clock()
        self._budget.pass_time([stack.runs.values() for stack in stacks.values()], self._running.gpu_share)
        self._tally.tell(self._buffer, self._budget.seconds(), stacks)
        if now - self._renewed > LEASE / 3:
            self._renewed, self._buffer.renewed = now, self._running.tokens
            self._retry(self._save_peaks)
            if self._table.shared:  # what others have changed, and what they left when they died
                self._retry(self._table.queue.recover)
                self._ready.stale = True

    def _save_peaks(self) -> None:
        self._table.devices = {**self._table.devices, "memory": self._memory.to_dict()}

    def _obey(self) -> None:
        """Obey requests of other terminals, and tell workers what is to leave, until it has left."""
        inbox = self._inbox
        if inbox is not None and self._retry(lambda: inbox.pending(self._table)):
            self._commit()  # who asked is to see what was reported
            for done in self._retry(lambda: inbox.obey(self._table)):
                self._ready.add(done.wanted)
            self._running.end(self._retry(self._table.leaving), "cancelled", "cancelled by hand")
        self._running.send_leaving()
        if self._running.stacks and self.interrupted and self._interrupts.seconds > GRACE:
            self._executor.stop()  # again after every poll: a stack that was only about to start did not hear it
