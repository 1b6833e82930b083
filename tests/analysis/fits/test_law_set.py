from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import fit_law, fit_laws
from analysis.fits.law_set import CURVES
from tests.analysis.planted import law
from tests.analysis.planted_extrapolation import KINDS, ahead
from tests.paths import SHARED

QUICK = settings(deadline=None, max_examples=10, derandomize=True)
ADDITION = SHARED / "fits" / "four_digit_addition.csv"
X = np.geomspace(1e2, 1e7, 40)


def broken(noise=0.0, seed=0, x=X):
    """0.05 + 3 x^-0.1 with a break at 1e4 to a slope of 0.5."""
    luck = np.random.default_rng(seed).normal(size=x.size)
    y = 0.05 + 3 * x**-0.1 * (1 + (x / 1e4) ** 2) ** -0.2
    return pd.DataFrame({"examples": x, "error": y * np.exp(noise * luck)})


def sigmoid(noise=0.0, seed=0, gamma=0.8):
    """x as a function of y on (y - 0.05) / (0.9 - y)^gamma = 30 x^-0.4, from chance to near the floor."""
    y = np.concatenate([0.9 - np.geomspace(1e-3, 0.4, 20), 0.05 + np.geomspace(0.4, 0.02, 20)])
    x = (30 * (0.9 - y) ** gamma / (y - 0.05)) ** 2.5
    luck = np.random.default_rng(seed).normal(size=y.size)
    return pd.DataFrame({"examples": x, "error": y * np.exp(noise * luck)})


@QUICK
@given(log_unit=st.floats(-9, 9), log_y_unit=st.floats(-3, 3))
def test_exact_broken_law_is_recovered_in_any_unit(log_unit, log_y_unit):
    unit, y_unit = 10.0**log_unit, 10.0**log_y_unit
    table = broken() * [unit, y_unit]
    fit = fit_law(table, law="broken-1", resamples=0)
    assert [fit["c0"], fit["exponent"], fit["f1"]] == pytest.approx([0.1, 0.5, 0.5], rel=1e-4)
    assert fit["d1"] == pytest.approx(1e4 * unit, rel=1e-4)
    assert fit["floor"] == pytest.approx(0.05 * y_unit, rel=1e-4)


@pytest.mark.parametrize("chance", [None, 0.9])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_exact_law_from_chance_is_recovered(gamma, chance):
    fit = fit_law(sigmoid(gamma=gamma), law="sigmoid", chance=chance, resamples=0)
    found = [fit[name] for name in ("exponent", "coefficient", "gamma", "chance", "floor")]
    assert found == pytest.approx([0.4, 30, gamma, 0.9, 0.05], rel=1e-4)


@pytest.mark.parametrize("name", ["power", "power-floor", "power-floor-shift", "sigmoid", "broken-1"])
@pytest.mark.parametrize("log_unit", [-7.3, 4.1])
def test_exponents_of_noisy_data_do_not_know_units_order_index_or_container(name, log_unit):
    table = {"power": law(floor=0, noise=0.02), "sigmoid": sigmoid(0.01)}.get(name, broken(0.01))
    table = table.rename(columns={"flops": "examples"})
    mixed = table.sample(frac=1, random_state=1).assign(note="x")
    mixed.index = pd.Index([0] * len(mixed))
    scaled = table * [10.0**log_unit, 10.0 ** (0.3 * log_unit)]
    others = [scaled, mixed, {key: table[key].to_numpy() for key in table}]
    one = fit_law(table, law=name, resamples=0)
    for other in (fit_law(t, law=name, resamples=0) for t in others):
        assert other["exponent"] == pytest.approx(one["exponent"], rel=1e-9)


@pytest.mark.skipif(not ADDITION.exists(), reason="needs ../shared/data/fits")
def test_published_addition_table_is_a_broken_law_and_its_end_is_foretold():
    table = pd.read_csv(ADDITION)
    known, later = table[table["training"] == 1], table[table["training"] == 0]
    found = fit_laws(known, x="examples", y="loss", resamples=0)
    off = np.log(found.predict(later["examples"])["y"].to_numpy() / later["loss"].to_numpy())
    assert found.best.name == "curve-broken"
    assert np.sqrt(np.mean(off**2)) < 0.013


@pytest.mark.parametrize(
    ("table", "best"),
    [
        (law(n=25, floor=0, noise=0.01), "curve-power"),
        (law(n=25, noise=0.01), "curve-floor"),
        (
            pd.DataFrame(dict(zip(("examples", "error"), KINDS["saturates"](3)[:2], strict=True))),
            "curve-saturating",
        ),
        (broken(0.003), "curve-broken"),
    ],
)
def test_the_planted_law_has_a_weight_near_that_of_the_most_probable(table, best):
    found = fit_laws(table.rename(columns={"flops": "examples"}), resamples=0)
    assert found.evidence[best] > max(found.evidence.values()) - 2
    assert sum(found.weights.values()) == pytest.approx(1)
    assert list(found.table()["weight"]) == sorted(found.weights.values(), reverse=True)


