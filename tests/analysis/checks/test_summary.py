"""What every result of a check or a decision has in common."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import (
    agree,
    allocate,
    closure,
    compare,
    design_bias,
    fit_by,
    fit_frontier,
    fit_power_law,
    fit_surface,
    sensitivity,
    suggest,
    validate,
    verdict,
)
from analysis.fits.summary import as_json, shown
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


LEAK = re.compile(r"np\.|array\(|Timestamp|dtype|datetime|<NA>|\bNaT\b")


def test_json_holds_no_type_of_a_library():
    day = pd.Timestamp("2026-11-28 09:30")
    values = {
        ("b-mlp", np.int64(64)): np.float64(0.5),
        "array": np.array([1.0, np.nan]),
        "day": day,
        "none": [pd.NA, pd.NaT, None, np.inf],
        "set": {3, 1},
        "path": Path("a/b"),
        "flag": np.bool_(True),
    }
    found = as_json(values)
    assert found == {
        "b-mlp, 64": 0.5,
        "array": [1.0, None],
        "day": "2026-11-28T09:30:00",
        "none": [None, None, None, None],
        "set": [1, 3],
        "path": "a/b",
        "flag": True,
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.int64(64), "64"),
        ((np.float64(0.5), "a"), "0.5, a"),
        (np.array([1, 2]), "1, 2"),
        (pd.Timestamp("2026-11-28"), "2026-11-28T00:00:00"),
        ({"b", "a"}, "a, b"),
    ],
)
def test_a_value_in_a_sentence_is_without_its_type(value, text):
    assert shown(value) == text


def test_no_message_names_the_type_of_a_number():
    table = isoflop(seeds=1).assign(width=lambda t: np.tile([8, 16, 32], len(t) // 3))
    calls = [
        lambda: compare(table, "width", pair=(np.int64(8), np.int64(9))),
        lambda: compare(table, "width"),
        lambda: fit_power_law(table, "flops", level=np.float64(95)),
        lambda: fit_power_law(table, "flops", fix={"floor": np.float64(np.nan)}),
        lambda: allocate(fit_surface(table, y="error", resamples=0), np.float64(-1)),
        lambda: fit_by(fit_frontier, table, "width", resamples=0)[np.int64(9)],
    ]
    for call in calls:
        with pytest.raises((ValueError, KeyError)) as refusal:
            call()
        assert not LEAK.search(str(refusal.value)), refusal.value
