"""The contract between the scheduler and the places where stacks train: events, guarantees, the protocol.

An executor has slots, each of which trains one stack at a time. The caller submits a stack (the specs of runs that
train as one model) under a number while `open` names a place, and polls for events, from one thread. An executor
guarantees:

1. Every stack ends with exactly one of Finished, Failed and Lost, after which it has no more events. Its slot is
   free when `poll` returns that event.
2. Its other events come before, in this order: Began; then WentOn (where a run goes on from a checkpoint),
   Recorded, Left and Noted as things happen; then Measured. A stack that is lost may lack any of them.
3. Finished has a result for each run, in the order submitted, also for those that have left. The history of a
   result is what was Recorded or came with WentOn, and the numbers are those of `trainer.train`.
4. A stack that raises is Failed, and its worker lives on. Whatever ran out of memory, the name of the exception is
   then OUT_OF_MEMORY.
5. A stack whose worker dies, or was ended because it hung, is Lost. The slot works again, with another worker, or
   is given up, by which `slots` shrinks.
6. `stop` and `leave` are requests. Runs that heed one end as cancelled. A stack hears them from Began on; before,
   they may be forgotten. Requests for runs or stacks that are not there are ignored.

`tests/contracts/executor.py` tests these; docs/how-to/add-an-executor.md shows how to write an executor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.host.process import Process
from orchestrator.host.usage import Usage
from orchestrator.workers.worker import Raised, Said
from trainer.result import Record, Resumed, RunResult

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from orchestrator.workers.worker import Item
    from trainer.spec import RunSpec


@dataclass(frozen=True)
class Place:
    """A device that slots share. `kind` is its type in torch's words; `bytes` is None until a worker has looked."""

    name: str
    kind: str = "cpu"
    bytes: float | None = None


@dataclass(frozen=True)
class Began:
    """A stack has reached its worker, a process; from here on it hears `stop` and `leave`."""

    stack: int
    worker: Process


@dataclass(frozen=True)
class Measured:
    """What a stack has used: memory, energy."""

    stack: int
    usage: Usage


@dataclass(frozen=True)
class Recorded:
    """A run has been evaluated."""

    stack: int
    record: Record


@dataclass(frozen=True)
class WentOn:
    """A run goes on from a checkpoint."""

    stack: int
    resumed: Resumed


@dataclass(frozen=True)
class Left:
    """A run has ended and the others of its stack train on; its result comes once more in Finished."""

    stack: int
    result: RunResult


@dataclass(frozen=True)
class Noted:
    """A line for the user."""

    stack: int
    text: str


@dataclass(frozen=True)
class Finished:
    """A stack has ended: a result for each of its runs, its state `cancelled` where it was asked to end."""

    stack: int
    results: list[RunResult]


@dataclass(frozen=True)
class Failed:
    """A stack has raised: the reason in one line, the traceback, the name of the exception's class."""

    stack: int
    reason: str
    traceback: str
    exception: str = ""


@dataclass(frozen=True)
class Lost:
    """A stack's worker has died under it."""

    stack: int
    reason: str


StackEnd = Finished | Failed | Lost
Event = Began | Measured | Recorded | WentOn | Left | Noted | StackEnd


class Executor(Protocol):
    """What the scheduler needs of a place to train; the module's docstring says what it guarantees."""

    gpus: int
    """GPUs that the slots share; 0 where they train on cores."""

    @property
    def slots(self) -> int:
        """The most stacks that train at once."""

    @property
    def free(self) -> int:
        """The number of stacks that may be submitted now."""

    @property
    def places(self) -> Sequence[Place]:
        """The devices that slots share, as far as they are known."""

    @property
    def open(self) -> Sequence[str]:
        """The names of the places of free slots whose worker is ready, one for each slot."""

    def submit(
        self, stack: int, specs: Sequence[RunSpec], keep: Collection[str] = (), place: str | None = None
    ) -> None:
        """Start training resolved specs of one stack, on a free slot, of a place where one is named.

        `stack` is its number in events, `keep` the run_ids of those whose final parameters are kept.
        """

    def poll(self, timeout: float) -> list[Event]:
        """Return events since the last poll, after at most `timeout` seconds without any."""

    def stop(self) -> None:
        """Ask all stacks in training to end soon, as cancelled."""

    def leave(self, stack: int, run_ids: Collection[str]) -> None:
        """Ask some runs of a stack to end soon, as cancelled; the others train on."""

    def close(self) -> None:
        """End all workers now."""


def event_of(stack: int, item: Item) -> Event:
    """Return what a worker yielded as an event of its stack."""
    match item:
        case Raised():
            return Failed(stack, *item)
        case Said():
            return Noted(stack, item.text)
        case list():
            return Finished(stack, item)
    event: Event = _KIND[type(item)](stack, item)
    return event


_KIND: dict[type, Any] = {Process: Began, Record: Recorded, Resumed: WentOn, RunResult: Left, Usage: Measured}
"""Events that carry what a worker yielded as it is."""
