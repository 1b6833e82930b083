"""The laws of a live table, fitted in a process of their own: when data changed, and never most of the time."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from orchestrator.live.view import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from multiprocessing.connection import Connection

REST, LEAST = 9.0, 5.0
"""Between two fits of a sweep: this many times as long as the last one took, and at least so many seconds."""
RESAMPLES = 200


@dataclass
class _Fitted:
    """What was fitted of a sweep: the signs of its data, when that ended, and how long it took."""

    signs: tuple[Any, ...] = ()
    ended: float = 0.0
    took: float = 0.0


@dataclass
class Laws:
    """Fits the laws of sweeps, one at a time; `poll` never waits.

    `start` begins a process that fits for a store; returns it, and the connection to it.
    """

    store: str
    start: Callable[[str], tuple[Any, Any]] = field(default_factory=lambda: _started)
    _known: dict[str, _Fitted] = field(default_factory=dict)
    _busy: tuple[str, tuple[Any, ...], float] | None = None
    _worker: tuple[Any, Any] | None = None

    def poll(self, sweeps: Sequence[Mapping[str, Any]]) -> dict[str, Part]:
        """Take what was fitted meanwhile, and begin the next fit that is due; the parts that are new."""
        fresh = self._take()
        due = self._due(sweeps)
        if self._busy is None and due:
            name, signs = due
            self._busy = (name, signs, time.monotonic())
            number = [row["sweep"] for row in sweeps].index(name)
            self._worker = self._worker or self.start(self.store)
            self._worker[1].send((name, number))
        return fresh

    def close(self) -> None:
        """End the process."""
        if self._worker:
            self._worker[0].terminate()
            self._worker[0].join()
            self._worker = None

    def _due(self, sweeps: Sequence[Mapping[str, Any]]) -> tuple[str, tuple[Any, ...]] | None:
        """The sweep whose laws are the oldest among those that changed and have rested."""
        waiting = []
        for row in sweeps:
            signs = tuple(row[name] for name in ("runs", "done", "best_error", "charged_flops") if row["done"])
            last = self._known.get(row["sweep"], _Fitted())
            rested = time.monotonic() - last.ended >= max(LEAST, REST * last.took)
            over = not row["queued"] and not row["running"]  # the last word need not wait
            if signs[:2] != last.signs[:2] and (rested or over or not last.signs):
                waiting.append((last.ended, row["sweep"], signs))
        return min(waiting)[1:] if waiting else None

    def _take(self) -> dict[str, Part]:
        if self._busy is None or self._worker is None:
            return {}
        process, answers = self._worker
        name, signs, began = self._busy
        if not answers.poll():
            if process.is_alive():
                return {}
            self._worker, made = None, None  # out of memory, say: the next change tries again
        else:
            made = answers.recv()
        self._busy = None
        self._known[name] = _Fitted(signs, time.monotonic(), time.monotonic() - began)
        return {f"laws of {name}": made} if made else {}


def _started(store: str) -> tuple[Any, Connection]:
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_work, args=(store, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _work(store: str, orders: Connection) -> None:
    """Fit the sweeps that are asked for, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process
    os.nice(10)
    with contextlib.suppress(EOFError, OSError):
        while True:
            orders.send(laws_of(store, *orders.recv()))


def laws_of(store: str, sweep: str, number: int = 0) -> Part:
    """The question, the answer, the laws and the figures of a sweep so far; charts go into `laws-<number>-<k>`."""
    from analysis.figures.plotly import to_plotly
    from analysis.report import parts
    from analysis.report.html import tag
    from analysis.report.page import lead, opening
    from orchestrator.reporting.figures import Findings
    from orchestrator.reporting.laws import at_stage
    from orchestrator.reporting.page import page_of
    from orchestrator.store.table import Table

    with Table(store) as table:
        frame = table.frame("runs", sweep)
        when, declared = table.declaration(sweep)
    stages = frame["stage"].dropna().unique()
    findings = Findings(at_stage(frame, stages[0]) if len(stages) else frame, resamples=RESAMPLES, judged=100)
    page = page_of(sweep, declared, when, store, findings, findings.groups())
    captions = {heading: page.captions.get(heading, "") for heading in page.charts}
    body = [*opening(page, lead(findings.frame, findings.y)), *parts.figures(captions, name=f"laws-{number}")]
    return Part(str(tag("section", *body, class_="laws")), [to_plotly(chart) for chart in page.charts.values()])
