from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import Akima1DInterpolator

from analysis import fit_isoflop
from analysis.approaches.minima import akima, parabola
from tests.analysis.planted_curves import A, B, isoflop, optimum

QUICK = settings(deadline=None, max_examples=10, derandomize=True)


@QUICK
@given(alpha=st.floats(0.2, 0.6), beta=st.floats(0.2, 0.6), floor=st.sampled_from([0.0, 0.1]))
def test_slopes_of_exact_curves_are_recovered_by_interpolation(alpha, beta, floor):
    fit = fit_isoflop(isoflop(alpha=alpha, beta=beta, floor=floor, sizes=15), resamples=0)
    assert fit.supported
    assert fit.n_exponent.value == pytest.approx(beta / (alpha + beta), abs=0.01)
    assert fit.d_exponent.value == pytest.approx(alpha / (alpha + beta), abs=0.01)
    params, examples = optimum(fit.optima["budget"].to_numpy(), alpha, beta)
    assert fit.optima["n"].to_numpy() == pytest.approx(params, rel=0.05)
    assert fit.optima["d"].to_numpy() == pytest.approx(examples, rel=0.05)


@QUICK
@given(
    log_n=st.floats(-6, 6),
    log_c=st.floats(-9, 9),
    log_y=st.floats(-3, 3),
    method=st.sampled_from(["akima", "parabola"]),
)
def test_slopes_and_intervals_do_not_know_the_units(log_n, log_c, log_y, method):
    table = isoflop(noise=0.003, seeds=2)
    scaled = table.assign(params=table["params"] * 10**log_n, flops=table["flops"] * 10**log_c)
    scaled["error"] *= 10**log_y
    one, other = (fit_isoflop(t, method=method, resamples=50) for t in (table, scaled))
    for name in ("value", "low", "high"):
        assert getattr(other.n_exponent, name) == pytest.approx(getattr(one.n_exponent, name), rel=1e-6)
    assert other.optima["n"].to_numpy() == pytest.approx(10**log_n * one.optima["n"].to_numpy(), rel=1e-6)


def test_row_order_index_and_other_columns_do_not_matter():
    table = isoflop(noise=0.005, seeds=3)
    mixed = table.sample(frac=1, random_state=1).assign(note="x")
    mixed.index = pd.Index([0] * len(mixed))
    one, other = (fit_isoflop(t, resamples=0) for t in (table, mixed))
    assert other.n_exponent.value == pytest.approx(one.n_exponent.value, rel=1e-9)


def test_vertex_of_a_parabola_is_exact_for_a_parabola_and_biased_for_a_lopsided_curve():
    u = np.linspace(0, 4, 9)
    place, height = parabola(u, np.log(2 + 0.3 * (u[None] - np.array([[1.3], [3.1]])) ** 2))
    assert place == pytest.approx([1.3, 3.1])
    assert np.exp(height) == pytest.approx([2, 2])
    lopsided = np.log(np.exp(-0.6 * (u - 2)) + 2 * np.exp(0.3 * (u - 2)))[None]  # lowest at u = 2
    assert abs(parabola(u, lopsided)[0][0] - 2) > 0.05
    assert akima(np.linspace(0, 4, 17), np.interp(np.linspace(0, 4, 17), u, lopsided[0])[None])[0] == pytest.approx(
        2, abs=0.06
    )


@pytest.mark.parametrize("places", [4, 5, 9])
@pytest.mark.parametrize("shape", [np.asarray, np.round])  # rounded values have level pieces
def test_akima_is_that_of_scipy(places, shape):
    rng = np.random.default_rng(places)
    u, y = np.cumsum(rng.uniform(0.1, 2, places)), shape(rng.normal(size=(50, places)))
    fine = np.linspace(u[0], u[-1], 4001)
    lowest = Akima1DInterpolator(u, y.T)(fine)
    inside = np.isin(lowest.argmin(axis=0), [0, 4000], invert=True)
    at, height = akima(u, y)
    assert np.isfinite(at).sum() >= inside.sum()
    np.testing.assert_allclose(height[inside], lowest.min(axis=0)[inside], atol=1e-4)


@pytest.mark.parametrize("find", [parabola, akima])
def test_a_curve_that_only_falls_or_rises_or_bulges_has_no_minimum(find):
    u = np.linspace(0, 4, 9)
    place, height = find(u, np.stack([-u / 4, u / 4, -((u - 2) ** 2), np.zeros_like(u)]))
    assert np.isnan(place).all()
    assert np.isnan(height).all()


