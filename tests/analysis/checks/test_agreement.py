from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import FitError, agree, closure, design_bias, fit_surface
from tests.analysis.planted import sweep
from tests.analysis.planted_curves import isoflop

WIDE = (2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
QUICK = settings(deadline=None, max_examples=20, derandomize=True)


def test_the_paper_s_exponents_close_on_the_frontier_and_not_on_the_allocation():
    found = closure(alpha=1, beta=0.35, frontier=0.25, params=0.35, examples=0.65)
    assert not found.closes
    assert [relation.closes for relation in found.relations] == [True, False, False, True]
    assert "params 0.35 does not close with 0.259, implied by alpha 1 and beta 0.35" in found.warnings
    assert json.loads(json.dumps(found.to_dict()))["closes"] is False


@QUICK
@given(alpha=st.floats(0.05, 2), beta=st.floats(0.05, 2), power=st.floats(0.5, 1.5))
def test_exponents_of_one_surface_close(alpha, beta, power):
    both = alpha + power * beta
    law = {"alpha": alpha, "beta": beta, "frontier": alpha * beta / both, "params": beta / both}
    assert closure(**law, examples=alpha / both, power=power, tolerance=1e-9).closes
    assert closure(params=beta / both, examples=alpha / both, power=power, tolerance=1e-9).closes
    assert closure(alpha=alpha, params=beta / both, frontier=law["frontier"], tolerance=1e-9).closes
    assert not closure(**law, examples=alpha / both + 0.1, power=power).closes


@pytest.mark.parametrize("given", [{}, {"alpha": 1.0}, {"alpha": 1.0, "frontier": 0.2}])
def test_too_few_exponents_hold_no_relation(given):
    with pytest.raises(ValueError, match="no relation between"):
        closure(**given)


def test_a_negative_exponent_is_refused():
    with pytest.raises(ValueError, match="alpha is -1; expected a number > 0"):
        closure(alpha=-1, beta=1, frontier=1)


def test_approaches_agree_on_a_surface_measured_about_its_optima():
    found = agree(isoflop(noise=0.005, seeds=2), resamples=100)
    assert found.agrees
    assert found.table["approach"].nunique() == 4
    n = found.table[found.table["quantity"] == "n"]
    assert n["value"].to_numpy() == pytest.approx(np.full(4, 0.3 / 0.64), abs=0.03)
    assert np.all((n["low"] <= 0.3 / 0.64) & (n["high"] >= 0.3 / 0.64))
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["agrees"] is True


def test_a_parabola_over_wide_curves_gives_no_answer_where_it_misses_the_points():
    found = agree(sweep(3, 0.01, widths=WIDE), resamples=100)
    why_not = found.table.set_index(["approach", "quantity"])["why_not"]
    assert "the points leave the parabolas by" in why_not[("isoflop parabola", "n")]
    assert not any("parabola" in text for text in found.conflicts)


def test_an_approach_without_an_answer_says_why_and_the_others_answer():
    two = isoflop(noise=0.005, budgets=2)
    found = agree(two, resamples=50).table.set_index(["approach", "quantity"])
    assert found.loc[("isoflop akima", "n"), "why_not"] == "2 of 2 budgets have a minimum; a law needs 3"
    assert found.loc[("surface", "n"), "value"] == pytest.approx(0.469, abs=0.05)


def test_a_price_that_is_not_proportional_to_params_is_said_and_allowed_for():
    table = isoflop(sizes=15)
    dear = table.assign(examples=1e3 * table["flops"] / table["params"] ** 1.3)
    dear["error"] = 0.05 + 0.2 * (dear["params"] / 1e6) ** -0.5 + (dear["examples"] / 1e8) ** -0.4
    found = agree(dear, resamples=0)
    assert any("params^1.30" in text for text in found.warnings)
    surface = found.table.set_index(["approach", "quantity"]).loc[("surface", "n"), "value"]
    assert surface == pytest.approx(0.4 / (0.5 + 1.3 * 0.4), rel=1e-3)


def test_the_design_alone_moves_what_it_is_known_to_move():
    about, wide = design_bias(isoflop(sizes=15)), design_bias(sweep(1, 0.0, widths=WIDE))
    assert abs(about.of("isoflop parabola", "n")) < 0.005
    assert wide.of("isoflop parabola", "n") < -0.03
    assert abs(wide.of("isoflop akima", "n")) < 0.01
    assert wide.of("bottleneck", "alpha") > 0.3  # params look like alpha = 0.9 where it is 0.3
    assert any("bottleneck from 0.3" in text for text in wide.warnings)
    json.dumps(wide.to_dict(), allow_nan=False)


def test_a_surface_can_be_pushed_through_a_design_before_it_is_run():
    law = fit_surface(isoflop(alpha=0.5, beta=0.25), y="error", resamples=0)
    planned = isoflop(budgets=4).assign(error=0.5)
    assert design_bias(planned, fit=law).table["truth"].iloc[0] == pytest.approx(0.25 / 0.75, rel=1e-3)


def test_a_surface_that_falls_with_examples_alone_has_no_design_bias():
    table = isoflop()
    with pytest.raises(FitError, match="does not fall with both"):
        design_bias(table.assign(error=0.1 + (table["examples"] / 1e5) ** -0.3))
    with pytest.raises(KeyError, match="no row"):
        design_bias(table).of("surface", "n")