@pytest.mark.parametrize(
    ("kind", "most"),
    [("saturates", 0.015), ("power law", 0.009), ("floor", 0.010), ("long, from chance", 0.010)],
)
def test_planted_curves_are_continued_to_twice_their_range(kind, most):
    errors = []
    for seed in range(12):
        x, y, planted = KINDS[kind](seed)
        found = fit_laws({"examples": x, "error": y}, resamples=0)
        errors.append(np.log(found.predict(ahead(x))["y"].to_numpy() / planted(ahead(x))))
        assert all(not found.fits[name].at_bounds for name, weight in found.weights.items() if weight > 0.01)
    assert np.sqrt(np.mean(np.square(errors))) < most


@QUICK
@given(log_unit=st.floats(-9, 9), log_y_unit=st.floats(-3, 3))
def test_weights_and_predictions_do_not_depend_on_units_or_order(log_unit, log_y_unit):
    table = law(n=15, noise=0.02).rename(columns={"flops": "examples"})
    unit, y_unit = 10.0**log_unit, 10.0**log_y_unit
    one = fit_laws(table, resamples=0)
    other = fit_laws((table * [unit, y_unit]).sample(frac=1, random_state=1), resamples=0)
    for name, weight in one.weights.items():
        assert other.weights[name] == pytest.approx(weight, abs=1e-4)
    ends = [fit.predict(scale * 3e13)["y"][0] for fit, scale in ((one, 1.0), (other, unit))]
    assert ends[1] == pytest.approx(y_unit * ends[0], rel=1e-4)


def test_law_with_priors_from_outside_is_weighted_with_the_others():
    x = np.geomspace(1e2, 1e7, 25)
    y = (1 + np.log(x / 1e2)) ** -0.8 * np.exp(0.005 * np.random.default_rng(0).normal(size=25))
    own = "tests.analysis.planted_laws:Logarithmic"
    found = fit_laws({"examples": x, "error": y}, laws=[*CURVES, own], resamples=50)
    assert found.best.name == own
    assert found.best.exponent == pytest.approx(0.8, rel=0.02)
    assert found.best.intervals["exponent"][0] < 0.8 < found.best.intervals["exponent"][1]


def test_records_of_one_run_count_as_one_point():
    table = law(n=12, noise=0.02).rename(columns={"flops": "examples"})
    runs = table.assign(run_id=range(12))
    alone, copied = (fit_laws(t, resamples=0) for t in (runs, pd.concat([runs, runs])))
    for name, weight in alone.weights.items():
        assert copied.weights[name] == pytest.approx(weight, abs=1e-6)


def test_bands_beyond_the_data_hold_more_held_out_points_than_those_of_one_law():
    hits = {"mixture": [], "one": []}
    for seed in range(6):
        table = broken(0.01, seed, np.geomspace(1e2, 1e6, 18))
        known, later = table[:12], table[12:]
        bands = {
            "mixture": fit_laws(known, resamples=50).predict(later["examples"]),
            "one": fit_law(known, resamples=50).predict(later["examples"]),
        }
        for name, band in bands.items():
            error = later["error"].to_numpy()
            hits[name].append(np.mean((band["low"] <= error) & (error <= band["high"])))
    assert np.mean(hits["mixture"]) >= 0.9
    assert np.mean(hits["one"]) < 0.6


def test_the_band_widens_with_the_distance_from_the_data():
    found = fit_laws(law(n=16, noise=0.02), x="flops", resamples=50)
    assert not found.rolling.empty
    band = found.predict([1e11, 1e13, 1e15, 1e17])
    width = np.log((band["high"] / band["low"]).to_numpy())
    assert np.all(np.diff(width) > 0)
    assert np.all((band["low"] < band["y"]) & (band["y"] < band["high"]))


def test_comparison_is_strict_json_and_escaped():
    found = fit_laws(law(n=12, noise=0.02).rename(columns={"flops": "<b>x"}), x="<b>x", resamples=20)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["laws"][0]["law"] == found.best.name
    assert "<b>" not in found._repr_html_()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"laws": ["line"]}, "unknown law 'line'; valid: bounded"),
        ({"laws": ["power"]}, "law 'power' has no priors; expected laws such as curve-power"),
        ({"loss": "squares"}, "'loss' has no use here: its laws are weighted under normal residuals"),
        ({"level": 95}, "level is 95; expected a fraction"),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(ValueError, match=r"expected|valid|no use") as refusal:
        fit_laws(law(), x="flops", **options)
    assert message in str(refusal.value)


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="found 4 distinct 'flops'; comparing laws needs at least 5"):
        fit_laws(law(n=4), x="flops")
    with pytest.raises(ValueError, match="found 4 distinct 'flops' in 4 rows; 'sigmoid' needs at least 5"):
        fit_law(law(n=4), x="flops", law="sigmoid")
