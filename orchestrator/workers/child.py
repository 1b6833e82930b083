"""A child process that trains: what `orchestrator.workers.processes` starts, one per slot.

It ends when its parent's end of the connection closes, however the parent died; it does not hear Ctrl-C, which a
terminal sends to every process of its group.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.workers.worker import Files, Worker
    from trainer.spec import Device


class Setup(NamedTuple):
    """What a child is: the class of its worker, and the arguments of that class."""

    worker: type[Worker]
    device: Device
    threads: int
    files: Files


class Broken(NamedTuple):
    """A child that cannot start, and why, in a line."""

    reason: str


def main(file: int) -> None:
    """Train what comes through a socket, until it closes."""
    pipe = Connection(file)
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has ended
        try:
            child = _made(pipe)
        except Exception as error:  # noqa: BLE001 - told to the parent, which would only see an end
            said = "".join(traceback.format_exception_only(error)).strip().splitlines()
            pipe.send(Broken(said[-1]))
        else:
            child.serve()
    os._exit(0)  # a thread that trains would be waited for


def _made(pipe: Connection) -> _Child:
    """Import everything, while the parent plans; then hear what to be."""
    sys.path[:] = pipe.recv()
    import trainer.training.loop  # noqa: F401 - and torch with it

    child = _Child(pipe, pipe.recv())
    child.warm()
    return child


class _Child:
    def __init__(self, pipe: Connection, setup: Setup) -> None:
        self._pipe, self._sending = pipe, threading.Lock()
        self._worker = setup.worker(setup.device, setup.threads, setup.files, relay=True)

    def warm(self) -> None:
        """Train a first step, and say so."""
        self._send(self._worker.warm())

    def serve(self) -> None:
        """Train stacks in a thread, and answer meanwhile."""
        while True:
            verb, *arguments = self._pipe.recv()
            match verb:
                case "train":
                    threading.Thread(target=self._train, args=arguments, daemon=True).start()
                case "heartbeat":
                    self._send(self._worker.heartbeat())
                case "stop":
                    self._worker.stop()
                case "leave":
                    self._worker.leave(*arguments)

    def _train(self, specs: Sequence[Any], keep: set[str]) -> None:
        for items in self._worker.stream(specs, keep):
            self._send(items)

    def _send(self, message: Any) -> None:
        with self._sending:
            self._pipe.send(message)
