"""One self-contained HTML page about a sweep.

Its content security policy allows plotly's script and its own, by their hashes, and no network access. All text is
escaped.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.approaches.isoflop_fit import IsoflopFit
from analysis.figures.plotly import to_plotly
from analysis.fits.result import LawFit
from analysis.report.html import Html, json_block, script, tag
from analysis.report.tables import fits_table
from analysis.table import columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.figures.chart import Chart

MOST_ROWS = 1000
"""Most rows in the table of runs; of more runs the best are shown."""
MOST_GROUPS = 60
"""Most models that get a button."""
IN_SIGHT = 6
"""Caveats shown before a click shows the others."""
ALWAYS = ("run_id", "model", "state", "seed", "params", "examples", "flops", "error", "loss", "seconds")
OFTEN = (
    *("sweep", "dataset", "dataset_size", "epochs", "stage", "lr", "batch_size", "optimizer", "weight_decay"),
    *("schedule", "augment", "budget", "family", "depth", "width", "device", "reason"),
)
"""Columns of the table of runs: the first always, the others if they vary; in a table without any, all."""


_OF_SURFACE = {
    "params_exponent": "exponent of the best params at C ~ N D",
    "examples_exponent": "exponent of the best examples at C ~ N D",
    "frontier_exponent": "exponent of the reducible error at C ~ N D",
}
"""Exponents of a surface in compute, whatever the runs cost; those of isoFLOP minima are in what they did cost."""


class ReportError(RuntimeError):
    """The page cannot be made; the message says what is missing and how to install it."""


@dataclass(frozen=True)
class Answer:
    """A finding in words: a `sentence`, whether the data `supported` it, and its caveats."""

    sentence: str
    supported: bool = True
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """One population of the runs: its `title`, the cards of its `fits`, and its `answers`."""

    title: str
    fits: Mapping[str, LawFit | IsoflopFit]
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Page:
    """The content of a page besides its table of runs.

    Attributes:
        title: of the page.
        question: the text of the sweep file.
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
    code = (plotly_code(), resources.files("analysis.report").joinpath("page.js").read_text())
    scripts = [script(source) for source in code]
    policy = (
        f"default-src 'none'; script-src {' '.join(digest for _, digest in scripts)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    head = [
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", page.title),
        tag("style", Html(resources.files("analysis.report").joinpath("page.css").read_text())),
    ]
    parts = [
        *_answer(page, frame, y),
        *_figures(page, frame, group),
        *(part for heading, table in page.tables.items() for part in _table(heading, table)),
        *_runs(frame, y, group),
        *_cost(frame if paid is None else paid),
        *_provenance(page),
    ]
    drawn = json_block("charts", {"charts": [to_plotly(chart) for chart in page.charts.values()]})
    body = [tag("main", *parts), drawn, *(markup for markup, _ in scripts)]
    document = tag("html", tag("head", *head), tag("body", *body), lang="en")
    return f"<!doctype html>\n{document}\n"


