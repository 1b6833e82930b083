"""The executor that trains in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.workers.executor import Place, StackEnd, event_of
from orchestrator.workers.worker import NO_FILES, Files, Worker

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from orchestrator.workers.executor import Event
    from orchestrator.workers.worker import Item
    from trainer.spec import Device, RunSpec


class InlineExecutor:
    """Trains in this process, one stack at a time, inside `poll`: for debugging, and where Ray is not wanted."""

    slots, gpus = 1, 0
    places = (Place("this process"),)

    def __init__(self, device: Device = "auto", files: Files = NO_FILES) -> None:
        if device in ("auto", "cuda"):
            import torch

            self.gpus = int(torch.cuda.is_available())
        self._worker = Worker(device, files=files)
        self._training: tuple[int, Iterator[Item]] | None = None
        self._stopping = False

    @property
    def free(self) -> int:
        """1 while nothing trains."""
        return int(self._training is None)

    @property
    def open(self) -> Sequence[str]:
        """This process, while nothing trains."""
        return [place.name for place in self.places[: self.free]]

    def submit(
        self,
        stack: int,
        specs: Sequence[RunSpec],
        keep: Collection[str] = (),
        place: str | None = None,  # noqa: ARG002 - there is one
    ) -> None:
        """Take the stack; it trains as `poll` is called."""
        self._training = stack, self._worker.train(specs, keep)

    def poll(self, timeout: float) -> list[Event]:  # noqa: ARG002 - training is what it waits for
        """Train until the next record or the end."""
        if self._training is None:
            return []
        stack, events = self._training
        if self._stopping:
            self._worker.stop()  # at every poll: a stack that only begins does not hear it
        event = event_of(stack, next(events))
        if isinstance(event, StackEnd):
            self._training, self._stopping = None, False
        return [event]

    def stop(self) -> None:
        """Stop at the next look of the loop."""
        if self._training is not None:
            self._stopping = True
            self._worker.stop()

    def leave(self, stack: int, run_ids: Collection[str]) -> None:
        """Have runs leave at their next record or the next look of the loop."""
        if self._training is not None and self._training[0] == stack:
            self._worker.leave(run_ids)

    def close(self) -> None:
        """Drop what is in training."""
        self._training = None
