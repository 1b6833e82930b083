"""The verbs that read a table: `fit`, `plot` and `report`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.constraints import Bounds, Fix, Tie, check, constraints
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
from trainer.host import installation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.reporting.figures import Findings

FORMATS = ("png", "svg", "pdf")


def fit(  # noqa: PLR0913 - an option each
    which: WhichTable = None,
    *,
    store: Store = STORE,
    approach: Annotated[
        int, typer.Option(min=1, max=3, help="1: frontier; 2: isoFLOP minima; 3: surface in params and examples.")
    ] = 1,
    surface: Annotated[bool, typer.Option("--surface", help="The same as --approach 3.")] = False,
    shift: Annotated[bool, typer.Option("--shift", help="Fit a shift of x as well (approach 1).")] = False,
    law: Annotated[
        str, typer.Option(help="Name of another law, or module:name (approaches 1 and 3).", show_default=False)
    ] = "",
    stage: Stage = None,
    where: Where = "",
    by: By = "",
    pool: Pool = False,
    x: X = None,
    y: Y = "",
    fix: Fix = None,
    tie: Tie = None,
    bounds: Bounds = None,
    resamples: Resamples = 1000,
    table: Annotated[str, typer.Option(help="Print a table instead: markdown or latex.")] = "",
    as_json: AsJson = False,
) -> None:
    """Fit power laws of the error, with intervals.

    Of error against params, examples and FLOPs, each with its diagnostics.
    """
    if table not in ("", "markdown", "latex"):
        stop(f"--table {table!r} is unknown; it is markdown or latex")
    approach = 3 if surface else approach
    if law:
        _check_law(law, approach, shift=shift)
    known = constraints(fix, tie, bounds)
    if known and approach == 2:
        stop("--fix, --tie and --bounds cannot be combined with --approach 2, which fits no law")
    asked = ask(store, which, stage, where, by, pool, y, x)
    groups = asked.groups(replace(asked.findings(resamples), form=law, shift=shift, constraints=known))
    if known:
        check(known, groups, approach)
    if table:
        _print_table(groups, approach, table)
        return
    lacking = "no law" if approach == 1 else f"approach {approach}"
    answer(groups, lacking, lambda found: _fitted(found, approach), as_json=as_json)


def _fitted(findings: Findings, approach: int) -> Any:
    """The answer of an approach; FitError or ValueError if there is none."""
    if approach == 1:
        return findings.answer
    return findings.isoflop if approach == 2 else findings.surface


def _check_law(law: str, approach: int, *, shift: bool) -> None:
    """Stop if the law cannot be fitted by this approach."""
    from analysis.laws import LAWS

    if approach == 2 or shift:
        stop("--law cannot be combined with --approach 2 or --shift; a law with a shift is power-floor-shift")
    try:
        inputs = LAWS.get(law).inputs
    except (LookupError, TypeError) as error:
        stop(f"--law: {error}")
    if (len(inputs) > 1) != (approach == 3):
        stop(
            f"--law {law!r} has the inputs {', '.join(inputs)}; fit it with --approach {3 if approach == 1 else 1}"
        )


def _print_table(groups: Sequence[Findings], approach: int, kind: str) -> None:
    """Print the fits of all groups as one table; stop if there is none."""
    from analysis.checks.parts import attempt
    from analysis.report.tables import fits_table, to_latex, to_markdown

    fits: dict[str, Any] = {}
    for found in groups:
        result, why_not = attempt(lambda found=found: _fitted(found, approach))  # type: ignore[misc]
        of = f"{found.label}: " if found.label else ""
        if result is None:
            say(f"{of}{why_not}")
        elif approach == 1:
            fits |= {f"{of}{law.name}": law.fit for law in result.laws if law.fit}
        else:
            fits[f"{of}{'isoFLOP minima' if approach == 2 else 'surface'}"] = result
    if not fits:
        raise typer.Exit(2)
    print((to_latex if kind == "latex" else to_markdown)(fits_table(fits)), end="")


def plot(  # noqa: PLR0913 - an option each
    which: WhichTable = None,
    *,
    store: Store = STORE,
    figure: Annotated[str, typer.Option(help="a name or module:name, or several with commas; default: all")] = "",
    fmt: Annotated[str, typer.Option("--format", help="png, svg or pdf; several by commas.")] = "png,svg",
    out: Annotated[Path, typer.Option(help="A folder for the figures.")] = Path("figures"),
    stage: Stage = None,
    where: Where = "",
    by: By = "",
    pool: Pool = False,
    x: X = None,
    y: Y = "",
    resamples: Resamples = 1000,
) -> None:
    """Draw the figures of a sweep.

    One paper column wide: its runs, its laws with their bands, optima, residuals.
    """
    from analysis import save
    from analysis.figures.registry import FIGURES
    from orchestrator.reporting.figures import group_figures

    names = [name.strip() for name in figure.split(",") if name.strip()]
    formats = [name.strip() for name in fmt.split(",") if name.strip()]
    try:
        for name in names:
            FIGURES.get(name)
    except (LookupError, TypeError) as error:
        stop(f"--figure: {error}")
    for name in formats:
        if name not in FORMATS:
            stop(f"--format {name!r} is unknown; it is one of {', '.join(FORMATS)}")
    asked = ask(store, which, stage, where, by, pool, y, x)
    findings = asked.findings(resamples, history=True)
    drawn, why_not = group_figures(findings, asked.groups(findings), names)
    for figure_of, why in why_not.items():
        if names or figure_of.name.removeprefix("error-vs-") in findings.axes:
            say(f"no figure {figure_of}: {why}")
    stem = "-".join(sorted(set(findings.frame["sweep"].dropna())))
    for figure_of, chart in drawn.items():
        for path in save(chart, out / f"{stem}-{figure_of.file}", formats):
            print(path)
    if why_not and (names or not drawn):
        raise typer.Exit(2)


def report(  # noqa: PLR0913 - an option each
    which: WhichTable = None,
    *,
    store: Store = STORE,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
    stage: Stage = None,
    where: Where = "",
    by: By = "",
    pool: Pool = False,
    x: X = None,
    y: Y = "",
    resamples: Resamples = 1000,
) -> None:
    """Write one HTML page about a sweep.

    It is self-contained: the question, the answer, interactive figures, runs, cost, provenance.
    """
    from analysis.report.document import ReportError
    from orchestrator import answers

    asked = ask(store, which, stage, where, by, pool, y, x)
    try:
        print(answers.written(asked, resamples, out))
    except ReportError as error:
        stop(f"{error}; run: {installation.install_extra('report')}")


VERBS = (fit, plot, report)
