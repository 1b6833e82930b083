from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analysis
from analysis import FitError, fit_power_law
from analysis.fits.quantity import quote
from tests.analysis.planted import law, records
from tests.paths import ROOT, SHARED

QUICK = settings(deadline=None, max_examples=10, derandomize=True)


@QUICK
@given(
    exponent=st.floats(0.1, 1.5),
    floor=st.sampled_from([0.0, 0.01, 0.2]),
    log_unit=st.floats(-9, 9),
    log_y_unit=st.floats(-3, 3),
)
def test_exact_law_is_recovered_in_any_unit(exponent, floor, log_unit, log_y_unit):
    x, unit, y_unit = np.geomspace(1.0, 1e4, 15), 10.0**log_unit, 10.0**log_y_unit
    table = {"flops": unit * x, "error": y_unit * (floor + 2 * x**-exponent)}
    fit = fit_power_law(table, resamples=0)
    assert fit.exponent == pytest.approx(exponent, rel=1e-6)
    assert fit.floor == pytest.approx(y_unit * floor, rel=1e-5, abs=1e-7 * y_unit)
    assert fit.coefficient == pytest.approx(2 * y_unit * unit**exponent, rel=1e-4)


@QUICK
@given(exponent=st.floats(0.2, 1.2), shift=st.floats(0.5, 100), log_unit=st.floats(-9, 9))
def test_exact_shifted_law_is_recovered_in_any_unit(exponent, shift, log_unit):
    x, unit = np.geomspace(1.0, 1e5, 25), 10.0**log_unit
    fit = fit_power_law({"flops": unit * x, "error": 0.1 + (shift + x) ** -exponent}, shift=True, resamples=0)
    assert fit.exponent == pytest.approx(exponent, rel=1e-5)
    assert fit.shift == pytest.approx(unit * shift, rel=1e-4)
    assert fit.floor == pytest.approx(0.1, rel=1e-5)


@QUICK
@given(log_unit=st.floats(-9, 9), seed=st.integers(0, 1000), shift=st.booleans())
def test_exponent_of_noisy_data_does_not_know_the_unit(log_unit, seed, shift):
    table = law(noise=0.02, seed=seed)
    scaled = table.assign(flops=table["flops"] * 10.0**log_unit)
    one, other = (fit_power_law(t, shift=shift, resamples=0) for t in (table, scaled))
    assert other.exponent == pytest.approx(one.exponent, rel=1e-6)


def test_intervals_do_not_know_the_unit():
    table = law(noise=0.02)
    one = fit_power_law(table, resamples=200)
    other = fit_power_law(table.assign(flops=table["flops"] / 1e9), resamples=200)
    assert other.intervals["exponent"] == pytest.approx(one.intervals["exponent"], rel=1e-6)
    assert other.intervals["floor"] == pytest.approx(one.intervals["floor"], rel=1e-6, abs=1e-9)


def test_row_order_index_and_other_columns_do_not_matter():
    table = law(noise=0.02)
    mixed = table.sample(frac=1, random_state=1).assign(note="x")
    mixed.index = pd.Index([0] * len(mixed))
    one, other = (fit_power_law(t, resamples=0) for t in (table, mixed))
    assert other.exponent == pytest.approx(one.exponent, rel=1e-9)


def test_same_call_gives_the_same_answer_and_leaves_its_table_alone():
    table = law(noise=0.02)
    before = table.copy()
    one, other = (fit_power_law(table, resamples=50) for _ in range(2))
    assert one.to_dict() == other.to_dict()
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "squares"},
        {"delta": 1e-3},
        {"residuals": "raw"},
        {"bootstrap": "wild"},
        {"bootstrap": "parametric"},
    ],
)
def test_every_loss_and_bootstrap_finds_the_planted_exponent(options):
    fit = fit_power_law(law(n=40, noise=0.01), resamples=200, **options)
    low, high = fit.intervals["exponent"]
    assert fit.exponent == pytest.approx(0.3, rel=0.05)
    assert low < fit.exponent < high < 1.2 * low


