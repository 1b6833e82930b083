"""The verb `search`: the trials of a sweep's search trained, the best of every cell reported."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.options import STORE, AsJson, Store, say, stop

if TYPE_CHECKING:
    from analysis import LearningRates
    from orchestrator.planner import Plan
    from orchestrator.scheduler import Scheduler
    from orchestrator.search import Best
    from orchestrator.sweep import Sweep
    from orchestrator.table import Table
    from orchestrator.worker import Files


def search(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a sweep file with a search", show_default=False)],
    *,
    store: Store = STORE,
    executor: Annotated[str, typer.Option(help="ray, or inline: in this process")] = "ray",
    slots: Annotated[int | None, typer.Option(min=1, help="workers; default one a core, four a GPU")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "auto",
    checkpoint_every: Annotated[
        float, typer.Option(min=0, help="seconds between two checkpoints of a run in training")
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Search the hyper-parameters of every cell. The same command resumes; no trial is trained twice."""
    from orchestrator.database import checkpoints_of
    from orchestrator.planner import plan
    from orchestrator.reader import load_sweep
    from orchestrator.search import best_of, learning_rates
    from orchestrator.table import Table
    from orchestrator.worker import Files

    if executor not in ("ray", "inline"):
        stop(f"--executor {executor!r} is unknown; it is ray or inline")
    if device not in ("auto", "cpu", "cuda", "mps"):
        stop(f"--device {device!r} is unknown; it is one of auto, cpu, cuda, mps")
    sweep = load_sweep(file)
    if sweep.search is None:
        stop(f"{file} declares no search, like lr: {{search: {{values: [1e-3, 1e-2]}}}}; `isoflop run` runs it")
    planned = plan(sweep)
    for note in planned.notes:
        say(note)
    with Table(store, writable=True) as table:
        going = _searched(
            table, sweep, planned, Files(checkpoints_of(store), checkpoint_every), executor, slots, device
        )
        counts, failures = table.counts(planned.sweep), table.failures(planned.sweep)
        best, rates = best_of(table, sweep), learning_rates(table, sweep)
    if as_json:
        said = {"sweep": planned.sweep, "store": store, "runs": counts, "best": [asdict(one) for one in best]}
        print(json.dumps({**said, "learning_rates": rates and rates.to_dict()}, indent=1))
    else:
        _show(best, rates, f"{planned.sweep}: {_counted(counts)}; results in {store}")
    for failure in failures[:5]:
        say(f"failed: {failure['model']} seed {failure['seed']} ({failure['run_id'][:8]}): {failure['reason']}")
    if going is not None and going.interrupted:
        say("interrupted; the same command goes on")
        raise typer.Exit(130)
    if failures:
        raise typer.Exit(1)


def _searched(
    table: Table, sweep: Sweep, planned: Plan, files: Files, executor: str, slots: int | None, device: str
) -> Scheduler | None:
    """Train what is missing of a search; None: nothing is."""
    from orchestrator.device import Speed, known_speed
    from orchestrator.scheduler import Scheduler
    from orchestrator.search import SweepSearch
    from orchestrator.terminal import ProgressLine
    from orchestrator.trials import declare

    declare(table, planned)
    lost, made = table.recover(), SweepSearch(table, sweep)
    again = f", {lost} runs taken back from a search that was cut off" if lost else ""
    say(f"{planned.sweep}: {made.known} of at most {made.wanted} trials known{again}")
    if not made.more() and not table.queued(planned.sweep):
        return None
    speed = known_speed() if table.speed is None else Speed(**table.speed)
    show = ProgressLine()
    from orchestrator.workplace import executor_of

    place = executor_of(executor, slots, device, None, files, planned.runs, table)
    try:
        going = Scheduler(table, place, [planned.sweep], show, files=files, speed=speed, search=made)
        going.drain()
    except KeyboardInterrupt:
        say("interrupted; the same command goes on")
        raise
    finally:
        show.end()
        place.close()
    return going


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))


def _show(best: list[Best], rates: LearningRates | None, end: str) -> None:
    from orchestrator import terminal

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
