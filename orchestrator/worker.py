"""One attempt: train a stack, yielding its records and then its results. The only caller of the loop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.result import Record, RunResult
    from trainer.spec import Device, RunSpec


class Worker:
    """Lives from stack to stack, with torch imported and its data sets resident. Knows no table and no Ray."""

    def __init__(self, device: Device = "auto", threads: int | None = 1) -> None:
        self._device, self._threads = device, threads
        self._stop = threading.Event()

    def warm(self) -> int:
        """Pay for imports, lazy initialisation and the data set's code once, by a dummy run; returns the pid."""
        import os

        from trainer.spec import RunSpec

        for _ in self.train([RunSpec(dataset="digits", width=8, examples=128, batch_size=32)]):
            pass
        return os.getpid()

    def train(self, specs: Sequence[RunSpec]) -> Iterator[Record | list[RunResult]]:
        """Records of the stack as they are made, then the list of its results."""
        import torch

        from trainer.loop import training

        if self._threads is not None:
            torch.set_num_threads(self._threads)  # of this thread: it is the one that trains
        self._stop.clear()
        results = yield from training(specs, device=self._device, should_stop=self._stop.is_set)
        yield results

    def stop(self) -> None:
        """End the stack in training soon, as cancelled. Safe from another thread."""
        self._stop.set()
