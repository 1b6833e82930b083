"""The Python API: run a sweep, work off a queue, search, follow another process. The command's verbs call it.

Nothing here prints or exits. Mistakes are exceptions (`UserError`). Progress and messages go to `on_progress`,
which is called with a `Progress`; by default to a display for terminals and notebooks (orchestrator.display).
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from orchestrator.settings import OptionError, Settings, executor_of, speed_of
from orchestrator.text import count, number
from trainer.errors import UserError
from trainer.host import installation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from analysis import LearningRates
    from orchestrator.reporting.difference import Difference
    from orchestrator.reporting.run_details import RunDetails
    from orchestrator.scheduling.options import RunSource
    from orchestrator.scheduling.progress import Progress
    from orchestrator.searching.sweep_search import Best
    from orchestrator.settings import Options
    from orchestrator.store.table import Table
    from orchestrator.sweep.planner import Plan
    from orchestrator.sweep.sweep import Sweep
    from orchestrator.workers.processes import Child

    OnProgress = Callable[[Progress], object]

STORE = "isoflop.db"

LOOK = 0.5
"""Seconds between two looks at a table that another process writes."""


class Interrupted(KeyboardInterrupt):
    """Training was interrupted by Ctrl-C or SIGTERM. Nothing is lost: the same call resumes.

    `result` is what the call would have returned, as of now.
    """

    def __init__(self, result: Progress | SearchResult) -> None:
        super().__init__("interrupted; the same call resumes")
        self.result = result


@dataclass(frozen=True)
class SearchResult:
    """The end of a search: progress, the best trial of each cell, the law of the learning rates if there is one."""

    progress: Progress
    best: list[Best]
    learning_rates: LearningRates | None

    def rows(self) -> list[dict[str, str]]:
        """Return a row per cell: its trials, and the best one with its parameters and metrics."""
        return [
            {
                **{key: _shown(value) for key, value in one.cell.items()},
                "trials": str(one.trials),
                "pruned": str(one.states.get("pruned", 0)),
                "best": _shown(one.trial),
                **{key: _shown(value) for key, value in one.parameters.items()},
                one.metric: _shown(one.value),
                "error": _shown(one.error),
                "at the edge": ", ".join(one.edges),
            }
            for one in self.best
        ]

    def _repr_html_(self) -> str:
        """The best of each cell as a table, for notebooks."""
        from orchestrator.text import html_table

        return html_table(self.rows())


def run(
    plan: Plan | Sweep | str | Path,
    store: str | Path = STORE,
    *,
    retry_failed: bool = False,
    cells: int | None = None,
    on_progress: OnProgress | None = None,
    **options: Unpack[Options],
) -> Progress:
    """Train the missing runs of a plan, a sweep or a sweep file, and return the sweep's progress.

    Calling it again resumes: after an interrupt, a crash or a power cut, from the last checkpoints. If another
    process holds the table, that process trains the sweep, and this one follows.

    Args:
        plan: a Plan, a Sweep, or the path of a sweep file.
        store: the results table: a path (SQLite) or a PostgreSQL URL.
        retry_failed: train failed runs again.
        cells: the most cells that a file may have; default 20,000.
        on_progress: called with a Progress after every event; default: a progress bar.
        options: how to train: the attributes of Settings, such as executor="inline".

    Raises:
        UserError: the file, the plan, the table or an option is invalid.
        Interrupted: Ctrl-C. A second Ctrl-C raises KeyboardInterrupt at once.
    """
    store, settings = str(store), Settings(**options)
    finished = interrupted = False
    with _reporter(on_progress) as reporter, settings.children() as children:
        from orchestrator.store.engine import TableBusyError  # while the children import torch
        from orchestrator.store.table import Table

        planned = plan_of(plan, cells)
        for note in planned.notes:
            reporter.say(note)
        with settings.exporting(store, [planned.sweep], reporter.say):
            while not finished:
                try:
                    with Table(store, writable=True) as table:
                        reporter.say(_begin(table, planned, retry_failed=retry_failed))
                        finished, interrupted = True, _train(table, [planned.sweep], settings, reporter, children)
                except TableBusyError:
                    _hand_over(store, planned, reporter, retry_failed=retry_failed)
                    finished = _follow(store, planned.sweep, reporter)
    return _ended(progress(store, planned.sweep), interrupted=interrupted)


def work(
    store: str | Path = STORE,
    sweeps: Sequence[str] = (),
    *,
    on_progress: OnProgress | None = None,
    **options: Unpack[Options],
) -> Progress:
    """Train every queued run of some sweeps of a table (default: all) and return their progress.

    Raises TableError if a sweep is unknown, TableBusyError if another process works on the table, and what `run`
    raises.
    """
    store, settings = str(store), Settings(**options)
    with _reporter(on_progress) as reporter, settings.children() as children:
        from orchestrator.scheduling.progress import progress_of
        from orchestrator.store.requests import inbox_of
        from orchestrator.store.table import Table

        with Table(store, writable=True) as table:
            lost = table.queue.recover()
            if (inbox := inbox_of(store)) is not None:
                inbox.obey(table)
            names = [check_sweep(table, name) for name in sweeps] or [row["sweep"] for row in table.sweeps()]
            if lost:
                reporter.say(f"{count(lost, 'run')} queued again; the process that trained them has ended")
            with settings.exporting(store, list(sweeps) or None, reporter.say):
                interrupted = _train(table, names, settings, reporter, children)
            rows = [row for row in table.sweeps() if row["sweep"] in names]
    return _ended(progress_of(rows), interrupted=interrupted)


def search(
    sweep: Sweep | str | Path,
    store: str | Path = STORE,
    *,
    cells: int | None = None,
    on_progress: OnProgress | None = None,
    **options: Unpack[Options],
) -> SearchResult:
    """Train the missing trials of a sweep's search and return the best of each cell. Calling it again resumes.

    Raises UserError if the sweep declares no search, and what `run` raises.
    """
    store, settings = str(store), replace(Settings(**options), smoke_test=False)  # trials are small
    sweep = _loaded(sweep)
    if sweep.search is None:
        example = "like lr: {search: {values: [1e-3, 1e-2]}}"
        raise UserError(
            f"{sweep.source.name} declares no search, {example}; `{installation.command('run')}` runs it"
        )
    tuned = bool(sweep.search.scheduler)
    early: AbstractContextManager[list[Child]] = contextlib.nullcontext([]) if tuned else settings.children()
    with _reporter(on_progress) as reporter, early as children:
        from orchestrator.scheduling.progress import progress_of
        from orchestrator.searching.sweep_search import best_of, learning_rates
        from orchestrator.store.table import Table
        from orchestrator.sweep.planner import plan

        planned = plan(sweep, cells=cells)
        for note in planned.notes:
            reporter.say(note)
        with Table(store, writable=True) as table:
            table.trials.declare(planned)
            if lost := table.queue.recover():
                reporter.say(f"{count(lost, 'run')} queued again; the process that trained them has ended")
            table.queue.tell(planned.sweep, paused=None, message=None)
            with settings.exporting(store, [planned.sweep], reporter.say):
                finished = (
                    _tune(table, sweep, settings, reporter)
                    if tuned
                    else _search(table, sweep, settings, reporter, children)
                )
            rows = [row for row in table.sweeps() if row["sweep"] == planned.sweep]
            result = SearchResult(progress_of(rows), best_of(table, sweep), learning_rates(table, sweep))
    if not finished:
        raise Interrupted(result)
    return result


def follow(sweep: str, store: str | Path = STORE, *, on_progress: OnProgress | None = None) -> Progress:
    """Follow a sweep that another process trains until nothing of it is left to train, or that process has ended.

    Returns its progress. Raises TableError if the sweep is unknown.
    """
    with _reporter(on_progress) as reporter:
        _follow(str(store), sweep, reporter)
    return progress(store, sweep)


def status(store: str | Path = STORE) -> list[dict[str, Any]]:
    """Return each sweep of a table, in the order declared: its runs by state, FLOPs, best error, what blocks it."""
    from orchestrator.store.table import Table

    with Table(str(store)) as table:
        return table.sweeps()


def progress(store: str | Path = STORE, sweep: str | None = None) -> Progress:
    """Return the progress of a sweep of a table (default: of all). TableError if it is unknown."""
    from orchestrator.scheduling.progress import progress_of
    from orchestrator.store.table import Table

    with Table(str(store)) as table:
        name = None if sweep is None else check_sweep(table, sweep)
        return progress_of(row for row in table.sweeps() if name in (None, row["sweep"]))


def show(run: str, store: str | Path = STORE) -> RunDetails:
    """Return a run in full, by its run_id or the beginning of it. TableError if there is not exactly one."""
    from orchestrator.reporting.run_details import RunDetails
    from orchestrator.store.table import Table

    with Table(str(store)) as table:
        row = table.shown(run)
    return RunDetails(row, row.pop("attempts"), row.pop("records"))


def diff(a: str, b: str, store: str | Path = STORE) -> Difference:
    """Return what differs between two sweeps by name, or between two runs by run_id or the beginning of it.

    Raises TableError for a name that is neither, and if one is a sweep and the other a run.
    """
    from orchestrator.reporting.difference import run_difference, sweep_difference
    from orchestrator.store.engine import TableError
    from orchestrator.store.table import Table

    with Table(str(store)) as table:
        names = {row["sweep"] for row in table.sweeps()}
        if {a, b} <= names:
            return sweep_difference(table, a, b)
        if {a, b} & names:
            run, sweep = (b, a) if a in names else (a, b)
            raise TableError(f"{sweep} is a sweep, {run} is none; name two sweeps or two runs")
        return run_difference(table.shown(a), table.shown(b))


def check_sweep(table: Table, name: str) -> str:
    """Return the name of a sweep of a table; TableError, with the list, if it is unknown."""
    from orchestrator.store.engine import TableError, name_of

    names = [row["sweep"] for row in table.sweeps()]
    if name not in names:
        raise TableError(f"no sweep {name!r} in {name_of(table.store)}; it holds {', '.join(names) or 'none'}")
    return name


class _Reporter:
    """Passes copies of the progress on to the caller, and messages as the `message` of the last progress."""

    def __init__(self, on_progress: OnProgress) -> None:
        from orchestrator.scheduling.progress import progress_of

        self._on_progress, self._last = on_progress, progress_of([])
        self.began = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        self._last = replace(progress)
        self._on_progress(self._last)

    def say(self, message: str) -> None:
        self(replace(self._last, message=message))


@contextlib.contextmanager
def _reporter(on_progress: OnProgress | None) -> Iterator[_Reporter]:
    if on_progress is not None:
        yield _Reporter(on_progress)
        return
    from orchestrator.display import default_display

    with default_display() as display:
        yield _Reporter(display)


def _shown(value: object) -> str:
    if value is None:
        return ""
    return number(value, 4) if isinstance(value, float) else str(value)


def _ended(result: Progress, *, interrupted: bool) -> Progress:
    if interrupted:
        raise Interrupted(result)
    return result


def _loaded(sweep: Sweep | str | Path) -> Sweep:
    from orchestrator.sweep.reader import load_sweep

    return load_sweep(sweep) if isinstance(sweep, str | Path) else sweep


def plan_of(plan: Plan | Sweep | str | Path, cells: int | None = None) -> Plan:
    """The plan of a sweep, a file or a plan itself; UserError if it is invalid or a search."""
    from orchestrator.sweep import planner

    planned = plan if isinstance(plan, planner.Plan) else planner.plan(_loaded(plan), cells=cells)
    if planned.trials is not None:
        name = plan if isinstance(plan, str | Path) else planned.sweep
        raise UserError(f"{name} declares a search; `{installation.command(f'search {name}')}` runs it")
    return planned


def _begin(table: Table, planned: Plan, *, retry_failed: bool) -> str:
    """Enqueue a plan, queue runs of ended processes again, obey pending requests; returns a summary."""
    from orchestrator.store.requests import inbox_of

    new, lost = table.queue.enqueue(planned), table.queue.recover()
    if (inbox := inbox_of(table.store)) is not None:
        inbox.obey(table)
    again = table.queue.move(table.states(planned.sweep), "queued", of=["failed"]) if retry_failed else 0
    table.queue.tell(planned.sweep, paused=None, message=None)
    waiting = table.counts(planned.sweep).get("queued", 0)
    parts = [f"{planned.sweep}: {waiting} of {count(len(planned.runs), 'run')} to do"]
    parts += [f"{new} new"] if new else []
    parts += [f"{lost} queued again after an interruption"] if lost else []
    parts += [f"{again} failed before"] if again else []
    return ", ".join(parts)


def _train(
    table: Table,
    sweeps: Sequence[str],
    settings: Settings,
    reporter: _Reporter,
    children: Sequence[Child] = (),
    search: RunSource | None = None,
) -> bool:
    """Train the queued runs of sweeps and those that a search adds; returns whether that was interrupted."""
    from orchestrator.scheduling.options import SchedulerOptions
    from orchestrator.scheduling.scheduler import Scheduler
    from orchestrator.store.requests import Changes, inbox_of

    queued = [run for sweep in sweeps for run in table.queued(sweep)]
    if not queued:
        return False
    files = settings.files(table)
    speed = speed_of(table, queued, settings.device, reporter.say)  # before Ray takes the cores
    executor = executor_of(settings, files, queued, speed, reporter.say, children)
    if not executor.gpus and any(table.limits(sweep).gpu_hours for sweep in sweeps):
        reporter.say("limits.gpu_hours is ignored: no worker has a GPU")
    try:
        inbox = inbox_of(table.store) or Changes(table)
        options = SchedulerOptions(files, speed, keep_all=settings.keep, smoke_test=settings.smoke_test)
        scheduler = Scheduler(table, executor, sweeps, options, on_progress=reporter, inbox=inbox, source=search)
        scheduler.drain()
    finally:
        executor.close()
    if not scheduler.interrupted:
        how = settings.trains_in
        slots = executor.slots if executor.gpus else None
        scheduler.lessons.timings(how, reporter.began, slots).keep()
    return scheduler.interrupted


def _search(table: Table, sweep: Sweep, settings: Settings, reporter: _Reporter, children: Sequence[Child]) -> bool:
    """Train the missing trials of a search by Optuna; returns whether it reached its end."""
    from orchestrator.searching.sweep_search import SweepSearch

    source = SweepSearch(table, sweep)
    reporter.say(f"{sweep.sweep}: {source.proposed} of at most {count(source.total, 'trial')} known")
    source.more()
    return not _train(table, [sweep.sweep], settings, reporter, children, search=source)


def _tune(table: Table, sweep: Sweep, settings: Settings, reporter: _Reporter) -> bool:
    """Train the missing trials of a search under a Ray Tune scheduler; returns whether it reached its end."""
    from orchestrator.searching.tune_population import PopulationSearch
    from orchestrator.searching.tune_search import TrialSearch

    assert sweep.search is not None
    scheduler = sweep.search.scheduler
    if settings.executor in ("inline", "processes"):
        raise OptionError(
            "executor", f"{settings.executor} cannot train a search with scheduler: {scheduler}, which needs ray"
        )
    files = settings.files(table)
    if settings.address is not None and not isinstance(files.where, Path):
        raise OptionError("checkpoints", f"must be a folder that all nodes share with scheduler: {scheduler}")
    options = {"slots": settings.slots, "device": settings.device, "address": settings.address}
    kind = PopulationSearch if scheduler == "pbt" else TrialSearch
    source = kind(table, sweep, files, **options)  # type: ignore[arg-type]
    source.run(reporter.say)
    return not source.interrupted


def _hand_over(store: str, planned: Plan, reporter: _Reporter, *, retry_failed: bool) -> None:
    """Enqueue a plan with the process that holds the table."""
    from orchestrator.store.requests import Request, add, ask

    reporter.say(
        f"{ask(store, add(planned))}; another process trains them, this one follows; Ctrl-C ends only this one"
    )
    if retry_failed:
        reporter.say(ask(store, Request("retry", (planned.sweep,))))


def _follow(store: str, sweep: str, reporter: _Reporter) -> bool:
    """Report a sweep's progress until nothing is left to train; False if the process that trains ended before."""
    from orchestrator.scheduling.progress import progress_of
    from orchestrator.store.engine import is_held
    from orchestrator.store.table import Table

    with Table(store) as table:
        check_sweep(table, sweep)
        while True:
            held = table.shared or is_held(store)  # before the look: what it wrote at its end is seen
            (row,) = [row for row in table.sweeps() if row["sweep"] == sweep]
            reporter(replace(progress_of([row]), seconds_left=row["seconds_left"], message=row["message"] or ""))
            if not row["queued"] and not row["running"]:
                return True
            if not held:
                return False
            time.sleep(LOOK)
