"""The parts of a page: cards of fits, findings in words, figures with their captions, tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.approaches.isoflop_fit import IsoflopFit
from analysis.fits.result import LawFit
from analysis.numbers import short
from analysis.report.html import Html, tag
from analysis.report.tables import fits_table
from analysis.table import columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREDICTED = 0.1
"""Error (rms of log y) of predictions of held-out runs up to which a finding is ticked."""
IN_SIGHT = 6
"""Caveats shown before a click shows the others."""
MOST_ROWS = 1000
"""Most rows in the table of runs; of more runs the best are shown."""
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


@dataclass(frozen=True)
class Answer:
    """A finding in words.

    Attributes:
        sentence: the finding, with its number and interval.
        supported: whether the runs support it.
        reasons: why they do not.
        held_out: rms of log y by which predictions of held-out runs were off; None where none were predicted. Up to
            PREDICTED a supported finding is ticked; above, this number comes first.
        caveats: what else a reader must know.
    """

    sentence: str
    supported: bool = True
    reasons: tuple[str, ...] = ()
    held_out: float | None = None
    caveats: tuple[str, ...] = ()

    @property
    def ticked(self) -> bool:
        """Whether the finding is supported, and predicted runs that it had not seen."""
        return self.supported and self.held_out is not None and self.held_out <= PREDICTED


@dataclass(frozen=True)
class Section:
    """One population of the runs: its `title`, the cards of its `fits`, and its `answers`."""

    title: str
    fits: Mapping[str, LawFit | IsoflopFit]
    answers: Sequence[Answer]


def section(part: Section) -> list[Html]:
    """The heading, cards and findings of a population."""
    cards = [_card(name, fit) for name, fit in part.fits.items()]
    items = [_finding(answer) for answer in part.answers]
    return [
        *([tag("h2", part.title)] if part.title else []),
        *([tag("section", *cards, class_="answers")] if cards else []),
        *([tag("ul", *items, class_="plain")] if items else []),
    ]


def _finding(answer: Answer) -> Html:
    if not answer.supported:
        reasons = [tag("li", text) for text in answer.reasons]
        why = tag("details", tag("summary", "why not"), tag("ul", *reasons)) if reasons else None
        return tag("li", answer.sentence, why, class_="refused")
    if answer.ticked:
        return tag("li", answer.sentence, class_="held")
    if answer.held_out is None:
        return tag("li", answer.sentence)
    off = tag("strong", f"off by {short(100 * answer.held_out, 2)} % on held-out runs: ")
    return tag("li", off, answer.sentence)


def _card(name: str, fit: LawFit | IsoflopFit) -> Html:
    """The exponents of a fit with their intervals; or, in small letters, why they are not identified."""
    what = tag("div", name, class_="what")
    if not fit.supported:
        allowed = fit.refusal() if isinstance(fit, LawFit) else "exponents not identified"
        first, *others = fit.reasons
        more = [tag("li", text) for text in others]
        folded = tag("details", tag("summary", f"{len(more)} more"), tag("ul", *more)) if more else None
        return tag("div", what, tag("div", allowed), tag("p", first, class_="why"), folded, class_="answer refused")
    lines: list[Html] = []
    for row in dicts(fits_table({name: fit}).query("quantity.str.contains('exponent')", engine="python")):
        value, _, interval = row["estimate"].partition(" ")
        lines.append(tag("div", value, " ", tag("span", interval, class_="interval"), class_="value"))
        quantity = _OF_SURFACE.get(row["quantity"], row["quantity"].replace("_", " "))
        level = f", {100 * fit.level:g} % interval" if interval else ""
        lines.append(tag("div", f"{quantity}{level}", class_="interval"))
    law = "" if isinstance(fit, IsoflopFit) else tag("code", fit.formula())
    return tag("div", what, *lines, law, class_="answer")


def cautions(part: Section) -> list[str]:
    """The cautions of fits and answers, each with the name of what it is about."""
    of = f"{part.title}: " if part.title else ""
    notes = [(name, text) for name, fit in part.fits.items() for text in fit.warnings if text not in fit.reasons]
    caveats = [f"{of}{name}: {text}" for name, text in notes]
    return caveats + [f"{of}{text}" for answer in part.answers for text in answer.caveats]


def caveats(texts: Sequence[str]) -> list[Html]:
    """All cautions; those after the first few are folded."""
    if not texts:
        return []
    items = [tag("li", text) for text in dict.fromkeys(texts)]
    parts = [tag("h3", "Cautions"), tag("ul", *items[:IN_SIGHT])]
    if len(items) > IN_SIGHT:
        more = tag("summary", f"{len(items) - IN_SIGHT} more")
        parts.append(tag("details", more, tag("ul", *items[IN_SIGHT:])))
    return [tag("div", *parts, class_="caveats")]


def figures(captions: Mapping[str, str], *, name: str = "chart") -> list[Html]:
    """A frame for each chart, by its heading, with its caption; a script draws it into `<name>-<number>`."""
    return [
        tag(
            "figure",
            tag("h3", heading),
            tag("div", class_="chart", id=f"{name}-{k}"),
            tag("figcaption", text) if text else None,
        )
        for k, (heading, text) in enumerate(captions.items())
    ]


def table(rows: pd.DataFrame) -> Html:
    """A table in a frame that scrolls, numbers to the right."""
    number = {str(name): pd.api.types.is_numeric_dtype(column) for name, column in rows.items()}
    head = [tag("th", name, class_="number" if right else None) for name, right in number.items()]
    body = [tag("tr", *(_cell(n, v, number=number[n]) for n, v in row.items())) for row in dicts(rows)]
    return _scrolling(tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body)))


def runs(frame: pd.DataFrame, group: str, order: str = "") -> list[Html]:
    """The table of the first MOST_ROWS runs, which sorts by a click; `order` says which come first."""
    shown = frame.head(MOST_ROWS)
    names = [n for n in ALWAYS if n in frame] + [n for n in OFTEN if n in frame and len(frame[n].unique()) > 1]
    names = names or list(frame.columns)
    number = {name: pd.api.types.is_numeric_dtype(frame[name]) for name in names}
    head = [tag("th", name, class_="number" if number[name] else None, tabindex="0") for name in names]
    values = zip(*(shown[name].tolist() for name in names), strict=True)
    marked = {"data_group": group, "data_state": "state", "data_sweep": "sweep"}
    marks = pd.DataFrame({key: shown[n].astype(str) for key, n in marked.items() if n in shown}, index=shown.index)
    rows = [
        tag("tr", *(_cell(n, v, number=number[n]) for n, v in zip(names, row, strict=True)), **mark)
        for row, mark in zip(values, dicts(marks), strict=True)
    ]
    of_all = f" of {len(frame):,}, {order}" if len(shown) < len(frame) else ""
    drawn = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows), class_="sortable")
    count = tag("span", f"{len(shown)}", id="counted")
    return [tag("p", count, f" runs{of_all}; click a heading to sort.", class_="lead"), _scrolling(drawn)]


def _scrolling(drawn: Html) -> Html:
    """A frame that scrolls; a script shows the hint where the table is wider than its frame."""
    return tag("div", tag("div", drawn, class_="scroll", tabindex="0"), tag("p", "more columns →", class_="hint"))


def _cell(name: str, value: Any, *, number: bool) -> Html:
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return tag("td", data_value="")
    if number and not isinstance(value, bool):
        whole = isinstance(value, int | np.integer) and abs(int(value)) < 1e6
        text = f"{value:,}" if whole else short(value, 4)
        return tag("td", text, class_="number", data_value=f"{value:.10g}")
    text = str(value)
    return tag("td", text[:8], title=text) if name == columns.RUN else tag("td", text)


def dicts(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows by name of column."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
