"""How to train: the options of `run`, `work` and `search`, and the executor and the speed that they come to."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from orchestrator.text import count
from trainer.errors import UserError
from trainer.host.limits import has_accelerator
from trainer.host.urls import Remote, RemoteError, is_url, local
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from orchestrator.host.speed import Speed
    from orchestrator.store.table import Table
    from orchestrator.workers.executor import Executor
    from orchestrator.workers.processes import Child
    from orchestrator.workers.worker import Files
    from trainer.spec import RunSpec

    Say = Callable[[str], None]

WORTH_MEASURING = 60.0
"""Predicted seconds of training above which this machine's speed is measured first, which takes three."""


EXECUTORS = ("auto", "processes", "ray", "inline")


class OptionError(UserError, ValueError):
    """An invalid option: `option` is its name, `why` what is wrong and what would be right."""

    def __init__(self, option: str, why: str) -> None:
        super().__init__(option, why)
        self.option, self.why = option, why

    def __str__(self) -> str:
        return f"{self.option} {self.why}"


class Options(TypedDict, total=False):
    """Options of `run`, `work` and `search`; see Settings."""

    executor: str
    slots: int | None
    device: str
    checkpoint_every: float
    keep: bool
    smoke_test: bool
    address: str | None
    checkpoints: str | None
    log: Sequence[str]


@dataclass(frozen=True)
class Settings:
    """How to train: the options of `run`, `work` and `search`.

    Attributes:
        executor: "processes" (children of this one, on the cores or GPUs of this machine), "ray", "inline" (this
            process, one stack at a time), or "auto": "ray" on GPUs and on a cluster, else "processes".
        slots: workers (on a cluster: of each machine); default one per core, or as many per GPU as pay.
        device: "auto", "cpu", "cuda" or "mps".
        checkpoint_every: most seconds between two checkpoints of a run in training; in a folder, runs of less than
            ten times as long are saved after each tenth.
        keep: keep the final parameters of every run.
        smoke_test: before anything else, check that the smallest cell learns better than chance.
        address: "host:port" of a Ray cluster to train on, or "auto"; default this machine alone.
        checkpoints: a folder or URL for checkpoints, or "none"; default beside the table.
        log: tools to which runs are exported as they train, such as "tensorboard:DIR" (orchestrator.exporters).
    """

    executor: str = "auto"
    slots: int | None = None
    device: str = "auto"
    checkpoint_every: float = 20.0
    keep: bool = False
    smoke_test: bool = True
    address: str | None = None
    checkpoints: str | None = None
    log: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise OptionError("executor", f"{self.executor!r} is unknown; it is one of {', '.join(EXECUTORS)}")
        if self.device not in ("auto", "cpu", "cuda", "mps"):
            raise OptionError("device", f"{self.device!r} is unknown; it is one of auto, cpu, cuda, mps")
        if self.address is not None and self.executor in ("inline", "processes"):
            raise OptionError("address", f"needs the executor ray; {self.executor} trains on this machine")
        if self.log:
            from orchestrator.exporters.exporter import exporter_of

            for target in self.log:
                exporter_of(target)

    @property
    def trains_in(self) -> str:
        """The executor that is used: "processes", "ray" or "inline"."""
        if self.executor != "auto":
            return self.executor
        on_cores = self.device == "cpu" or (self.device == "auto" and not has_accelerator())
        return "processes" if on_cores and self.address is None else "ray"

    @contextlib.contextmanager
    def children(self) -> Iterator[list[Child]]:
        """Child processes that import torch while this one plans, where they are to train; killed at the end."""
        from orchestrator.workers.processes import kill, start_children

        children = start_children(*self._processes) if self.trains_in == "processes" else []
        try:
            yield children
        finally:
            kill(children)

    @property
    def _processes(self) -> tuple[int, list[str]]:
        """The number of child processes, and the GPUs that they share."""
        from orchestrator.host.slots import SLOTS_PER_GPU
        from orchestrator.host.timings import known_timings
        from trainer.host.limits import cores, visible_gpus

        gpus = visible_gpus() if self.device in ("auto", "cuda") else []
        if not gpus:
            return self.slots or cores(), []
        return self.slots or known_timings().slots or SLOTS_PER_GPU * len(gpus), gpus

    def exporting(
        self, store: str, sweeps: Sequence[str] | None, say: Say
    ) -> contextlib.AbstractContextManager[None]:
        """Export what trains of some sweeps (default: of all) while a block runs."""
        if not self.log:
            return contextlib.nullcontext()
        from orchestrator.exporters.export import exporting

        return exporting(self.log, store, sweeps, say)

    def files(self, table: Table) -> Files:
        """Where workers save checkpoints of a table's runs, and how often."""
        from orchestrator.workers.worker import Files

        return Files(checkpoints_at(self.checkpoints, table.store), self.checkpoint_every)


def checkpoints_at(place: str | None, store: str) -> Path | str | None:
    """Return where checkpoints are saved: at `place`, by default beside a SQLite store; None for "none".

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


def executor_of(
    settings: Settings,
    files: Files,
    runs: Sequence[RunSpec],
    speed: Speed,
    say: Say,
    children: Sequence[Child] = (),
) -> Executor:
    """Start the executor, with `children` that were started before where it trains in child processes.

    The number of slots that pay on a GPU is measured once for each kind of stack.
    """
    if settings.trains_in == "inline":
        from orchestrator.workers.inline import InlineExecutor

        return InlineExecutor(settings.device, files)  # type: ignore[arg-type]
    if settings.trains_in == "processes":
        from orchestrator.workers.processes import ProcessExecutor

        return ProcessExecutor(settings.slots, settings.device, files, children=children)  # type: ignore[arg-type]
    from orchestrator.host.slots import keep_slots, known_slots, main_stack
    from orchestrator.scheduling.stacks import group_into_stacks
    from orchestrator.workers.ray_executor import RayExecutor

    say(f"joining Ray at {settings.address}" if settings.address else "starting Ray")
    main = main_stack(group_into_stacks([run for run in runs if not run.parent], speed=speed), speed)
    per_gpu = known_slots(main) if main else None
    executor = RayExecutor(
        settings.slots,
        settings.device,  # type: ignore[arg-type]
        files=files,
        address=settings.address,
        data=sorted({path for run in runs for path in (run.path, run.start) if path}),
        probe=main,
        per_gpu=None if settings.slots else per_gpu,
    )
    if executor.gpus and settings.slots is None and per_gpu is None and main:
        say(f"{count(executor.per_gpu, 'worker')} per GPU, measured with a stack of this sweep")
        keep_slots(main, executor.per_gpu)
    return executor


def speed_of(table: Table, runs: Sequence[RunSpec], device: str, say: Say) -> Speed:
    """This machine's speed, else the one kept with the table, else a typical one.

    It is measured first where the present code was not and training takes long.
    """
    from orchestrator.host.machine_cache import code_version
    from orchestrator.host.speed import TYPICAL, Speed, keep, known_speed
    from orchestrator.scheduling.forecast import forecast
    from trainer.host.limits import cores

    if (speed := known_speed()) is None and table.speed is not None:
        speed = Speed(**table.speed)
    outdated = speed is None or speed.code != code_version()
    if outdated and forecast(runs, speed or TYPICAL, cores()).training > WORTH_MEASURING:
        from orchestrator.host.calibration import measure

        say("measuring the speed of this machine, once (about three seconds)")
        keep(measure(device))  # type: ignore[arg-type]
        speed = known_speed()
    if speed is not None:
        table.speed = speed.to_dict()
    return speed or TYPICAL
