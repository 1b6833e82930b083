"""The verbs that decide on a table's laws: `verdict`, `allocate`, `compare` and `suggest`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import (
    STORE,
    AsJson,
    Resamples,
    Stage,
    Store,
    Which,
    at_stage,
    findings_of,
    frame_of,
    say,
    stop,
)

if TYPE_CHECKING:
    import pandas as pd

    from orchestrator.reporting.figures import Findings


def verdict(
    which: Which = None,
    *,
    store: Store = STORE,
    stage: Stage = None,
    resamples: Resamples = 200,
    as_json: AsJson = False,
) -> None:
    """Say which claims a table supports, and what is against them.

    An exponent, a floor, an extrapolation.
    """
    from analysis import FitError

    try:
        findings = findings_of(store, which, stage, resamples, history=False)
        result = replace(findings, judged=resamples).verdict
    except (FitError, ValueError) as error:
        stop(f"no verdict: {error}")
    print(json.dumps(result.to_dict(), indent=1) if as_json else result.summary())


def allocate(
    which: Which = None,
    *,
    budget: Annotated[float, typer.Option(help="FLOPs to spend.")],
    store: Store = STORE,
    approach: Annotated[int, typer.Option(min=2, max=3, help="2: isoFLOP minima; 3: surface.")] = 3,
    stage: Stage = None,
    resamples: Resamples = 1000,
    as_json: AsJson = False,
) -> None:
    """Compute the best params and examples for a budget.

    And the models of the sweep's family that are nearest to them.
    """
    from analysis import FitError
    from analysis import allocate as allocate_budget
    from orchestrator.reporting.model_grid import model_grid

    findings = findings_of(store, which, stage, resamples, history=False)
    try:
        law = findings.isoflop if approach == 2 else findings.surface
        result = allocate_budget(law, budget, candidates=model_grid(findings.done))
    except (FitError, ValueError) as error:
        stop(f"no allocation: {error}")
    print(json.dumps(result.to_dict(), indent=1) if as_json else result.summary())


def compare(
    sweeps: Annotated[
        list[str] | None, typer.Argument(metavar="[SWEEP] [SWEEP]", help="Two sweeps, or one with both sides.")
    ] = None,
    *,
    store: Store = STORE,
    by: Annotated[str, typer.Option(help="The column that tells the two apart.")] = "family",
    pair: Annotated[str, typer.Option(help="Its two values, as a,b; needed if it has more than two.")] = "",
    at: Annotated[str, typer.Option(help="Errors to compare at, as 0.2,0.1; default: those that both reach.")] = "",
    stage: Stage = None,
    resamples: Resamples = 1000,
    as_json: AsJson = False,
) -> None:
    """Compare the FLOPs that two families or sweeps need.

    For equal error; and how their exponents differ. Recipes, or any other column, by --by.
    """
    import pandas as pd

    from analysis import FitError
    from analysis import compare as compare_two

    names: list[str | None] = [*sweeps] if sweeps else [None]
    if len(names) > 2:
        stop(f"{len(names)} sweeps; compare takes one or two")
    frame = pd.concat([at_stage(frame_of(store, name), stage) for name in names], ignore_index=True)
    by = "sweep" if len(names) == 2 else by
    done, levels = frame[frame["state"] == "done"], _numbers("--at", at)
    two = _pair(done, by, pair)
    try:
        result = compare_two(done, by, pair=two, at=levels or None, resamples=resamples)
    except (FitError, ValueError) as error:
        stop(f"no comparison: {error}")
    print(json.dumps(result.to_dict(), indent=1) if as_json else result.summary())


def suggest(
    which: Which = None,
    *,
    budget: Annotated[float, typer.Option(help="FLOPs that the next runs may spend.")],
    store: Store = STORE,
    target: Annotated[
        str, typer.Option(help="What to know better: exponent, error@C or optimum@C, at C FLOPs.")
    ] = "exponent",
    most: Annotated[int, typer.Option(min=1, help="The most runs to suggest.")] = 24,
    stage: Stage = None,
    as_json: AsJson = False,
) -> None:
    """Suggest the next runs worth their FLOPs.

    Those that narrow the interval of a target most, and missing learning rates.
    """
    from analysis import FitError
    from analysis import suggest as suggest_runs
    from orchestrator.reporting.model_grid import run_grid

    what, _, where = target.partition("@")
    if what not in ("exponent", "error", "optimum") or bool(where) != (what != "exponent"):
        stop(f"--target {target!r} is unknown; it is exponent, error@C or optimum@C, as error@1e15")
    at = _numbers("--target", where)
    findings = findings_of(store, which, stage, 1000, history=False)
    missing_rates = _missing_rates(findings)
    try:
        result = suggest_runs(
            findings.best,
            budget,
            what,  # type: ignore[arg-type]
            at=at[0] if at else None,
            candidates=run_grid(findings.best),
            most=most,
        )
    except (FitError, ValueError) as error:
        if not missing_rates:
            stop(f"no suggestion: {error}")
        say(f"no suggestion except learning rates: {error}")
        result = None
    if as_json:
        print(json.dumps({**(result.to_dict() if result else {}), "learning_rates": missing_rates}, indent=1))
        return
    if result:
        print(result.summary())
    for row in missing_rates:
        parts = (
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
        )
        print(f"  learning rate missing: {', '.join(parts)}")


def _missing_rates(findings: Findings) -> list[dict[str, Any]]:
    """Return the learning rates that are missing: of designs whose best one is at the edge of its grid."""
    try:
        missing = findings.learning_rates.missing
    except ValueError:
        return []
    return [{str(name): value for name, value in row.items()} for row in missing.to_dict("records")]


def _numbers(option: str, text: str) -> list[float]:
    """Numbers separated by commas."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        stop(f"{option} {text!r} must be numbers, as 0.2,0.1")


def _pair(done: pd.DataFrame, by: str, pair: str) -> tuple[Any, Any]:
    """The two values of a column that are compared, as the table holds them."""
    if by not in done:
        stop(f"--by {by!r}: no such column in the results table")
    values = {str(value): value for value in done[by].dropna().unique()}
    chosen = [part.strip() for part in pair.split(",")] if pair else sorted(values)
    if len(chosen) != 2 or not set(chosen) <= set(values):
        stop(f"--by {by}: it holds {', '.join(sorted(values)) or 'nothing'}; name two of them, as --pair a,b")
    return values[chosen[0]], values[chosen[1]]


VERBS = (verdict, allocate, compare, suggest)