def plotly_code() -> str:
    """Return plotly's JavaScript. Raises ReportError where plotly is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ReportError("a report needs plotly: pip install 'isoflop[report]'") from error
    return str(get_plotlyjs())


def _answer(page: Page, frame: pd.DataFrame, y: str) -> list[Html]:
    sections = [Section("", page.fits, page.answers), *page.sections]
    return [
        tag("h1", page.title),
        tag("p", _lead(frame, y), class_="lead"),
        *(part for section in sections for part in _section(section)),
        *_caveats([text for section in sections for text in _cautions(section)]),
        *([tag("h2", "The question"), tag("pre", page.question)] if page.question else []),
    ]


def _section(section: Section) -> list[Html]:
    cards = [_card(name, fit) for name, fit in section.fits.items()]
    items = [
        tag("li", answer.sentence, class_=None if answer.supported else "refused") for answer in section.answers
    ]
    return [
        *([tag("h2", section.title)] if section.title else []),
        *([tag("section", *cards, class_="answers")] if cards else []),
        *([tag("ul", *items, class_="plain")] if items else []),
    ]


def _cautions(section: Section) -> list[str]:
    """The cautions of fits and answers, each with the name of what it is about."""
    of = f"{section.title}: " if section.title else ""
    notes = [(name, text) for name, fit in section.fits.items() for text in fit.warnings if text not in fit.reasons]
    caveats = [f"{of}{name}: {text}" for name, text in notes]
    return caveats + [f"{of}{text}" for answer in section.answers for text in answer.caveats]


def _lead(frame: pd.DataFrame, y: str) -> str:
    """The runs in one line: `300 runs, 298 done; 6.01e+11 FLOPs; best test error 0.0084 by B-1/Wi-128`."""
    parts = [f"{len(frame):,} runs"]
    if "state" in frame:
        parts = [f"{parts[0]}, {int((frame['state'] == 'done').sum()):,} done"]
    if "flops" in frame:
        parts.append(f"{pd.to_numeric(frame['flops']).astype(float).sum():.3g} FLOPs")
    if y in frame and frame[y].notna().any():
        best = frame.iloc[[int(pd.to_numeric(frame[y]).to_numpy(dtype=float, na_value=np.inf).argmin())]]
        by = f" by {best['model'].iloc[0]}" if "model" in frame else ""
        parts.append(f"best {columns.label(y)} {best[y].iloc[0]:.4g}{by}")
    return "; ".join(parts) + "."


def _card(name: str, fit: LawFit | IsoflopFit) -> Html:
    """The exponents of a fit with their intervals; or why they are not identified."""
    what = tag("div", name, class_="what")
    if not fit.supported:
        allowed = fit.refusal() if isinstance(fit, LawFit) else None
        head = [tag("div", "no exponent claimed", class_="value"), tag("div", allowed, class_="interval")]
        return tag("div", what, *head, tag("p", "; ".join(fit.reasons), class_="why"), class_="answer refused")
    lines: list[Html] = []
    for row in _dicts(fits_table({name: fit}).query("quantity.str.contains('exponent')", engine="python")):
        value, _, interval = row["estimate"].partition(" ")
        lines.append(tag("div", value, " ", tag("span", interval, class_="interval"), class_="value"))
        quantity = _OF_SURFACE.get(row["quantity"], row["quantity"].replace("_", " "))
        level = f", {100 * fit.level:g} % interval" if interval else ""
        lines.append(tag("div", f"{quantity}{level}", class_="interval"))
    law = "" if isinstance(fit, IsoflopFit) else tag("code", fit.formula())
    return tag("div", what, *lines, law, class_="answer")


def _caveats(caveats: list[str]) -> list[Html]:
    """All caveats; those after the first few are folded."""
    if not caveats:
        return []
    items = [tag("li", text) for text in dict.fromkeys(caveats)]
    parts = [tag("h3", "Cautions"), tag("ul", *items[:IN_SIGHT])]
    if len(items) > IN_SIGHT:
        more = tag("summary", f"{len(items) - IN_SIGHT} more")
        parts.append(tag("details", more, tag("ul", *items[IN_SIGHT:])))
    return [tag("div", *parts, class_="caveats")]


def _figures(page: Page, frame: pd.DataFrame, group: str) -> list[Html]:
    if not page.charts:
        return []
    drawn = [
        tag("figure", tag("h3", heading), tag("div", class_="chart", id=f"chart-{k}"), _caption(page, heading))
        for k, heading in enumerate(page.charts)
    ]
    return [tag("h2", "Figures"), _filter(frame, group), *drawn]


def _caption(page: Page, heading: str) -> Html:
    text = page.captions.get(heading, "")
    return tag("figcaption", text) if text else Html("")


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


def _runs(frame: pd.DataFrame, y: str, group: str) -> list[Html]:
    best = frame.sort_values(y, kind="stable", na_position="last") if y in frame else frame
    shown = best.head(MOST_ROWS)
    names = [n for n in ALWAYS if n in frame] + [n for n in OFTEN if n in frame and len(frame[n].unique()) > 1]
    names = names or list(frame.columns)
    number = {name: pd.api.types.is_numeric_dtype(frame[name]) for name in names}
    head = [tag("th", name, class_="number" if number[name] else None, tabindex="0") for name in names]
    values = zip(*(shown[name].tolist() for name in names), strict=True)
    groups = shown[group].astype(str) if group in shown else [None] * len(shown)
    rows = [
        tag("tr", *(_cell(n, v, number=number[n]) for n, v in zip(names, row, strict=True)), data_group=of)
        for row, of in zip(values, groups, strict=True)
    ]
    of_all = f" of {len(frame):,}, the best by {y}" if len(shown) < len(frame) else ""
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows), class_="sortable")
    number_shown = tag("span", f"{len(shown)}", id="counted")
    count = tag("p", number_shown, f" runs{of_all}; click a heading to sort.", class_="lead")
    return [tag("h2", "Runs"), count, tag("div", table, class_="scroll")]


def _cell(name: str, value: Any, *, number: bool) -> Html:
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return tag("td", data_value="")
    if number and not isinstance(value, bool):
        whole = isinstance(value, int | np.integer) and -1e9 < int(value) < 1e9
        return tag("td", f"{value:,}" if whole else f"{value:.4g}", class_="number", data_value=f"{value:.10g}")
    text = str(value)
    return tag("td", text[:8], title=text) if name == columns.RUN else tag("td", text)


def _cost(frame: pd.DataFrame) -> list[Html]:
    spent = cost(frame)
    if not len(spent):
        return []
    return _table("Cost", spent)


def _table(heading: str, table: pd.DataFrame) -> list[Html]:
    number = {str(name): pd.api.types.is_numeric_dtype(column) for name, column in table.items()}
    head = [tag("th", name, class_="number" if right else None) for name, right in number.items()]
    rows = [tag("tr", *(_cell(n, v, number=number[n]) for n, v in row.items())) for row in _dicts(table)]
    drawn = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows))
    return [tag("h2", heading), tag("div", drawn, class_="scroll")]


def _provenance(page: Page) -> list[Html]:
    entries = [part for key, value in page.provenance.items() for part in (tag("dt", key), tag("dd", value))]
    head = [tag("h2", "Provenance"), tag("dl", *entries)] if entries else []
    return [
        *head,
        tag("footer", "Made by isoflop. This page loads nothing from the network."),
    ]


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


def _dicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def now() -> str:
    """The date and time in UTC, for `provenance`."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
