"""The isoflop command and scripts, each in a process of its own that does not import torch again.

Importing torch, pandas and matplotlib takes seconds. The processes are forked from a server that has imported them
and has done nothing else; they exit, print and are killed like any other process.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path
from typing import Self

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("torch", "pandas", "scipy.optimize", "matplotlib.figure", "sqlalchemy", "optuna", "analysis.report"),
        *("orchestrator.cli.main", "orchestrator.session", "orchestrator.workers.inline", "trainer.training.loop"),
    ]
)


LIMIT = 900
"""Seconds after which a process is given up, on a machine with much else to do."""


def command(*arguments: str) -> list[str]:
    """Return the words of the command for a process that imports everything, as users start it."""
    return [sys.executable, "-m", "orchestrator", *arguments]


def on_ray(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as users start it, on Ray."""
    words = command(*arguments, "--executor", "ray")
    return subprocess.run(words, cwd=folder, text=True, capture_output=True, timeout=LIMIT, check=False)


def isoflop(*arguments: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the isoflop command in a folder, by default the current one."""
    return _finished("", arguments, folder, environment)


def script(path: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python script of a folder, by default the current one."""
    return _finished(path, (), folder, environment)


class Started:
    """The command, or the script at `path`, in training: what tests use of a subprocess.Popen. Killed on exit."""

    def __init__(self, *arguments: str, folder: Path, path: str = "") -> None:
        self._outputs = tempfile.TemporaryDirectory()
        file = Path(self._outputs.name, "out")
        file.touch()
        self.stdout = file.open()
        what = (path, [path or "isoflop", *arguments], str(folder), dict(os.environ), [file, file])
        self._process = CONTEXT.Process(target=_run, args=what)
        self._process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.join()
        self.stdout.close()
        self._outputs.cleanup()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def interrupt(self) -> None:
        """Send Ctrl-C."""
        os.kill(self.pid, signal.SIGINT)

    def interrupt_until_ended(self, patience: float = 30) -> str:
        """Send Ctrl-C, again where nothing comes of it; returns what `ended` does.

        Python ignores the exception of a signal handler that it happens to run within a `__del__` or the callback
        of a weak reference (imports have some).
        """
        for _ in range(5):
            self.interrupt()
            self._process.join(patience)
            if self.returncode is not None:
                break
        return self.ended(0)

    def ended(self, seconds: float = LIMIT) -> str:
        """Wait for the end; returns what was printed and not read before, to stdout and stderr."""
        self._process.join(seconds)
        assert self.returncode is not None, f"no end after {seconds:g} s: {self.stdout.read()}"
        return self.stdout.read()


def _finished(
    path: str, arguments: tuple[str, ...], folder: Path | None, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    words = [path or "isoflop", *arguments]
    with tempfile.TemporaryDirectory() as outputs:
        files = [Path(outputs, name) for name in ("out", "error")]
        what = (path, words, str(folder or Path.cwd()), os.environ | environment, files)
        process = CONTEXT.Process(target=_run, args=what)
        process.start()
        process.join(LIMIT)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, LIMIT)
        out, error = (file.read_text() for file in files)
        return subprocess.CompletedProcess(words, process.exitcode, out, error)


def _run(path: str, words: list[str], folder: str, environment: dict[str, str], files: list[Path]) -> None:
    from orchestrator.cli.main import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.path.insert(0, folder)
    sys.argv = words
    if path:
        runpy.run_path(path, run_name="__main__")
    else:
        main()
