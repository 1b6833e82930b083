"""Changes of the queue, also while another process trains it. Each returns a line that says what was done.

The process that trains the table carries them out, or this one where there is none. `what` is a sweep's name or
file, a run_id or the beginning of one, or several of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.answers import sweep_name
from orchestrator.session import STORE, plan_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.sweep.planner import Plan
    from orchestrator.sweep.sweep import Sweep

    What = str | Path | Sequence[str | Path]


def add(plan: Plan | Sweep | str | Path, store: str | Path = STORE) -> str:
    """Enqueue the missing runs of a plan, a sweep or a sweep file. UserError if it is invalid or a search."""
    from orchestrator.store import requests

    return requests.ask(str(store), requests.add(plan_of(plan)))


def cancel(what: What, store: str | Path = STORE) -> str:
    """Cancel queued, blocked and running runs; a running one stops at its next record. TableError if unknown."""
    return _changed("cancel", what, store)


def retry(what: What, store: str | Path = STORE) -> str:
    """Queue failed, cancelled and blocked runs again. TableError if one is unknown."""
    return _changed("retry", what, store)


def prioritise(what: What, store: str | Path = STORE, *, priority: int = 1) -> str:
    """Set the priority of runs, by default 0; a higher one trains first. TableError if one is unknown."""
    return _changed("prioritise", what, store, priority)


def pause(sweeps: What = (), store: str | Path = STORE) -> str:
    """Pause sweeps (default: all): no further run starts. TableError if one is unknown."""
    return _changed("pause", sweeps, store)


def resume(sweeps: What = (), store: str | Path = STORE) -> str:
    """Resume paused sweeps (default: all). TableError if one is unknown."""
    return _changed("resume", sweeps, store)


def _changed(verb: str, what: What, store: str | Path, priority: int = 0) -> str:
    from orchestrator.store.requests import Request, ask

    named = [what] if isinstance(what, str | Path) else what
    return ask(str(store), Request(verb, tuple(sweep_name(str(one)) or "" for one in named), priority))
