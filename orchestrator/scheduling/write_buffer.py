"""What the coordinator has heard and not written yet: one transaction for all of it, with the next claims."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainer.trunk import charged_flops

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.host.process import Process
    from orchestrator.store.table import End, Table
    from trainer.result import Record, Resumed
    from trainer.spec import RunSpec


@dataclass
class WriteBuffer:
    """Entries since the last transaction; `tokens` are the attempts that records and resumptions are of."""

    tokens: dict[str, int] = field(default_factory=dict)
    began: list[tuple[dict[str, int], Process]] = field(default_factory=list)
    resumed: list[Resumed] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    moves: list[tuple[str, str, str]] = field(default_factory=list)  # queued runs, to which state, why
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

    def tell(self, sweep: str, **said: Any) -> None:
        """Note something about a sweep (`Table.queue.tell`)."""
        self.told.setdefault(sweep, {}).update(said)

    def write(self, table: Table, stacks: Sequence[Sequence[RunSpec]]) -> dict[str, int]:
        """Write everything and claim the runs of stacks, or do nothing of it; returns the tokens of the claims."""
        replaced = {end.run_id for end in self.ends if end.result is not None and end.state != "queued"}
        prices = [charged_flops(stack) for stack in stacks]
        reserved: Mapping[str, int] = {run_id: price for stack in prices for run_id, price in stack.items()}
        with table.transaction():
            for claimed, worker in self.began:
                table.queue.began(claimed, worker)
            for resumed in self.resumed:
                table.queue.resume(resumed, self.tokens[resumed.run_id])
            table.queue.record([record for record in self.records if record.run_id not in replaced], self.tokens)
            table.queue.settle(self.ends)
            for run_id, state, reason in self.moves:
                table.queue.move([run_id], state, of=["queued"], reason=reason)
            table.queue.renew(self.renewed)
            for sweep, said in self.told.items():
                table.queue.tell(sweep, **said)
            sizes = {run_id: len(stack) for stack in prices for run_id in stack}
            return table.queue.claim(list(reserved), reserved, sizes) if reserved else {}
