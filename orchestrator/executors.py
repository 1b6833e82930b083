"""Where stacks of runs go: Ray actors on this machine, or this process. One contract, `Executor`.

The caller submits a bundle (the specs of one stack) while `free` says so and polls for events. Every bundle
ends with exactly one of Finished, Failed and Lost; other events come before.
"""

from __future__ import annotations

import logging
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.device import SLOTS_PER_GPU, cores
from orchestrator.meter import Used
from orchestrator.process import Process
from orchestrator.worker import NO_FILES, Files, Raised, Said, Worker
from trainer.result import Record, Resumed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from orchestrator.worker import Item
    from trainer.result import RunResult
    from trainer.spec import Device, RunSpec


@dataclass(frozen=True)
class Began:
    """A stack has reached its worker."""

    bundle: int
    worker: Process


@dataclass(frozen=True)
class Metered:
    """What a stack has used; comes before its end, where its worker lived to see it."""

    bundle: int
    used: Used


@dataclass(frozen=True)
class Recorded:
    """A run has been evaluated."""

    bundle: int
    record: Record


@dataclass(frozen=True)
class WentOn:
    """A run goes on from a checkpoint."""

    bundle: int
    resumed: Resumed


@dataclass(frozen=True)
class Noted:
    """A worker has something to say to the user."""

    bundle: int
    text: str


@dataclass(frozen=True)
class Finished:
    """A stack has ended: a result for each of its runs, `cancelled` where it was stopped."""

    bundle: int
    results: list[RunResult]


@dataclass(frozen=True)
class Failed:
    """A stack has raised."""

    bundle: int
    reason: str
    traceback: str
    exception: str = ""


@dataclass(frozen=True)
class Lost:
    """A stack's worker has died under it."""

    bundle: int
    reason: str


End = Finished | Failed | Lost
Event = Began | Metered | Recorded | WentOn | Noted | End


