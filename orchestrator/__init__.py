"""Many runs: declare a sweep, plan it, train it, read its results.

    >>> import orchestrator
    >>> orchestrator.run("sweeps/quickstart.yaml")         # calling it again resumes
    >>> frame = orchestrator.results("isoflop.db")         # a DataFrame, one row per run

Each name is imported when it is first used, so that `isoflop --help` answers at once. Read `session.py` first: it
holds the functions that the command's verbs call.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.answers import findings, report
    from orchestrator.changes import add, cancel, pause, prioritise, resume, retry
    from orchestrator.scheduling.progress import Progress
    from orchestrator.session import (
        Interrupted,
        SearchResult,
        diff,
        follow,
        progress,
        run,
        search,
        show,
        status,
        work,
    )
    from orchestrator.settings import OptionError
    from orchestrator.store.engine import TableBusyError, TableError
    from orchestrator.store.table import Table, history, results
    from orchestrator.sweep.planner import Plan, plan
    from orchestrator.sweep.reader import load_sweep, read_sweep
    from orchestrator.sweep.sweep import Sweep, SweepError
    from trainer.errors import UserError

__all__ = [
    "Interrupted",
    "OptionError",
    "Plan",
    "Progress",
    "SearchResult",
    "Sweep",
    "SweepError",
    "Table",
    "TableBusyError",
    "TableError",
    "UserError",
    "add",
    "cancel",
    "diff",
    "findings",
    "follow",
    "history",
    "load_sweep",
    "pause",
    "plan",
    "prioritise",
    "progress",
    "read_sweep",
    "report",
    "results",
    "resume",
    "retry",
    "run",
    "search",
    "show",
    "status",
    "work",
]

_MODULES = {
    "orchestrator.answers": ("findings", "report"),
    "orchestrator.changes": ("add", "cancel", "pause", "prioritise", "resume", "retry"),
    "orchestrator.session": (
        "Interrupted",
        "SearchResult",
        "diff",
        "follow",
        "progress",
        "run",
        "search",
        "show",
        "status",
        "work",
    ),
    "orchestrator.settings": ("OptionError",),
    "orchestrator.scheduling.progress": ("Progress",),
    "orchestrator.store.engine": ("TableBusyError", "TableError"),
    "orchestrator.store.table": ("Table", "history", "results"),
    "orchestrator.sweep.planner": ("Plan", "plan"),
    "orchestrator.sweep.reader": ("load_sweep", "read_sweep"),
    "orchestrator.sweep.sweep": ("Sweep", "SweepError"),
    "trainer.errors": ("UserError",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