def test_a_small_quantile_finds_the_lower_envelope():
    table = law(n=200, floor=0)
    table["error"] *= np.exp(np.random.default_rng(0).exponential(0.1, size=200))
    fits = [fit_power_law(table, floor=False, quantile=q, loss="squares", resamples=0) for q in (0.02, 0.5)]
    excess = [np.log(fit.predict(1e11)["y"][0] / (3 * 1e2**-0.3)) for fit in fits]
    assert abs(excess[0]) < 0.035
    assert excess[1] > 0.08


def test_records_drawn_as_rows_are_flagged():
    assert any("as if they were independent" in text for text in fit_power_law(records(), by="row").warnings)


def test_outliers_hardly_move_the_exponent():
    table = law(n=30, noise=0.01)
    clean = fit_power_law(table, resamples=0).exponent
    table.loc[[3, 20], "error"] *= [2.0, 0.5]
    residual = np.log(table["error"])
    raw = -np.polyfit(np.log(table["flops"]), residual, 1)[0]
    robust = fit_power_law(table, resamples=0).exponent
    assert robust == pytest.approx(clean, rel=0.03)
    assert abs(raw - 0.3) > abs(robust - 0.3)


def test_floor_may_lie_above_the_lowest_point_of_a_noisy_plateau():
    rng = np.random.default_rng(0)
    x = np.geomspace(1, 1e8, 80)
    y = (0.1 + x**-0.8) * np.exp(0.05 * rng.normal(size=80))
    fit = fit_power_law({"flops": x, "error": y}, resamples=0)
    assert fit.floor > y.min()
    assert fit.floor == pytest.approx(0.1, rel=0.03)


@pytest.mark.parametrize("floor", [False, True])
def test_nominal_95_percent_intervals_cover(floor):
    assert _coverage(n=15, sets=40, floor=floor, noise=0.02, resamples=150) >= 0.87


@pytest.mark.slow
@pytest.mark.parametrize("n", [6, 10, 20, 40])
@pytest.mark.parametrize("floor", [False, True])
def test_nominal_95_percent_intervals_cover_in_many_sets(n, floor):
    assert _coverage(n=n, sets=300, floor=floor, noise=0.02, resamples=500) >= 0.91


def _coverage(n, sets, floor, noise, resamples):
    planted = 0.05 if floor else 0.0
    hits = 0
    for seed in range(sets):
        fit = fit_power_law(law(n, floor=planted, noise=noise, seed=seed), floor=floor, resamples=resamples)
        low, high = fit.intervals["exponent"]
        hits += low <= 0.3 <= high
    return hits / sets


def test_intervals_narrow_with_more_points():
    def width(n):
        low, high = fit_power_law(law(n, noise=0.02), resamples=300).intervals["exponent"]
        return high - low

    assert width(100) < 0.6 * width(15)


def test_records_of_one_run_are_one_cluster():
    table = records()
    clustered = fit_power_law(table, floor=False, resamples=400)
    independent = fit_power_law(table.drop(columns="run_id"), floor=False, resamples=400)
    widths = [fit.intervals["exponent"][1] - fit.intervals["exponent"][0] for fit in (clustered, independent)]
    assert clustered.exponent == pytest.approx(independent.exponent, rel=1e-9)
    assert (clustered.n_clusters, independent.n_clusters) == (12, 96)
    assert widths[0] > 1.3 * widths[1]


def test_prediction_is_the_law_inside_its_band():
    fit = fit_power_law(law(noise=0.02), resamples=300)
    x = np.geomspace(1e8, 1e15, 40)
    band = fit.predict(x)
    assert list(band.columns) == ["x", "y", "low", "high"]
    assert band["y"].to_numpy() == pytest.approx(fit.floor + fit.coefficient * x**-fit.exponent, rel=1e-9)
    assert np.all((band["low"] <= band["y"]) & (band["y"] <= band["high"]))
    ratio = np.log((band["high"] / band["low"]).to_numpy())
    assert ratio[-1] > 2 * ratio[20]


def test_prediction_refuses_what_is_no_position():
    fit = fit_power_law(law(), resamples=0)
    with pytest.raises(ValueError, match="positive finite flops"):
        fit.predict([1e9, -1])


def test_without_resamples_there_are_no_intervals():
    fit = fit_power_law(law(noise=0.02), resamples=0)
    assert np.isnan(fit.intervals["exponent"]).all()
    assert fit.predict(1e10)["low"].isna().all()
    assert "nan" not in str(fit).lower()


