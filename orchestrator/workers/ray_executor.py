"""The executor on Ray: one warm, long-lived actor per slot, on this machine or on a cluster."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.host.heartbeat import STILL
from orchestrator.host.process import Process
from orchestrator.host.slots import MOST_SLOTS_PER_GPU, SLOTS_PER_GPU, seconds_each, slots_that_pay
from orchestrator.workers import ray_cluster
from orchestrator.workers.executor import Event, Lost, Place, StackEnd, event_of
from orchestrator.workers.ray_cluster import ClusterError, Node
from orchestrator.workers.slots import Slot, SlotExecutor
from orchestrator.workers.worker import NO_FILES, Files, Worker
from trainer.host.limits import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from trainer.spec import Device, RunSpec

log = logging.getLogger("isoflop")


@dataclass(kw_only=True)
class _Slot(Slot):
    """A slot of an actor."""

    node: Node
    actor: Any = None
    process: Process | None = None
    stream: Any = None
    warming: Any = None
    heartbeat: Any = None


class RayExecutor(SlotExecutor[_Slot]):
    """Trains in long-lived Ray actors, one per slot; each keeps torch imported and its data sets resident.

    On CPUs a slot is a core and trains on one thread. On GPUs the slots of each GPU hold it whole, by fractions;
    `slots` are then those of all GPUs together, by default as many as pay by a measurement with the stack `probe`.
    With `address` the machines of that cluster are used as they come and go, `slots` on each; they must see the
    files in `data`. A worker that makes no step for too long is killed. So is one of several on a machine that runs
    out of memory, and its slot is given up.
    """

    def __init__(  # noqa: PLR0913 - an option each
        self,
        slots: int | None = None,
        device: Device = "auto",
        gpus: int | None = None,
        files: Files = NO_FILES,
        *,
        address: str | None = None,
        data: Sequence[str] = (),
        probe: Sequence[RunSpec] = (),
        per_gpu: int | None = None,
        still: float = STILL,
        worker: type[Worker] = Worker,
    ) -> None:
        super().__init__(still)
        self._device: Device = device
        self._worker = worker
        self._files, self._address, self._wanted = files, address, slots
        self._is_own = ray_cluster.is_own()
        self._ray = ray_cluster.join(address) if address else ray_cluster.start(slots or cores(), gpus)
        self._data = data
        self._known: set[str] = set()
        self._deserted = False
        machines = ray_cluster.nodes(self._ray)
        self._on_gpu = device in ("auto", "cuda") and any(node.gpus for node in machines)
        self.gpus, self.per_gpu = sum(node.gpus for node in machines) * self._on_gpu, 1
        if self._on_gpu:
            most = max(node.gpus for node in machines)
            self.per_gpu = per_gpu or (math.ceil(slots / most) if slots else self._calibrated(probe))
        self._welcome(machines)

    def _calibrated(self, probe: Sequence[RunSpec]) -> int:
        """The number of slots of a GPU that pay, by training a stack on ever more workers at once."""
        if not probe:
            return SLOTS_PER_GPU
        crew, seconds = list[Any](), seconds_each(MOST_SLOTS_PER_GPU)

        def rate(slots: int) -> float:
            crew.extend(self._actor(MOST_SLOTS_PER_GPU) for _ in range(slots - len(crew)))
            self._ray.get([worker.warm.remote() for worker in crew])
            paces: list[float] = self._ray.get([worker.pace.remote(list(probe), seconds) for worker in crew])
            return sum(paces)

        best = slots_that_pay(rate, MOST_SLOTS_PER_GPU)
        for worker in crew:
            self._ray.kill(worker)
        return best

    # machines and workers

    def _welcome(self, machines: Sequence[Node]) -> None:
        """Start workers on machines."""
        self._known |= {node.id for node in machines}
        if self._address:
            ray_cluster.check_shared(self._ray, machines, self._data, self._files.where)
        for node in machines:
            for _ in range(self._slots_of(node)):
                self._slots.append(slot := _Slot(node=node))
                self._hire(slot)

    def _welcome_late(self) -> None:
        """Start workers on machines that have joined; one that lacks what is shared is left out, with a warning."""
        for node in ray_cluster.nodes(self._ray):
            if node.id not in self._known:
                try:
                    self._welcome([node])
                except ClusterError as error:
                    log.warning("%s; it is not used", error)

    def _slots_of(self, node: Node) -> int:
        if self._on_gpu:
            most = node.gpus * self.per_gpu
            return most if self._address or self._wanted is None else min(most, self._wanted)
        return min(node.cpus, self._wanted or node.cpus)

    def _actor(self, per_gpu: int, node: Node | None = None) -> Any:
        """A new worker on a core, or on a share of a GPU, which Ray counts in ten-thousandths."""
        share = {"num_cpus": 0, "num_gpus": math.floor(1e4 / per_gpu) / 1e4} if per_gpu else {"num_cpus": 1}
        where = {} if node is None else {"scheduling_strategy": ray_cluster.on_node(node)}
        remote = self._ray.remote(concurrency_groups={"control": 1}, max_restarts=0, **share, **where)(self._worker)
        return remote.remote(self._device, files=self._files, relay=True)

    def _hire(self, slot: _Slot) -> None:
        """Start a new worker in a slot, and end what is left of the old one."""
        if slot.actor is not None:
            self._end(slot)
        slot.actor = self._actor(self.per_gpu if self._on_gpu else 0, slot.node if self._address else None)
        slot.warming, slot.process, slot.place = slot.actor.warm.remote(), None, None
        slot.stack = slot.stream = slot.heartbeat = None

    def _end(self, slot: _Slot) -> None:
        """End a worker for good: Ray asks a process to end itself, which a stopped one does not."""
        self._ray.kill(slot.actor)
        if slot.process is not None and not slot.process.kill() and self._address:
            remote = self._ray.remote(num_cpus=0, scheduling_strategy=ray_cluster.on_node(slot.node))(Process.kill)
            remote.remote(slot.process)

    def _dismiss(self, slot: _Slot) -> None:
        """Give up a slot and end its worker."""
        self._end(slot)
        self._slots.remove(slot)
        left = {other.place for other in self._slots}
        self._places = {name: place for name, place in self._places.items() if name in left}

    def _lost(self, slot: _Slot, reason: str, *, dismiss: bool = False) -> list[Event]:
        """End a lost worker; another takes its slot, if its machine is still there."""
        stack = slot.stack
        gone = self._address and slot.node.id not in {node.id for node in ray_cluster.nodes(self._ray)}
        if gone:
            reason = f"{reason}; {slot.node.name} has left"
        if dismiss or gone:
            self._dismiss(slot)
        else:
            self._hire(slot)
        return [] if stack is None else [Lost(stack, reason)]

    def submit(
        self, stack: int, specs: Sequence[RunSpec], keep: Collection[str] = (), place: str | None = None
    ) -> None:
        """Hand the stack to a free worker."""
        slot = self._taken(stack, place)
        slot.stream = slot.actor.stream.options(num_returns="streaming").remote(list(specs), keep)

    def poll(self, timeout: float) -> list[Event]:
        """Return what workers have yielded, and which stacks were lost."""
        if events := self._look():
            return events
        waits = self._waits()
        if not waits:
            time.sleep(0 if self._slots else timeout)  # a cluster that has lost every machine
            return []
        ready, _ = self._ray.wait(list(waits), num_returns=len(waits), timeout=0, fetch_local=False)
        if not ready:
            ready, _ = self._ray.wait(list(waits), num_returns=1, timeout=timeout, fetch_local=False)
        events = []
        for ref in ready:
            slot, take = waits[ref]
            if ref in (slot.stream, slot.warming, slot.heartbeat):  # not of a worker that was replaced just now
                events += take(slot)
        return events

    def _waits(self) -> dict[Any, tuple[_Slot, Callable[[_Slot], list[Event]]]]:
        """The references that may be ready, each with its slot and what to do then."""
        waits: dict[Any, tuple[_Slot, Callable[[_Slot], list[Event]]]] = {}
        for slot in self._slots:
            if slot.stack is not None:
                waits[slot.stream] = slot, self._next
            if slot.place is None:
                waits[slot.warming] = slot, self._warmed
            if slot.heartbeat is not None:
                waits[slot.heartbeat] = slot, self._felt
        return waits

    def _next(self, slot: _Slot) -> list[Event]:
        stack = slot.stack
        if stack is None:
            return []
        try:
            items = self._ray.get(next(slot.stream))
        except (self._ray.exceptions.RayError, StopIteration) as error:  # what a stack raises comes as Raised
            full = isinstance(error, self._ray.exceptions.OutOfMemoryError) or "running low on memory" in str(error)
            why = "its machine ran out of memory" if full else f"its worker died ({type(error).__name__})"
            return self._lost(slot, why, dismiss=full and self._has_company(slot))
        events = [event_of(stack, item) for item in items]
        if isinstance(events[-1], StackEnd):
            slot.stack = slot.stream = None
        return events

    def _warmed(self, slot: _Slot) -> list[Event]:
        try:
            warm = self._ray.get(slot.warming)
        except self._ray.exceptions.RayError as error:
            if slot.stack is not None:
                return self._next(slot)
            why = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            message = f"a worker on {slot.node.name} does not start: {why}"
            return self._did_not_start(slot, "", lambda: ClusterError(message))
        gpu = f" GPU {warm.device}" if self._on_gpu else ""
        slot.place, slot.process, slot.failures = f"{slot.node.name}{gpu}", warm.process, 0
        self._places.setdefault(slot.place, Place(slot.place, warm.kind, warm.bytes))
        return []

    # what goes wrong in silence

    def _look(self) -> list[Event]:
        """Every few seconds, look for new machines, and for workers that hang."""
        if not self._due():
            return []
        if self._address:
            self._welcome_late()
            if self._slots:
                self._deserted = False
            elif not self._deserted:
                self._deserted = True
                log.warning("no machine is left in the cluster; waiting for one")
        return self._check()

    def _asked(self, slot: _Slot) -> bool:
        return slot.heartbeat is not None

    def _ask(self, slot: _Slot) -> None:
        slot.heartbeat = slot.actor.heartbeat.options(concurrency_group="control").remote()

    def _felt(self, slot: _Slot) -> list[Event]:
        asked, slot.heartbeat = slot.heartbeat, None
        try:
            heartbeat = self._ray.get(asked)
        except self._ray.exceptions.RayError:
            return []  # its stream says so too
        return self._judge(slot, heartbeat)

    def _has_company(self, slot: _Slot) -> bool:
        """Whether others are on the same machine, so that one less relieves it."""
        return sum(other.node.id == slot.node.id for other in self._slots) > 1

    def stop(self) -> None:
        """Ask the workers, by a thread of theirs that does not train."""
        for slot in self._slots:
            if slot.stack is not None:
                slot.actor.stop.options(concurrency_group="control").remote()

    def leave(self, stack: int, run_ids: Collection[str]) -> None:
        """Ask the stack's worker, as `stop` does."""
        for slot in self._slots:
            if slot.stack == stack:
                slot.actor.leave.options(concurrency_group="control").remote(run_ids)

    def close(self) -> None:
        """Stop Ray and all its processes; of a cluster, the workers only. The caller's own Ray keeps running."""
        if not self._is_own:
            self._ray.shutdown()
            return
        for slot in self._slots:
            self._ray.kill(slot.actor)
