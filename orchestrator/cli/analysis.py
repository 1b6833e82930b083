"""The verbs that read a table: `fit`, `plot` and `report`."""

from __future__ import annotations

import json
from pathlib import Path
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

FORMATS = ("png", "svg", "pdf")


def fit(  # noqa: PLR0913 - an option each
    which: Which = None,
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
    resamples: Resamples = 1000,
    table: Annotated[str, typer.Option(help="Print a table instead: markdown or latex.")] = "",
    as_json: AsJson = False,
) -> None:
    """Fit power laws of the error, with intervals.

    Of error against params, examples and FLOPs, each with its diagnostics.
    """
    from orchestrator.reporting.laws import calibration, laws

    if table not in ("", "markdown", "latex"):
        stop(f"--table {table!r} is unknown; it is markdown or latex")
    approach = 3 if surface else approach
    if law:
        _check_law(law, approach, shift=shift)
    frame = at_stage(frame_of(store, which), stage)
    if approach > 1:
        _fit_whole(frame, approach, law, resamples, table, as_json=as_json)
        return
    result = laws(frame, resamples=resamples, shift=shift, law=law or None)
    if table:
        _print_table({f"error against {law.x}": law.fit for law in result if law.fit}, table)
        return
    exponents = calibration(frame, result)
    if as_json:
        from dataclasses import asdict

        calibrated = asdict(exponents) if exponents else None
        answer = {"laws": [law.to_dict() for law in result], "calibration": calibrated}
        print(json.dumps(answer, indent=1))
        return
    print(
        "\n\n".join(
            law.fit.summary() if law.fit else f"error against {law.x}: no fit: {law.why_not}" for law in result
        )
    )
    if exponents:
        print(f"\n{exponents}")


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


def _fit_whole(frame: pd.DataFrame, approach: int, law: str, resamples: int, table: str, *, as_json: bool) -> None:
    """Print the fit of approach 2 or 3: one of the whole table."""
    from analysis import FitError, fit_surface
    from orchestrator.reporting.figures import Findings

    findings = Findings(frame, resamples=resamples)
    try:
        result: Any = findings.isoflop if approach == 2 else findings.surface
        if law:
            result = fit_surface(findings.best, y="error", law=law, resamples=resamples)
    except (FitError, ValueError) as error:
        stop(f"approach {approach}: {error}")
    if table:
        _print_table({"isoFLOP minima" if approach == 2 else "surface": result}, table)
    else:
        print(json.dumps(result.to_dict(), indent=1) if as_json else result.summary())


def _print_table(fits: dict[str, Any], kind: str) -> None:
    from analysis.report.tables import fits_table, to_latex, to_markdown

    print((to_latex if kind == "latex" else to_markdown)(fits_table(fits)), end="")


def plot(
    which: Which = None,
    *,
    store: Store = STORE,
    figure: Annotated[str, typer.Option(help="a name or module:name, or several with commas; default: all")] = "",
    fmt: Annotated[str, typer.Option("--format", help="png, svg or pdf; several by commas.")] = "png,svg",
    out: Annotated[Path, typer.Option(help="A folder for the figures.")] = Path("figures"),
    stage: Stage = None,
    resamples: Resamples = 1000,
) -> None:
    """Draw the figures of a sweep.

    One paper column wide: its runs, its laws with their bands, optima, residuals.
    """
    from analysis import save
    from analysis.figures.registry import FIGURES
    from orchestrator.reporting.figures import figures

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
    findings = findings_of(store, which, stage, resamples)
    drawn, why_not = figures(findings, names)
    for name, why in why_not.items():
        if names or name.startswith("error-vs-"):
            say(f"no figure {name}: {why}")
    stem = "-".join(sorted(set(findings.frame["sweep"].dropna())))
    for name, chart in drawn.items():
        for path in save(chart, out / f"{stem}-{name.rpartition(':')[2]}", formats):
            print(path)
    if why_not and (names or not drawn):
        raise typer.Exit(2)


def report(
    which: Which = None,
    *,
    store: Store = STORE,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
    stage: Stage = None,
    resamples: Resamples = 1000,
) -> None:
    """Write one HTML page about a sweep.

    It is self-contained: the question, the answer, interactive figures, runs, cost, provenance.
    """
    from analysis.report.page import ReportError, render
    from orchestrator.reporting.page import page_of
    from orchestrator.store.table import Table

    findings = findings_of(store, which, stage, resamples)
    sweep = str(findings.frame["sweep"].iloc[0])
    with Table(store) as results:
        declared, question = results.declaration(sweep)
    page = page_of(sweep, question, declared, store, findings)
    try:
        document = render(findings.frame, page, paid=frame_of(store, which))  # every stage of a chain was paid for
    except ReportError as error:
        stop(str(error))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(document, encoding="utf-8")
    print(out)


VERBS = (fit, plot, report)
