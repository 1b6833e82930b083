"""Tables for a paper: fits and runs as frames of texts, Markdown or LaTeX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.approaches.isoflop_fit import IsoflopFit
from analysis.fits.result import LawFit
from analysis.numbers import short
from analysis.table import columns
from analysis.table.rows import measured

if TYPE_CHECKING:
    from collections.abc import Mapping

AnyFit = LawFit | IsoflopFit
_LATEX = str.maketrans(
    {
        **{letter: rf"\{letter}" for letter in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "\n": " ",
    }
)
_MARKDOWN = str.maketrans({"|": r"\|", "<": "&lt;", ">": "&gt;", "\n": " ", "\\": r"\\"})


def fits_table(fits: Mapping[str, AnyFit]) -> pd.DataFrame:
    """One row per quantity of each named fit: `fit`, `quantity`, `estimate` with its interval, `points`, `note`.

    Estimates have the digits that their intervals justify. An unsupported fit has one row, with its first reason as
    the note.
    """
    return pd.DataFrame(
        [{"fit": name, **row} for name, fit in fits.items() for row in _rows(fit)],
        columns=["fit", "quantity", "estimate", "points", "note"],
    )


def runs_table(frame: pd.DataFrame, y: str = "error", by: str = "model") -> pd.DataFrame:
    """One row per value of `by`: runs that have a `y`, params, FLOPs and seconds spent, the best `y` of a cell.

    Columns that `frame` lacks are left out. Rows are in order of params, else of appearance.

    Raises:
        ValueError: `by` or `y` is missing or unfit.
    """
    columns.require(frame, by)
    table = measured(frame, [y], positive=False).table
    if "params" in table:
        table = table.sort_values("params", kind="stable")
    rows = []
    for value, part in table.groupby(by, sort=False, dropna=False):
        cells = part[y].groupby(part.get(columns.CELL, part.index))
        mean, spread = (getattr(cells, name)().to_numpy(dtype=float) for name in ("mean", "std"))
        best = int(mean.argmin())
        row = {by: value, "runs": str(len(part))}
        row |= {"params": f"{part['params'].iloc[0]:,.0f}"} if "params" in part else {}
        row |= {name: short(part[name].astype(float).sum()) for name in ("flops", "seconds") if name in part}
        spread_text = f" ± {short(spread[best], 2)}" if spread[best] > 0 else ""
        rows.append({**row, f"best {y}": f"{short(mean[best])}{spread_text}"})
    return pd.DataFrame(rows)


def to_markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, numbers aligned to the right; bars and tags are escaped."""
    right = _right(table)
    rule = ["-" * 3 + (":" if number else "") for number in right]
    rows = [list(table.columns), rule, *table.to_numpy().tolist()]
    cells = [[str(cell) if row is rule else _text(cell).translate(_MARKDOWN) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


def to_latex(table: pd.DataFrame, *, caption: str = "", label: str = "") -> str:
    r"""A table as LaTeX with the rules of booktabs (`\usepackage{booktabs}`), all texts escaped.

    With a `caption` or a `label` it is a float, otherwise a bare tabular.
    """
    spec = "".join("r" if number else "l" for number in _right(table))
    lines = [" & ".join(_latex(cell) for cell in row) + r" \\" for row in table.to_numpy().tolist()]
    body = [
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        " & ".join(map(_latex, table.columns)) + r" \\",
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if not caption and not label:
        return "\n".join(body) + "\n"
    head = [rf"\caption{{{_latex(caption)}}}"] if caption else []
    head += [rf"\label{{{label}}}"] if label else []
    return "\n".join([r"\begin{table}", r"\centering", *head, *body, r"\end{table}"]) + "\n"


def _rows(fit: AnyFit) -> list[dict[str, str]]:
    points = str(sum(curve.x.size for curve in fit.curves) if isinstance(fit, IsoflopFit) else fit.n)
    if not fit.supported:
        quantity = "exponents" if isinstance(fit, IsoflopFit) or len(fit.law.exponents) > 1 else "exponent"
        return [{"quantity": quantity, "estimate": "not identified", "points": points, "note": fit.reasons[0]}]
    return [
        {"quantity": name, "estimate": estimate, "points": points, "note": ""}
        for name, estimate in _quantities(fit).items()
    ]


def _quantities(fit: AnyFit) -> dict[str, str]:
    """Name of each quantity -> its estimate with its interval."""
    if isinstance(fit, IsoflopFit):
        return {f"{fit.n}* exponent": str(fit.n_exponent), f"{fit.d}* exponent": str(fit.d_exponent)}
    return {name: fit.quoted(name) for name in fit.estimates}


def _text(cell: Any) -> str:
    if isinstance(cell, float):
        return "" if pd.isna(cell) else short(cell, 4)
    return "" if cell is None else str(cell)


def _latex(cell: Any) -> str:
    return _text(cell).translate(_LATEX).replace("±", r"$\pm$")


def _right(table: pd.DataFrame) -> list[bool]:
    """Whether each column has only numbers, as values or as text."""
    return [
        all(_text(cell)[:1] in (*"0123456789.-", "") for cell in table.iloc[:, k]) for k in range(table.shape[1])
    ]
