from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import compare

QUICK = settings(deadline=None, max_examples=10, derandomize=True)


def family(name, ratio=1.0, exponent=0.3, n=20, low=1e9, high=1e13, noise=0.0, seed=0, floor=0.05):  # noqa: PLR0917
    """error = floor + 0.6 (flops / ratio / 1e9)^-exponent: needs `ratio` x the FLOPs of ratio 1."""
    x = np.geomspace(low, high, n)
    luck = np.random.default_rng(seed).normal(size=n)
    error = (floor + 0.6 * (x / ratio / 1e9) ** -exponent) * np.exp(noise * luck)
    return pd.DataFrame({"family": name, "flops": x, "error": error})


def two(ratio=0.3, other=0.3, **options):
    seed = options.pop("seed", 0)
    parts = [
        family("b-mlp", ratio, 0.3, seed=2 * seed, **options),
        family("s-mlp", 1.0, other, seed=2 * seed + 1, **options),
    ]
    return pd.concat(parts, ignore_index=True)


@QUICK
@given(ratio=st.floats(0.05, 20), log_unit=st.floats(-9, 9), log_y=st.floats(-2, 2))
def test_planted_ratio_is_recovered_at_every_error_in_any_unit(ratio, log_unit, log_y):
    table = two(ratio)
    table["flops"] *= 10**log_unit
    table["error"] *= 10**log_y
    found = compare(table, resamples=0)
    assert len(found.ratios) == 3
    assert found.ratios["ratio"].to_numpy() == pytest.approx(np.full(3, ratio), rel=1e-4)
    assert found.difference.value == pytest.approx(0, abs=1e-5)


def test_intervals_cover_the_planted_ratio_and_difference():
    hits = []
    for seed in range(30):
        found = compare(two(other=0.25, noise=0.02, seed=seed), at=[0.3], resamples=100, best=False)
        truth = 0.3 * (0.25 / 0.6) ** (-1 / 0.3) / (0.25 / 0.6) ** (-1 / 0.25)
        row = found.ratios.iloc[0]
        hits.append([row["low"] <= truth <= row["high"], found.difference.covers(0.05)])
    assert np.all(np.mean(hits, axis=0) >= 0.85)


def test_the_sentence_names_who_needs_what_at_which_error():
    found = compare(two(noise=0.01), at=[0.2], resamples=200)
    row = found.ratios.iloc[0]
    assert row["low"] < 0.3 < row["high"]
    first = found.summary().splitlines()[0]
    assert first.startswith("b-mlp needs 0.")
    assert first.endswith("x the flops of s-mlp at 20 % error")
    assert compare(two(), at=[0.2], pair=("s-mlp", "b-mlp"), resamples=0).ratios["ratio"][0] == pytest.approx(
        1 / 0.3
    )


def test_an_error_that_one_of_them_never_reached_is_refused():
    table = pd.concat([family("b-mlp", 0.3), family("s-mlp", high=1e11)], ignore_index=True)
    found = compare(table, at=[0.3, 0.1], resamples=0)
    reached = 0.05 + 0.6 * 100**-0.3
    assert found.common[0] == pytest.approx(reached, rel=1e-4)
    assert found.ratios["refused"].tolist() == ["", f"s-mlp was measured from 0.65 down to {reached:.3g} only"]
    assert np.isnan(found.ratios["ratio"][1])
    assert "no ratio at 10 % error: s-mlp" in str(found)


def test_without_a_common_range_there_is_no_ratio():
    apart = pd.concat([family("b-mlp", 1e-6, floor=0), family("s-mlp", floor=0, high=1e11)], ignore_index=True)
    found = compare(apart, resamples=0)
    assert found.ratios.empty
    assert "the ranges of error do not overlap" in found.warnings
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_law_that_supports_no_exponent_is_a_reason_not_to_compare_exponents():
    table = pd.concat([family("b-mlp", noise=0.01), family("s-mlp", high=2e9, noise=0.01)], ignore_index=True)
    found = compare(table, resamples=100)
    assert not found.supported
    assert found.reasons[0].startswith("s-mlp: ")
    assert "exponents not compared" in str(found)


def test_answer_is_strict_json():
    read = json.loads(json.dumps(compare(two(noise=0.01), resamples=50).to_dict(), allow_nan=False))
    assert read["names"] == ["b-mlp", "s-mlp"]
    assert len(read["ratios"]) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "famly"}, "no column 'famly'; did you mean 'family'"),
        ({"pair": ("b-mlp", "c-mlp")}, "expected two of the values of 'family': b-mlp, s-mlp"),
        ({"by": "flops"}, "column 'flops' has 20 values"),
    ],
)
def test_bad_questions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        compare(two(), **options)


def test_no_ratio_rests_on_a_rejected_law():
    table = two(noise=0.002)
    warm = (table["family"] == "s-mlp") & (table["flops"] < 2e9)
    found = compare(
        table.assign(error=table["error"] * np.where(warm, 1.5, 1.0)), at=[0.2, 0.4], resamples=50, best=False
    )
    assert not found.fits[0].rejected
    assert found.ratios["ratio"].isna().all()
    assert found.ratios["refused"].str.startswith("the law of s-mlp is rejected: the ").all()
    assert compare(table, at=[0.2], resamples=50, best=False).ratios["refused"].eq("").all()
