"""The Python API behind the command's verbs: train the queued runs of a table, or follow another process that does.

Nothing here prints or exits: mistakes are exceptions, and news goes to the callbacks `on_progress` and `say`.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.host.urls import Remote, RemoteError, is_url, local
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.host.speed import Speed
    from orchestrator.scheduling.progress import Progress
    from orchestrator.scheduling.scheduler import RunSource, Scheduler
    from orchestrator.store.table import Table
    from orchestrator.sweep.planner import Plan
    from orchestrator.sweep.sweep import Sweep
    from orchestrator.workers.executor import Executor
    from orchestrator.workers.worker import Files
    from trainer.spec import RunSpec

    Say = Callable[[str], None]

WORTH_MEASURING = 120.0
"""Predicted seconds of training above which this machine's speed is measured first, which takes ten."""

LOOK = 0.5
"""Seconds between two looks at a table that another process writes."""


class OptionError(ValueError):
    """An option with an invalid value: `option` is its name, `why` what is wrong and what would be right."""

    def __init__(self, option: str, why: str) -> None:
        super().__init__(f"{option} {why}")
        self.option, self.why = option, why


@dataclass(frozen=True)
class Settings:
    """How to train: the options of `run`, `work` and `search`."""

    executor: str = "ray"
    slots: int | None = None
    device: str = "auto"
    checkpoint_every: float = 60.0
    keep: bool = False
    canary: bool = True
    address: str | None = None
    checkpoints: str | None = None

    def check(self) -> None:
        """Raise OptionError for an invalid value."""
        if self.executor not in ("ray", "inline"):
            raise OptionError("executor", f"{self.executor!r} is unknown; it is ray or inline")
        if self.device not in ("auto", "cpu", "cuda", "mps"):
            raise OptionError("device", f"{self.device!r} is unknown; it is one of auto, cpu, cuda, mps")
        if self.address is not None and self.executor == "inline":
            raise OptionError("address", "needs executor ray; inline trains in this process")

    def files(self, table: Table) -> Files:
        """Where workers save checkpoints of a table's runs, and how often."""
        from orchestrator.workers.worker import Files

        return Files(checkpoints_at(self.checkpoints, table.store), self.checkpoint_every)


def train(
    table: Table,
    sweeps: Sequence[str],
    settings: Settings,
    on_progress: Callable[[Progress], None],
    say: Say,
    search: RunSource | None = None,
) -> Scheduler | None:
    """Train the queued runs of sweeps and those that a search adds; None where nothing is queued.

    The caller holds the table's lock.
    """
    from orchestrator.scheduling.scheduler import Scheduler
    from orchestrator.store.requests import Changes, inbox_of

    queued = [run for sweep in sweeps for run in table.queued(sweep)]
    if not queued:
        return None
    files = settings.files(table)
    speed = _speed_of(table, queued, settings.device, say)  # before Ray takes the cores
    executor = _executor_of(settings, files, queued, table, say)
    if not executor.gpus and any(table.limits(sweep).gpu_hours for sweep in sweeps):
        say("limits.gpu_hours is ignored: no worker has a GPU")
    try:
        inbox = inbox_of(table.store) or Changes(table)
        options = {"keep_all": settings.keep, "speed": speed, "inbox": inbox, "smoke_test": settings.canary}
        scheduler = Scheduler(table, executor, sweeps, on_progress, files=files, search=search, **options)  # type: ignore[arg-type]
        scheduler.drain()
    finally:
        executor.close()
    return scheduler


def tune(table: Table, sweep: Sweep, settings: Settings, say: Say) -> bool:
    """Train the missing trials of a search under a Ray Tune scheduler; returns whether it reached its end."""
    from orchestrator.searching.tune_population import PopulationSearch
    from orchestrator.searching.tune_search import TrialSearch

    assert sweep.search is not None
    if settings.executor == "inline":
        raise OptionError("executor", f"inline cannot be used with scheduler: {sweep.search.scheduler} of Ray Tune")
    kind = PopulationSearch if sweep.search.scheduler == "pbt" else TrialSearch
    files = settings.files(table)
    if settings.address is not None and not isinstance(files.where, Path):
        why = "with Ray Tune, which keeps its files there, too, needs a folder that all nodes share"
        raise OptionError("checkpoints", why)
    where = {"slots": settings.slots, "device": settings.device, "address": settings.address}
    search = kind(table, sweep, files, **where)  # type: ignore[arg-type]
    search.run(say)
    return not search.interrupted


