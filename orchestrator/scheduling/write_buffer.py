"""Reported events that are not yet in the table, written in one transaction with the next claims."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.workers.executor import Began, Recorded, WentOn
from trainer.trunk import charged_flops

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.host.process import Process
    from orchestrator.store.ends import End
    from orchestrator.store.table import Table
    from orchestrator.workers.executor import Event
    from trainer.result import Record, Resumed
    from trainer.spec import RunSpec


class Move(NamedTuple):
    """A change of a queued run's state, and the reason."""

    run_id: str
    state: str
    reason: str


@dataclass
class WriteBuffer:
    """Entries since the last transaction; `tokens` are the fencing tokens of records and resumptions."""

    tokens: dict[str, int] = field(default_factory=dict)
    began: list[tuple[dict[str, int], Process]] = field(default_factory=list)
    resumed: list[Resumed] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    renewed: dict[str, int] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return self == WriteBuffer()

    @property
    def urgent(self) -> bool:
        """Whether there is more than records, which may wait: they are few, and their runs go on without them."""
        return any((self.began, self.resumed, self.ends, self.moves, self.renewed, self.told))

    def take(self, event: Event, tokens: dict[str, int]) -> None:
        """Note what an event of a stack with these fencing tokens leaves in the table before the stack's end."""
        match event:
            case Began():
                self.began.append((tokens, event.worker))
            case Recorded(record=record):
                self.records.append(record)
                self.tokens[record.run_id] = tokens[record.run_id]
            case WentOn(resumed=resumed):
                self.resumed.append(resumed)
                self.tokens[resumed.run_id] = tokens[resumed.run_id]

    def tell(self, sweep: str, **columns: Any) -> None:
        """Set columns of a sweep (`Queue.tell`)."""
        self.told.setdefault(sweep, {}).update(columns)

    def write(self, table: Table, stacks: Sequence[Sequence[RunSpec]]) -> dict[str, int]:
        """Write everything and claim the runs of stacks, in one transaction; returns the tokens of the claims.

        The buffer is empty afterwards. Where this raises, nothing was written and the buffer is as it was.
        """
        replaced = {end.run_id for end in self.ends if end.result is not None and end.state != "queued"}
        prices = [charged_flops(stack) for stack in stacks]
        reserved: Mapping[str, int] = {run_id: price for stack in prices for run_id, price in stack.items()}
        sizes = {run_id: len(stack) for stack in prices for run_id in stack}
        queue = table.queue
        with table.transaction():
            for tokens, worker in self.began:
                queue.began(tokens, worker)
            for resumed in self.resumed:
                queue.resume(resumed, self.tokens[resumed.run_id])
            queue.record([record for record in self.records if record.run_id not in replaced], self.tokens)
            queue.settle(self.ends)
            for run_id, state, reason in self.moves:
                queue.move([run_id], state, of=["queued"], reason=reason)
            queue.renew(self.renewed)
            for sweep, columns in self.told.items():
                queue.tell(sweep, **columns)
            claimed = queue.claim(list(reserved), reserved, sizes) if reserved else {}
        vars(self).update(vars(WriteBuffer()))
        return claimed
