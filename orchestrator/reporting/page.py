"""What the page of a sweep says: its question, its answers in words, its figures, the origin of its numbers."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.reporting.figures import HEADINGS, Findings, figures
from orchestrator.reporting.laws import calibration
from orchestrator.reporting.model_grid import model_grid
from orchestrator.store.engine import name_of
from trainer.host.limits import cores

if TYPE_CHECKING:
    import pandas as pd

    from analysis import IsoflopFit, PowerLawFit, SurfaceFit
    from analysis.report.page import Answer, Page

    AnyFit = PowerLawFit | SurfaceFit | IsoflopFit

_VERSIONS = ("torch", "numpy", "pandas", "scipy", "ray", "plotly")
_AHEAD = 10.0
"""The allocation is given for the largest compute of the runs, and for this many times as much."""


def page_of(sweep: str, question: str, declared: str, store: str, findings: Findings) -> Page:
    """What the page of a sweep says, from its table."""
    from analysis.report.page import Page

    charts, _ = figures(findings)
    return Page(
        title=sweep,
        question=question,
        fits=_fits(findings),
        answers=_answers(findings),
        charts={HEADINGS[name]: chart for name, chart in charts.items()},
        tables=_agreement(findings),
        captions=_captions(findings, list(charts)),
        provenance=_provenance(findings.frame, declared, store),
    )


def _fits(findings: Findings) -> dict[str, AnyFit]:
    """The laws of the cards: error against each axis, and the two ways to an allocation."""
    axes: dict[str, AnyFit | None] = {f"error against {law.x}": law.fit for law in findings.laws}
    whole = {"isoFLOP minima": isoflop_of(findings), "surface in params and examples": surface_of(findings)}
    return {name: fit for name, fit in (axes | whole).items() if fit is not None}


def isoflop_of(findings: Findings) -> IsoflopFit | None:
    """Approach 2, where the sweep is made for it."""
    try:
        return findings.isoflop
    except ValueError:
        return None


def surface_of(findings: Findings) -> SurfaceFit | None:
    """Approach 3, where there are params and examples enough and error falls with both."""
    from analysis import FitError

    try:
        return findings.surface
    except (FitError, ValueError):
        return None


def _answers(findings: Findings) -> list[Answer]:
    from analysis.report.page import Answer

    answers = [
        Answer(f"error against {law.x}: no fit, {law.why_not}", supported=False)
        for law in findings.laws
        if law.fit is None
    ]
    known = calibration(findings.frame, findings.laws)
    answers += [Answer(str(known), supported=known.holds)] if known else []
    answers += [*_claims(findings), *_allocations(findings), *_comparison(findings), *_rates(findings)]
    schedules = sorted(findings.frame["schedule"].dropna().unique())
    if len(schedules) > 1:
        said = f"schedules are mixed here ({', '.join(schedules)}): a difference between them looks like a law"
        answers.append(Answer(f"{len(schedules)} schedules", caveats=(said,)))
    return answers


def _claims(findings: Findings) -> list[Answer]:
    """What the table supports a claim of, and what it does not."""
    from analysis import FitError
    from analysis.report.page import Answer

    try:
        found = findings.verdict
    except (FitError, ValueError) as error:
        return [Answer(f"no verdict: {error}", supported=False)]
    claims = (found.exponent, found.floor, found.extrapolation)
    said = [Answer(str(claim).replace("\n ", ","), claim.supported) for claim in claims]
    more = tuple(text for text in found.warnings if text not in found.fit.warnings)
    return [*said[:-1], Answer(said[-1].sentence, said[-1].supported, more)]


def _agreement(findings: Findings) -> dict[str, pd.DataFrame]:
    """What each approach says of the same exponents, where the verdict looked at them side by side."""
    import pandas as pd

    from analysis import FitError
    from analysis.checks.agreement import QUANTITIES
    from analysis.fits.quantity import quote

    try:
        found = findings.verdict.agreement
    except (FitError, ValueError):
        return {}
    if found is None:
        return {}
    rows: dict[str, dict[str, str]] = {}
    for row in found.table.to_dict("records"):
        ends = (row["low"], row["high"])
        value, low, high = (quote(row[name], ends) for name in ("value", "low", "high"))
        said = row["why_not"] or f"{value} [{low}, {high}]"
        rows.setdefault(row["approach"], {"approach": row["approach"]})[QUANTITIES[row["quantity"]]] = said
    return {"The same exponents by every approach": pd.DataFrame(list(rows.values()))}


def _allocations(findings: Findings) -> list[Answer]:
    """What to spend the largest compute on, and ten times as much.

    By the surface where the verdict supports its exponent, else by the isoFLOP minima where theirs is supported.
    """
    from analysis import FitError, allocate
    from analysis.report.page import Answer

    laws = {
        "the surface": surface_of(findings) if _claimed(findings) else None,
        "isoFLOP minima": isoflop_of(findings),
    }
    by, fit = next(((name, fit) for name, fit in laws.items() if fit is not None and fit.supported), ("", None))
    if fit is None:
        return []
    models, answers, largest = model_grid(findings.done), [], float(findings.done["flops"].max())
    for budget in (largest, _AHEAD * largest):
        try:
            best = allocate(fit, budget, candidates=models)
        except (FitError, ValueError):
            continue
        nearest = f"; nearest model {best.models['model'].iloc[0]}" if len(best.models) else ""
        spent = f"{best.params} params and {best.examples} examples"
        said = f"by {by}, {budget:.3g} FLOPs are best spent on {spent}{nearest}"
        caveats = tuple(f"at {budget:.3g} FLOPs: {text}" for text in best.warnings if text not in fit.warnings)
        answers.append(Answer(said, caveats=caveats))
    return answers


def _claimed(findings: Findings) -> bool:
    """Whether the verdict supports the exponent of the surface."""
    from analysis import FitError

    try:
        return findings.verdict.exponent.supported
    except (FitError, ValueError):
        return False


def _comparison(findings: Findings) -> list[Answer]:
    """What two families pay for equal error, where the sweep has two."""
    from analysis import FitError
    from analysis.report.page import Answer

    if findings.frame["family"].nunique() != 2:
        return []
    try:
        found = findings.comparison
    except (FitError, ValueError):
        return []
    lines = [line for line in found.summary().splitlines() if not line.startswith("  caution: ")]
    return [Answer(line, found.supported, found.warnings if line == lines[0] else ()) for line in lines]


def _rates(findings: Findings) -> list[Answer]:
    from analysis.report.page import Answer

    try:
        found = findings.learning_rates
    except ValueError:
        return []
    flagged = [row for row in found.best.to_dict("records") if row["flag"]]
    of_all = f"{len(found.best) - len(flagged)} of {len(found.best)} designs"
    caveats = tuple(f"{row['model']}: {row['flag']}" for row in flagged)
    return [Answer(f"the best learning rate lies inside its grid for {of_all}", found.settled, caveats)]


def _captions(findings: Findings, names: list[str]) -> dict[str, str]:
    """Under each law what was fitted, or why nothing was."""
    said = {
        f"error-vs-{law.x}": law.fit.summary().splitlines()[0] if law.fit else law.why_not for law in findings.laws
    }
    if "isoflop" in names:
        said["isoflop"] = said["optima"] = findings.isoflop.summary().splitlines()[0]
    return {HEADINGS[name]: text for name, text in said.items() if name in names}


def _provenance(frame: pd.DataFrame, declared: str, store: str) -> dict[str, str]:
    from analysis.report.page import now

    def named(column: str) -> str:
        return ", ".join(sorted({str(value) for value in frame[column].dropna()}))

    versions = {name: version for name in _VERSIONS if (version := _version(name))}
    threads = f"{named('threads')} threads" if named("threads") else ""
    said = {
        "made": now(),
        "command": shlex.join(["isoflop", *map(name_of, sys.argv[1:])]),
        "isoflop": _version("isoflop"),
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{k} {v}" for k, v in versions.items())]),
        "machine": f"{platform.node()}: {_processor()}, {platform.system()} {platform.release()}",
        "sweep declared": declared,
        "table": name_of(store) if "://" in store else str(Path(store).absolute()),
        "trained on": ", ".join(filter(None, (named("device"), threads))),
        "precision": named("precision"),
        "data": named("dataset"),
        "data fingerprints": named("fingerprint"),
        "FLOPs counted by rule": named("flops_rule"),
    }
    return {key: value for key, value in said.items() if value}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{named[0] if named else platform.machine()}, {cores()} cores"
