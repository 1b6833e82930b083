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
    """What a stack raised, as text: an exception may not survive the way to another process."""

    reason: str
    traceback: str
    exception: str  # its class


class Warm(NamedTuple):
    """A worker that is ready: its process, and its device: the type, which one of the machine's, and its bytes."""

    process: Process
    kind: str
    device: str
    bytes: int


class Said(NamedTuple):
    """A line that was logged while a stack trained."""

    text: str


GATHER = 0.25
"""Seconds for which a record waits for others before all are handed to another process; an end waits for none.
With 0.1 s 48 half-second runs took 1.12 x a bare loop, with 0.25 s 1.08 x (benchmarks/bench_orchestration.py)."""

Item: TypeAlias = "Process | Record | Resumed | RunResult | Said | Usage | list[RunResult] | Raised"
"""What a worker yields."""


class Files(NamedTuple):
    """Where workers leave checkpoints (a folder, a URL, None: nowhere), and the least seconds between two."""

    where: Path | str | None = None
    every: float = 60.0

    def kept(self) -> set[str]:
        """Runs whose final parameters are there to begin others with, by one listing; RemoteError if it fails."""
        return set() if self.where is None else self._storage.all_kept()

    def begun(self) -> dict[str, int]:
        """The step after which each run that has begun will go on, by one listing; RemoteError if it fails."""
        return {} if self.where is None else self._storage.begun()

    def drop(self, run_ids: Collection[str]) -> None:
        """Delete the checkpoints of runs that will not go on; behind a URL that is done in the background."""
        if self.where is not None:
            self._storage.remove(run_ids)

    @property
    def _storage(self) -> Storage:
        from trainer.checkpoints.checkpoints import storage_of

        assert self.where is not None
        return storage_of(self.where)


NO_FILES = Files()


class Worker:
    """Lives from stack to stack, with torch imported and its data sets resident. Knows no table and no Ray.

    `relay` is for a process of its own, whose log nobody reads: its lines are yielded.
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
        """Pay for imports, lazy initialisation and the data set's code once, by a dummy run."""
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
        """FLOP/s of training a stack, measured for so many seconds after a start that is not counted."""
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
        """This process, the stack's records as they are made, what was used, and then its results or a Raised.

        A run that goes on from a checkpoint begins with a Resumed. `keep` names the runs whose final parameters are
        kept beside the checkpoints.
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
        """What `train` yields, records together, while a thread of its own trains on.

        Each hand-over to another process takes one to two milliseconds, in which that thread would wait.
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
        going = training(
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
            results = yield from going
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
        """When the stack in training last gave a sign of life. Safe from another thread."""
        return self._step_times.heartbeat()


class _Relay(logging.Handler):
    def __init__(self, lines: deque[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


OUT_OF_MEMORY = "OutOfMemoryError"
"""The class under which every way to run out of memory is known: torch has two, numpy one of its own."""


def _kind(error: Exception) -> str:
    import torch

    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    exhausted = on_cpu or isinstance(error, MemoryError | torch.OutOfMemoryError)
    return OUT_OF_MEMORY if exhausted else type(error).__name__


def _one_line(error: Exception) -> str:
    said = str(error).strip() or "no message"
    return f"{type(error).__name__}: {said.splitlines()[0]}"
