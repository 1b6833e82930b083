"""The budget ledger: FLOPs set aside when a run is claimed, settled with what was counted when its attempt ends.

Each sweep has an account; a run of two sweeps is charged to both. A sweep's limits are of everything that was ever
processed for it, by whichever coordinator (docs/explanation/budget.md).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.sweep.sweep import Limits
from orchestrator.text import count, number
from trainer.host import installation
from trainer.trunk import charged_flops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from trainer.spec import RunSpec

HOUR = 3600.0


@dataclass
class Account:
    """A sweep's limits, and what is spent and reserved: FLOPs, seconds in training, seconds of whole GPUs."""

    limits: Limits
    charged: float = 0.0
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    reserved: dict[str, int] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """FLOPs that are neither spent nor reserved."""
        most = self.limits.total_flops
        return float("inf") if most is None else most - self.charged - sum(self.reserved.values())

    def out_of_time(self) -> str | None:
        """Return which limit on time is reached, if any."""
        hours, gpu_hours = self.limits.hours, self.limits.gpu_hours
        if hours is not None and self.seconds >= hours * HOUR:
            return f"limits.hours {hours:g} reached"
        if gpu_hours is not None and self.gpu_seconds >= gpu_hours * HOUR:
            return f"limits.gpu_hours {gpu_hours:g} reached"
        return None


class Budget:
    """The accounts of the sweeps that a coordinator trains."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._now = clock, clock()
        self._accounts: dict[str, Account] = {}
        self._owners: Mapping[str, Sequence[str]] = {}

    def open(self, rows: Iterable[Mapping[str, Any]], owners: Mapping[str, Sequence[str]]) -> None:
        """Open the accounts of sweeps (rows of `Table.sweeps`); `owners` are the sweeps of each run.

        An account that is open keeps its figures and takes the limits of the row.
        """
        self._owners = owners
        for row in rows:
            limits = Limits(**(row["limits"] or {}))
            fresh = Account(limits, row["charged_flops"], row["seconds"], row["gpu_seconds"])
            self._accounts.setdefault(row["sweep"], fresh).limits = limits

    def affordable(self, stack: Sequence[RunSpec]) -> tuple[list[RunSpec], str]:
        """Return the runs of a stack that their sweeps can pay for, shorter ones first, and why the others wait."""
        price, reason = charged_flops(stack), ""
        kept: list[RunSpec] = []
        left = {name: account.left for name, account in self._of(stack).items()}
        late = [limit for account in self._of(stack).values() if (limit := account.out_of_time())]
        if late:
            return [], late[0]
        for run in sorted(stack, key=lambda run: run.steps or 0):
            mine = self._owners.get(run.run_id, ())
            poor = [name for name in mine if left[name] < price[run.run_id]]
            if poor:
                reason = f"limits.total_flops {number(self._accounts[poor[0]].limits.total_flops)} reached"
                continue
            kept.append(run)
            for name in mine:
                left[name] -= price[run.run_id]
        return kept, reason

    def _of(self, stack: Iterable[RunSpec]) -> dict[str, Account]:
        return {name: self._accounts[name] for run in stack for name in self._owners.get(run.run_id, ())}

    def reserve(self, prices: Mapping[str, int]) -> None:
        """Reserve FLOPs for runs that are claimed."""
        for run_id, price in prices.items():
            for name in self._owners.get(run_id, ()):
                self._accounts[name].reserved[run_id] = price

    def settle(self, run_id: str, spent: float) -> bool:
        """Charge what an attempt has spent; returns whether a limited sweep got part of its reservation back."""
        back = False
        for name in self._owners.get(run_id, ()):
            account = self._accounts[name]
            back |= account.reserved.pop(run_id, 0) > spent and account.limits.total_flops is not None
            account.charged += spent
        return back

    def pass_time(self, running: Iterable[Iterable[RunSpec]], gpu_share: float) -> None:
        """Charge the seconds since the last call to the sweeps of stacks in training, each on a share of a GPU."""
        now = self._clock()
        seconds, self._now = now - self._now, now
        gpu_seconds: defaultdict[str, float] = defaultdict(float)
        for stack in running:
            for name in self._of(stack):
                gpu_seconds[name] += gpu_share * seconds
        for name, passed in gpu_seconds.items():
            self._accounts[name].seconds += seconds
            self._accounts[name].gpu_seconds += passed

    def seconds(self) -> dict[str, float]:
        """Return the wall seconds in which each sweep had runs in training, by all its coordinators."""
        return {name: account.seconds for name, account in self._accounts.items()}


def remedy(row: Mapping[str, Any]) -> str | None:
    """Return what would unblock a sweep's runs, from its row of `Table.sweeps`; None where none are blocked."""
    if not row["blocked"]:
        return None
    limits, wanted = Limits(**(row["limits"] or {})), []
    need = row["charged_flops"] + row["reserved_flops"] + row["blocked_flops"]
    if limits.total_flops is not None and need > limits.total_flops:
        wanted.append(f"limits.total_flops to {number(need)} (now {number(limits.total_flops)})")
    for name, spent in (("hours", row["seconds"]), ("gpu_hours", row["gpu_seconds"])):
        most = getattr(limits, name)
        if most is not None and spent >= most * HOUR:
            wanted.append(f"limits.{name} above {number(spent / HOUR)} (now {most:g})")
    cure = f"raise {' and '.join(wanted)} in the file" if wanted else "the limits allow them again"
    runs = f"{count(row['blocked'], 'run')} of {row['sweep']} {'is' if row['blocked'] == 1 else 'are'}"
    return f"{runs} blocked: {cure}, then `{installation.command('run')}` or `queue add` it again"