class Executor(Protocol):
    """What the scheduler needs of a place to run."""

    slots: int
    gpus: int
    """GPUs that the slots share; 0 where they train on cores."""

    @property
    def free(self) -> int:
        """How many bundles may be submitted now."""

    def submit(self, bundle: int, specs: Sequence[RunSpec], keep: Collection[str] = ()) -> None:
        """Start training a stack; `bundle` names it in the events, `keep` the runs whose parameters are kept."""

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last poll, waiting up to `timeout` seconds for the first."""

    def stop(self) -> None:
        """Ask everything in training to end soon, as cancelled."""

    def leave(self, bundle: int, run_ids: Collection[str]) -> None:
        """Ask some runs of a bundle to end soon, as cancelled; the others go on."""

    def close(self) -> None:
        """End all workers now."""


class InlineExecutor:
    """Runs in this process, one stack at a time, inside `poll`: for debugging, and where Ray is not wanted."""

    slots, gpus = 1, 0

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

    def submit(self, bundle: int, specs: Sequence[RunSpec], keep: Collection[str] = ()) -> None:
        """Take the stack; it trains as `poll` is called."""
        self._going = bundle, self._worker.train(specs, keep)

    def poll(self, timeout: float) -> list[Event]:  # noqa: ARG002 - training is what it waits for
        """Train until the next record or the end."""
        if self._going is None:
            return []
        bundle, events = self._going
        if self._stopping:
            self._worker.stop()  # at every poll: a stack that only begins does not hear it
        event = _event(bundle, next(events))
        if isinstance(event, End):
            self._going, self._stopping = None, False
        return [event]

    def stop(self) -> None:
        """Stop at the next look of the loop."""
        if self._going is not None:
            self._stopping = True
            self._worker.stop()

    def leave(self, bundle: int, run_ids: Collection[str]) -> None:
        """Have runs leave at their next record or the next look of the loop."""
        if self._going is not None and self._going[0] == bundle:
            self._worker.leave(run_ids)

    def close(self) -> None:
        """Drop what is in training."""
        self._going = None


@dataclass
class _Slot:
    """A place for one worker: its actor, and what it trains."""

    actor: Any
    bundle: int | None = None
    stream: Any = None
    warming: Any = None


class RayExecutor:
    """Long-lived Ray actors on this machine, one a slot; each keeps torch imported and its data resident.

    Ray starts on the loopback address with a token made for this session and without its dashboard. On CPUs a
    slot is a core and trains on one thread; on GPUs, `slots` share each GPU by fractions.
    """

    def __init__(
        self,
        slots: int | None = None,
        device: Device = "auto",
        gpus: int | None = None,
        files: Files = NO_FILES,
    ) -> None:
        self._ray = _start_ray(slots or cores(), gpus)
        gpus = int(self._ray.cluster_resources().get("GPU", 0))
        on_gpu = gpus > 0 and device in ("auto", "cuda")
        self.gpus = gpus if on_gpu else 0
        self.slots = slots or (gpus * SLOTS_PER_GPU if on_gpu else cores())
        self._device: Device = device
        self._files = files
        self._share = {"num_cpus": 0, "num_gpus": gpus / self.slots} if on_gpu else {"num_cpus": 1}
        self._slots = [_Slot(None) for _ in range(self.slots)]
        for slot in self._slots:
            self._hire(slot)

    def _hire(self, slot: _Slot) -> None:
        """Give a slot a new worker, warming; whatever is left of the old one goes."""
        if slot.actor is not None:
            self._ray.kill(slot.actor)
        remote = self._ray.remote(concurrency_groups={"control": 1}, max_restarts=0, **self._share)(Worker)
        slot.actor = remote.remote(self._device, files=self._files, relay=True)
        slot.warming, slot.bundle, slot.stream = slot.actor.warm.remote(), None, None

    @property
    def free(self) -> int:
        """Slots without a stack; a worker still warming counts, since it will train what waits for it."""
        return sum(slot.bundle is None for slot in self._slots)

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers, once warm."""
        return [self._ray.get(slot.warming) for slot in self._slots]

    def submit(self, bundle: int, specs: Sequence[RunSpec], keep: Collection[str] = ()) -> None:
        """Hand the stack to a free worker."""
        slot = next(slot for slot in self._slots if slot.bundle is None)
        slot.bundle = bundle
        slot.stream = slot.actor.train.options(num_returns="streaming").remote(list(specs), keep)

    def poll(self, timeout: float) -> list[Event]:
        """Whatever the workers have yielded."""
        busy = {slot.stream: slot for slot in self._slots if slot.bundle is not None}
        if not busy:
            return []
        ready, _ = self._ray.wait(list(busy), num_returns=len(busy), timeout=0, fetch_local=False)
        if not ready:
            ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=timeout, fetch_local=False)
        return [self._next(busy[stream]) for stream in ready]

    def _next(self, slot: _Slot) -> Event:
        bundle = slot.bundle
        assert bundle is not None
        try:
            item = self._ray.get(next(slot.stream))
        except (self._ray.exceptions.RayError, StopIteration) as error:  # what a stack raises comes as Raised
            self._hire(slot)
            return Lost(bundle, f"its worker died ({type(error).__name__})")
        event = _event(bundle, item)
        if isinstance(event, End):
            slot.bundle = slot.stream = None
        return event

    def stop(self) -> None:
        """Tell the workers, through a thread of theirs that does not train."""
        for slot in self._slots:
            if slot.bundle is not None:
                slot.actor.stop.options(concurrency_group="control").remote()

    def leave(self, bundle: int, run_ids: Collection[str]) -> None:
        """Tell the bundle's worker, as `stop` does."""
        for slot in self._slots:
            if slot.bundle == bundle:
                slot.actor.leave.options(concurrency_group="control").remote(run_ids)

    def close(self) -> None:
        """Stop Ray and all its processes."""
        self._ray.shutdown()


def _start_ray(slots: int, gpus: int | None) -> Any:
    """Import and start Ray, alone, quiet, on loopback, closed to strangers."""
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    # The switch's name is historical: it says that no other machine will join, and Ray then binds every port
    # to 127.0.0.1. Without it even `_node_ip_address="127.0.0.1"` listens on all interfaces.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    ray.init(
        address="local",
        num_cpus=slots,
        num_gpus=gpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=128 * 2**20,
    )
    return ray


def _event(bundle: int, item: Item) -> Event:
    match item:
        case Raised():
            return Failed(bundle, *item)
        case Said():
            return Noted(bundle, item.text)
        case list():
            return Finished(bundle, item)
    event: Event = _KIND[type(item)](bundle, item)
    return event


_KIND: dict[type, Any] = {Process: Began, Record: Recorded, Resumed: WentOn, Used: Metered}
"""Events that carry what a worker yielded as it is."""
