"""One attempt: trains a stack and yields its records, then its results."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import traceback
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from orchestrator.host.heartbeat import Heartbeat, StepTimes, available
from orchestrator.host.process import Process, this_process
from orchestrator.host.usage import Usage, UsageMeter, peak_resident
from trainer.result import Record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from trainer.checkpoints.folder import Storage
    from trainer.result import Resumed, RunResult
    from trainer.spec import Device, RunSpec


class Raised(NamedTuple):
    """An exception of a stack as text, since an exception may not survive the way to another process."""

    reason: str
    traceback: str
    exception: str  # its class


class Warm(NamedTuple):
    """A worker that is ready: its process, its device's type, which of the machine's devices it is, its bytes."""

    process: Process
    kind: str
    device: str
    bytes: int


class Said(NamedTuple):
    """A line that was logged while a stack trained."""

    text: str


GATHER = 0.25
"""Seconds for which a record waits for others before all are handed to another process; an end does not wait.
With 0.1 s 48 half-second runs took 1.12 x a bare loop, with 0.25 s 1.08 x (benchmarks/bench_orchestration.py)."""

Item: TypeAlias = "Process | Record | Resumed | RunResult | Said | Usage | list[RunResult] | Raised"
"""An item that a worker yields."""


class Files(NamedTuple):
    """Where workers save checkpoints (a folder, a URL, None: nowhere), and the most seconds between two."""

    where: Path | str | None = None
    every: float = 20.0

    def kept(self) -> set[str]:
        """Return the runs whose final parameters are kept, by one listing; raises RemoteError where that fails."""
        return set() if self.where is None else self._storage.all_kept()

    def begun(self) -> dict[str, int]:
        """Return the step after which each run with a checkpoint goes on, by one listing; raises RemoteError."""
        return {} if self.where is None else self._storage.begun()

    def drop(self, run_ids: Collection[str]) -> None:
        """Delete the checkpoints of runs that will not go on; behind a URL, in the background."""
        if self.where is not None:
            self._storage.remove(run_ids)

    @property
    def _storage(self) -> Storage:
        from trainer.checkpoints.checkpoints import storage_of

        assert self.where is not None
        return storage_of(self.where)


NO_FILES = Files()


class Worker:
    """Trains stack after stack, with torch imported and its data sets resident. Knows no table and no Ray.

    With `relay` the lines that are logged are yielded, for a process whose log nobody reads.
    """

    def __init__(
        self,
        device: Device = "auto",
        threads: int | None = 1,
        files: Files = NO_FILES,
        *,
        relay: bool = False,
    ) -> None:
        self._device, self._threads, self._files = device, threads, files
        self._stop = threading.Event()
        self._leaving: set[str] = set()
        self._step_times = StepTimes()
        self._log: deque[str] = deque()
        self._trains = ThreadPoolExecutor(1, "train")
        if relay:
            logging.getLogger("isoflop").addHandler(_Relay(self._log))

    def warm(self) -> Warm:
        """Import and initialise everything by a dummy run; returns what this worker is."""
        import torch

        from trainer.spec import RunSpec
        from trainer.training.loop import pick_device

        *_, [*_, end] = self.stream([RunSpec(dataset="digits", width=8, examples=128, batch_size=32)])
        assert not isinstance(end, Raised), end.traceback
        where = pick_device(self._device)
        on_gpu = where.type == "cuda"
        size = torch.cuda.mem_get_info(where)[1] if on_gpu else available()[1] + (peak_resident() or 0)
        return Warm(this_process(), where.type, os.environ.get("CUDA_VISIBLE_DEVICES", ""), size)

    def pace(self, specs: Sequence[RunSpec], seconds: float) -> float:
        """Return the FLOP/s of training a stack, measured over `seconds` after a start that does not count."""
        for limit in (0.0, seconds):
            timer = threading.Timer(limit, self.stop)
            events = self.train(specs)
            next(events)
            timer.start()
            *_, end = events
            timer.cancel()
            assert not isinstance(end, Raised), end.traceback
        results: list[RunResult] = end  # type: ignore[assignment]
        return sum(result.flops for result in results) / sum(result.seconds for result in results)

    def train(self, specs: Sequence[RunSpec], keep: Collection[str] = ()) -> Iterator[Item]:
        """Train a stack; yields this process, records as they are made, the usage, and its results or a Raised.

        A run that goes on from a checkpoint yields a Resumed first. `keep` names the runs whose final parameters
        are kept beside the checkpoints.
        """
        self._stop.clear()
        self._leaving.clear()
        self._step_times.begin()
        yield this_process()  # from here on it hears `stop` and `leave`
        for item in self._train(specs, keep):
            while self._log:
                yield Said(self._log.popleft())
            yield item

    def stream(self, specs: Sequence[RunSpec], keep: Collection[str] = ()) -> Iterator[list[Item]]:
        """Yield what `train` yields, gathered into lists, while a thread of its own trains on.

        Handing a list to another process takes one to two milliseconds, in which that thread would wait.
        """
        items: SimpleQueue[Item | None] = SimpleQueue()
        self._trains.submit(self._fill, items, specs, keep)
        item: Item | None
        while (item := items.get()) is not None:
            gathered, until = [item], time.monotonic() + GATHER
            while isinstance(item, Record | Usage) and (left := until - time.monotonic()) > 0:
                with contextlib.suppress(Empty):
                    item = items.get(timeout=left)
                    gathered += [] if item is None else [item]
            yield gathered
            if item is None:
                return

    def _fill(self, items: SimpleQueue[Item | None], specs: Sequence[RunSpec], keep: Collection[str]) -> None:
        try:
            for item in self.train(specs, keep):
                items.put(item)
        finally:
            items.put(None)  # whatever happens, or its reader would wait for ever

    def _train(self, specs: Sequence[RunSpec], keep: Collection[str]) -> Iterator[Item]:
        import torch

        from trainer.training.loop import training

        if self._threads is not None:
            torch.set_num_threads(self._threads)  # of this thread: it is the one that trains
        meter = UsageMeter()
        items = training(
            specs,
            device=self._device,
            should_stop=self._stop.is_set,
            checkpoints=self._files.where,
            every=self._files.every,
            keep=keep,
            leaving=lambda: self._leaving,
            on_step=self._step_times,
        )
        try:
            results = yield from items
        except Exception as error:  # noqa: BLE001 - a failed run is a row, never the end of a sweep
            raised = Raised(_one_line(error), traceback.format_exc(), _kind(error))
            yield meter.read()
            yield raised
        else:
            yield meter.read()
            yield results
        finally:
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.empty_cache()  # others share the device

    def stop(self) -> None:
        """End the stack in training soon, as cancelled. Safe from another thread."""
        self._stop.set()

    def leave(self, run_ids: Collection[str]) -> None:
        """End runs of the stack in training soon, as cancelled, the others unharmed. Safe from another thread."""
        self._leaving |= set(run_ids)

    def heartbeat(self) -> Heartbeat:
        """Return the heartbeat of the stack in training. Safe from another thread."""
        return self._step_times.heartbeat()


class _Relay(logging.Handler):
    def __init__(self, lines: deque[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


OUT_OF_MEMORY = "OutOfMemoryError"
"""The name by which every way to run out of memory goes: torch has two exceptions, numpy one of its own."""


def _kind(error: Exception) -> str:
    import torch

    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    exhausted = on_cpu or isinstance(error, MemoryError | torch.OutOfMemoryError)
    return OUT_OF_MEMORY if exhausted else type(error).__name__


def _one_line(error: Exception) -> str:
    message = str(error).strip() or "no message"
    return f"{type(error).__name__}: {message.splitlines()[0]}"
