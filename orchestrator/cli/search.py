"""The verb `search`: trains the trials of a sweep's search and prints the best of each cell."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import queue
from orchestrator.cli.options import (
    STORE,
    Address,
    AsJson,
    Checkpoints,
    Device,
    Every,
    Executor,
    Slots,
    Store,
    say,
    with_progress,
)

if TYPE_CHECKING:
    from orchestrator.searching.sweep_search import Best


def search(  # noqa: PLR0913 - an option each
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sweep file with a search.", show_default=False)],
    *,
    store: Store = STORE,
    executor: Executor = "ray",
    slots: Slots = None,
    device: Device = "auto",
    address: Address = None,
    checkpoints: Checkpoints = None,
    checkpoint_every: Every = 60.0,
    as_json: AsJson = False,
) -> None:
    """Search the hyper-parameters of each cell. The same command resumes; no trial is trained twice."""
    from orchestrator import session
    from orchestrator.store.engine import name_of
    from orchestrator.store.table import Table

    result, interrupted = with_progress(
        session.search,
        file,
        store,
        executor=executor,
        slots=slots,
        device=device,
        address=address,
        checkpoints=checkpoints,
        checkpoint_every=checkpoint_every,
    )
    sweep, best, rates = result.progress.sweep, result.best, result.learning_rates
    with Table(store) as table:
        counts = table.counts(sweep)
    if as_json:
        answer = {"sweep": sweep, "store": name_of(store), "runs": counts, "best": [asdict(one) for one in best]}
        print(json.dumps({**answer, "learning_rates": rates and rates.to_dict()}, indent=1))
    else:
        _print_best(best)
        if rates is not None:
            print(f"\n{rates.summary()}\n")
        states = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        print(f"{sweep}: {states}; results in {name_of(store)}")
    rows = [row for row in session.status(store) if row["sweep"] == sweep]
    failed = queue.say_failures(store, sweep)
    queue.say_what_blocks(rows)
    queue.exit_with(interrupted=interrupted, failed=failed or any(row["paused"] for row in rows))


def _print_best(best: list[Best]) -> None:
    from orchestrator import text

    rows = [
        {
            **{key: _shown(value) for key, value in one.cell.items()},
            "trials": str(one.trials),
            "pruned": str(one.states.get("pruned", 0)),
            "best": "" if one.trial is None else str(one.trial),
            **{key: _shown(value) for key, value in one.parameters.items()},
            one.metric: _shown(one.value),
            "error": _shown(one.error),
            "at the edge": ", ".join(one.edges),
        }
        for one in best
    ]
    print(text.table(rows))
    if any(one.edges for one in best):
        say("some best values are at the edge of their range; better ones may lie beyond: widen the range")


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
