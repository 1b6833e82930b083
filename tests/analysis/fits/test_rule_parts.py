"""The parts of the rules that more than one threshold or several inputs decide; nothing is fitted."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import FitError
from analysis.fits.diagnosis import floors, identification, rejection
from analysis.fits.diagnosis.scatter import Scatter
from analysis.laws.base import Constraints
from analysis.table.rows import Refusal
from tests.analysis.fits.made_evidence import evidence, forms, said, surface

# rejection


def test_rows_that_forbid_an_answer_raise_what_they_say_and_other_reasons_do_not():
    rejection.require_answerable(("an exponent is wide",))
    with pytest.raises(FitError, match=r"^y is 0$"):
        rejection.require_answerable(("an exponent is wide", Refusal("y is 0"), Refusal("second")))


@pytest.mark.parametrize(
    ("exponent", "out"),
    [(0.3, False), (0.275, False), (0.2743, True), (0.3263, False), (0.3265, True), (0.1, True), (0.9, True)],
)
def test_an_exponent_contradicts_an_interval_two_per_cent_outside_it(exponent, out):
    assert rejection.contradicts(evidence(), exponent) == out


def test_exponents_of_either_sign_contradict_their_interval_on_both_sides():
    e = evidence(fit__intervals={"exponent": (-0.5, -0.4), "floor": (0, 0)})
    assert [rejection.contradicts(e, value) for value in (-0.52, -0.509, -0.45, -0.393, -0.38)] == [
        *(True, False, False, False, True)
    ]
    assert rejection.contradicts(evidence(fit__intervals={"exponent": (np.nan, np.nan)}), 0.3)


def test_residuals_of_neighbours_bend_a_law_as_well():
    assert "_bends" in said(evidence(scatter=Scatter(0.01, ordered=0.01)))


def test_a_form_gives_way_to_one_that_fits_better_and_not_to_one_that_is_only_simpler():
    open_still = surface(forms=forms(fits=("coupled", "chinchilla"), losses={"coupled": 0.5, "chinchilla": 1.0}))
    assert rejection.better_form(open_still) is None
    assert rejection.better_form(surface()) is None
    gains = {"aicc": {"coupled": 0.0, "chinchilla": 7.25}, "ruled_out": ("chinchilla",)}
    better = forms(fits=("coupled", "chinchilla"), losses={"coupled": 0.9, "chinchilla": 1.0}, **gains)
    text = "the form 'coupled' describes the points better (AICc 7.2 lower): fit law='coupled' in its place"
    assert rejection.better_form(surface(forms=better)) == text
    simpler = forms(fits=("coupled", "chinchilla"), losses={"coupled": 1.0, "chinchilla": 1.0}, **gains)
    assert rejection.better_form(surface(forms=simpler)) is None
    absent = surface(fit__name="overfitted", forms=forms())
    text = "error rises with params at none of the points: nothing shows overfitting; fit law='chinchilla'"
    assert rejection.better_form(absent) == text


# identification


def test_values_that_remain_are_those_of_sampling_range_and_rivals_that_are_as_good():
    e = evidence(trimmed={"smallest": 0.25}, rivals={"shift": (0.4, -1.99), "floor": (0.1, -2.0)})
    assert identification.compatible(e) == {"exponent": (0.25, 0.4)}
    unknown = evidence(fit__intervals={"exponent": (np.nan, np.nan)}, fit__estimates={"exponent": np.nan})
    (ends,) = identification.compatible(unknown).values()
    assert ends in ((0.3, 0.31), (0.3, 0.3))
    nothing = evidence(
        fit__intervals={"exponent": (np.nan, np.nan)}, fit__estimates={"exponent": np.nan}, trimmed={}, rivals={}
    )
    assert np.isnan(identification.compatible(nothing)["exponent"]).all()


def test_values_that_remain_of_a_surface_are_those_of_every_form():
    e = surface(forms=forms(intervals={"alpha": (0.2, 0.6), "floor": (0.01, 0.05)}))
    found = identification.compatible(e)
    assert set(found) == {"alpha", "beta", "params_exponent", "floor"}
    assert (found["alpha"], found["beta"], found["floor"]) == ((0.2, 0.6), (0.25, 0.31), (0.01, 0.06))
    assert set(identification.compatible(surface())) == {"alpha", "beta"}


@pytest.mark.parametrize(
    ("ends", "wide"),
    [((0.1, 0.4), False), ((0.1, 0.401), True), ((3.0, 10.0), True), ((3.0, 9.99), False), ((np.nan, 9.0), False)],
)
def test_an_interval_is_wide_above_a_factor_of_four_or_at_the_end_of_the_search(ends, wide):
    assert identification.spans(evidence(), *ends) == wide


def test_an_interval_of_either_sign_is_wide_above_one():
    e = evidence(law__exponent_range=(-10.0, 10.0))
    assert [identification.spans(e, -0.5, high) for high in (0.5, 0.51)] == [False, True]
    assert identification.signed(e)
    assert not identification.signed(evidence(law__exponent_range=(0.0, 10.0)))
    wide = evidence(law__exponent_range=(-10.0, 10.0), fit__intervals={"exponent": (-0.5, 0.75)})
    text = "the interval of the exponent is 1.2 wide; a claim needs at most 1"
    assert identification.too_wide(wide, ("exponent",)) == text


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((0.1, 0.55), "spans a factor of 5.5; a claim needs at most a factor of 4"),
        ((0.0, 0.55), "reaches 0; a claim needs at most a factor of 4"),
        ((4.0, 10.0), "ends at 10, the end of the search range"),
    ],
)
def test_the_width_of_an_interval_is_told(ends, text):
    e = evidence(law__rates=("q",), fit__intervals={"exponent": (0.28, 0.32), "floor": (0.04, 0.06), "q": ends})
    assert said(e) == {"_wide_rate": f"the interval of q {text}"}


def test_an_interval_that_is_the_range_given_identifies_nothing():
    bounded = Constraints(bounds={"exponent": (0.28, 0.32)})
    e = evidence(law__constraints=bounded)
    assert identification.is_wide(e, "exponent")
    assert said(e)["_wide"] == "the interval of the exponent is the whole range that was given"
    assert not identification.is_wide(
        evidence(law__constraints=Constraints(bounds={"exponent": (0.2, 0.32)})), "exponent"
    )


def test_parameters_of_a_weak_direction_are_those_with_a_fifth_of_it():
    e = evidence(solution__condition=1e5, solution__weakest=np.array([0.2, 0.21, 0.97]))
    assert identification.loose(e) == ["log_term", "floor"]
    some = evidence(solution__condition=1e5, law__free=np.array([0, 2]), solution__weakest=np.array([0.5, 0.5]))
    assert identification.loose(some) == ["log_exponent", "floor"]


def test_terms_at_their_bound_are_absent_and_named_by_their_input():
    e = surface(fit__at_bounds=("B", "q"))
    assert said(e) == {
        "_absent": "error does not fall with tokens: the term is absent",
        "_other_bounds": "q of the law reached the end of the search range",
    }
    both = said(surface(fit__at_bounds=("alpha", "beta", "A", "B")))
    assert both["_exponent_at_bound"] == "alpha and beta reached the end of the search range"
    assert both["_absent"] == "error does not fall with params and tokens: the term is absent"


def test_rules_of_one_input_are_silent_on_a_surface():
    assert said(surface(data__distinct=9, span=1.5, data__clusters=20)) == {}


@pytest.mark.parametrize(("value", "far"), [(-0.54, False), (-0.56, True), (-0.36, False), (-0.34, True)])
def test_an_exponent_of_either_sign_is_another_claim_beyond_half_of_it_and_a_tenth(value, far):
    given = {"law__exponent_range": (-10.0, 10.0), "fit__intervals": {"exponent": (-0.46, -0.44), "floor": (0, 1)}}
    small = evidence(fit__exponent=-0.1, trimmed={"smallest": value + 0.35}, **given)
    assert ("moves_with_range" in said(small)) == far
    large = evidence(fit__exponent=-0.4, trimmed={"smallest": -0.61}, **given)
    assert "moves_with_range" in said(large)
    assert "moves_with_range" not in said(evidence(fit__exponent=-0.4, trimmed={"smallest": -0.59}, **given))


def test_the_range_moves_an_exponent_by_a_factor_of_one_and_a_half_up_or_down():
    for value, far in ((0.2001, False), (0.1999, True), (0.4499, False), (0.4501, True)):
        assert ("moves_with_range" in said(evidence(trimmed={"largest": value}))) == far
    assert "moves_with_range" in said(evidence(fit__exponent=0.5, trimmed={"largest": 0.75}))
    assert "moves_with_range" in said(evidence(fit__exponent=3.0, trimmed={"largest": 2.0}))


def test_forms_as_good_leave_an_exponent_open_that_the_law_determines():
    e = surface(forms=forms(intervals={"alpha": (0.2, 0.9)}))
    assert said(e) == {"open_form": "the points do not rule out the form 'coupled': alpha may be 0.2 to 0.9"}
    alone = surface(forms=forms(intervals={"alpha": (0.2, 0.9)}, fits=("chinchilla", "coupled", "bounded")))
    assert "the form 'coupled' or 'bounded'" in said(alone)["open_form"]
    ends = {"alpha": (0.1, 0.5), "beta": (0.25, 0.31), "params_exponent": (0.42, 0.48), "floor": (0.04, 0.06)}
    itself = surface(fit__intervals=ends, forms=forms(intervals={"alpha": (0.1, 0.9)}))
    assert "open_form" not in said(itself)
    assert identification.open_form(surface()) is None


# cautions


def test_points_to_spare_are_counted_on_a_surface():
    text = "only 7 distinct points for 5 parameters: intervals are rough"
    assert said(surface(data__distinct=7)) == {"_few_points": text}
    assert "_few_points" not in said(surface(data__distinct=8))
    bare = {"law__free": np.arange(1), "count": 1}
    assert said(evidence(data__distinct=4, **bare)) == {
        "_few_points": "only 4 distinct flops for 1 parameters: intervals are rough"
    }
    assert "_few_points" not in said(evidence(data__distinct=5, **bare))
    assert "_few_points" not in said(surface(data__distinct=4, count=1))


def test_exponents_that_may_be_zero_are_named_where_either_sign_is_possible():
    ends = {"a": (-0.1, 0.0), "b": (0.0, 0.2), "c": (0.1, 0.2)}
    given = {"law__exponents": ("a", "b", "c"), "fit__intervals": ends, "fit__estimates": dict.fromkeys(ends, 0.1)}
    e = evidence(law__exponent_range=(-10.0, 10.0), trimmed={}, rivals={}, **given)
    assert said(e)["_no_effect"] == "a and b compatible with 0: error may not depend on it"
    assert "_no_effect" not in said(evidence(trimmed={}, rivals={}, **given))


def correlated(r=0.99, spread=0.1, count=40, above=1.0):
    """Replicates of an exponent and a floor whose correlation is about r; a share `above` of the floors is > 0."""
    u = np.linspace(-1, 1, count)
    v = np.cos(np.pi * np.arange(count))
    mixed = r * u + np.sqrt(1 - r**2) * v * np.std(u)
    floor = np.where(np.arange(count) < above * count, 0.05 + 0.01 * mixed, 0.0)
    return {"exponent": 0.3 * np.exp(spread * u / np.std(u)), "floor": floor}


def test_a_floor_and_an_exponent_that_trade_are_quoted_together():
    text = said(evidence(fit__replicates=correlated()))["_floor_correlated"]
    assert text == "floor and exponent trade against each other (correlation 0.99): quote them together only"
    down = correlated()
    down["floor"] = 0.1 - down["floor"]
    assert "(correlation -0.99)" in said(evidence(fit__replicates=down))["_floor_correlated"]
    loose = correlated(r=0.9)
    assert "_floor_correlated" not in said(evidence(fit__replicates=loose))
    assert "_floor_correlated" not in said(evidence(fit__replicates=correlated(spread=0.049)))
    assert "_floor_correlated" in said(evidence(fit__replicates=correlated(spread=0.051)))
    assert "_floor_correlated" not in said(evidence(fit__replicates=correlated(count=19)))
    assert "_floor_correlated" in said(evidence(fit__replicates=correlated(count=20)))
    gone = {"fit__estimates": {"exponent": 0.3, "floor": 0.0}}
    assert "_floor_correlated" not in said(evidence(fit__replicates=correlated(), **gone))
    tied = {"law__linear": ("exponent", "floor")}
    assert "_floor_correlated" not in said(evidence(fit__replicates=correlated(), **tied))


def test_a_floor_that_most_replicates_lack_is_not_said_to_trade():
    base = correlated()
    order = np.argsort(base["exponent"])
    for zero, told in ((19, True), (20, True), (21, False)):
        floor = base["floor"].copy()
        floor[order[:zero]] = 0.0
        rising = np.where(floor > 0, base["exponent"] - base["exponent"][order[zero]] + 1e-6, 0.0)
        replicates = {"exponent": np.exp(10 * rising), "floor": rising}
        found = "_floor_correlated" in said(evidence(fit__replicates=replicates))
        r = np.corrcoef(np.log(replicates["exponent"]), rising)[0, 1]
        assert r > 0.95
        assert found == told


def test_inputs_that_vary_together_are_named_with_their_correlation():
    u = np.linspace(0, 1, 20)
    off = 0.1 * np.cos(np.pi * np.arange(20))
    logs = np.stack([u, u + off, np.sin(9 * u)])
    r = np.corrcoef(logs)[0, 1]
    given = {"fit__x": ("params", "tokens", "lr"), "data__logs": logs}
    assert r < 0.98
    assert said(surface(**given)) == {}
    logs[1] = u + 0.3 * off
    r = np.corrcoef(logs)[0, 1]
    text = f"params and tokens vary together (correlation {r:.3f}): their effects are hard to tell apart"
    assert said(surface(**given)) == {"_aligned": text}
    logs[2] = 0.0
    assert said(surface(**given)) == {}
    assert "_aligned" not in said(evidence(data__logs=np.stack([u, u])))
    assert said(surface(data__logs=np.stack([u, -u])))["_aligned"].endswith(
        "(correlation -1.000): their effects are hard to tell apart"
    )


def test_forms_as_good_that_widen_an_interval_by_a_tenth_are_told():
    wider = forms(intervals={"alpha": (0.3, 0.411), "floor": (0.0395, 0.0616)})
    open_still = "alpha may be 0.3 to 0.411, the floor may be 0.0395 to 0.0616"
    text = f"the points do not rule out the form 'coupled': {open_still}"
    assert said(surface(forms=wider)) == {"_other_forms": text}
    assert said(surface(forms=forms(intervals={"alpha": (0.3, 0.4099)}))) == {}
    assert said(surface(forms=wider, fit__rms=1e-9)) == {}
    open_still = forms(intervals={"alpha": (0.2, 0.9), "beta": (0.2, 0.4)})
    assert set(said(surface(forms=open_still))) == {"open_form"}
    gains = {"aicc": {"coupled": 0.0, "chinchilla": 7.2}, "ruled_out": ("chinchilla",)}
    better = forms(
        fits=("coupled", "chinchilla"),
        losses={"coupled": 0.9, "chinchilla": 1.0},
        intervals={"alpha": (0.2, 0.5)},
        **gains,
    )
    assert set(said(surface(forms=better))) == {"better_form"}


def test_an_interval_wider_by_exactly_a_tenth_is_not_told():
    ends = {"alpha": (1.0, 2.0), "beta": (0.25, 0.31), "params_exponent": (0.42, 0.48), "floor": (0.04, 0.06)}
    middle = {"alpha": 1.5, "beta": 0.28, "params_exponent": 0.45, "floor": 0.05}
    for high, told in ((2.1, False), (2.11, True)):
        e = surface(fit__intervals=ends, fit__estimates=middle, forms=forms(intervals={"alpha": (1.0, high)}))
        assert ("_other_forms" in said(e)) == told


def test_a_floor_that_is_the_same_in_every_replicate_trades_against_nothing():
    same = correlated()
    same["floor"] = np.full(40, 0.05)
    assert "_floor_correlated" not in said(evidence(fit__replicates=same))


def test_large_shares_are_in_per_cent():
    assert said(evidence(scatter=Scatter(0.62)))["_scattered"].startswith(
        "the points scatter about the law by 62 %"
    )
    failed = said(evidence(solution__replicates_converged=np.arange(100) >= 62))["_replicates_failed"]
    assert failed == "62 % of the bootstrap refits did not converge"


def test_one_row_left_out_is_one_row():
    assert said(evidence(data__dropped=1)) == {
        "_dropped": "1 row without a finite error (failed or diverged) left out"
    }


# floors


def test_a_floor_between_bounds_is_set_where_its_interval_ends_at_the_lower_one():
    def given(low, interval):
        ends = {"exponent": (0.28, 0.32), "floor": interval}
        return evidence(law__constraints=Constraints(bounds={"floor": (low, 1.0)}), fit__intervals=ends)

    assert "_floor_given" in said(given(0.04, (0.04, 0.06)))
    assert "_floor_given" not in said(given(0.04, (0.041, 0.06)))
    assert "_floor_given" not in said(given(0.0, (0.0, 0.06)))


def test_the_floor_of_a_surface_is_that_of_all_forms():
    text = "the interval of the floor reaches 0: [0.0005, 0.06]"
    assert said(surface(forms=forms(intervals={"floor": (0.0005, 0.05)})))["_floor_reaches_zero"] == text
    assert "_floor_reaches_zero" not in said(
        surface(fit__resamples=0, forms=forms(intervals={"floor": (0.0, 0.05)}))
    )
    below = evidence(fit__intervals={"exponent": (0.28, 0.32), "floor": (-0.01, 0.06)})
    assert said(below)["_floor_reaches_zero"] == "the floor has no interval"


def test_a_rival_with_a_lower_score_is_lower():
    assert (floors.than(0.1), floors.than(0.0), floors.than(-0.1)) == ("lower", "higher", "higher")
    text = "a law without a floor describes the points as well (its AICc is 3.0 lower)"
    assert said(evidence(rivals={"floor": (0.2, 3.0)}))["_bare_as_good"] == text
