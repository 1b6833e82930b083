"""The verbs that decide on a table's laws: `verdict`, `allocate`, `compare` and `suggest`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from orchestrator.cli.groups import answer, ask
from orchestrator.cli.options import (
    STORE,
    AsJson,
    By,
    Pool,
    Resamples,
    Stage,
    Store,
    Where,
    WhichTable,
    X,
    Y,
    say,
    stop,
)
from orchestrator.text import number
from trainer.host import installation

if TYPE_CHECKING:
    import pandas as pd

    from analysis import Suggestion
    from orchestrator.reporting.figures import Findings
    from trainer.spec import RunSpec


def verdict(  # noqa: PLR0913 - an option each
    which: WhichTable = None,
    *,
    store: Store = STORE,
    stage: Stage = None,
    where: Where = "",
    by: By = "",
    pool: Pool = False,
    x: X = None,
    y: Y = "",
    resamples: Resamples = 1000,
    as_json: AsJson = False,
) -> None:
    """Say which claims a table supports, and what is against them.

    An exponent, a floor, an extrapolation.
    """
    asked = ask(store, which, stage, where, by, pool, y, x)
    groups = asked.groups(asked.findings(resamples))
    answer(groups, "no verdict", lambda found: found.verdict, as_json=as_json)


def allocate(  # noqa: PLR0913 - an option each
    which: WhichTable = None,
    *,
    budget: Annotated[float, typer.Option(help="FLOPs to spend.")],
    store: Store = STORE,
    approach: Annotated[int, typer.Option(min=2, max=3, help="2: isoFLOP minima; 3: surface.")] = 3,
    stage: Stage = None,
    where: Where = "",
    by: By = "",
    pool: Pool = False,
    x: X = None,
    y: Y = "",
    resamples: Resamples = 1000,
    as_json: AsJson = False,
) -> None:
    """Compute the best params and examples for a budget.

    And the models of the sweep's family that are nearest to them.
    """
    from analysis import allocate as allocate_budget
    from orchestrator.reporting.model_grid import knows_models, model_grid

    asked = ask(store, which, stage, where, by, pool, y, x)

    def of(found: Findings) -> Any:
        law = found.isoflop if approach == 2 else found.surface
        models = model_grid(found.done) if knows_models(found.done) else None
        return allocate_budget(law, budget, candidates=models)

    answer(asked.groups(asked.findings(resamples)), "no allocation", of, as_json=as_json)


def compare(  # noqa: PLR0913 - an option each
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SWEEP|TABLE] [SWEEP|TABLE]", help="Two sweeps or tables, or one with both sides."),
    ] = None,
    *,
    store: Store = STORE,
    by: Annotated[str, typer.Option(help="The column that tells the two apart.")] = "family",
    pair: Annotated[str, typer.Option(help="Its two values, as a,b; needed if it has more than two.")] = "",
    at: Annotated[str, typer.Option(help="Errors to compare at, as 0.2,0.1; default: those that both reach.")] = "",
    stage: Stage = None,
    where: Where = "",
    x: X = None,
    y: Y = "",
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
        stop(f"{len(names)} given; compare takes one or two")
    tables = [ask(store, name, stage, where, y=y, x=x).rows for name in names]
    if len({(table.y, table.inputs[-1]) for table in tables}) > 1:
        stop("the two were measured differently: name --x and --y, columns of both")
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    by = "sweep" if len(names) == 2 else tables[0].names.get(by, by)
    done, levels = frame[frame["state"] == "done"], _numbers("--at", at)
    two = _pair(done, by, pair)
    at_cost = "flops" if "flops" in tables[0].inputs else tables[0].inputs[0]
    try:
        result = compare_two(done, by, at_cost, tables[0].y, pair=two, at=levels or None, resamples=resamples)
    except (FitError, ValueError) as error:
        stop(f"no comparison: {error}")
    print(json.dumps(result.to_dict(), indent=1) if as_json else result.summary())


def suggest(  # noqa: PLR0913 - an option each
    which: WhichTable = None,
    *,
    budget: Annotated[float, typer.Option(help="FLOPs that the next runs may spend.")],
    store: Store = STORE,
    target: Annotated[
        str, typer.Option(help="What to know better: exponent, error@C or optimum@C, at C FLOPs.")
    ] = "exponent",
    most: Annotated[int, typer.Option(min=1, help="The most runs to suggest.")] = 24,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the runs as a sweep file.", show_default=False)
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option("--like", metavar="FILE", help="A sweep file whose recipe the runs have.", show_default=False),
    ] = None,
    stage: Stage = None,
    where: Where = "",
    by: By = "",
    pool: Pool = False,
    x: X = None,
    y: Y = "",
    as_json: AsJson = False,
) -> None:
    """Suggest the next runs worth their FLOPs.

    Those that narrow the interval of a target most, and missing learning rates. Widths are multiples of 8, 16 or
    32, runs have at least ten whole batches. With --out they are a sweep file, with its price.
    """
    what, _, compute = target.partition("@")
    if what not in ("exponent", "error", "optimum") or bool(compute) != (what != "exponent"):
        stop(f"--target {target!r} is unknown; it is exponent, error@C or optimum@C, as error@1e15")
    at = _numbers("--target", compute)
    if len(at) > 1:
        stop(f"--target {target!r} has {len(at)} values of C; give one, as error@1e15")
    if out is not None and (out.suffix not in (".yaml", ".yml") or out.exists()):
        stop(f"{out} exists already; choose another name" if out.exists() else f"{out}: name it .yaml")
    asked = ask(store, which, stage, where, by, pool, y, x)
    groups = asked.groups(asked.findings(1000))
    if out is not None and len(groups) > 1:
        labels = "; ".join(group.label for group in groups)
        stop(f"{len(groups)} groups, a sweep file is of one; choose with --where: {labels}")
    target_of = _Target(budget, what, at[0] if at else None, most)
    answers = list[_NextRuns]()

    def of(found: Findings) -> _NextRuns:
        answers.append(_next_runs(found, target_of, like))
        return answers[-1]

    answer(groups, "no suggestion", of, as_json=as_json)
    if out is not None:
        _write(out, answers[0], like)


class _Target(NamedTuple):
    """What `suggest` is asked: FLOPs to spend, what to know better, at which FLOPs, and the most runs."""

    budget: float
    what: str
    at: float | None
    most: int


@dataclass(frozen=True)
class _NextRuns:
    """What `isoflop suggest` answers: runs, or why there are none, and the missing learning rates.

    `specs` are the runs in the order of `runs`, `seed` is one that no run so far has.
    """

    runs: Suggestion | None
    why_not: str
    rates: list[dict[str, Any]]
    specs: list[RunSpec]
    seed: int

    def summary(self) -> str:
        lines = [self.runs.summary() if self.runs else f"no suggestion except learning rates: {self.why_not}"]
        for row in self.rates:
            parts = (
                f"{name} {number(value)}" if isinstance(value, float) else f"{name} {value}"
                for name, value in row.items()
            )
            lines.append(f"  learning rate missing: {', '.join(parts)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {**(self.runs.to_dict() if self.runs else {"why_not": self.why_not}), "learning_rates": self.rates}


def _next_runs(findings: Findings, asked: _Target, like: Path | None) -> _NextRuns:
    """The next runs; FitError if neither runs nor learning rates can be named."""
    from analysis import FitError
    from analysis import suggest as suggest_runs
    from analysis.checks.parts import attempt
    from orchestrator.reporting import next_runs
    from orchestrator.reporting.model_grid import knows_models
    from trainer.spec import model_name

    rates = _missing_rates(findings)
    best = findings.best
    own = like is None and knows_models(best) and "fingerprint" in best
    runs = _runs_like(like) if like else next_runs.runs_of(best) if own else []
    offered = next_runs.candidates(runs, best["params"].tolist(), best["examples"].tolist()) if runs else []
    table = next_runs.table_of(offered) if offered else None
    result, why_not = attempt(
        lambda: suggest_runs(
            best,
            asked.budget,
            asked.what,  # type: ignore[arg-type]
            at=asked.at,
            y=findings.y,
            candidates=table,
            most=asked.most,
            repeats=1,  # a cell of a sweep file, and its neighbours are as good as its repeats
            pool=findings.pool,
            fitted=findings.surface,
        )
    )
    if result is None and not rates:
        raise FitError(why_not)
    by_name = {(model_name(run), run.examples): run for run in offered}
    chosen = [] if result is None or not offered else result.runs.to_dict("records")
    specs = [by_name[row["model"], row["examples"]] for row in chosen]
    seed = int(findings.done["seed"].max()) + 1 if "seed" in findings.done else 0
    return _NextRuns(result, why_not, rates, specs, seed)


def _runs_like(file: Path) -> list[RunSpec]:
    """The runs of the first stage of a sweep file."""
    from orchestrator.sweep.planner import plan
    from orchestrator.sweep.reader import load_sweep
    from orchestrator.sweep.sweep import FIRST_STAGE

    return [run for run in plan(load_sweep(file), decode=False).runs if run.stage == FIRST_STAGE]


def _write(out: Path, found: _NextRuns, like: Path | None) -> None:
    """Write the suggested runs as a sweep file; stops if there are none."""
    from orchestrator.reporting import next_runs

    if not found.specs or found.runs is None:
        why = found.why_not or "the table does not say how its models are built; name a sweep file: --like FILE"
        stop(f"{out} is not written: {why}")
    low, high = found.runs.expected
    comments = [
        f"{found.runs.target}: {found.runs.now} now, [{low:.3g}, {high:.3g}] expected after these runs",
        *([f"recipe of {like}"] if like else []),
        *(f"learning rate missing: {row}" for row in found.rates),
    ]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", out.stem).strip("-._") or "next"
    body = next_runs.sweep_file(name, found.specs, [found.seed], comments)
    whole, price = next_runs.priced(str(out), body)
    out.write_text(whole, encoding="utf-8")
    shows, trains = (installation.command(f"{verb} {out}") for verb in ("plan", "run"))
    say(f"wrote {out}: {price}; `{shows}` shows its time, `{trains}` trains it")


def _missing_rates(findings: Findings) -> list[dict[str, Any]]:
    """Return the learning rates that are missing: of designs whose best one is at the edge of its grid."""
    from analysis.fits.summary import as_json

    try:
        missing = findings.learning_rates.missing
    except ValueError:
        return []
    rows: list[dict[str, Any]] = as_json(missing)
    return rows


def _numbers(option: str, text: str) -> list[float]:
    """Numbers separated by commas."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        stop(f"{option} {text!r} must be numbers, as 0.2,0.1")


def _pair(done: pd.DataFrame, by: str, pair: str) -> tuple[Any, Any]:
    """The two values of a column that are compared, as the table holds them, lists as text."""
    from analysis.table.groups import plain

    if by not in done:
        stop(f"--by {by!r}: no such column in the results table")
    values = {str(value): value for value in plain(done[by]).dropna().unique().tolist()}
    chosen = [part.strip() for part in pair.split(",")] if pair else sorted(values)
    if len(chosen) != 2 or not set(chosen) <= set(values):
        stop(f"--by {by}: it holds {', '.join(sorted(values)) or 'nothing'}; name two of them, as --pair a,b")
    return values[chosen[0]], values[chosen[1]]


VERBS = (verdict, allocate, compare, suggest)
