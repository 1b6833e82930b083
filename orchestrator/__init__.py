"""Many runs: declare a sweep, plan it, train it, read its results.

    >>> import orchestrator
    >>> frame = orchestrator.results("isoflop.db")      # one row a run

Each name is imported when it is first asked for, so that `isoflop --help` answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.store.engine import TableError
    from orchestrator.store.table import Table, history, results
    from orchestrator.sweep.planner import Plan, plan
    from orchestrator.sweep.reader import load_sweep, read_sweep
    from orchestrator.sweep.sweep import Sweep, SweepError

__all__ = [
    "Plan",
    "Sweep",
    "SweepError",
    "Table",
    "TableError",
    "history",
    "load_sweep",
    "plan",
    "read_sweep",
    "results",
]

_HOME = {
    **dict.fromkeys(("Plan", "plan"), "sweep.planner"),
    **dict.fromkeys(("load_sweep", "read_sweep"), "sweep.reader"),
    **dict.fromkeys(("Sweep", "SweepError"), "sweep.sweep"),
    "TableError": "store.engine",
    **dict.fromkeys(("Table", "history", "results"), "store.table"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
    return getattr(importlib.import_module(f"orchestrator.{_HOME[name]}"), name)
