from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import Law, describe_law, fit_frontier, fit_law, fit_laws, fit_surface, profile, register_law
from analysis.laws import LAWS
from analysis.laws.base import differences
from analysis.laws.sigmoid import Sigmoid
from tests.analysis.planted import law as power_law
from tests.analysis.planted import surface
from tests.analysis.planted_laws import PLANTED, NumericalStretched, Stretched, stretched

QUICK = settings(deadline=None, max_examples=10, derandomize=True)
NAMED = "tests.analysis.planted_laws:Stretched"
POWERS = {
    "power": (False, False),
    "power-floor": (True, False),
    "power-shift": (False, True),
    "power-floor-shift": (True, True),
}


def placed(name, n=20):
    """A law at n places: one input, or N, U, D over three decades with up to a hundred repeats."""
    rng = np.random.default_rng(0)
    log_n, log_u, log_repeats = rng.uniform(size=(3, n)) * [[7], [7], [4.6]] + [[11], [11], [0]]
    inputs = {"x": log_n, "N": log_n, "U": log_u, "D": log_u + log_repeats}
    logs = np.stack([inputs[letter] for letter in LAWS.get(name).inputs])
    centre = logs.mean(axis=1)
    return LAWS.get(name)(logs - centre[:, None], centre)


@pytest.mark.parametrize("name", [*LAWS.names(), NAMED])
def test_gradients_are_those_of_the_law(name):
    law = placed(name)
    rng = np.random.default_rng(1)
    for theta in (rng.uniform(0.05, 0.9, size=(4, law.low.size)), rng.normal(-0.5, 0.4, size=(4, law.low.size))):
        floors = [k for k, parameter in enumerate(law.theta_names) if parameter in ("floor", "shift")]
        theta[:, floors] = np.abs(theta[:, floors])
        log_law, gradient = law.gradient(theta)
        assert log_law == pytest.approx(law.value(theta))
        assert gradient[:, law.free] == pytest.approx(
            differences(law.value, theta)[:, law.free], abs=2e-8, rel=1e-6
        )


def test_gradient_at_a_known_chance_is_that_of_the_law():
    law = Sigmoid(np.linspace(-2, 3, 15)[None, :], np.array([5.0]), chance=2.0)
    theta = np.array([[-0.5, 0.2, 0.3, 0.0, 0.4]])
    assert law.gradient(theta)[1][:, 4] == pytest.approx(differences(law.value, theta)[:, 4], abs=1e-8)
    assert 3 not in law.free


@pytest.mark.parametrize("name", LAWS.names())
def test_a_law_at_its_own_places_again_is_the_same_law(name):
    law = placed(name)
    theta = np.random.default_rng(2).uniform(0.1, 0.6, size=(3, law.low.size))
    assert np.array_equal(law.at(law.logs).value(theta), law.value(theta))
    assert law.at(law.logs[:, ::-1]).value(theta) == pytest.approx(law.value(theta)[:, ::-1], rel=1e-12)


@pytest.mark.parametrize("name", ["power-floor-shift", "chinchilla", "kaplan", "repeated", "repeated-examples"])
def test_exponents_are_searched_from_a_thousandth_to_ten_and_floors_from_zero(name):
    law = placed(name)
    for k, parameter in enumerate(law.theta_names):
        if parameter in law.exponents and law.exponent_range[0] < 0:
            assert (law.low[k], law.high[k]) == law.exponent_range == (-10.0, 10.0)
        elif parameter in law.exponents:
            assert np.exp([law.low[k], law.high[k]]) == pytest.approx([1e-3, 10.0])
        elif parameter == "floor":
            assert (law.low[k], law.high[k]) == (0.0, np.inf)


@pytest.mark.parametrize("name", POWERS)
def test_rivals_of_a_power_law_differ_from_it_in_one_part(name):
    rivals = placed(name).rivals()
    floor, shift = POWERS[name]
    assert (rivals["floor"].floor, rivals["floor"].shift) == (not floor, shift)
    assert (rivals["shift"].floor, rivals["shift"].shift) == (floor, not shift)


@QUICK
@given(log_unit=st.floats(-9, 9), log_y_unit=st.floats(-3, 3), name=st.sampled_from([NAMED, "numerical-stretched"]))
def test_exact_law_from_outside_is_recovered_in_any_unit(log_unit, log_y_unit, name):
    register_law("numerical-stretched", NumericalStretched)
    unit, y_unit = 10.0**log_unit, 10.0**log_y_unit
    fit = fit_law(stretched() * [unit, y_unit], law=name, resamples=0)
    units = {"floor": y_unit, "coefficient": y_unit, "scale": unit, "exponent": 1.0}
    for parameter, planted in PLANTED.items():
        assert fit[parameter] == pytest.approx(planted * units[parameter], rel=1e-4)


