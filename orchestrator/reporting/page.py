"""The content of a sweep's page: its question, answers in words, figures, tables and provenance."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis import allocate
from analysis.checks.agreement import QUANTITIES
from analysis.checks.parts import attempt
from analysis.figures.registry import FIGURES
from analysis.fits.quantity import quote
from analysis.numbers import short
from analysis.report.page import Page, now
from analysis.report.parts import Answer, Section
from orchestrator.reporting.figures import FigureOf, Findings, group_figures
from orchestrator.reporting.headline import conclusion, held_out, question
from orchestrator.reporting.laws import calibration
from orchestrator.reporting.model_grid import knows_models, model_grid
from orchestrator.store.engine import name_of
from orchestrator.text import count
from trainer.host.limits import cores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis import IsoflopFit, LawFit, SurfaceFit

    AnyFit = LawFit | SurfaceFit | IsoflopFit

_VERSIONS = ("torch", "numpy", "pandas", "scipy", "ray", "plotly")
_AHEAD = 10.0
"""Allocations are given for the largest compute of the runs, and for this many times as much."""


def page_of(
    sweep: str, declared: str, when: str, store: str, findings: Findings, groups: Sequence[Findings] = ()
) -> Page:
    """The content of a sweep's page: from all its runs, and from each group of them (default: one of all).

    `declared` is the text of its file, `when` it was declared.
    """
    parts = [*groups] or [findings]
    charts, _ = group_figures(findings, parts)
    headings = {of: _heading(of) for of in charts}
    several = len(parts) > 1
    captions = {part.label if several else "": _captions(part) for part in parts}
    return Page(
        title=sweep,
        question=question(findings),
        answer=conclusion(parts),
        declared=declared,
        fits={} if several else _fits(parts[0]),
        answers=[*([] if several else _answers(parts[0])), *_whole(findings)],
        sections=[Section(part.label, _fits(part), _answers(part)) for part in parts] if several else [],
        charts={headings[of]: chart for of, chart in charts.items()},
        tables={_named(part, name): table for part in parts for name, table in _agreement(part).items()},
        captions={headings[of]: text for of in charts if (text := captions.get(of.group, {}).get(of.name))},
        provenance=_provenance(findings.frame, when, store),
    )


def _heading(of: FigureOf) -> str:
    heading = FIGURES.get(of.name).heading
    return f"{heading}: {of.group}" if of.group else heading


def _named(part: Findings, name: str) -> str:
    return f"{part.label}: {name}" if part.label else name


def _fits(findings: Findings) -> dict[str, AnyFit]:
    """The laws of the cards: what was measured against each axis, isoFLOP minima and the surface."""
    fits: dict[str, AnyFit | None] = {law.name: law.fit for law in findings.laws}
    fits["isoFLOP minima"] = attempt(lambda: findings.isoflop)[0]
    fits["surface in params and examples"] = attempt(lambda: findings.surface)[0]
    return {name: fit for name, fit in fits.items() if fit is not None}


def _answers(findings: Findings) -> list[Answer]:
    """The findings on one group in words."""
    answers = [
        Answer(f"no law of {law.name}", supported=False, reasons=(law.why_not,))
        for law in findings.laws
        if law.fit is None
    ]
    zipf = calibration(findings.frame, findings.laws)
    answers += [Answer(str(zipf), supported=zipf.holds)] if zipf else []
    return [*answers, *_claims(findings), *_allocations(findings)]


def _whole(findings: Findings) -> list[Answer]:
    """What is found on all runs, whatever their groups."""
    return [*_comparison(findings), *_rates(findings)]


def _claims(findings: Findings) -> list[Answer]:
    """The claims of the verdict."""
    verdict, why_not = attempt(lambda: findings.verdict)
    if verdict is None:
        return [Answer("the claims of these runs were not checked", supported=False, reasons=(why_not,))]
    off = held_out(verdict)
    claims = (verdict.exponent, verdict.floor, verdict.extrapolation)
    verb = {True: "these runs support", False: "these runs do not support"}
    answers = [
        Answer(f"{verb[claim.supported]} {claim.statement}", claim.supported, claim.reasons, off)
        for claim in claims
    ]
    others = tuple(text for text in verdict.warnings if text not in verdict.fit.warnings)
    return [*answers[:-1], replace(answers[-1], caveats=others)]


def _agreement(findings: Findings) -> dict[str, pd.DataFrame]:
    """The exponents by each approach, if the verdict compared them."""
    verdict, _ = attempt(lambda: findings.verdict)
    if verdict is None or verdict.agreement is None:
        return {}
    rows: dict[str, dict[str, str]] = {}
    for row in verdict.agreement.table.to_dict("records"):
        ends = (row["low"], row["high"])
        value, low, high = (quote(row[name], ends) for name in ("value", "low", "high"))
        cells = rows.setdefault(row["approach"], {"approach": row["approach"]})
        cells[QUANTITIES[row["quantity"]]] = "" if row["why_not"] else f"{value} [{low}, {high}]"
        cells["why not"] = row["why_not"]
    return {"The same exponents by every approach": pd.DataFrame(list(rows.values()))}


def _allocations(findings: Findings) -> list[Answer]:
    """The best use of the largest compute of the runs, and of ten times as much.

    By the surface if the verdict supports its exponent, else by the isoFLOP minima if theirs is supported.
    """
    verdict, _ = attempt(lambda: findings.verdict)
    off = held_out(verdict) if verdict else None
    surface = attempt(lambda: findings.surface)[0] if verdict and verdict.exponent.supported else None
    laws = {"the surface": surface, "isoFLOP minima": attempt(lambda: findings.isoflop)[0]}
    by, fit = next(((name, fit) for name, fit in laws.items() if fit is not None and fit.supported), ("", None))
    if fit is None:
        return []
    models = model_grid(findings.done) if knows_models(findings.done) else None
    answers, largest = [], float(findings.done["flops"].max())
    for budget in (largest, _AHEAD * largest):
        best, _ = attempt(lambda budget=budget: allocate(fit, budget, candidates=models))  # type: ignore[misc]
        if best is None:
            continue
        if best.reasons:
            refused = f"by {by}, no best use of {short(budget)} FLOPs can be named"
            answers.append(Answer(refused, supported=False, reasons=best.reasons))
            continue
        nearest = f"; nearest model {best.models['model'].iloc[0]}" if len(best.models) else ""
        spent = f"{best.params} params and {best.examples} examples"
        sentence = f"by {by}, {short(budget)} FLOPs are best spent on {spent}{nearest}"
        caveats = tuple(f"at {short(budget)} FLOPs: {text}" for text in best.warnings if text not in fit.warnings)
        answers.append(Answer(sentence, held_out=off, caveats=caveats))
    return answers


def _comparison(findings: Findings) -> list[Answer]:
    """The FLOPs of two families at equal error, if the sweep has two."""
    if "family" not in findings.frame or findings.frame["family"].nunique() != 2:
        return []
    comparison, _ = attempt(lambda: findings.comparison)
    if comparison is None:
        return []
    lines = [line for line in comparison.summary().splitlines() if not line.startswith("  caution: ")]
    shown = [text for fit in comparison.fits for text in fit.warnings]  # beside the cards of the two laws
    caveats = tuple(text for text in comparison.warnings if not text.endswith(tuple(shown)))
    return [Answer(line, comparison.supported, caveats=caveats if line == lines[0] else ()) for line in lines]


def _rates(findings: Findings) -> list[Answer]:
    rates, _ = attempt(lambda: findings.learning_rates)
    if rates is None:
        return []
    flagged = [row for row in rates.best.to_dict("records") if row["flag"]]
    of_all = f"{len(rates.best) - len(flagged)} of {len(rates.best)} designs"
    caveats = tuple(f"{row['model']}: {row['flag']}" for row in flagged)
    return [Answer(f"the best learning rate lies inside its grid for {of_all}", rates.settled, caveats=caveats)]


def _captions(findings: Findings) -> dict[str, str]:
    """Figure -> the law it shows, or why there is none."""
    captions = {
        f"error-vs-{law.x}": law.fit.summary().splitlines()[0] if law.fit else law.why_not for law in findings.laws
    }
    isoflop, _ = attempt(lambda: findings.isoflop)
    if isoflop:
        captions["isoflop"] = captions["optima"] = isoflop.summary().splitlines()[0]
    return captions


def _provenance(frame: pd.DataFrame, when: str, store: str) -> dict[str, str]:
    def values(column: str) -> str:
        return ", ".join(sorted({str(value) for value in frame[column].dropna()})) if column in frame else ""

    versions = {name: version for name in _VERSIONS if (version := _version(name))}
    threads = f"threads: {values('threads')}" if values("threads") else ""
    entries = {
        "made": now(),
        "command": shlex.join(["isoflop", *map(name_of, sys.argv[1:])]),
        "isoflop": _version("isoflop"),
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{k} {v}" for k, v in versions.items())]),
        "machine": f"{platform.node()}: {_processor()}, {platform.system()} {platform.release()}",
        "sweep declared": when,
        "table": name_of(store) if "://" in store else str(Path(store).absolute()),
        "trained on": ", ".join(filter(None, (values("device"), threads))),
        "precision": values("precision"),
        "data": values("dataset"),
        "data fingerprints": values("fingerprint"),
        "FLOPs counted by rule": values("flops_rule"),
    }
    return {key: value for key, value in entries.items() if value}


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
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {count(cores(), 'core')}"
