"""One self-contained HTML page about a sweep.

Its content security policy allows plotly's script and its own, by their hashes, and no network access. All text is
escaped.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures.plotly import to_plotly
from analysis.numbers import short
from analysis.report import parts
from analysis.report.document import document, plotly_code, source
from analysis.report.html import Html, json_block, tag
from analysis.report.parts import Answer, Section
from analysis.table import columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.approaches.isoflop_fit import IsoflopFit
    from analysis.figures.chart import Chart
    from analysis.fits.result import LawFit

MOST_GROUPS = 60
"""Most models that get a button."""


@dataclass(frozen=True)
class Page:
    """The content of a page besides its table of runs.

    Attributes:
        title: of the page.
        question: what the runs are asked, in a sentence.
        answer: what they say, in a sentence.
        declared: the text of the sweep file.
        fits: name -> fit; each becomes a card with its exponents, or the reasons why they are not identified.
        answers: findings in words: verdicts, allocations, comparisons.
        sections: the same of each population of the runs, if there are several.
        charts: heading -> chart, in this order.
        captions: heading -> text below the chart.
        tables: heading -> table of texts, after the figures.
        provenance: label -> versions, machine, command, date, fingerprints.
    """

    title: str
    question: str = ""
    answer: str = ""
    declared: str = ""
    fits: Mapping[str, LawFit | IsoflopFit] = field(default_factory=dict)
    answers: Sequence[Answer] = ()
    sections: Sequence[Section] = ()
    charts: Mapping[str, Chart] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)


def render(
    frame: pd.DataFrame, page: Page, *, y: str = "error", group: str = "model", paid: pd.DataFrame | None = None
) -> str:
    """Return the page as HTML.

    Args:
        frame: one row per run, any columns; `state`, `flops` and `seconds` give the cost.
        page: the content besides the table of runs.
        y: name of the measured column, by which runs are ranked.
        group: the column by which the page filters.
        paid: the runs whose cost is shown, if `frame` has only some of them.

    Raises:
        ReportError: plotly is not installed.
    """
    best = frame.sort_values(y, kind="stable", na_position="last") if y in frame else frame
    spent = cost(frame if paid is None else paid)
    tables = {**page.tables, **({"Cost": spent} if len(spent) else {})}
    main = [
        *opening(page, lead(frame, y)),
        *([tag("h2", "Figures"), _filter(frame, group)] if page.charts else []),
        *parts.figures({heading: page.captions.get(heading, "") for heading in page.charts}),
        tag("h2", "Runs"),
        *parts.runs(best, group, f"the best by {y}"),
        *(part for heading, rows in tables.items() for part in (tag("h2", heading), parts.table(rows))),
        *([tag("h2", "Sweep file"), tag("pre", page.declared)] if page.declared else []),
        *_provenance(page),
        tag("footer", "Made by isoflop. This page loads nothing from the network."),
    ]
    drawn = json_block("charts", {"charts": [to_plotly(chart) for chart in page.charts.values()]})
    scripts = (plotly_code(), source("charts.js"), source("page.js"))
    return document(page.title, [tag("main", *main), drawn], scripts)


def opening(page: Page, runs: str) -> list[Html]:
    """The title, the question and the answer, then the evidence: cards, findings, cautions."""
    sections = [Section("", page.fits, page.answers), *page.sections]
    return [
        tag("h1", page.title),
        *([tag("p", page.question, class_="question")] if page.question else []),
        *([tag("p", page.answer, class_="conclusion")] if page.answer else []),
        tag("p", runs, class_="lead"),
        *(part for section in sections for part in parts.section(section)),
        *parts.caveats([text for section in sections for text in parts.cautions(section)]),
    ]


def lead(frame: pd.DataFrame, y: str) -> str:
    """The runs in one line: `300 runs, 298 done; 6.01e11 FLOPs; best test error 0.0084 by B-1/Wi-128`."""
    texts = [f"{len(frame):,} {'run' if len(frame) == 1 else 'runs'}"]
    if "state" in frame:
        texts = [f"{texts[0]}, {int((frame['state'] == 'done').sum()):,} done"]
    if "flops" in frame:
        texts.append(f"{short(pd.to_numeric(frame['flops']).astype(float).sum())} FLOPs")
    if y in frame and frame[y].notna().any():
        best = frame.iloc[[int(pd.to_numeric(frame[y]).to_numpy(dtype=float, na_value=np.inf).argmin())]]
        by = f" by {best['model'].iloc[0]}" if "model" in frame else ""
        texts.append(f"best {columns.label(y)} {short(best[y].iloc[0])}{by}")
    return "; ".join(texts) + "."


def _filter(frame: pd.DataFrame, group: str) -> Html:
    """A button for each group; nothing for one group, and a sentence for too many."""
    if group not in frame:
        return Html("")
    ordered = frame.sort_values("params", kind="stable") if "params" in frame else frame
    names = [str(name) for name in ordered[group].dropna().unique()]
    if len(names) < 2:
        return Html("")
    if len(names) > MOST_GROUPS:
        return tag("p", f"{len(names)} values of {group}: too many for buttons.", class_="lead")
    buttons = [tag("button", name, type="button", aria_pressed="true", data_group=name) for name in names]
    label = f"Show one {group} (shift-click to add or remove one):"
    return tag("nav", tag("span", label), *buttons, tag("button", "all", type="button", id="all"), class_="filter")


def _provenance(page: Page) -> list[Html]:
    entries = [part for key, value in page.provenance.items() for part in (tag("dt", key), tag("dd", value))]
    return [tag("h2", "Provenance"), tag("dl", *entries)] if entries else []


def cost(frame: pd.DataFrame) -> pd.DataFrame:
    """The number and cost of runs, one row per state and one for all; empty without a column `state`.

    Columns `state`, `runs`, and the sums of `flops`, `charged_flops` (FLOPs really processed) and `seconds` if the
    frame has them.
    """
    if "state" not in frame:
        return pd.DataFrame()
    paid = [name for name in ("flops", "charged_flops", "seconds") if name in frame]
    rows = [
        {"state": state, "runs": len(part), **{name: float(pd.to_numeric(part[name]).sum()) for name in paid}}
        for state, part in [*frame.groupby("state", sort=True), ("all", frame)]
    ]
    return pd.DataFrame(rows)


def now() -> str:
    """The date and time in UTC, for `provenance`."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
