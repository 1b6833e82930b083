"""Options of the scheduler, and the protocol of a source of further runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator.host.speed import TYPICAL, Speed
from orchestrator.workers.worker import NO_FILES, Files

if TYPE_CHECKING:
    from collections.abc import Collection

    from trainer.result import Record


@dataclass(frozen=True)
class SchedulerOptions:
    """How runs are trained.

    `files` says where checkpoints lie: runs go on from them, and stages of a chain begin with them. Stacks are as
    large as pays by the `speed` of the machine. `keep_all` keeps the final parameters of every run. With
    `smoke_test`, a sweep of which nothing has trained yet must first beat chance on a tiny budget.
    """

    files: Files = NO_FILES
    speed: Speed = TYPICAL
    keep_all: bool = False
    smoke_test: bool = False


DEFAULTS = SchedulerOptions()


class RunSource(Protocol):
    """Adds runs to a sweep while it trains, and ends some of them early: a search."""

    def more(self) -> bool:
        """Queue the runs to train next in the table; returns whether there are any."""

    def judge(self, record: Record) -> Collection[str]:
        """Return the runs in training that are to be pruned, now that this was recorded."""