def test_dictionary_is_strict_json_with_the_numbers_of_the_fit():
    fit = fit_power_law(law(noise=0.02), resamples=100)
    read = json.loads(json.dumps(fit.to_dict(), allow_nan=False))
    assert read["exponent"] == fit.exponent
    assert read["intervals"]["floor"] == list(fit.intervals["floor"])
    assert len(read["points"]) == fit.n == 20
    json.dumps(fit_power_law(law(), resamples=0).to_dict(), allow_nan=False)


def test_notebook_form_is_escaped():
    table = law(noise=0.02).rename(columns={"flops": "<script>x"})
    shown = fit_power_law(table, x="<script>x", resamples=50)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_digits_printed_are_those_the_interval_justifies():
    assert quote(0.34912, (0.3361, 0.3612)) == "0.349"
    assert quote(0.34912, (0.2, 0.5)) == "0.35"
    assert quote(123456.0, (120000.0, 130000.0)) == "1.23e5"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.rename(columns={"flops": "flop"}), "no column 'flops'; did you mean 'flop'?"),
        (lambda t: t.assign(error="high"), "column 'error' holds text such as 'high'"),
        (lambda t: t.assign(error=0.0), "error is 0 in 20 of 20 rows, and 0 has no logarithm"),
        (lambda t: t.assign(flops=-1.0), "column 'flops' is -1 in 20 of 20 rows (rows 0, 1, 2 and 17 more); a"),
        (
            lambda t: t.assign(error=t["error"].where(t.index != 7, -0.1)),
            "'error' is -0.1 in 1 of 20 rows (row 7); a",
        ),
        (
            lambda t: t.assign(error=-t["error"], run_id="r" + t.index.astype(str)),
            "(runs r0, r1, r2 and 17 more); a law needs values > 0: correct them or leave them out with",
        ),
        (
            lambda t: t.assign(flops=t["flops"].where(t.index > 1), run_id="r" + t.index.astype(str)),
            "column 'flops' has no finite value in 2 of 20 rows (runs r0, r1); fill or drop them",
        ),
        (lambda t: t.assign(error=t["error"].astype(object).where(t.index != 3, "x")), "such as 'x' in row 3; exp"),
        (lambda t: t.assign(flops=np.nan), "column 'flops' has no finite value in 20 of 20 rows"),
        (lambda t: t.assign(error=t["error"] > 1), "column 'error' holds booleans"),
        (lambda t: t.head(2), "found 2 distinct 'flops' in 2 rows; 'power-floor' needs at least 3"),
        (lambda t: t.assign(error=np.nan), "no row has a finite 'error', of 20 rows; choose another column"),
        (lambda t: pd.concat([t, t["flops"]], axis=1), "column 'flops' appears 2 times"),
    ],
)
def test_bad_tables_are_refused_in_one_line_that_says_what_is_wrong(change, message):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the message is what is tested
        fit_power_law(change(law()))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("option", "value"), [("level", 95), ("level", 0), ("resamples", -1)])
def test_senseless_options_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} is {value}"):
        fit_power_law(law(), **{option: value})


@pytest.mark.parametrize("sign", [0, 1])
def test_a_law_that_does_not_fall_has_no_answer(sign):
    x = np.geomspace(1, 1e4, 10)
    with pytest.raises(FitError, match="does not fall"):
        fit_power_law({"flops": x, "error": 0.1 * x ** (0.2 * sign)})


def test_published_addition_table_gets_a_sensible_answer():
    path = SHARED / "fits" / "four_digit_addition.csv"
    if not path.exists():
        pytest.skip("needs ../shared/data/fits")
    fit = fit_power_law(pd.read_csv(path), x="examples", y="loss", resamples=200)
    assert not fit.supported  # a broken law over less than a decade
    assert "exponent not identified (" in fit.summary()


def test_public_names_are_sorted_and_there():
    assert list(analysis.__all__) == sorted(analysis.__all__)
    assert all(hasattr(analysis, name) for name in analysis.__all__)


def test_import_leaves_matplotlib_and_our_other_packages_alone():
    code = "import sys, analysis; print([m for m in ('matplotlib', 'torch', 'ray') if m in sys.modules])"
    root = ROOT
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
