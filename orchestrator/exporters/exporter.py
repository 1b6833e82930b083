"""The contract of an exporter, and the registry of exporters by name."""

from __future__ import annotations

import difflib
import importlib.util
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from trainer.errors import UserError
from trainer.host import installation
from trainer.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ExporterError(UserError, ValueError):
    """A target that cannot be: an unknown tool, or one whose package is missing."""


@dataclass(frozen=True)
class ExportedRun:
    """A run as it is exported.

    Attributes:
        run_id: 32 hex digits.
        sweep: the sweep that is exported.
        name: what people read, `B-2/Wi-16 lr 0.001 seed 0 3f2a91bc`; unique by its end, the first digits of run_id.
        settings: what was planned, by column (docs/columns.md), without what is empty.
        started: Unix time in seconds at which its first attempt began.
    """

    run_id: str
    sweep: str
    name: str
    settings: Mapping[str, str | int | float]
    started: float


class ExportedRecord(NamedTuple):
    """The finite metrics of a run after a step, by column, at a Unix time in seconds."""

    step: int
    time: float
    metrics: Mapping[str, float]


class Exporter(ABC):
    """Writes runs to another tool, from one thread.

    A run is begun once, recorded at rising steps, and ended once. Whatever is raised ends the export with one line
    for the user, never the sweep. Exporting a run again replaces what an earlier export has written of it.

    Args:
        where: what follows the colon of `--log NAME:WHERE`; "" for the default.
    """

    package: ClassVar[str] = ""
    """The package that it imports and that an installation may lack."""

    @abstractmethod
    def __init__(self, where: str) -> None: ...

    @abstractmethod
    def begin(self, run: ExportedRun) -> None:
        """Take in a run whose first record follows."""

    @abstractmethod
    def record(self, run_id: str, records: Sequence[ExportedRecord]) -> None:
        """Write further records of a run, so that they can be seen."""

    @abstractmethod
    def end(self, run_id: str, state: str, results: Mapping[str, float]) -> None:
        """Write the final metrics of a run, by column; `state` is queued where it was interrupted."""

    @abstractmethod
    def close(self) -> None:
        """Write everything that is kept back. Nothing is called afterwards."""


def _check(name: str, entry: Any) -> None:
    if not (isinstance(entry, type) and issubclass(entry, Exporter)):
        raise TypeError(f"exporter {name!r} must be a subclass of orchestrator.exporters.exporter.Exporter")


EXPORTERS: Registry[type[Exporter]] = Registry(
    "exporter",
    "isoflop.exporters",
    _check,
    {
        "tensorboard": "orchestrator.exporters.tensorboard:TensorBoard",
        "mlflow": "orchestrator.exporters.mlflow:MLflow",
        "wandb": "orchestrator.exporters.wandb:WeightsAndBiases",
    },
)
"""Exporters by the name that `--log` and `export --to` take."""


def exporter_of(target: str) -> tuple[type[Exporter], str]:
    """Return the exporter that `NAME[:WHERE]` or `module:attribute[:WHERE]` names, and WHERE.

    Raises ExporterError for an unknown name, or where the package that it needs is missing.
    """
    head, _, where = target.partition(":")
    names, name = EXPORTERS.names(), head
    if where and head not in names:
        attribute, _, where = where.partition(":")
        name = f"{head}:{attribute}"
    try:
        exporter = EXPORTERS.get(name)
    except (LookupError, TypeError) as error:
        near = (
            difflib.get_close_matches(head, names, n=1) if isinstance(error, LookupError) and name != head else []
        )
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise ExporterError(f"{error.args[0]}{guess}") from error
    if exporter.package and importlib.util.find_spec(exporter.package) is None:
        ours = exporter.__module__.startswith(__package__ or "")
        remedy = installation.install_extra(name) if ours else installation.install(exporter.package)
        raise ExporterError(f"{name} needs {exporter.package}, which is missing; run: {remedy}")
    return exporter, where
