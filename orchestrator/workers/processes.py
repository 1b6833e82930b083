"""The executor in warm, long-lived child processes: one per core, or several per GPU of this machine."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from socket import socketpair
from typing import TYPE_CHECKING, Any

from orchestrator.host.heartbeat import STILL, Heartbeat
from orchestrator.host.slots import SLOTS_PER_GPU
from orchestrator.workers.child import Broken, Setup
from orchestrator.workers.executor import Began, Lost, Place, StackEnd, event_of
from orchestrator.workers.slots import Slot, SlotExecutor
from orchestrator.workers.worker import NO_FILES, Files, Warm, Worker
from trainer.errors import UserError
from trainer.host.limits import cores

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from orchestrator.workers.executor import Event
    from trainer.spec import Device, RunSpec


class WorkerError(UserError, RuntimeError):
    """No worker starts: the message says why."""


class Child:
    """A process that imports torch and then waits to be told what it is.

    `messages` are what it sends, None its end. It has a session of its own: Ctrl-C reaches this process alone.
    It sees no other GPU than `gpu`, a name of CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, gpu: str | None = None) -> None:
        self.gpu = gpu
        ours, theirs = socketpair()
        with theirs:
            code = f"from orchestrator.workers.child import main; main({theirs.fileno()})"
            path = os.pathsep.join(filter(None, sys.path))
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter
                [sys.executable, "-c", code],
                env={
                    **os.environ,
                    "PYTHONPATH": path,
                    "OMP_NUM_THREADS": "1",
                    **({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}),
                },
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._pipe = Connection(ours.detach())
        self.messages: SimpleQueue[Any] = SimpleQueue()
        self.send(list(sys.path))

    def listen(self, wake: threading.Event) -> None:
        """Receive in a thread of its own, since a process that was stopped while it sends ends no message."""

        def receive() -> None:
            with contextlib.suppress(EOFError, OSError):
                while True:
                    self.messages.put(self._pipe.recv())
                    wake.set()
            self.messages.put(None)
            wake.set()

        threading.Thread(target=receive, daemon=True).start()

    def send(self, message: Any) -> None:
        """Send a message; one that has ended does not hear it, and its end comes as a message."""
        with contextlib.suppress(OSError):
            self._pipe.send(message)

    def end(self) -> str:
        """Kill it, and return how it had ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.05)  # an end that is just being seen
        code = self._process.poll()
        kill([self])
        return "killed" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"


def start_children(slots: int, gpus: Sequence[str] = ()) -> list[Child]:
    """Start processes that import torch while this one plans, in turn on each of some GPUs."""
    return [Child(gpus[number % len(gpus)] if gpus else None) for number in range(slots)]


def kill(children: Iterable[Child]) -> None:
    """Kill processes, and wait until all are gone."""
    processes = [child._process for child in children]  # noqa: SLF001 - of this module
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


@dataclass(kw_only=True)
class _Slot(Slot):
    """A slot of a process. `asked` are the requests that its stack has not heard yet."""

    child: Child
    begun: bool = False
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    stopped: bool = False
    left: set[str] = field(default_factory=set)
    waits: bool = False  # for a heartbeat

    def successor(self) -> _Slot:
        """Return the same slot with another process."""
        return _Slot(child=Child(self.child.gpu), failures=self.failures)


class ProcessExecutor(SlotExecutor[_Slot]):
    """Trains in child processes on one thread each, one per core; each keeps torch imported and its data resident.

    On `gpus` they are SLOTS_PER_GPU on each, unless `slots` says how many in all. They end with this process,
    however it ends. A worker that makes no step for too long is killed. So is one of several where the machine runs
    out of memory, and its slot is given up. `children` were started before, in place of `slots` and `gpus`.
    """

    def __init__(
        self,
        slots: int | None = None,
        device: Device = "cpu",
        files: Files = NO_FILES,
        *,
        gpus: Sequence[str] = (),
        children: Sequence[Child] = (),
        still: float = STILL,
        worker: type[Worker] = Worker,
    ) -> None:
        super().__init__(still)
        self._setup, self._wake = Setup(worker, device, 1, files), threading.Event()
        begun = list(children) or start_children(slots or SLOTS_PER_GPU * len(gpus) or cores(), gpus)
        self.gpus = len({child.gpu for child in begun if child.gpu is not None})
        self._slots = [self._hired(_Slot(child=child)) for child in begun]

    def _hired(self, slot: _Slot) -> _Slot:
        slot.child.send(self._setup)
        slot.child.listen(self._wake)
        return slot

    def submit(
        self, stack: int, specs: Sequence[RunSpec], keep: Collection[str] = (), place: str | None = None
    ) -> None:
        """Hand the stack to a free worker."""
        slot = self._taken(stack, place)
        slot.begun, slot.stopped, slot.asked, slot.left = False, False, [], set()
        slot.child.send(("train", list(specs), set(keep)))

    def poll(self, timeout: float) -> list[Event]:
        """Return what workers have yielded, and which stacks were lost."""
        events = self._check() if self._due() else []
        deadline = time.monotonic() + timeout
        while not (events := events + self._heard()):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._wake.wait(left)
            self._wake.clear()
        return events

    def _heard(self) -> list[Event]:
        """Take in what workers have sent."""
        events: list[Event] = []
        for slot in list(self._slots):
            with contextlib.suppress(Empty):
                while slot in self._slots:
                    events += self._take(slot, slot.child.messages.get_nowait())
        return events

    def _take(self, slot: _Slot, message: Any) -> list[Event]:
        match message:
            case Warm():
                gpu = f" GPU {slot.child.gpu}" if message.kind == "cuda" and slot.child.gpu is not None else ""
                slot.place, slot.failures = f"{platform.node()}{gpu}", 0
                self._places.setdefault(slot.place, Place(slot.place, message.kind, message.bytes))
                return []
            case Heartbeat():
                slot.waits = False
                return self._judge(slot, message)
            case None | Broken():
                return self._died(slot, message)
        assert slot.stack is not None
        events = [event_of(slot.stack, item) for item in message]
        if any(isinstance(event, Began) for event in events):
            slot.begun = True
            self._tell(slot)
        if isinstance(events[-1], StackEnd):
            slot.stack = None
        return events

    def _died(self, slot: _Slot, broken: Broken | None) -> list[Event]:
        if slot.place is not None:
            return self._lost(slot, "its worker died ({})")

        def error() -> WorkerError:
            why = slot.child.end() if broken is None else broken.reason
            return WorkerError(f"a worker does not start: {why}")

        return self._did_not_start(slot, "its worker did not start ({})", error)

    def _lost(self, slot: _Slot, reason: str, *, dismiss: bool = False) -> list[Event]:
        """End a lost worker; another takes its slot, unless that is given up."""
        stack, how = slot.stack, slot.child.end()
        at = self._slots.index(slot)
        self._slots[at : at + 1] = [] if dismiss else [self._hired(slot.successor())]
        return [] if stack is None else [Lost(stack, reason.format(how))]

    # what goes wrong in silence

    def _asked(self, slot: _Slot) -> bool:
        return slot.waits

    def _ask(self, slot: _Slot) -> None:
        slot.waits = True
        slot.child.send(("heartbeat",))

    def _has_company(self, slot: _Slot) -> bool:  # noqa: ARG002 - all are on this machine
        return len(self._slots) > 1

    # requests

    def stop(self) -> None:
        """Ask the workers, each once: a thread of theirs that does not train hears it."""
        for slot in self._slots:
            if slot.stack is not None and not slot.stopped:
                slot.stopped = True
                slot.asked.append(("stop",))
                self._tell(slot)

    def leave(self, stack: int, run_ids: Collection[str]) -> None:
        """Ask the stack's worker, as `stop` does."""
        for slot in self._slots:
            if slot.stack == stack and (new := set(run_ids) - slot.left):
                slot.left |= new
                slot.asked.append(("leave", new))
                self._tell(slot)

    def _tell(self, slot: _Slot) -> None:
        """Pass requests on to a stack that hears them."""
        while slot.begun and slot.asked:
            slot.child.send(slot.asked.pop(0))

    def close(self) -> None:
        """Kill all workers."""
        kill(slot.child for slot in self._slots)
        self._slots = []
