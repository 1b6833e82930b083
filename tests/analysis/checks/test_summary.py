"""What every result of a check or a decision has in common."""

from __future__ import annotations

import json

import pytest

from analysis import (
    agree,
    allocate,
    closure,
    compare,
    design_bias,
    fit_surface,
    sensitivity,
    suggest,
    validate,
    verdict,
)
from tests.analysis.planted_curves import isoflop

NAME = "<b>error</b>"


@pytest.fixture(scope="module")
def results():
    table = isoflop(noise=0.01, seeds=2).rename(columns={"error": NAME})
    two = table.assign(family=["a", "b"] * (len(table) // 2))
    return {
        "agreement": agree(table, y=NAME, resamples=40),
        "bias": design_bias(table, y=NAME),
        "closure": closure(alpha=1, beta=0.35, frontier=0.25),
        "comparison": compare(two, y=NAME, resamples=40),
        "sensitivity": sensitivity(table, y=NAME, resamples=40),
        "validation": validate(table, y=NAME, resamples=40),
        "verdict": verdict(table, y=NAME, resamples=40),
        "allocation": allocate(fit_surface(table, y=NAME, resamples=40), 1e14),
        "suggestion": suggest(table, 1e15, "error", y=NAME),
    }


KINDS = (
    *("agreement", "bias", "closure", "comparison", "sensitivity", "validation", "verdict"),
    *("allocation", "suggestion"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_presents_itself_alike_in_a_terminal_and_escaped_in_a_notebook(results, kind):
    result = results[kind]
    assert str(result) == result.summary()
    shown = result._repr_html_()
    assert shown.startswith("<pre>")
    assert "<b>" not in shown
    assert shown.count("&lt;b&gt;") == result.summary().count("<b>")


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_is_json(results, kind):
    json.dumps(results[kind].to_dict(), allow_nan=False)


def test_some_summary_names_a_column(results):
    assert sum("<b>" in result.summary() for result in results.values()) >= 4
