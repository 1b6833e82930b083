"""The verb `search`: the trials of a sweep's search trained, the best of every cell reported."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import queue as queue_cli
from orchestrator.cli.options import STORE, AsJson, Store, say, stop

if TYPE_CHECKING:
    from analysis import LearningRates
    from orchestrator.searching.sweep_search import Best
    from orchestrator.session import Settings
    from orchestrator.store.table import Table
    from orchestrator.sweep.sweep import Sweep


def search(  # noqa: PLR0913 - an option each
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a sweep file with a search", show_default=False)],
    *,
    store: Store = STORE,
    executor: queue_cli.Executor = "ray",
    slots: queue_cli.Slots = None,
    device: queue_cli.Device = "auto",
    address: queue_cli.Address = None,
    checkpoints: queue_cli.Checkpoints = None,
    checkpoint_every: queue_cli.Every = 60.0,
    as_json: AsJson = False,
) -> None:
    """Search the hyper-parameters of every cell. The same command resumes; no trial is trained twice."""
    from orchestrator.searching.sweep_search import best_of, learning_rates
    from orchestrator.session import Settings, tune
    from orchestrator.store.engine import name_of
    from orchestrator.store.table import Table
    from orchestrator.sweep.planner import plan
    from orchestrator.sweep.reader import load_sweep

    said = {"canary": False, "address": address, "checkpoints": checkpoints}  # a search begins with a small batch
    settings = Settings(executor, slots, device, checkpoint_every, **said)  # type: ignore[arg-type]
    settings.check()
    sweep = load_sweep(file)
    if sweep.search is None:
        stop(f"{file} declares no search, like lr: {{search: {{values: [1e-3, 1e-2]}}}}; `isoflop run` runs it")
    planned = plan(sweep)
    for note in planned.notes:
        say(note)
    with Table(store, writable=True) as table:
        table.trials.declare(planned)
        if lost := table.queue.recover():
            say(f"{lost} runs taken back from a search that was cut off")
        table.queue.tell(planned.sweep, paused=None, message=None)
        over = tune(table, sweep, settings, say) if sweep.search.scheduler else _searched(table, sweep, settings)
        rows = [row for row in table.sweeps() if row["sweep"] == planned.sweep]
        counts, failures = table.counts(planned.sweep), table.failures(planned.sweep)
        best, rates = best_of(table, sweep), learning_rates(table, sweep)
    if as_json:
        found = {
            "sweep": planned.sweep,
            "store": name_of(store),
            "runs": counts,
            "best": [asdict(one) for one in best],
        }
        print(json.dumps({**found, "learning_rates": rates and rates.to_dict()}, indent=1))
    else:
        _show(best, rates, f"{planned.sweep}: {_counted(counts)}; results in {name_of(store)}")
    queue_cli.leave(rows, failures, interrupted=not over)


def _searched(table: Table, sweep: Sweep, settings: Settings) -> bool:
    """Train what is missing of a search by Optuna; whether it came to its end."""
    from orchestrator.cli.terminal import shown_progress
    from orchestrator.searching.sweep_search import SweepSearch
    from orchestrator.session import train

    made = SweepSearch(table, sweep)
    say(f"{sweep.sweep}: {made.known} of at most {made.wanted} trials known")
    made.more()
    with shown_progress() as show:
        scheduler = train(table, [sweep.sweep], settings, show, say, search=made)
    return scheduler is None or not scheduler.interrupted


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))


def _show(best: list[Best], rates: LearningRates | None, end: str) -> None:
    from orchestrator.cli import terminal

    rows = [
        {
            **{key: _said(value) for key, value in one.cell.items()},
            "trials": str(one.trials),
            "pruned": str(one.states.get("pruned", 0)),
            "best": "" if one.trial is None else str(one.trial),
            **{key: _said(value) for key, value in one.parameters.items()},
            one.metric: _said(one.value),
            "error": _said(one.error),
            "at the edge": ", ".join(one.edges),
        }
        for one in best
    ]
    print(terminal.table(rows))
    if any(one.edges for one in best):
        say("where the best stands at the edge of what was searched, better values may lie beyond: widen it")
    if rates is not None:
        print(f"\n{rates.summary()}\n")
    print(end)


def _said(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
