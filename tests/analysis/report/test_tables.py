"""Tables for a paper: numbers with their intervals, every stranger's text escaped."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis import fit_frontier, fit_isoflop, fit_power_law, fit_surface
from analysis.report.tables import fits_table, runs_table, to_latex, to_markdown
from tests.analysis.planted import law, sweep

HOSTILE = r"a|b <script>alert(1)</script> & 50 % $x_1^2$ {\evil} # ~"


@pytest.fixture(scope="module")
def fits():
    table = sweep(widths=(4, 16, 64, 256, 512), budgets=4)
    return {
        "frontier": fit_frontier(table, floor=False, resamples=100),
        "curves": fit_isoflop(table, resamples=100),
        "surface": fit_surface(table, y="error", resamples=100),
        "noise": fit_power_law(law(n=8, high=5e9, noise=0.3, seed=3), resamples=100),
    }


def test_every_quantity_stands_with_its_interval(fits):
    table = fits_table(fits)
    by = table.groupby("fit")["estimate"].apply(list)
    frontier, curves, surface = (fits[name] for name in ("frontier", "curves", "surface"))
    assert by["frontier"] == [frontier.quoted("exponent"), frontier.quoted("coefficient")]
    assert by["curves"] == [str(curves.n_exponent), str(curves.d_exponent)]
    if surface.supported:
        assert by["surface"] == [surface.quoted(name) for name in surface.estimates]


def test_what_is_not_supported_is_not_claimed(fits):
    (row,) = fits_table({"noise": fits["noise"]}).to_dict("records")
    assert row["estimate"] == "not identified"
    assert row["note"] == fits["noise"].reasons[0]


def test_runs_are_summed_by_model_and_the_best_is_a_cell_not_a_lucky_seed():
    table = pd.DataFrame(
        {
            "model": ["big", "big", "big", "small", "small"],
            "params": [2000, 2000, 2000, 10, 10],
            "cell_id": ["a", "a", "b", "c", "c"],
            "flops": [1e9, 1e9, 1e9, 1e6, 1e6],
            "error": [0.1, 0.5, 0.2, 0.4, float("nan")],
        }
    )
    rows = runs_table(table).to_dict("records")
    assert rows == [
        {"model": "small", "runs": "1", "params": "10", "flops": "1e6", "best error": "0.4"},
        {"model": "big", "runs": "3", "params": "2,000", "flops": "3e9", "best error": "0.2"},
    ]
    assert runs_table(table.drop(index=2)).iloc[1]["best error"] == "0.3 ± 0.28"


def test_markdown_keeps_a_strangers_text_as_text():
    text = to_markdown(pd.DataFrame({HOSTILE: [HOSTILE], "n": [12.5]}))
    head, rule, row = text.splitlines()
    assert rule == "| --- | ---: |"
    assert "<" not in text
    assert [line.replace(r"\|", "").count("|") for line in (head, row)] == [3, 3]


def test_latex_escapes_every_special_letter():
    text = to_latex(pd.DataFrame({"x_1": [HOSTILE], "y": ["0.3 ± 0.1"]}), caption="100 %", label="tab:x")
    assert r"x\_1 & y \\" in text
    assert r"50 \% \$x\_1\textasciicircum{}2\$ \{\textbackslash{}evil\} \# \textasciitilde{}" in text
    assert r"0.3 $\pm$ 0.1" in text
    assert text.startswith("\\begin{table}\n\\centering\n\\caption{100 \\%}\n\\label{tab:x}\n\\begin{tabular}{lr}")
    assert to_latex(pd.DataFrame({"n": [1, 2]})).splitlines()[0] == r"\begin{tabular}{r}"
