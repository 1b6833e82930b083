"""The verb `search`: trains the trials of a sweep's search and prints the best of each cell."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import queue
from orchestrator.cli.options import (
    STORE,
    Address,
    AsJson,
    Cells,
    Checkpoints,
    Device,
    Every,
    Executor,
    Log,
    Slots,
    Store,
    say,
    with_progress,
)


def search(  # noqa: PLR0913 - an option each
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sweep file with a search.", show_default=False)],
    *,
    store: Store = STORE,
    executor: Executor = "auto",
    slots: Slots = None,
    device: Device = "auto",
    address: Address = None,
    checkpoints: Checkpoints = None,
    checkpoint_every: Every = 20.0,
    cells: Cells = None,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Search the hyper-parameters of each cell of a sweep.

    The same command resumes; no trial is trained twice.
    """
    from orchestrator import session, text
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
        cells=cells,
        log=log or (),
    )
    sweep, best, rates = result.progress.sweep, result.best, result.learning_rates
    with Table(store) as table:
        counts = table.counts(sweep)
    if as_json:
        answer = {"sweep": sweep, "store": name_of(store), "runs": counts, "best": [asdict(one) for one in best]}
        print(json.dumps({**answer, "learning_rates": rates and rates.to_dict()}, indent=1))
    else:
        print(text.table(result.rows()))
        if any(one.edges for one in best):
            say("some best values are at the edge of their range; better ones may lie beyond: widen the range")
        if rates is not None:
            print(f"\n{rates.summary()}\n")
        states = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        print(f"{sweep}: {states}; results in {name_of(store)}")
    rows = [row for row in session.status(store) if row["sweep"] == sweep]
    failed = queue.say_failures(store, sweep)
    queue.say_what_blocks(rows)
    queue.exit_with(interrupted=interrupted, failed=failed or any(row["paused"] for row in rows))
