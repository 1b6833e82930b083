"""The contract of executors, which train stacks of runs and report events; and the one in this process.

The caller submits a stack (the specs of one stack) while `open` says so and polls for events. Every stack
ends with exactly one of Finished, Failed and Lost; other events come before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.host.process import Process
from orchestrator.host.usage import Usage
from orchestrator.workers.worker import NO_FILES, Files, Raised, Said, Worker
from trainer.result import Record, Resumed, RunResult

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from orchestrator.workers.worker import Item
    from trainer.spec import Device, RunSpec


@dataclass(frozen=True)
class Place:
    """A device that slots share. `kind` is its type as torch names it, `bytes` None until a worker has looked."""

    name: str
    kind: str = "cpu"
    bytes: float | None = None


@dataclass(frozen=True)
class Began:
    """A stack has reached its worker."""

    stack: int
    worker: Process


@dataclass(frozen=True)
class Measured:
    """What a stack has used; comes before its end, where its worker lived to see it."""

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
    """A run has ended and the others of its stack train on; its result comes once more with theirs."""

    stack: int
    result: RunResult


@dataclass(frozen=True)
class Noted:
    """A worker has something to say to the user."""

    stack: int
    text: str


@dataclass(frozen=True)
class Finished:
    """A stack has ended: a result for each of its runs, `cancelled` where it was stopped."""

    stack: int
    results: list[RunResult]


@dataclass(frozen=True)
class Failed:
    """A stack has raised."""

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
    """What the scheduler needs of a place to run."""

    gpus: int
    """GPUs that the slots share; 0 where they train on cores."""

    @property
    def slots(self) -> int:
        """How many stacks train at once, at most."""

    @property
    def free(self) -> int:
        """How many stacks may be submitted now."""

    @property
    def places(self) -> Sequence[Place]:
        """The devices that slots share, as far as they are known."""

    @property
    def open(self) -> Sequence[str]:
        """The places of the free slots whose worker is ready."""

    def submit(
        self, stack: int, specs: Sequence[RunSpec], keep: Collection[str] = (), place: str | None = None
    ) -> None:
        """Start training a stack, on a free slot of a place where one is named.

        `stack` names it in the events, `keep` the runs whose parameters are kept.
        """

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last poll, waiting up to `timeout` seconds for the first."""

    def stop(self) -> None:
        """Ask everything in training to end soon, as cancelled."""

    def leave(self, stack: int, run_ids: Collection[str]) -> None:
        """Ask some runs of a stack to end soon, as cancelled; the others go on."""

    def close(self) -> None:
        """End all workers now."""


class InlineExecutor:
    """Runs in this process, one stack at a time, inside `poll`: for debugging, and where Ray is not wanted."""

    slots, gpus = 1, 0
    places = (Place("this process"),)

    def __init__(self, device: Device = "auto", files: Files = NO_FILES) -> None:
        if device in ("auto", "cuda"):
            import torch

            self.gpus = int(torch.cuda.is_available())
        self._worker = Worker(device, files=files)
        self._going: tuple[int, Iterator[Any]] | None = None
        self._stopping = False

    @property
    def free(self) -> int:
        """1 while nothing trains."""
        return int(self._going is None)

    @property
    def open(self) -> Sequence[str]:
        """This process, while nothing trains."""
        return [place.name for place in self.places[: self.free]]

    def submit(
        self,
        stack: int,
        specs: Sequence[RunSpec],
        keep: Collection[str] = (),
        place: str | None = None,  # noqa: ARG002 - there is one
    ) -> None:
        """Take the stack; it trains as `poll` is called."""
        self._going = stack, self._worker.train(specs, keep)

    def poll(self, timeout: float) -> list[Event]:  # noqa: ARG002 - training is what it waits for
        """Train until the next record or the end."""
        if self._going is None:
            return []
        stack, events = self._going
        if self._stopping:
            self._worker.stop()  # at every poll: a stack that only begins does not hear it
        event = event_of(stack, next(events))
        if isinstance(event, StackEnd):
            self._going, self._stopping = None, False
        return [event]

    def stop(self) -> None:
        """Stop at the next look of the loop."""
        if self._going is not None:
            self._stopping = True
            self._worker.stop()

    def leave(self, stack: int, run_ids: Collection[str]) -> None:
        """Have runs leave at their next record or the next look of the loop."""
        if self._going is not None and self._going[0] == stack:
            self._worker.leave(run_ids)

    def close(self) -> None:
        """Drop what is in training."""
        self._going = None


def event_of(stack: int, item: Item) -> Event:
    """What a worker yielded, as an event of its stack."""
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
