"""The question of a sweep and its answer, in a sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.checks.parts import attempt
from analysis.figures.cells import varies
from analysis.numbers import short
from analysis.report.parts import PREDICTED
from analysis.table import columns
from orchestrator.reporting.laws import shares_budgets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis import Verdict
    from orchestrator.reporting.figures import Findings

_AXES = {"params": "parameters", "examples": "training examples", "flops": "compute"}


def held_out(verdict: Verdict) -> float | None:
    """Rms of log y by which the law behind the claims, or else the best one, was off on held-out runs."""
    if verdict.validation is None:
        return None
    scores = verdict.validation.scores.set_index("law")["log_rmse"]
    return float(scores.get(verdict.fit.name, scores.iloc[0]))


def question(findings: Findings) -> str:
    """What the runs are asked, in a sentence, by what varies among them."""
    frame, y = findings.frame, columns.label(findings.y)
    data = map(str, frame["dataset"].dropna().unique()) if "dataset" in frame else ()
    on = " on ".join(filter(None, (y, " and ".join(data))))
    axes = [_AXES.get(x, x) for x in findings.axes if x in frame and varies(frame, x)]
    if shares_budgets(frame):
        return f"Which size is best at each compute budget, and how does the {on} fall with compute?"
    if axes:
        return f"How does the {on} fall with {_listed(axes)}?"
    if "lr" in frame and varies(frame, "lr"):
        return f"Which learning rate gives the lowest {on}?"
    return f"What is the {on}?"


def conclusion(parts: Sequence[Findings]) -> str:
    """The answer in a sentence: of each group if there are several."""
    if not any((part.frame["state"] == "done").any() for part in parts):
        return "No run is done yet."
    return " ".join(f"{part.label}: {_conclusion(part)}" if len(parts) > 1 else _conclusion(part) for part in parts)


def _conclusion(findings: Findings) -> str:
    laws = [law for law in findings.laws if law.fit is not None and law.fit.supported and law.fit.law.exponents]
    open_ = [_AXES.get(law.x, law.x) for law in findings.laws if law not in laws]
    refused = f"no exponent in {_listed(open_, 'or')} is identified" if open_ else ""
    if not laws:
        return (
            f"{refused[:1].upper()}{refused[1:]} by these runs." if refused else "No law of these runs is fitted."
        )
    names = [f"{law.fit.quoted(law.fit.law.exponents[0])} in {_AXES.get(law.x, law.x)}" for law in laws if law.fit]
    found = f"The {columns.label(findings.y)} falls as a power law with exponent {_listed(names)}"
    verdict, _ = attempt(lambda: findings.verdict)
    off = held_out(verdict) if verdict else None
    if off is not None and off > PREDICTED:
        found = f"Off by {short(100 * off, 2)} % on held-out runs: {found[:1].lower()}{found[1:]}"
    elif off is not None:
        found = f"{found}; held-out runs were predicted within {short(100 * off, 2)} %"
    return f"{'; '.join(filter(None, (found, refused)))}."


def _listed(words: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
