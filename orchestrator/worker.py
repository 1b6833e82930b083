"""One attempt: train a stack, yielding its records and then its results. The only caller of the loop."""

from __future__ import annotations

import threading
import traceback
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.result import Record, RunResult
    from trainer.spec import Device, RunSpec


class Raised(NamedTuple):
    """What a stack raised, as text: an exception may not survive the way to another process."""

    reason: str
    traceback: str


class Worker:
    """Lives from stack to stack, with torch imported and its data sets resident. Knows no table and no Ray."""

    def __init__(self, device: Device = "auto", threads: int | None = 1) -> None:
        self._device, self._threads = device, threads
        self._stop = threading.Event()

    def warm(self) -> int:
        """Pay for imports, lazy initialisation and the data set's code once, by a dummy run; returns the pid."""
        import os

        from trainer.spec import RunSpec

        *_, end = self.train([RunSpec(dataset="digits", width=8, examples=128, batch_size=32)])
        assert not isinstance(end, Raised), end.traceback
        return os.getpid()

    def train(self, specs: Sequence[RunSpec]) -> Iterator[Record | list[RunResult] | Raised]:
        """Records of the stack as they are made, then the list of its results, or what it raised."""
        import torch

        from trainer.loop import training

        if self._threads is not None:
            torch.set_num_threads(self._threads)  # of this thread: it is the one that trains
        self._stop.clear()
        try:
            results = yield from training(specs, device=self._device, should_stop=self._stop.is_set)
        except Exception as error:  # noqa: BLE001 - a failed run is a row, never the end of a sweep
            yield Raised(_one_line(error), traceback.format_exc())
        else:
            yield results

    def stop(self) -> None:
        """End the stack in training soon, as cancelled. Safe from another thread."""
        self._stop.set()


def _one_line(error: Exception) -> str:
    said = str(error).strip() or "no message"
    return f"{type(error).__name__}: {said.splitlines()[0]}"
