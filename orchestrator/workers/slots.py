"""What executors with several workers share: their slots, and what happens to a worker that fails in silence."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from orchestrator.host.heartbeat import LOADING, LOW

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.host.heartbeat import Heartbeat
    from orchestrator.workers.executor import Event, Place
    from trainer.errors import UserError

HEARTBEAT_PERIOD = 5.0
"""Seconds between two checks of workers, memory and machines."""
STARTS = 3
"""Times that a worker may fail to start."""

log = logging.getLogger("isoflop")


@dataclass(kw_only=True)
class Slot:
    """A slot and what its worker trains. `missed` counts the checks at which a heartbeat was overdue."""

    place: str | None = None  # where it trains, once it is warm
    stack: int | None = None
    failures: int = 0
    missed: int = 0
    limit: float = LOADING


S = TypeVar("S", bound=Slot)


class SlotExecutor(ABC, Generic[S]):
    """An executor whose workers train a stack each, in `_slots`."""

    def __init__(self, still: float) -> None:
        self._still, self._looked = still, time.monotonic()
        self._slots: list[S] = []
        self._places: dict[str, Place] = {}

    @property
    def slots(self) -> int:
        """Workers, without those that were given up."""
        return len(self._slots)

    @property
    def free(self) -> int:
        """Slots without a stack; a worker that still starts counts, since it will train what is submitted."""
        return sum(slot.stack is None for slot in self._slots)

    @property
    def places(self) -> Sequence[Place]:
        """The GPUs, or the machines, of workers that are warm."""
        return list(self._places.values())

    @property
    def open(self) -> Sequence[str]:
        """The places of warm workers without a stack."""
        return [slot.place for slot in self._slots if slot.place is not None and slot.stack is None]

    def _taken(self, stack: int, place: str | None) -> S:
        """Give a stack to a free slot at a place, or anywhere."""
        slot = next(slot for slot in self._slots if slot.stack is None and place in (None, slot.place))
        slot.stack, slot.missed, slot.limit = stack, 0, LOADING
        return slot

    @abstractmethod
    def _lost(self, slot: S, reason: str, *, dismiss: bool = False) -> list[Event]:
        """End a lost worker; another takes its slot, unless that is given up."""

    @abstractmethod
    def _asked(self, slot: S) -> bool:
        """Whether a heartbeat was asked for that has not come."""

    @abstractmethod
    def _ask(self, slot: S) -> None:
        """Ask the worker for a heartbeat."""

    @abstractmethod
    def _has_company(self, slot: S) -> bool:
        """Whether others are on the same machine, so that one less relieves it."""

    def _did_not_start(self, slot: S, reason: str, error: Callable[[], UserError]) -> list[Event]:
        """Have a worker that failed to start tried again; after STARTS failures in a row its slot is given up.

        Raises the error where it was the only slot.
        """
        slot.failures += 1
        if slot.failures < STARTS:
            return self._lost(slot, reason)
        if len(self._slots) == 1:
            raise error()
        log.warning("%s; its slot is removed", error())
        return self._lost(slot, "", dismiss=True)

    def _due(self) -> bool:
        """Whether it is time to check the workers."""
        now = time.monotonic()
        if now - self._looked < self._period:
            return False
        self._looked = now
        return True

    @property
    def _period(self) -> float:
        return min(HEARTBEAT_PERIOD, self._still / 2)

    def _check(self) -> list[Event]:
        """Ask workers that train for heartbeats; one that does not answer is lost."""
        events: list[Event] = []
        for slot in [slot for slot in self._slots if slot.stack is not None and slot.place is not None]:
            silent = slot.missed * self._period  # in looks: where this process slept, nobody has missed any
            if not self._asked(slot):
                self._ask(slot)
            elif silent > slot.limit:
                events += self._lost(slot, f"no answer for {silent:.0f} s; its worker was killed")
            else:
                slot.missed += 1
        return events

    def _judge(self, slot: S, heartbeat: Heartbeat) -> list[Event]:
        """Take in a heartbeat: a worker that makes no step, or has too little memory beside others, is lost."""
        slot.missed, slot.limit = 0, heartbeat.limit(self._still)
        if slot.stack is None:
            return []
        if heartbeat.still > slot.limit:
            return self._lost(slot, f"no step for {heartbeat.still:.0f} s; its worker was killed")
        if heartbeat.available < LOW and self._has_company(slot):
            share = f"{heartbeat.available:.0%} of its machine's memory was left"
            return self._lost(slot, f"{share}; its worker was stopped and its slot removed", dismiss=True)
        return []
