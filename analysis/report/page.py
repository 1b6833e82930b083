"""One self-contained page that answers a sweep's question: no network, safe against what names hold.

The page's policy lets no script run but plotly's and its own, by their hashes, and loads nothing from anywhere.
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
from analysis.fits.power_law_fit import PowerLawFit
from analysis.report.html import Html, json_block, script, tag
from analysis.report.tables import fits_table
from analysis.table import columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.figures.chart import Chart
    from analysis.fits.law_fit import LawFit

MOST_ROWS = 1000
"""Rows of the runs table; of more runs the best are shown."""
MOST_GROUPS = 60
"""Models that a reader can choose from."""
IN_SIGHT = 6
"""Caveats shown before a click shows all."""
ALWAYS = ("run_id", "model", "state", "seed", "params", "examples", "flops", "error", "loss", "seconds")
OFTEN = (
    *("sweep", "dataset", "dataset_size", "epochs", "stage", "lr", "batch_size", "optimizer", "weight_decay"),
    *("schedule", "augment", "budget", "family", "depth", "width", "device", "reason"),
)
"""Columns of the runs table: some always, others where they tell runs apart; in a table without any, all."""


class ReportError(RuntimeError):
    """The page cannot be made; the message says what is missing."""


@dataclass(frozen=True)
class Answer:
    """One finding in words: a `sentence`, whether the data `supported` it, and what a reader must know besides."""

    sentence: str
    supported: bool = True
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """What a page says besides its table.

    Attributes:
        title: of the page.
        question: what was asked: the sweep file's text.
        fits: name -> fit; each is a card of the answer, or a refusal with its reasons.
        answers: findings in words: verdicts, allocation, comparisons.
        charts: heading -> chart, in this order.
        captions: heading -> words under the chart.
        tables: heading -> table of texts, after the figures.
        provenance: what made the numbers: versions, machine, command, date, fingerprints.
    """

    title: str
    question: str = ""
    fits: Mapping[str, PowerLawFit | LawFit | IsoflopFit] = field(default_factory=dict)
    answers: Sequence[Answer] = ()
    charts: Mapping[str, Chart] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)


def render(
    frame: pd.DataFrame, page: Page, *, y: str = "error", group: str = "model", paid: pd.DataFrame | None = None
) -> str:
    """The page as HTML.

    Args:
        frame: one row a run, any columns; `state`, `flops` and `seconds` give the cost.
        page: what is said about it.
        y: the column that was measured, by which the runs are ranked.
        group: the column that a reader can filter by.
        paid: the runs that the cost is of, where `frame` holds only some of them.

    Raises:
        ReportError: plotly is not installed.
    """
    code = (_plotly(), resources.files("analysis.report").joinpath("page.js").read_text())
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


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ReportError("a report needs plotly: pip install 'isoflop[report]'") from error
    return str(get_plotlyjs())


def _answer(page: Page, frame: pd.DataFrame, y: str) -> list[Html]:
    cards = [_card(name, fit) for name, fit in page.fits.items()]
    said = [tag("li", answer.sentence, class_=None if answer.supported else "refused") for answer in page.answers]
    notes = [(name, text) for name, fit in page.fits.items() for text in fit.warnings if text not in fit.reasons]
    caveats = [f"{name}: {text}" for name, text in notes]
    caveats += [text for answer in page.answers for text in answer.caveats]
    return [
        tag("h1", page.title),
        tag("p", _lead(frame, y), class_="lead"),
        *([tag("section", *cards, class_="answers")] if cards else []),
        *([tag("ul", *said, class_="plain")] if said else []),
        *_caveats(caveats),
        *([tag("h2", "The question"), tag("pre", page.question)] if page.question else []),
    ]


def _lead(frame: pd.DataFrame, y: str) -> str:
    """The page in a line: `300 runs, 298 done; 6.01e+11 FLOPs; best test error 0.0084 by B-1/Wi-128`."""
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


def _card(name: str, fit: PowerLawFit | LawFit | IsoflopFit) -> Html:
    """The exponents of a fit, large, with their intervals; or why none is claimed."""
    what = tag("div", name, class_="what")
    if not fit.supported:
        low, high = fit.compatible if isinstance(fit, PowerLawFit) else (math.nan, math.nan)
        allowed = f"these points allow {low:.2g} to {high:.2g}" if math.isfinite(low) else None
        head = [tag("div", "no exponent claimed", class_="value"), tag("div", allowed, class_="interval")]
        return tag("div", what, *head, tag("p", "; ".join(fit.reasons), class_="why"), class_="answer refused")
    lines: list[Html] = []
    for row in _dicts(fits_table({name: fit}).query("quantity.str.contains('exponent')", engine="python")):
        value, _, interval = row["estimate"].partition(" ")
        lines.append(tag("div", value, " ", tag("span", interval, class_="interval"), class_="value"))
        quantity = row["quantity"].replace("_", " ")
        sure = f", {100 * fit.level:g} % interval" if interval else ""
        lines.append(tag("div", f"{quantity}{sure}", class_="interval"))
    law = "" if isinstance(fit, IsoflopFit) else tag("code", fit.formula())
    return tag("div", what, *lines, law, class_="answer")


def _caveats(caveats: list[str]) -> list[Html]:
    """All caveats, the first few in sight."""
    if not caveats:
        return []
    every = [tag("li", text) for text in dict.fromkeys(caveats)]
    said = [tag("h3", "What to keep in mind"), tag("ul", *every[:IN_SIGHT])]
    if len(every) > IN_SIGHT:
        more = tag("summary", f"{len(every) - IN_SIGHT} more")
        said.append(tag("details", more, tag("ul", *every[IN_SIGHT:])))
    return [tag("div", *said, class_="caveats")]


def _figures(page: Page, frame: pd.DataFrame, group: str) -> list[Html]:
    if not page.charts:
        return []
    drawn = [
        tag("figure", tag("h3", heading), tag("div", class_="chart", id=f"chart-{k}"), _caption(page, heading))
        for k, heading in enumerate(page.charts)
    ]
    return [tag("h2", "The figures"), _filter(frame, group), *drawn]


def _caption(page: Page, heading: str) -> Html:
    said = page.captions.get(heading, "")
    return tag("figcaption", said) if said else Html("")


def _filter(frame: pd.DataFrame, group: str) -> Html:
    """A button for each model; none where there is one, and a word where there are too many."""
    if group not in frame:
        return Html("")
    ordered = frame.sort_values("params", kind="stable") if "params" in frame else frame
    names = [str(name) for name in ordered[group].dropna().unique()]
    if len(names) < 2:
        return Html("")
    if len(names) > MOST_GROUPS:
        return tag("p", f"{len(names)} values of {group} are too many for a button each.", class_="lead")
    buttons = [tag("button", name, type="button", aria_pressed="true", data_group=name) for name in names]
    say = f"Show one {group} (shift-click: one more or less):"
    return tag("nav", tag("span", say), *buttons, tag("button", "all", type="button", id="all"), class_="filter")


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
    return [tag("h2", "The runs"), count, tag("div", table, class_="scroll")]


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
    return _table("What it cost", spent)


def _table(heading: str, table: pd.DataFrame) -> list[Html]:
    number = {str(name): pd.api.types.is_numeric_dtype(column) for name, column in table.items()}
    head = [tag("th", name, class_="number" if right else None) for name, right in number.items()]
    rows = [tag("tr", *(_cell(n, v, number=number[n]) for n, v in row.items())) for row in _dicts(table)]
    drawn = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows))
    return [tag("h2", heading), tag("div", drawn, class_="scroll")]


def _provenance(page: Page) -> list[Html]:
    said = [part for key, value in page.provenance.items() for part in (tag("dt", key), tag("dd", value))]
    made = "Made by isoflop. This page holds all that it shows and asks no network."
    head = [tag("h2", "Where the numbers come from"), tag("dl", *said)] if said else []
    return [*head, tag("footer", made)]


def cost(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs by state, and in all, with what they cost: one row a state, empty without a column `state`.

    Columns `state`, `runs` and those of `flops`, `charged_flops` (what was really processed) and `seconds` that
    the frame has, summed.
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
    """The date and time for `provenance`, UTC."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
