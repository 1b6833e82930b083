from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import describe_law, fit_frontier, fit_law, fit_power_law, fit_surface, profile
from analysis.laws import LAWS, newton
from analysis.laws.base import Constraints, Law, differences
from analysis.laws.constrained import Constrained
from analysis.solver import fitting
from tests.analysis import planted
from tests.analysis.planted_laws import Stretched


def surface(n=60, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    size, examples = np.exp(rng.uniform(np.log(1e5), np.log(1e9), (2, n)))
    loss = (1.7 + 400 * size**-0.34 + 2000 * examples**-0.34) * np.exp(rng.normal(0, noise, n))
    return pd.DataFrame({"params": size, "examples": examples, "loss": loss})


def test_a_known_floor_gives_the_exponent_of_case_04():
    rng = np.random.default_rng(0)
    c = np.logspace(18, 20.5, 5)
    table = pd.DataFrame({"flops": c, "loss": (1.6 + 95.18 * c**-0.0941) * np.exp(rng.normal(0, 0.001, 5))})
    fit = fit_power_law(table, y="loss", fix={"floor": 1.6})
    rest = fit_power_law(table.assign(loss=table["loss"] - 1.6), y="loss", floor=False, resamples=0)
    assert fit.supported
    assert fit.exponent == pytest.approx(0.0942, abs=5e-4)
    assert fit.exponent == pytest.approx(rest.exponent, abs=5e-4)  # whose residuals weigh otherwise
    assert (fit.floor, fit.intervals["floor"]) == (1.6, (1.6, 1.6))
    assert "floor 1.6 (fixed)" in fit.summary()
    assert fit.law.free.size == 2


@pytest.mark.parametrize("unit", [1.0, 1e6, 1e-3])
@pytest.mark.parametrize("name", ["exponent", "coefficient", "floor", "shift"])
def test_an_exact_law_is_recovered_when_one_parameter_is_known_in_any_unit(name, unit):
    truth = {"exponent": 0.3, "coefficient": 40 * unit**0.3, "floor": 0.5, "shift": 2e3 * unit}
    x = np.geomspace(1e3, 1e8, 30) * unit
    y = truth["floor"] + truth["coefficient"] * (truth["shift"] + x) ** -truth["exponent"]
    fit = fit_power_law({"x": x, "y": y}, "x", "y", shift=True, resamples=0, fix={name: truth[name]})
    assert fit[name] == truth[name]
    assert fit.estimates == pytest.approx(truth, rel=1e-5)


@pytest.mark.parametrize(
    ("law", "names"),
    [
        ("power-floor-shift", ("exponent", "coefficient", "floor", "shift")),
        ("sigmoid", ("exponent", "coefficient", "gamma", "floor")),
        ("broken-1", ("exponent", "c0", "b", "floor", "c1", "d1", "f1")),
        ("broken-2", ("exponent", "c0", "b", "floor")),
        ("chinchilla", ("alpha", "A", "beta", "B", "floor")),
        ("kaplan", ("alpha", "Nc", "beta", "Dc")),
        ("repeated", ("alpha", "A", "beta", "B", "floor", "examples_decay", "params_decay")),
    ],
)
def test_any_parameter_of_any_law_is_held_at_its_value_and_the_gradient_is_exact(law, names):
    rng, entry = np.random.default_rng(0), LAWS.get(law)
    logs = np.sort(rng.uniform(-2.0, 2.0, (len(entry.inputs), 12)), axis=-1)
    placed = entry(logs, np.linspace(9.0, 12.0, len(logs)))
    middle = np.clip(rng.uniform(-0.5, 0.5, (3, placed.low.size)), placed.low + 0.1, placed.high - 0.1)
    known = placed.parameters(middle[:1], 0.7)
    for name in names:
        held = Constrained(placed, Constraints({name: float(known[name][0])}), 0.7)
        theta = held.nearest(middle)
        assert theta.shape[1] == placed.low.size - 1
        assert held.base.parameters(held.whole(theta), 0.7)[name] == pytest.approx(known[name][0], rel=1e-9)
        value, slopes = held.gradient(theta)
        assert value == pytest.approx(placed.value(held.whole(theta)), rel=1e-12)
        assert slopes == pytest.approx(differences(held.value, theta), rel=1e-4, abs=1e-6)
        assert held.at(logs[:, :4]).value(theta) == pytest.approx(value[:, :4], rel=1e-12)


@pytest.mark.parametrize("name", LAWS.names())
def test_every_parameter_of_every_law_is_held_exactly_or_refused_with_those_that_can_be(name):
    rng, entry = np.random.default_rng(0), LAWS.get(name)
    logs = np.sort(rng.uniform(-2.0, 2.0, (len(entry.inputs), 12)), axis=-1)
    placed = entry(logs, np.linspace(9.0, 12.0, len(logs)))
    theta = np.clip(rng.uniform(-0.5, 0.5, (4, placed.low.size)), placed.low + 0.1, placed.high - 0.1)
    known, refused = placed.parameters(theta[:1], 0.7), []
    for parameter, value in known.items():
        try:
            held = Constrained(placed, Constraints({parameter: float(value[0])}), 0.7)
        except ValueError as error:
            refused.append((parameter, str(error)))
            continue
        own = held.nearest(theta)
        assert held.base.parameters(held.whole(own), 0.7)[parameter] == pytest.approx(value[0], rel=1e-8)
        assert held.gradient(own)[1] == pytest.approx(differences(held.value, own), rel=1e-4, abs=1e-5)
    assert all("cannot be held exactly; constrain" in text for _, text in refused)
    assert len(refused) < len(known)
    assert not {"floor", "alpha", "beta"} & {name for name, _ in refused} or name.startswith("curve")


def test_a_parameter_and_one_that_follows_from_it_are_constrained_together():
    x = np.geomspace(1e2, 1e8, 60)
    y = 40 * x**-0.2 * (1 + (x / 1e5) ** 2) ** (-0.3 / 2)
    both: dict[str, Any] = {"fix": {"exponent": 0.5, "c0": 0.2}}
    fit = fit_law({"x": x, "y": y}, "x", "y", law="broken-1", resamples=0, **both)
    assert fit.estimates == pytest.approx(fit.estimates | {"exponent": 0.5, "c0": 0.2, "c1": 0.3}, rel=1e-9)
    assert fit["d1"] == pytest.approx(1e5, rel=0.02)
    with pytest.raises(ValueError, match="'exponent' follows from the other constraints; leave it out"):
        fit_law({"x": x, "y": y}, "x", "y", law="broken-1", fix={"exponent": 0.5, "c0": 0.2, "c1": 0.3})


def test_the_chance_of_a_sigmoid_is_fixed_as_by_its_own_argument():
    x = np.geomspace(1e2, 1e7, 30)
    y = 0.05 + 0.85 / (1 + (x / 1e4) ** 0.6)
    own, fixed = (
        fit_law({"x": x, "y": y}, "x", "y", law="sigmoid", resamples=0, **options)
        for options in ({"chance": 0.9}, {"fix": {"chance": 0.9}})
    )
    assert own.estimates == fixed.estimates
    assert fixed["chance"] == pytest.approx(0.9, rel=1e-12)


def test_bounds_that_are_not_reached_leave_the_fit_as_it_is():
    table = surface()
    free = fit_surface(table, resamples=40)
    for bounds in ({"A": (1, np.inf)}, {"floor": (0, 3), "alpha": (0.1, 1.0)}):
        held = fit_surface(table, resamples=40, bounds=bounds)
        assert held.estimates == pytest.approx(free.estimates, rel=1e-12)
        assert held.objective == pytest.approx(free.objective, rel=1e-12)
        for name in free.intervals:
            assert held.intervals[name] == pytest.approx(free.intervals[name], rel=1e-3)
        assert held.warnings == free.warnings


def test_a_bound_that_is_reached_is_told_and_its_interval_has_one_side():
    table = surface(noise=0.05)
    free = fit_surface(table, resamples=100)
    edge = free["alpha"] - 0.002
    held = fit_surface(table, resamples=100, bounds={"alpha": (0.1, edge)})
    assert held["alpha"] == pytest.approx(edge, rel=1e-12)
    assert held.intervals["alpha"][1] == held["alpha"]
    assert held.intervals["alpha"][0] < edge - 0.002
    assert any("alpha ended at its bound" in text for text in held.warnings)
    assert held.supported
    assert held.objective > free.objective


def test_a_bounded_coefficient_keeps_within_its_range_in_the_units_of_the_data():
    held = fit_surface(surface(), resamples=60, bounds={"A": (10, 350), "B": (2100, 3000)})
    assert held["A"] == pytest.approx(350, rel=1e-9)
    assert held["B"] == pytest.approx(2100, rel=1e-9)
    for name, (low, high) in {"A": (10, 350), "B": (2100, 3000)}.items():
        assert low <= held.intervals[name][0] <= held.intervals[name][1] <= high
        assert np.all((held.replicates[name] > low * 0.999999) & (held.replicates[name] < high * 1.000001))


def test_tied_exponents_are_equal_in_the_estimate_and_in_every_resample():
    fit = fit_surface(surface(), resamples=50, tie=("alpha", "beta"))
    assert fit["alpha"] == fit["beta"] == pytest.approx(0.34, abs=0.02)
    assert np.array_equal(fit.replicates["alpha"], fit.replicates["beta"])
    assert fit["params_exponent"] == pytest.approx(0.5, abs=1e-12)
    assert fit.law.free.size == 4
    both = fit_surface(surface(), resamples=0, tie=[("alpha", "beta"), ("A", "B")])
    assert both["A"] == pytest.approx(both["B"], rel=1e-12)
    fixed = fit_surface(surface(), resamples=0, tie=("alpha", "beta"), fix={"beta": 0.3})
    assert fixed["alpha"] == pytest.approx(fixed["beta"], rel=1e-12)
    assert fixed["beta"] == 0.3


@pytest.mark.parametrize(
    "options", [{"fix": {"A": 900.0}}, {"fix": {"alpha": 0.5}, "bounds": {"B": (10, 500)}}, {"tie": ("A", "B")}]
)
def test_the_minimum_under_constraints_is_that_of_many_random_starts(options):
    table = surface(noise=0.03)
    fit = fit_surface(table, resamples=0, loss="squares", **options)
    problem = fitting.pose(fit.law, fit.data, fit.solution.loss)
    rng = np.random.default_rng(0)
    starts = fit.solution.theta + rng.normal(0, 1.5, (300, fit.solution.theta.size))
    ends = newton.refine(problem.rows(np.zeros(300, dtype=np.intp)), starts)[1]
    assert fit.objective <= ends.min() * (1 + 1e-9)
    assert np.mean(ends < fit.objective * 1.001) > 0.2


def test_constraints_that_the_points_contradict_are_refused():
    wrong = fit_surface(surface(), resamples=0, fix={"floor": 1.0})
    assert not wrong.supported
    assert any("the points contradict what was set for floor" in text for text in wrong.reasons)
    assert fit_surface(surface(), resamples=0, fix={"floor": 1.7}).supported


def test_what_was_set_is_not_claimed_as_measured():
    table = surface()
    assert fit_surface(table, resamples=100).floor_reasons == ()
    fixed = fit_surface(table, resamples=100, fix={"floor": 1.7})
    assert fixed.floor_reasons == ("the floor was set, not measured",)
    assert fixed.to_dict()["constraints"]["fix"] == {"floor": 1.7}
    assert profile(fixed, "alpha").low < 0.34 < profile(fixed, "alpha").high
    with pytest.raises(ValueError, match=r"'floor' was fixed at 1.7: it has no profile"):
        profile(fixed, "floor")
    noise = surface(20, noise=0.5)
    bounded = fit_surface(noise, resamples=100, bounds={"alpha": (0.3, 0.4)})
    assert bounded.intervals["alpha"] == (0.3, 0.4)
    assert "alpha" in bounded.unidentified
    assert not bounded.supported


def test_a_law_with_a_known_exponent_is_drawn_in_the_same_form():
    x = np.geomspace(1e3, 1e7, 30)
    table = pd.DataFrame({"x": x, "y": (1 + 30 * x**-0.35) * np.exp(np.random.default_rng(0).normal(0, 0.01, 30))})
    fit = fit_power_law(table, "x", "y", fix={"exponent": 0.35})
    chart = describe_law(table, fit, x="x", y="y")
    assert len(chart.lines) == 1
    assert chart.annotation[0].endswith("^{-0.35}$")
    assert len(chart.annotation) == 1


def test_a_law_from_outside_with_numerical_derivatives_is_constrained_too():
    class Plain(Stretched):
        gradient = Law.gradient

    analysis.register_law("plain-for-constraints", Plain)
    x = np.geomspace(1e2, 1e6, 40)
    y = 0.05 + 2.0 * np.exp(-((x / 1e4) ** 0.4))
    for fix in ({"floor": 0.05}, {"scale": 1e4}, {"exponent": 0.4}, {"coefficient": 2.0}):
        fit = fit_law({"x": x, "y": y}, "x", "y", law="plain-for-constraints", resamples=0, fix=fix)
        expected = {"floor": 0.05, "coefficient": 2.0, "scale": 1e4, "exponent": 0.4}
        assert fit.estimates == pytest.approx(expected, rel=1e-4)


def test_a_frontier_takes_constraints():
    fit = fit_frontier(planted.sweep(), floor=True, resamples=20, fix={"floor": 0.0})
    plain = fit_frontier(planted.sweep(), floor=False, resamples=20)
    assert fit.exponent == pytest.approx(plain.exponent, rel=1e-3)
    assert fit.intervals["floor"] == (0.0, 0.0)


def test_rivals_keep_the_constraints_of_other_parameters():
    x = np.geomspace(1e3, 1e7, 20)
    fit = fit_power_law({"x": x, "y": 1 + 30 * x**-0.35}, "x", "y", resamples=0, fix={"floor": 1.0})
    assert set(fit.law.rivals()) == {"shift"}
    assert fit.law.rivals()["shift"].constraints.fix == {"floor": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fix": {"flor": 1.0}}, "no parameter 'flor'; did you mean 'floor'"),
        ({"fix": {"alpha": -1.0}}, "'alpha' cannot be -1; expected 0.001 to 10"),
        ({"fix": {"A": 0.0}}, "'A' cannot be 0; expected a value > 0"),
        ({"bounds": {"floor": (-3, -1)}}, "'floor' cannot be -3; expected 0 to inf"),
        (
            {"fix": {"params_exponent": 0.5}},
            "'params_exponent' depends on several others and cannot be held exactly; constrain A, alpha",
        ),
        ({"tie": ("A", "alpha")}, "'A' and 'alpha' are not of one kind"),
        ({"fix": {"alpha": 0.3}, "bounds": {"alpha": (0.1, 0.4)}}, "'alpha' is in fix and in bounds"),
        (
            {"fix": {"alpha": 0.3, "beta": 0.4}, "tie": ("alpha", "beta")},
            "the constraints leave no value of 'beta'",
        ),
        ({"fix": dict.fromkeys(("A", "alpha", "B", "beta", "floor"), 1.0)}, "no parameter is left to fit"),
    ],
)
def test_a_constraint_that_cannot_hold_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as refusal:
        fit_surface(surface(20), resamples=0, **options)
    assert "\n" not in str(refusal.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"fix": {"floor": 1.7}}, ("alpha", "beta", "A", "B")),
        ({"tie": ("alpha", "beta")}, ("alpha", "beta", "floor")),
        ({"fix": {"A": 400.0}}, ("alpha", "beta", "B", "floor")),
    ],
)
def test_intervals_under_constraints_cover_the_planted_values(options, names):
    truth = {"alpha": 0.34, "beta": 0.34, "A": 400, "B": 2000, "floor": 1.7}
    fits = [fit_surface(surface(120, seed=seed), resamples=200, **options) for seed in range(100)]
    for name in names:
        share = np.mean([fit.intervals[name][0] <= truth[name] <= fit.intervals[name][1] for fit in fits])
        assert 0.87 <= share <= 1.0
