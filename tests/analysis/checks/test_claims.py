"""Which claims follow from which evidence; the evidence is made by hand, nothing is fitted."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace as Some
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import Claim, Verdict
from analysis.checks.agreement import Agreement
from analysis.checks.claims import claim_exponent, claim_extrapolation, claim_floor
from analysis.checks.sensitivity import Sensitivity
from analysis.checks.validate import Validation

LAWS = ("power law", "power law with floor")


def fit(**changes) -> Any:
    shown: dict[str, Any] = {
        "x": ("flops",),
        "y": "error",
        "name": "power-floor",
        "reasons": (),
        "floor_reasons": (),
    }
    shown |= {"estimates": {"exponent": 0.3, "floor": 0.05}, "quoted": lambda name: f"<{name}>"}
    shown["alternatives"] = {changes.get("name", shown["name"]): None}
    return Some(**(shown | changes))


def surface(**changes) -> Any:
    return fit(**({"x": ("params", "tokens"), "name": "chinchilla"} | changes))


def moves(*names) -> Sensitivity:
    table = pd.DataFrame({"without": ["", "largest"], "rows": [9, 8]} | {name: [0.3, 0.6] for name in names})
    return Sensitivity("flops", table, dict.fromkeys(names, (0.28, 0.32)), names, names)


def held_out(rmse, covered=(0.9, 0.9), apart=(0.01, 0.01), *, laws=LAWS, rejected=(), test=(3, 5)) -> Validation:
    """Two cuts, 2 x and 4 x beyond; the errors `rmse` of each law, and what the first law covered at each cut."""
    rows = [
        {
            "law": law,
            "held": k + 1,
            "train": 9,
            "test": test[k],
            "reach": 2.0 * (k + 1),
            "log_rmse": error,
            "why_not": "",
        }
        | {"bias": 0.0, "covered": covered[k] if law == laws[0] else 0.5, "apart": apart[k]}
        for law, error in zip(laws, rmse, strict=True)
        for k in range(2)
    ]
    scores = [{"law": law, "cuts": 2, "log_rmse": e, "covered": 0.9} for law, e in zip(laws, rmse, strict=True)]
    none = dict.fromkeys(laws, ()) | {laws[0]: rejected}
    return Validation(("flops",), "error", "flops", pd.DataFrame(rows), pd.DataFrame(scores), none, 0.95, ())


def approaches(**intervals) -> Agreement:
    rows = [
        {
            "approach": name.replace("_", " "),
            "quantity": quantity,
            "value": (low + high) / 2,
            "low": low,
            "high": high,
        }
        for name, (low, high) in intervals.items()
        for quantity in ("n", "d")
    ]
    for row in rows:
        if row["quantity"] == "d":  # the exponent of examples must not be taken for that of params
            row |= {"value": 9.0, "low": 8.0, "high": 10.0}
    return Agreement(pd.DataFrame(rows), (), 0.95, ())


def bias(**values) -> Any:
    return Some(of=lambda approach, quantity: values[approach.replace(" ", "_")] if quantity == "n" else 7.0)


def test_a_fit_without_a_reason_supports_its_exponent_and_the_law_is_named():
    one = claim_exponent(fit(), moves(), None, None, None)
    assert (one.name, one.supported, one.reasons) == ("exponent", True, ())
    assert one.statement == "an exponent of error in flops, <exponent>, by the law power-floor"
    two = claim_exponent(surface(), None, None, None, None)
    assert two.supported
    what = "an exponent of the best params in compute ~ params x tokens"
    assert two.statement == f"{what}, <params_exponent>, by the law chinchilla"


def test_forms_that_describe_the_table_equally_well_are_named():
    law = surface(name="coupled", alternatives=dict.fromkeys(("coupled", "chinchilla")))
    both = "the union over the laws coupled, chinchilla, which describe the table equally well"
    assert claim_exponent(law, None, None, None, None).statement.endswith(f"<params_exponent>, {both}")
    assert claim_floor(law, None, None).statement == f"a floor of error, <floor>, {both}"


def test_a_best_size_that_is_no_power_of_compute_refuses_the_exponent():
    law = surface(name="overfitted", estimates={"gamma": 0.3, "floor": 0.05})
    found = claim_exponent(law, None, None, None, None)
    assert found.reasons == ("the best params by the law overfitted is no power law of compute",)
    assert claim_floor(law, None, None).supported


def test_reasons_of_the_fit_refuse_the_exponent():
    found = claim_exponent(fit(reasons=("it bends", "it is wide")), None, None, None, None)
    assert (found.supported, found.reasons) == (False, ("it bends", "it is wide"))


@pytest.mark.parametrize(
    ("law", "name", "other"), [(fit(), "exponent", "params_exponent"), (surface(), "params_exponent", "alpha")]
)
def test_an_exponent_that_the_range_moves_far_is_refused(law, name, other):
    found = claim_exponent(law, moves(name), None, None, None)
    assert not found.supported
    what = "the exponent of the best params" if name == "params_exponent" else "the exponent"
    sentence = f"depending on the fitted range {what} is 0.3 to 0.6, beyond its interval [0.28, 0.32]"
    assert found.reasons == (sentence,)
    assert claim_exponent(law, moves(other, "floor"), None, None, None).supported
    assert claim_exponent(law, replace(moves(name), far=()), None, None, None).supported


@pytest.mark.parametrize(
    ("interval", "off", "supported"),
    [
        ((0.48, 0.55), 0.0, True),
        ((0.51, 0.55), 0.0, False),  # above [0.45, 0.5]
        ((0.40, 0.44), 0.0, False),  # below
        ((0.51, 0.55), 0.02, True),  # the design alone moves it up
        ((0.48, 0.49), 0.05, False),
        ((0.51, 0.55), np.nan, False),
        ((0.50, 0.55), 0.0, True),
        ((0.40, 0.45), 0.0, True),
        ((0.51, np.nan), 0.0, True),
        ((0.51, np.inf), 0.0, True),
    ],
)
def test_an_approach_refuses_the_exponent_if_it_contradicts_after_its_bias(interval, off, supported):
    both = approaches(surface=(0.45, 0.5), isoflop_akima=interval)
    found = claim_exponent(surface(), None, both, bias(isoflop_akima=off, surface=5.0), None)
    assert found.supported is supported
    if not supported:
        at = sum(interval) / 2 - np.nan_to_num(off)
        text = f"isoflop akima gives {at:.3g} without the bias of the design, the surface [0.45, 0.5]"
        assert found.reasons == (text,)


def test_without_the_bias_of_the_design_approaches_are_compared_as_they_are():
    both = approaches(surface=(0.45, 0.5), frontier=(0.6, 0.7), isoflop_akima=(0.46, 0.48))
    found = claim_exponent(surface(), None, both, None, None)
    assert [text.split(" gives ")[0] for text in found.reasons] == ["frontier"]
    unknown = approaches(surface=(np.nan, np.nan), frontier=(0.6, 0.7))
    assert claim_exponent(surface(), None, unknown, None, None).supported


@pytest.mark.parametrize(("log_linear", "supported"), [(0.05, True), (0.0203, False), (0.0149, False)])
def test_a_log_linear_law_that_predicts_as_well_refuses_the_exponent(log_linear, supported):
    found = claim_exponent(
        surface(), None, None, None, held_out((0.0203, log_linear), laws=("chinchilla", "log-linear"))
    )
    assert found.supported is supported
    better = f"({100 * log_linear:.2g} % against 2 % rms)"
    text = f"a log-linear law predicts the largest flops better than the surface {better}"
    assert found.reasons == (() if supported else (text,))


def test_the_law_of_the_claim_is_the_one_that_must_beat_a_log_linear_law():
    better = held_out((0.02, 0.01), laws=("coupled", "log-linear"))
    assert not claim_exponent(surface(name="coupled"), None, None, None, better).supported


@pytest.mark.parametrize("laws", [("kaplan", "log-linear"), ("chinchilla", "kaplan"), LAWS])
def test_only_a_surface_and_a_log_linear_law_are_compared(laws):
    assert claim_exponent(surface(), None, None, None, held_out((0.02, 0.001), laws=laws)).supported


def test_a_floor_is_claimed_with_the_law_it_rests_on():
    found = claim_floor(fit(), moves("exponent"), held_out((0.05, 0.02)))
    assert (found.name, found.supported, found.reasons) == ("floor", True, ())
    assert found.statement == "a floor of error, <floor>, by the law power-floor"
    assert claim_floor(fit(), None, None).supported


def test_each_kind_of_evidence_refuses_a_floor():
    assert claim_floor(fit(floor_reasons=("it bends",)), None, None).reasons == ("it bends",)
    moved = claim_floor(fit(), moves("floor"), None)
    assert not moved.supported
    assert "depending on the fitted range the floor" in moved.reasons[0]
    none = claim_floor(fit(estimates={"exponent": 0.3}), moves("floor"), held_out((0.05, 0.02)))
    assert (none.name, none.supported, none.statement) == ("floor", False, "a floor of error")
    assert none.reasons == ("the law power-floor was fitted, which has none",)


@pytest.mark.parametrize(("bare", "supported"), [(0.0203, False), (0.0213, False), (0.0214, True), (0.01, False)])
def test_a_floor_must_predict_better_than_none_by_more_than_5_percent(bare, supported):
    found = claim_floor(fit(), None, held_out((bare, 0.0203)))
    assert found.supported is supported
    text = f"a law without a floor predicts as well ({100 * bare:.2g} % against 2 % rms)"
    assert found.reasons == (() if supported else (text,))
    assert claim_floor(fit(), None, held_out((bare, 0.0203), laws=("power law", "other"))).supported
    assert claim_floor(fit(), None, held_out((bare, 0.0203), laws=("other", "power law with floor"))).supported


def test_an_extrapolation_goes_as_far_as_held_out_runs_were_predicted():
    found = claim_extrapolation(held_out((0.0203, 0.05)), 1e20, "flops")
    assert (found.name, found.supported, found.reasons) == ("extrapolation", True, ())
    what = "an extrapolation to 4 x the largest flops (1e20) by the power law"
    assert found.statement == f"{what}: held-out runs were within 2 % rms"
    near = claim_extrapolation(held_out((0.02, 0.05), covered=(0.9, 0.5)), 1e20, "flops")
    assert near.supported
    assert "to 2 x the largest" in near.statement


def test_an_extrapolation_rests_on_a_law_that_describes_the_table():
    found = claim_extrapolation(held_out((0.02, 0.05), rejected=("it bends",)), 1e20, "flops")
    assert (found.name, found.supported, found.reasons) == ("extrapolation", False, ("it bends",))
    assert found.statement == "an extrapolation beyond 1e20 FLOPs by the power law"
    table = claim_extrapolation(held_out((0.02, 0.05)), 1e20, "flops", ("error is 0 in half of the rows",))
    assert (table.supported, table.reasons) == (False, ("error is 0 in half of the rows",))


@pytest.mark.parametrize(
    ("runs", "text"), [((1, 1), "only 1 run was held out"), ((2, 4), "only 4 runs were held out")]
)
def test_fewer_than_five_held_out_runs_support_no_extrapolation(runs, text):
    found = claim_extrapolation(held_out((0.02, 0.05), test=runs), 1e20, "flops")
    assert (found.supported, found.reasons) == (
        False,
        (f"{text}; a claim needs 5: add runs, or repeats of the largest",),
    )
    assert claim_extrapolation(held_out((0.02, 0.05), test=(2, 5)), 1e20, "flops").supported


def test_an_error_of_a_third_on_held_out_runs_supports_no_extrapolation():
    found = claim_extrapolation(held_out((0.31, 0.5), apart=(0.4, 0.4)), 1e20, "flops")
    assert found.reasons == ("held-out runs were off by 31 % rms; a claim needs at most 30 %",)
    assert claim_extrapolation(held_out((0.3, 0.5), apart=(0.4, 0.4)), 1e20, "flops").supported


def test_shares_in_reasons_are_in_per_cent():
    lost = claim_exponent(surface(), None, None, None, held_out((0.67, 0.62), laws=("chinchilla", "log-linear")))
    assert lost.reasons[-1].endswith("better than the surface (62 % against 67 % rms)")
    assert not claim_floor(fit(), None, held_out((1.05, 1.0))).supported
    bare = claim_floor(fit(), None, held_out((0.62, 0.67)))
    assert bare.reasons == ("a law without a floor predicts as well (62 % against 67 % rms)",)
    off = claim_extrapolation(held_out((0.62, 0.7)), 1e20, "flops").reasons
    assert off == ("held-out runs were off by 62 % rms; a claim needs at most 30 %",)
    band = claim_extrapolation(held_out((0.02, 0.05), covered=(0.62, 0.9)), 1e20, "flops").reasons
    assert band[0].endswith("62 % of the runs lay in the band of the power law")
    far = np.log([1.62, 1.67])
    apart = claim_extrapolation(held_out((0.02, 0.05), apart=(far[0], 0.01)), 1e20, "flops").reasons
    assert "reach 62 % from power law" in apart[0]
    wild = claim_extrapolation(held_out((far[1], 0.9), apart=(9.0, 0.01)), 1e20, "flops").reasons
    assert wild[0].endswith("which was off by 67 % rms on held-out runs")
    near = claim_extrapolation(held_out((0.287, 0.5), apart=(0.1, 0.1)), 1e20, "flops")
    assert near.statement.endswith("held-out runs were within 29 % rms")


def test_runs_of_cuts_that_the_best_law_could_not_be_fitted_to_do_not_count():
    checked = held_out((0.02, 0.05), test=(3, 9))
    last = (checked.table["law"] == LAWS[0]) & (checked.table["held"] == 2)
    checked.table.loc[last, "why_not"] = "too few rows"
    assert (checked.held, held_out((0.02, 0.05), test=(3, 9)).held) == (3, 9)


def test_without_held_out_levels_there_is_no_extrapolation():
    found = claim_extrapolation(None, 1e20, "flops")
    assert (found.name, found.supported, found.statement) == ("extrapolation", False, "any extrapolation")
    assert found.reasons == ("too few levels to hold any out",)


def test_runs_outside_the_band_of_the_nearest_cut_refuse_an_extrapolation():
    found = claim_extrapolation(held_out((0.02, 0.05), covered=(0.79, 0.9)), 1e20, "flops")
    assert not found.supported
    band = "2 x beyond the range of its fit, 79 % of the runs lay in the band of the power law"
    assert found.reasons == (band,)
    both = claim_extrapolation(held_out((0.02, 0.05), (0.79, 0.9), rejected=("it bends",)), 1e20, "flops", ("0",))
    assert both.reasons == ("0", "it bends", band)


def test_laws_that_part_beyond_the_data_refuse_an_extrapolation():
    found = claim_extrapolation(held_out((0.0202, 0.05), covered=(0.8, 0.9), apart=(0.3, 0.01)), 1e20, "flops")
    assert not found.supported
    apart = "2 x beyond the data, the laws that are not ruled out reach 35 % from power law"
    assert found.reasons == (f"{apart}, which was off by 2 % rms on held-out runs",)


def test_a_verdict_prints_first_what_holds():
    holds, not_so = Claim("floor", True, "a floor", ()), Claim("exponent", False, "an exponent", ("it bends",))
    third = Claim("extrapolation", True, "an extrapolation", ())
    found = Verdict(not_so, holds, third, fit(), None, None, None, None, ("few points",))
    assert str(found).splitlines() == [
        "this table supports a floor",
        "this table supports an extrapolation",
        "this table does not support an exponent",
        "  because it bends",
        "caution: few points",
    ]


def test_a_verdict_gives_a_reason_of_several_claims_once():
    exponent = Claim("exponent", False, "an exponent", ("it bends", "few decide"))
    floor = Claim("floor", False, "a floor", ("it bends", "no floor"))
    third = Claim("extrapolation", False, "an extrapolation", ("it bends",))
    assert str(Verdict(exponent, floor, third, fit(), None, None, None, None, ())).splitlines() == [
        "this table does not support an exponent",
        "  because it bends",
        "  because few decide",
        "this table does not support a floor",
        "  because no floor",
        "  because of the reasons above",
        "this table does not support an extrapolation",
        "  because of the reasons above",
    ]