def test_law_from_outside_has_intervals_profile_prediction_and_figure():
    table = stretched(noise=0.01, seed=3)
    fit = fit_law(table, law=NAMED, resamples=200)
    assert fit.supported, fit.reasons
    assert fit.name == NAMED
    for name, (low, high) in fit.intervals.items():
        assert low < fit[name] < high
        assert low < PLANTED[name] < high, name
    found = profile(fit, "exponent")
    assert found.low < fit.exponent < found.high
    assert np.log(found.high / found.low) == pytest.approx(
        np.log(fit.intervals["exponent"][1] / fit.intervals["exponent"][0]), rel=0.4
    )
    band = fit.predict(table["examples"])
    assert np.all((band["low"] <= band["y"]) & (band["y"] <= band["high"]))
    assert band["y"].to_numpy() == pytest.approx(stretched()["error"].to_numpy(), rel=0.02)
    chart = describe_law(table, fit, x="examples")
    assert any(r"\mathrm{exp}(-(\mathrm{examples}\ /" in text for text in chart.annotation)
    assert chart.lines[-1].style == "law"


def test_numerical_derivatives_give_the_fit_of_analytic_ones():
    table = stretched(noise=0.02)
    register_law("numerical-stretched", NumericalStretched)
    one, other = (fit_law(table, law=name, resamples=100) for name in (NAMED, "numerical-stretched"))
    for name in PLANTED:
        assert other[name] == pytest.approx(one[name], rel=1e-6)
        assert other.intervals[name] == pytest.approx(one.intervals[name], rel=1e-4)
    assert other.objective == pytest.approx(one.objective, rel=1e-9)


def test_registered_law_is_fitted_to_a_frontier_and_needs_priors_to_be_weighted():
    register_law("stretched", Stretched)
    table = stretched(noise=0.005)
    with pytest.raises(ValueError, match="law 'stretched' has no priors"):
        fit_laws(table, laws=["curve-power", "stretched"])
    front = fit_frontier(table, x="examples", law="stretched", kind="each", resamples=50)
    assert front.exponent == pytest.approx(0.4, rel=0.1)


def test_installed_law_is_found_by_its_entry_point(tmp_path, monkeypatch):
    folder = tmp_path / "stretched_law-1.5.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: stretched-law\nVersion: 1.5\n")
    (folder / "entry_points.txt").write_text(f"[isoflop.laws]\ninstalled-stretched = {NAMED}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    fresh = type(LAWS)("law", LAWS.group, lambda *_: None, {})
    assert fresh.names() == ["installed-stretched"]
    assert fresh.get("installed-stretched") is Stretched


class NoValue(Law):
    formula, theta_names, low, high = "{a}", ("a",), np.zeros(1), np.ones(1)

    def parameters(self, theta, centre_y):
        return {"a": theta[:, 0] + centre_y}

    def candidates(self, problem):
        return np.zeros((len(problem.log_y), 1, 1))


class NoStarts(Stretched):
    candidates = Law.candidates


class NoBounds(Law):
    formula, theta_names = "{a}", ("a",)
    value, parameters, candidates = NoValue.candidates, NoValue.parameters, NoValue.candidates


class WrongBounds(Stretched):
    low = np.zeros(2)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (NoValue, r"law 'mine' lacks value\(\)"),
        (NoStarts, r"law 'mine' lacks candidates\(\) or starts\(\)"),
        (NoBounds, "law 'mine' lacks low, high"),
        (WrongBounds, r"low, high and theta_names of different lengths: \[2, 4\]"),
        (np.exp, "expected a subclass of analysis.Law"),
    ],
)
def test_law_that_lacks_a_part_is_refused_when_it_is_registered(entry, message):
    with pytest.raises(TypeError, match=message):
        register_law("mine", entry)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("power-flor", "unknown law 'power-flor'; did you mean 'power-floor'?"),
        ("line", "valid: bounded, broken-1, broken-2, broken-3, chinchilla, coupled"),
        ("tests.analysis.planted_laws:Streched", "has no attribute 'Streched'"),
        ("no_such_module:Law", "No module named 'no_such_module'"),
        ("chinchilla", "law 'chinchilla' has the inputs N, D; fit it with fit_surface"),
    ],
)
def test_unknown_law_is_refused_with_what_there_is(name, message):
    with pytest.raises(ValueError, match="law") as refusal:
        fit_law(power_law(), x="flops", law=name)
    assert message in str(refusal.value)


def test_a_law_of_one_input_is_no_surface():
    with pytest.raises(ValueError, match="law 'sigmoid' has the inputs x; fit it with fit_law"):
        fit_surface(surface(), law="sigmoid")