def follow(
    store: str,
    planned: Plan,
    on_progress: Callable[[Progress], None],
    say: Say,
    *,
    retry_failed: bool = False,
) -> bool:
    """Enqueue a plan with the process that holds the table and report its progress until nothing is left to train.

    Returns False where that process ended first.
    """
    from orchestrator.scheduling.progress import progress_of
    from orchestrator.store.engine import is_held
    from orchestrator.store.requests import Request, add, ask
    from orchestrator.store.table import Table

    say(f"{ask(store, add(planned))}; another isoflop trains them, this one looks on (Ctrl-C leaves it alone)")
    if retry_failed:
        say(ask(store, Request("retry", (planned.sweep,))))
    with Table(store) as table:
        while True:
            held = is_held(store)  # before the look: what it wrote at its end is seen
            (row,) = [row for row in table.sweeps() if row["sweep"] == planned.sweep]
            progress = progress_of([row])
            progress.seconds_left, progress.message = row["seconds_left"], row["message"] or ""
            on_progress(progress)
            if not row["queued"] and not row["running"]:
                return True
            if not held:
                return False
            time.sleep(LOOK)


def checkpoints_at(place: str | None, store: str) -> Path | str | None:
    """Where checkpoints are saved: at `place`, by default beside a SQLite store; None: nowhere, as for "none".

    Raises SpecError for a URL at which one cannot write, read, list and delete.
    """
    from orchestrator.store.engine import checkpoints_of

    if place is None:
        return checkpoints_of(store)
    if not is_url(place):
        return None if place == "none" else local(place)
    try:
        Remote(place).check()
    except RemoteError as error:
        raise SpecError("checkpoints", str(error)) from error
    return place


def _executor_of(settings: Settings, files: Files, runs: Sequence[RunSpec], table: Table, say: Say) -> Executor:
    """Start the executor. How many slots of a GPU pay is measured once and kept with the table."""
    if settings.executor == "inline":
        from orchestrator.workers.executor import InlineExecutor

        return InlineExecutor(settings.device, files)  # type: ignore[arg-type]
    from orchestrator.workers.ray_executor import RayExecutor

    say(f"joining Ray at {settings.address}" if settings.address else "starting Ray")
    per_gpu = table.devices.get("per_gpu")
    executor = RayExecutor(
        settings.slots,
        settings.device,  # type: ignore[arg-type]
        files=files,
        address=settings.address,
        data=sorted({path for run in runs for path in (run.path, run.start) if path}),
        probe=_probe(runs),
        per_gpu=None if settings.slots else per_gpu,
    )
    if executor.gpus and settings.slots is None and per_gpu is None:
        say(f"{executor.per_gpu} workers per GPU, measured with a stack of this sweep")
        table.devices = {**table.devices, "per_gpu": executor.per_gpu}
    return executor


def _probe(runs: Sequence[RunSpec]) -> list[RunSpec]:
    """A stack of medium price, to measure with."""
    from orchestrator.scheduling.stacks import group_into_stacks

    stacks = group_into_stacks([run for run in runs if not run.parent])
    return stacks[len(stacks) // 2] if stacks else []


def _speed_of(table: Table, runs: Sequence[RunSpec], device: str, say: Say) -> Speed | None:
    """The speed kept with the table, else this machine's, measured where training takes long; None: not known."""
    from orchestrator.host.speed import TYPICAL, Speed, keep, known_speed, measure
    from orchestrator.scheduling.stacks import predicted_seconds
    from trainer.host.limits import cores

    if table.speed is not None:
        return Speed(**table.speed)
    speed = known_speed()
    if speed is None and predicted_seconds(runs, TYPICAL, cores()) > WORTH_MEASURING:
        say("measuring the speed of this machine, once (about ten seconds)")
        speed = measure(device)  # type: ignore[arg-type]
        keep(speed)
    if speed is not None:
        table.speed = asdict(speed)
    return speed
