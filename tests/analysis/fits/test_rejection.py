"""Which evidence rejects a law or forbids a claim; the evidence is made by hand or planted."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace as Some
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import fit_power_law, fit_surface
from analysis.fits.diagnosis.ends import End, chances, cuts_of
from analysis.fits.diagnosis.evidence import Evidence
from analysis.fits.diagnosis.floors import FLOOR
from analysis.fits.diagnosis.identification import BLOCKING
from analysis.fits.diagnosis.rejection import REJECTING, contradicts
from analysis.fits.diagnosis.scatter import Scatter, flexible, neighbours
from analysis.fits.diagnosis.stability import Few
from analysis.numbers import short
from analysis.solver.fitting import pose
from tests.analysis.planted import law
from tests.analysis.planted_curves import isoflop

END = End("flops", smallest=True, at=3e9, rows=4, off=0.7, chance=1e-5, others_hold=True)


def evidence(rules=REJECTING, **changes) -> list[str]:
    """What the rules say of a power law with floor without any fault, but for the changes."""
    constraints = Some(bounds={}, fix={}, names=("floor",))
    shown = Some(
        name="power-floor", x=("flops",), y="error", floor=0.05, n=40, estimates={"exponent": 0.3, "floor": 0.05}
    )
    shown.intervals = {"exponent": (0.28, 0.32), "floor": (0.04, 0.06)}
    shown.data, shown.law = Some(pool=False, notes=(), populations={}), Some(constraints=constraints)
    given: dict[str, Any] = {
        "fit": shown,
        "scatter": Scatter(0.01),
        "trimmed": {},
        "rivals": {},
        "unconstrained": 0.0,
    }
    given |= {"forms": None, "ends": (), "few": {}}
    for name in set(changes) - set(given):
        setattr(shown, name, changes.pop(name))
    return [text for rule in rules if (text := rule(Evidence(**(given | changes))))]


def test_a_law_without_fault_is_not_rejected():
    assert evidence() == []
    assert evidence(FLOOR) == []


@pytest.mark.parametrize(("rms", "said"), [(0.30, 0), (0.301, 1), (0.4, 1)])
def test_residuals_of_30_percent_reject(rms, said):
    assert (
        evidence(scatter=Scatter(rms))
        == [f"the points scatter about the law by {100 * rms:.0f} % rms: it does not describe them"] * said
    )


@pytest.mark.parametrize(("chance", "said"), [(0.011, False), (0.01, True), (1e-9, True)])
def test_scatter_beyond_that_of_repeats_rejects(chance, said):
    found = evidence(scatter=Scatter(0.01, 0.005, 20, 2.04, unexplained=chance, bent=chance))
    assert (
        found
        == ["the points leave the law by 2.0 x what repeats explain (0.5 %): it is not the law of this table"]
        * said
    )


@pytest.mark.parametrize("test", ["bent", "ordered"])
@pytest.mark.parametrize(("chance", "said"), [(0.011, False), (0.01, True), (1e-9, True)])
def test_residuals_that_bend_or_follow_each_other_reject(test, chance, said):
    found = evidence(scatter=replace(Scatter(0.01), **{test: chance}))
    assert found == ["the points bend about the law instead of scattering: it is not the law of this table"] * said


@pytest.mark.parametrize(("gain", "said"), [(4.0, 0), (4.1, 1)])
def test_a_part_that_the_law_lacks_and_that_describes_better_rejects(gain, said):
    assert len(evidence(rivals={"shift": (0.4, gain)})) == said
    assert evidence(rivals={"floor": (0.4, gain)}) == []  # the law has one: not a part that it lacks
    if said:
        text = "a shift describes the points better (AICc 4.1 lower), with exponent 0.4"
        assert evidence(rivals={"shift": (0.4, gain), "floor": (0.5, 9.0)}) == [text]


@pytest.mark.parametrize(("gain", "said"), [(3.9, 0), (4.0, 1)])
def test_contradicted_constraints_reject(gain, said):
    text = f"the points contradict what was set for floor: the AICc of the law without it is {gain} lower"
    assert evidence(unconstrained=gain) == [text] * said


def test_points_too_few_for_an_aicc_contradict_no_constraint():
    table = {"examples": [1e3, 1e4, 1e5, 1e6, 1e7], "error": [0.9, 0.52, 0.33, 0.26, 0.22]}
    for known in ({"fix": {"exponent": 1.0}}, {"bounds": {"exponent": (0.8, 1.0)}}):
        fit = fit_power_law(table, "examples", resamples=50, **known)
        assert not [text for text in fit.reasons if "contradict" in text]


def forms(loss, **changes) -> Any:
    """Forms of a surface of which "coupled" is the best, with a loss of 1, and the law in question has `loss`."""
    names = {"coupled": 1.0, "power-floor": loss}
    shown: dict[str, Any] = {"open": ("coupled",), "best": Some(name="coupled"), "fits": names, "losses": names}
    return Some(**(shown | {"aicc": {"coupled": 0.0, "power-floor": 9.0}} | changes))


def test_a_form_that_describes_better_rejects_and_one_with_fewer_parameters_does_not():
    better = "the form 'coupled' describes the points better (AICc 9.0 lower): fit law='coupled' in its place"
    assert evidence(forms=forms(2.0)) == [better]
    assert evidence(forms=forms(1.0)) == []
    assert evidence(forms=forms(2.0, open=("coupled", "power-floor"))) == []
    absent = evidence(forms=forms(2.0, fits={"coupled": 1.0}))
    assert absent == ["error rises with flops at none of the points: nothing shows overfitting; fit law='coupled'"]


def test_rows_at_an_end_are_named_and_offered_for_exclusion():
    first = "the 4 rows with flops below 3e9 lie up to 100 % above the law of the others"
    offer = 'leave them out with --where "flops > 3e9"'
    assert evidence(ends=(END,)) == [f"{first} (a warm-up?); {offer}"]
    last = replace(END, axis="my flops", smallest=False, off=-0.2)
    text = evidence(ends=(replace(END, others_hold=False), last))[0]
    alone, second = text.split("; ", 1)
    assert alone == first
    assert second.startswith(
        "the 4 rows with my flops above 3e9 lie up to 18 % below the law of the others (a plateau?)"
    )
    assert second.endswith('--where "`my flops` < 3e9"')
    assert evidence(ends=(replace(END, chance=0.01),)) == []
    assert len(evidence(ends=(replace(END, chance=0.0099),))) == 1
    assert replace(END, axis="params * tokens").where == "params * tokens > 3e9"


@pytest.mark.parametrize(
    ("exponent", "low", "high", "outside"),
    [
        (0.3, 0.28, 0.32, False),
        (0.275, 0.28, 0.32, False),
        (0.274, 0.28, 0.32, True),
        (0.326, 0.28, 0.32, False),
        (0.327, 0.28, 0.32, True),
        (-0.326, -0.32, -0.28, False),
        (-0.327, -0.32, -0.28, True),
        (-0.275, -0.32, -0.28, False),
        (-0.27, -0.32, -0.28, True),
        (0.3, np.nan, np.nan, True),
    ],
)
def test_an_exponent_contradicts_2_percent_outside_its_interval(exponent, low, high, outside):
    shown: Any = Some(fit=Some(intervals={"exponent": (low, high)}))
    assert contradicts(shown, exponent) is outside


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"floor": 0.0}, "the fit has no floor"),
        ({"intervals": {"floor": (0.0004, 0.06)}}, "the interval of the floor reaches 0: [0.0004, 0.06]"),
        ({"intervals": {"floor": (0.0, 0.06)}}, "the interval of the floor reaches 0: [0, 0.06]"),
        ({"intervals": {"floor": (np.nan, np.nan)}}, "the floor has no interval"),
        (
            {"rivals": {"floor": (0.2, -1.9)}},
            "a law without a floor describes the points as well (its AICc is 1.9 higher)",
        ),
        (
            {"rivals": {"floor": (0.2, 1.0)}},
            "a law without a floor describes the points as well (its AICc is 1.0 lower)",
        ),
    ],
)
def test_each_reason_against_a_floor_is_told(changes, words):
    assert evidence(FLOOR, **changes) == [words]


def test_a_floor_just_beyond_its_thresholds_is_no_reason():
    assert evidence(FLOOR, intervals={"floor": (0.00051, 0.06)}) == []
    assert evidence(FLOOR, rivals={"floor": (0.2, -2.0)}) == []


def test_a_few_rows_that_decide_are_named():
    rows = pd.DataFrame({"flops": [1e9, 2e9], "error": [0.5, 0.4]})
    which = "(the rows with flops 1e9, error 0.5; flops 2e9, error 0.4)"
    few = {name: Few(0.4, rows) for name in ("exponent", "floor")}
    said = evidence([rule for rule in BLOCKING if rule.__name__ == "_few_decide"], few=few)
    assert said == [f"without 2 of 40 rows the exponent is 0.4, outside [0.28, 0.32] {which}"]
    assert evidence(FLOOR, few=few) == [f"without 2 of 40 rows the floor is 0.4, outside [0.04, 0.06] {which}"]
    assert evidence(FLOOR, few={"exponent": few["exponent"]}) == []


def warmed(share=0.15, noise=0.005, side="first", seed=0):
    """A law with a floor whose first points still come down, or whose last ones no longer do."""
    table = law(n=40, floor=0.3, noise=noise, seed=seed)
    clean, count = law(n=40, floor=0.3)["error"].to_numpy(), int(40 * share)
    bent = clean.copy()
    if side == "first":
        bent[:count] *= 1 + np.linspace(1, 0, count, endpoint=False)
    else:
        bent[-count:] = bent[-count]
    return table.assign(error=table["error"] * bent / clean)


@pytest.mark.parametrize(("side", "sign", "where"), [("first", "warm-up", ">"), ("last", "plateau", "<")])
def test_a_warm_up_and_a_plateau_are_found_and_the_rest_supports_the_truth(side, sign, where):
    table = warmed(side=side, noise=0.002)
    fit = fit_power_law(table, resamples=100)
    text = next(text for text in fit.rejected if "leave them out" in text)
    assert sign in text
    condition = text.split('"')[1]
    assert condition.startswith(f"flops {where} ")
    kept = table.query(condition)
    assert 30 <= len(kept) <= 36
    rest = fit_power_law(kept, resamples=200)
    assert rest.supported
    assert not rest.floor_reasons
    assert rest.intervals["exponent"][0] < 0.3 < rest.intervals["exponent"][1]


def test_a_warm_up_of_a_surface_is_found():
    table = isoflop(noise=0.003, floor=0.1)
    first = table["examples"].rank(method="first") <= 8
    found = fit_surface(table.assign(error=table["error"] * np.where(first, 1.5, 1.0)), y="error", resamples=20)
    assert any('"examples > ' in text and "(a warm-up?)" in text for text in found.rejected)
    assert not fit_surface(table, y="error", resamples=20).rejected


@pytest.mark.parametrize(
    ("end", "least"),
    [
        ("none", 0),
        ("warm-up, a tenth", 9),
        ("warm-up, a fifth", 6),
        ("plateau, a tenth", 6),
        ("plateau, a fifth", 9),
    ],
)
def test_ends_are_found_near_the_noise_and_not_without_one(end, least):
    kind, _, share = end.partition(", a ")
    count, found = {"tenth": 4, "fifth": 8}.get(share, 0), 0
    for seed in range(10):
        table = law(n=40, noise=0.03 if kind != "plateau" else 0.015, floor=0.05, seed=seed)
        y = table["error"].to_numpy(copy=True)
        clean = law(n=40, noise=0, floor=0.05)["error"].to_numpy()
        if kind == "warm-up":
            y[:count] *= 1 + 0.3 * np.linspace(1, 0, count, endpoint=False)
        if kind == "plateau":
            y[40 - count :] *= clean[39 - count] / clean[40 - count :]
        fit = fit_power_law(table.assign(error=y), resamples=0)
        found += any("of the others" in text for text in fit.rejected)
    assert found >= least
    assert least or found <= 1


def test_an_end_that_chance_may_explain_widens_what_is_claimed():
    table = law(n=40, noise=0.03, seed=5)
    table.loc[:7, "error"] *= 1 + 0.12 * np.linspace(1, 0, 8, endpoint=False)
    fit = fit_power_law(table, resamples=100)
    assert not fit.rejected
    text = next(text for text in fit.warnings if "may leave the law" in text)
    assert text.startswith("the 6 rows with flops below 3.67e9 (p = 0.0")
    (low, high), (least, most) = fit.intervals["exponent"], fit.claimed["exponent"]
    assert least < 0.3 < low < high <= most  # the interval alone misses the truth
    assert f"[{least:.3f}, {most:.3f}]" in fit.quoted("exponent")
    plain = fit_power_law(law(n=40, noise=0.03, seed=5), resamples=100)
    assert plain.claimed == plain.intervals


def test_the_chance_of_an_end_is_that_of_the_strongest_of_all():
    least = []
    for seed in range(80):
        fit = fit_power_law(law(n=24, noise=0.02, seed=seed), resamples=0)
        problem = pose(fit.law, fit.data, fit.solution.loss)
        least.append(min(chances(fit, problem, list(cuts_of(fit)))))
    assert 0.1 < np.mean(np.array(least) < 0.2) < 0.3


def test_healthy_curves_and_surfaces_are_not_rejected():
    curves = [fit_power_law(law(n=n, noise=0.02, seed=n), resamples=0) for n in (8, 14, 30, 60)]
    surfaces = [fit_surface(isoflop(noise=0.01, seeds=k + 1, seed=k), y="error", resamples=0) for k in range(3)]
    assert [fit.rejected for fit in (*curves, *surfaces)] == [()] * 7


def test_five_rows_that_pull_are_found_and_leverage_tells_which_points_bear_the_fit():
    table = isoflop(noise=0.002, sizes=20, budgets=9)
    pulled = table.sort_values(["flops", "params"]).index[15:20]
    table.loc[pulled, "error"] *= 1.5
    fit = fit_surface(table, y="error", loss="squares", bootstrap="parametric", resamples=60)
    told = [text for text in fit.reasons if text.startswith("without 4 of 180 rows")]
    assert told
    for name in ("params", "error"):
        assert sum(f"{name} {short(value)}" in told[0] for value in table.loc[pulled, name]) == 4
    assert fit.leverage.shape == (180,)
    assert fit.leverage.sum() == pytest.approx(5)
    assert 0 <= fit.leverage.min() < fit.leverage.max() <= 1
    corner = fit.points.loc[np.argmax(fit.leverage)]
    assert corner["flops"] in (table["flops"].min(), table["flops"].max())


def test_one_of_few_rows_decides_only_if_it_also_leaves_what_the_others_allow():
    x = np.geomspace(1e9, 1e12, 6)
    table = pd.DataFrame({"flops": x, "error": (x / 1e9) ** -0.3})
    bent = table.assign(error=table["error"] * np.exp([0.0, 0.004, -0.004, 0.004, -0.004, 0.02]))
    fit = fit_power_law(bent, floor=False, bootstrap="parametric", resamples=60)
    tight = replace(fit, intervals=fit.intervals | {"exponent": (fit.exponent - 1e-4, fit.exponent + 1e-4)})
    assert any(text.startswith("without 1 of 6 rows the exponent is") for text in tight.reasons)
    half = 0.9 * abs(fit.exponent - fit_power_law(bent[:5], floor=False, resamples=0).exponent)
    near = replace(fit, intervals=fit.intervals | {"exponent": (fit.exponent - half, fit.exponent + half)})
    assert not any(text.startswith("without 1 of 6") for text in near.reasons)


def test_scores_of_clusters_and_of_rows_are_calibrated():
    rng = np.random.default_rng(0)
    t = np.linspace(-1, 1, 24)
    known, more = np.stack([np.ones(24), t], axis=1), np.stack([t**2, t**3], axis=1)
    chances = [flexible(rng.normal(size=24), known, more, np.arange(24)) for _ in range(300)]
    assert 0.07 < np.mean(np.array(chances) < 0.1) < 0.13
    cluster = np.repeat(np.arange(12), 2)
    chances = [flexible(rng.normal(size=12)[cluster], known, more, cluster) for _ in range(300)]
    assert 0.01 < np.mean(np.array(chances) < 0.1) < 0.13
    assert flexible(t**2 + 0.1 * rng.normal(size=24), known, more, np.arange(24)) < 1e-6
    chances = [neighbours(rng.normal(size=24), t[None, :]) for _ in range(300)]
    assert 0.06 < np.mean(np.array(chances) < 0.1) < 0.14
    assert neighbours(np.sin(3 * t), t[None, :]) < 1e-3
