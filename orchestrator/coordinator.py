"""One session of a coordinator: an executor, the sweeps to drain, what other terminals ask; or following one."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.options import say, stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.host.speed import Speed
    from orchestrator.scheduling.scheduler import Scheduler, Search
    from orchestrator.store.table import Table
    from orchestrator.sweep.planner import Plan
    from orchestrator.sweep.sweep import Sweep
    from orchestrator.workers.worker import Files
    from trainer.spec import RunSpec

WORTH_MEASURING = 120.0
"""Seconds of training from which on the ten that measuring takes are worth knowing how large stacks should be."""

LOOK = 0.5
"""Seconds between two looks at a table that another process writes."""


@dataclass(frozen=True)
class How:
    """How to train: what the options of `run` and `work` say."""

    executor: str = "ray"
    slots: int | None = None
    device: str = "auto"
    checkpoint_every: float = 60.0
    keep: bool = False
    canary: bool = True
    address: str | None = None
    checkpoints: str | None = None

    def check(self) -> None:
        """End the command where a word is unknown."""
        if self.executor not in ("ray", "inline"):
            stop(f"--executor {self.executor!r} is unknown; it is ray or inline")
        if self.device not in ("auto", "cpu", "cuda", "mps"):
            stop(f"--device {self.device!r} is unknown; it is one of auto, cpu, cuda, mps")
        if self.address is not None and self.executor == "inline":
            stop("--address: a cluster is for --executor ray; inline trains in this process")

    def files(self, table: Table) -> Files:
        """Where workers leave checkpoints of the runs of a table."""
        from orchestrator.workers.worker import Files
        from orchestrator.workplace import checkpoints_at

        return Files(checkpoints_at(self.checkpoints, table.store), self.checkpoint_every)


def coordinate(table: Table, sweeps: Sequence[str], how: How, search: Search | None = None) -> Scheduler | None:
    """Train what is queued of the sweeps of a table that we hold, and what a search adds; None where nothing is."""
    from orchestrator.cli.terminal import ProgressLine
    from orchestrator.scheduling.scheduler import Scheduler
    from orchestrator.store.requests import Changes, inbox_of
    from orchestrator.workplace import executor_of

    queued = [run for sweep in sweeps for run in table.queued(sweep)]
    if not queued:
        return None
    files = how.files(table)
    speed = _speed_of(table, queued, how.device)  # before Ray takes the cores
    place = executor_of(how.executor, how.slots, how.device, how.address, files, queued, table)
    if not place.gpus and any(table.limits(sweep).gpu_hours for sweep in sweeps):
        say("limits.gpu_hours does nothing here: no worker has a GPU")
    show = ProgressLine()
    try:
        inbox = inbox_of(table.store) or Changes(table)
        more = {"keep_all": how.keep, "speed": speed, "inbox": inbox, "canary": how.canary}
        scheduler = Scheduler(table, place, sweeps, show, files=files, search=search, **more)  # type: ignore[arg-type]
        scheduler.drain()
    except KeyboardInterrupt:
        say("interrupted; the same command goes on")
        raise
    finally:
        show.end()
        place.close()
    return scheduler


def tune(table: Table, sweep: Sweep, how: How) -> bool:
    """Train what is missing of a search under a scheduler of Ray Tune; whether it came to its end."""
    from orchestrator.search.tune_population import PopulationSearch
    from orchestrator.search.tune_search import TrialSearch

    assert sweep.search is not None
    if how.executor == "inline":
        stop(f"scheduler: {sweep.search.scheduler} of Ray Tune trains through Ray: leave out --executor inline")
    kind = PopulationSearch if sweep.search.scheduler == "pbt" else TrialSearch
    files = how.files(table)
    if how.address is not None and not isinstance(files.where, Path):
        stop("--address: Ray Tune keeps its files in --checkpoints, too; give a folder that all nodes share")
    where = {"slots": how.slots, "device": how.device, "address": how.address}
    going = kind(table, sweep, files, **where)  # type: ignore[arg-type]
    try:
        going.run(say)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on")
        raise
    return not going.interrupted


def attach(store: str, planned: Plan, *, retry_failed: bool = False) -> bool:
    """Enqueue a plan with the coordinator that holds the table and follow; False where that ended before it."""
    from orchestrator.cli.terminal import ProgressLine
    from orchestrator.scheduling.progress import progress_of
    from orchestrator.store.engine import is_held
    from orchestrator.store.requests import Request, add, ask
    from orchestrator.store.table import Table

    show = ProgressLine()
    say(f"{ask(store, add(planned))}; another isoflop trains them, this one looks on (Ctrl-C leaves it alone)")
    if retry_failed:
        say(ask(store, Request("retry", (planned.sweep,))))
    try:
        with Table(store) as table:
            while True:
                held = is_held(store)  # before the look: what it wrote at its end is seen
                (row,) = [row for row in table.sweeps() if row["sweep"] == planned.sweep]
                progress = progress_of([row])
                progress.seconds_left, progress.message = row["seconds_left"], row["message"] or ""
                show(progress)
                if not row["queued"] and not row["running"]:
                    return True
                if not held:
                    return False
                time.sleep(LOOK)
    finally:
        show.end()


def _speed_of(table: Table, runs: Sequence[RunSpec], device: str) -> Speed | None:
    """The speed kept with the table, else this machine's, measured where there is much to do; None: not known."""
    from orchestrator.host.speed import TYPICAL, Speed, keep, known_speed, measure
    from orchestrator.scheduling.bundles import predicted_seconds
    from trainer.host.limits import cores

    if table.speed is not None:
        return Speed(**table.speed)
    speed = known_speed()
    if speed is None and predicted_seconds(runs, TYPICAL, cores()) > WORTH_MEASURING:
        say("measuring this machine, once (about ten seconds)")
        speed = measure(device)  # type: ignore[arg-type]
        keep(speed)
    if speed is not None:
        table.speed = asdict(speed)
    return speed