@pytest.mark.parametrize("method", ["akima", "parabola"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_interval_of_the_slope_covers_the_slope_of_the_noiseless_design(method, seeds):
    truth = fit_isoflop(isoflop(seeds=seeds), method=method, resamples=0).n_exponent.value
    fits = [fit_isoflop(isoflop(noise=0.004, seeds=seeds, seed=k), method=method, resamples=100) for k in range(30)]
    claims = [fit for fit in fits if fit.supported]
    assert len(claims) >= 27
    assert np.mean([fit.n_exponent.covers(truth) for fit in claims]) >= 0.87


def test_a_budget_whose_minimum_lies_outside_its_sizes_is_refused_and_says_which_are_missing():
    table = isoflop(sizes=12)
    largest = table["flops"].max()
    small = table[(table["flops"] < largest) | (table["params"] < 0.8 * optimum(largest)[0])]
    fit = fit_isoflop(small, resamples=50)
    refused = fit.optima["refused"].tolist()
    assert refused[:-1] == [""] * 5
    assert refused[-1] == "the lowest point is the largest size; larger ones are needed"
    assert fit.optima["n"].isna().tolist() == [False] * 5 + [True]
    assert "larger ones are needed" in fit.summary()
    assert fit.n_exponent.value == pytest.approx(0.3 / 0.64, abs=0.01)


def test_a_minimum_that_noise_can_push_to_the_edge_is_refused():
    fit = fit_isoflop(isoflop(noise=0.2, seeds=2, decades=1.0), resamples=200)
    reasons = [text for text in fit.optima["refused"] if text]
    assert reasons
    assert all("resamples" in text or "size" in text for text in reasons)


def test_without_three_minima_no_exponent_is_claimed():
    fit = fit_isoflop(isoflop(budgets=2), resamples=50)
    assert not fit.supported
    assert fit.reasons == ("2 of 2 budgets have a minimum; a law needs 3",)
    assert np.isnan(fit.n_exponent.value)
    assert "params* against flops: exponent not identified" in str(fit)
    assert "nan" not in str(fit)
    far = fit_isoflop(isoflop(off=100.0), resamples=0)
    assert not far.supported
    json.dumps(far.to_dict(), allow_nan=False)


def test_the_turn_of_a_parabola_through_a_falling_curve_is_no_minimum():
    params = np.geomspace(1e5, 1e7, 9)
    falls = pd.DataFrame({"params": params, "flops": 1e12, "error": (params / 1e5) ** -0.5})
    place, _ = parabola(np.log(params), np.log(falls["error"].to_numpy())[None])
    assert np.isfinite(place[0])
    assert "larger ones" in fit_isoflop(falls, method="parabola", resamples=0).optima["refused"][0]


def test_few_sizes_are_refused():
    fit = fit_isoflop(isoflop(sizes=3), resamples=0)
    assert set(fit.optima["refused"]) == {"3 sizes; a minimum needs 4"}


def test_best_cell_of_a_size_counts_and_a_lucky_seed_does_not():
    table = isoflop(sizes=15, seeds=2)
    worse = table.assign(error=2 * table["error"], cell_id=table["cell_id"] + "-bad-lr")
    worse.loc[worse.index[::2], "error"] /= 2.5  # one lucky seed: the cell's mean stays worse
    both = fit_isoflop(pd.concat([table, worse]), resamples=0)
    assert both.n_exponent.value == pytest.approx(fit_isoflop(table, resamples=0).n_exponent.value, rel=1e-9)


def test_budgets_a_few_steps_apart_are_one():
    table = isoflop(sizes=15)
    apart = table.assign(flops=table["flops"] * np.random.default_rng(0).uniform(0.98, 1.02, len(table)))
    fit = fit_isoflop(apart, resamples=0)
    assert len(fit.optima) == 6
    assert fit.n_exponent.value == pytest.approx(0.3 / 0.64, abs=0.01)


def test_a_table_without_separate_budgets_is_refused():
    rng = np.random.default_rng(0)
    table = isoflop().assign(flops=lambda t: np.exp(rng.uniform(27, 34, len(t))))
    with pytest.raises(ValueError, match="the runs share no budgets: flops rises from"):
        fit_isoflop(table)


def test_examples_left_out_are_compute_over_six_params_and_it_is_said():
    table = isoflop(sizes=15)
    one, other = fit_isoflop(table, resamples=0), fit_isoflop(table.drop(columns="examples"), resamples=0)
    assert other.optima["d"].to_numpy() == pytest.approx(one.optima["d"].to_numpy(), rel=1e-9)
    assert "no column 'examples': taken as flops / (6 params)" in other.warnings


def test_prediction_is_the_line_inside_its_band():
    fit = fit_isoflop(isoflop(noise=0.003, seeds=3), resamples=200)
    at = fit.predict(np.array([1e13, 1e16]))
    assert at["n"].iloc[1] / at["n"].iloc[0] == pytest.approx(1e3**fit.n_exponent.value, rel=1e-9)
    assert np.all((at["n_low"] < at["n"]) & (at["n"] < at["n_high"]))
    ratio = np.log(at["n_high"] / at["n_low"])
    assert ratio[1] > 1.5 * ratio[0]
    with pytest.raises(ValueError, match="positive finite budgets"):
        fit.predict(-1)


def test_the_same_call_gives_the_same_answer_as_strict_json():
    table = isoflop(noise=0.003, seeds=2)
    one, other = (fit_isoflop(table, resamples=50) for _ in range(2))
    read = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert read == json.loads(json.dumps(other.to_dict()))
    assert read["n_exponent"]["value"] == one.n_exponent.value
    assert len(read["optima"]) == 6


def test_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method is 'cubic'; expected 'akima', 'joint' or 'parabola'"):
        fit_isoflop(isoflop(), method="cubic")  # type: ignore[arg-type] # what the test is about


@QUICK
@given(alpha=st.floats(0.2, 0.6), beta=st.floats(0.2, 0.6), log_n=st.floats(-6, 6))
def test_joint_fit_has_no_bias_where_the_surface_holds(alpha, beta, log_n):
    table = isoflop(alpha=alpha, beta=beta, sizes=9, decades=3)
    fit = fit_isoflop(table.assign(params=table["params"] * 10**log_n), method="joint", resamples=0)
    assert fit.n_exponent.value == pytest.approx(beta / (alpha + beta), rel=1e-5)
    params, examples = optimum(fit.optima["budget"].to_numpy(), alpha, beta)
    assert fit.optima["n"].to_numpy() == pytest.approx(params * 10**log_n, rel=1e-4)
    assert fit.optima["d"].to_numpy() == pytest.approx(examples, rel=0.01)


def test_joint_intervals_are_the_narrowest_and_cover():
    truth, tables = 0.3 / 0.64, [isoflop(noise=0.005, seed=k) for k in range(10)]
    fits = {m: [fit_isoflop(t, method=m, resamples=60).n_exponent for t in tables] for m in ("joint", "akima")}
    widths = {m: np.mean([found.high - found.low for found in every]) for m, every in fits.items()}
    assert widths["joint"] < 0.5 * widths["akima"]
    assert np.mean([found.covers(truth) for found in fits["joint"]]) >= 0.7


def test_a_joint_fit_that_leaves_the_points_beyond_their_noise_claims_nothing():
    table = isoflop(noise=0.003, sizes=13, decades=3)
    u, v = table["params"] / 1e6, table["examples"] / 1e6
    luck = table["error"] / isoflop(sizes=13, decades=3)["error"]
    bent = table.assign(error=luck / (1 + 1 / (0.15 * u**-0.34 + 0.15 * v**-0.3)))
    fit = fit_isoflop(bent, method="joint", resamples=20)
    assert not fit.supported
    assert "x the noise of a run" in fit.reasons[0]
    assert fit_isoflop(table, method="joint", resamples=20).supported
    assert fit_isoflop(bent, method="akima", resamples=20).supported


def test_a_refused_budget_has_no_examples_and_stays_out_of_their_line():
    table = isoflop(noise=0.003, seeds=2, sizes=9)
    lonely = table[(table["flops"] < table["flops"].max()) | (table["cell_id"] == "5-4")]
    fit = fit_isoflop(lonely, resamples=50)
    assert fit.optima["refused"].iloc[-1] == "1 size; a minimum needs 4"
    assert fit.optima[["n", "d", "y"]].iloc[-1].isna().all()
    rest = fit_isoflop(table[table["flops"] < table["flops"].max()], resamples=50)
    assert fit.d_exponent.value == pytest.approx(rest.d_exponent.value, rel=1e-9)


def test_one_cell_id_for_different_sizes_is_taken_apart():
    table = isoflop(sizes=15, seeds=2)
    one = fit_isoflop(table.assign(cell_id="same"), resamples=0)
    assert one.n_exponent.value == pytest.approx(fit_isoflop(table, resamples=0).n_exponent.value, rel=1e-9)


def test_optima_farther_from_their_line_than_their_noise_are_told_and_widen_the_interval():
    smooth = isoflop(noise=0.002, seeds=3)
    budget = np.unique(smooth["flops"], return_inverse=True)[1]
    shaken = smooth.assign(params=smooth["params"] * 1.3 ** np.where(budget % 2, 1, -1))
    calm, rough = (fit_isoflop(table, resamples=100) for table in (smooth, shaken))
    assert calm.scatter < 2 < rough.scatter
    assert not any("scatter about their line" in text for text in calm.warnings)
    assert any(f"scatter about their line {rough.scatter:.1f} x" in text for text in rough.warnings)
    widths = [fit.n_exponent.high - fit.n_exponent.low for fit in (calm, rough)]
    assert widths[1] > 0.5 * rough.scatter * widths[0]


def near_equal(seed, apart, copies=2, every=1):
    """Sizes `apart` from each other instead of repeats of one size; and the table with the repeats."""
    rng = np.random.default_rng(seed)
    repeats = isoflop(noise=0.004, seeds=copies, seed=seed, low=1e13)
    first = repeats["run_id"].str.endswith("-0")
    chosen = first | (repeats["cell_id"].str[-1].astype(int) % every == 0)
    repeats = repeats[chosen].reset_index(drop=True)
    low, high = np.log10(apart)
    away = np.where(repeats["run_id"].str.endswith("-0"), 0.0, 10 ** rng.uniform(low, high, len(repeats)))
    sizes = repeats["params"] * (1 + away)
    error = repeats["error"] + errors(sizes, repeats["flops"]) - errors(repeats["params"], repeats["flops"])
    near = repeats.assign(params=sizes, examples=repeats["flops"] / 6 / sizes, error=error)
    return near.drop(columns=["cell_id", "run_id"]), repeats


def errors(params, flops):
    return 0.05 + A * (params / 1e6) ** -0.34 + B * (flops / 6e6 / params) ** -0.3


@pytest.mark.parametrize(
    ("method", "apart", "copies", "every"),
    [
        ("akima", (1e-4, 1.1e-4), 2, 1),
        ("akima", (1e-4, 3e-2), 3, 2),
        ("akima", (3e-2, 3.1e-2), 2, 1),
        ("joint", (1e-4, 3e-2), 2, 1),
    ],
)
def test_sizes_that_are_nearly_equal_are_worth_repeats_of_one_size(method, apart, copies, every):
    fits, truth = [], 0.3 / 0.64
    for seed in range(30 if method == "akima" else 10):
        near, repeats = near_equal(seed, apart, copies, every)
        fits.append([fit_isoflop(table, method=method, resamples=100) for table in (near, repeats)])
    widths = np.array([[fit.n_exponent.high - fit.n_exponent.low for fit in pair] for pair in fits])
    assert 0.75 < np.median(widths[:, 0]) / np.median(widths[:, 1]) < 1.35
    assert np.mean([near.n_exponent.low <= truth <= near.n_exponent.high for near, _ in fits]) >= 0.9
    gone = len(repeats) - repeats["cell_id"].nunique()
    assert any(text.startswith(f"{gone} sizes within 4 % of another averaged") for text in fits[-1][0].warnings)


def test_a_size_that_was_trained_in_a_worse_way_does_not_move_its_neighbour():
    table = isoflop(noise=0.003, seeds=2)
    worse = table[::3].assign(
        error=1.2 * table["error"], cell_id=table["cell_id"] + "w", run_id=table["run_id"] + "w"
    )
    worse = worse.assign(params=1.01 * worse["params"])
    alone, beside = (fit_isoflop(t, resamples=0) for t in (table, pd.concat([table, worse])))
    assert beside.n_exponent.value == pytest.approx(alone.n_exponent.value, abs=1e-9)


def test_sizes_a_few_percent_apart_stay_as_they_are():
    fit = fit_isoflop(isoflop(noise=0.001, sizes=30, decades=0.6), resamples=50)  # 4.9 % apart
    assert [curve.x.size for curve in fit.curves] == [30] * 6
    assert not any("averaged" in text for text in fit.warnings)


def test_a_parabola_that_misses_the_points_claims_nothing_and_one_that_meets_them_does():
    wide, narrow = (
        [fit_isoflop(isoflop(noise=0.002, seeds=3, seed=seed, decades=d), method="parabola") for seed in range(8)]
        for d in (2.5, 0.8)
    )
    for fit in wide:
        assert not fit.supported
        assert fit.reasons[0].startswith("the points leave the parabolas by ")
    assert not any("leave the parabolas" in text for fit in narrow for text in fit.reasons)
    alone = fit_isoflop(isoflop(noise=0.002, seeds=3, decades=2.5), method="parabola", resamples=0)
    assert np.isfinite(alone.n_exponent.value)  # nothing is asked of the noise
    assert alone.supported


def test_a_minimum_that_most_resamples_have_inside_counts():
    fit = fit_isoflop(isoflop(noise=0.1, seeds=2, decades=1.0), resamples=200)
    inside = [np.mean(np.isfinite(akima(np.log(c.x), np.log(c.drawn))[0])) for c in fit.curves]
    assert min(inside) < 0.9
    for share, refused in zip(inside, fit.optima["refused"], strict=True):
        assert (share < 0.8) == ("of the resamples" in refused)


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_noise_that_is_not_known_is_a_reason(seeds):
    table = isoflop(sizes=4, seeds=seeds)  # too few sizes to take the noise from neighbours, and equal repeats
    fit = fit_isoflop(table, resamples=50)
    assert fit.reasons == ("the noise of a run is not known, so there are no intervals",)
    assert not fit.supported
    assert fit_isoflop(table, resamples=0).supported
