from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis import FitError, fit_surface, sensitivity, validate, verdict
from analysis.checks import predictors
from analysis.checks.agreement import Fitted
from analysis.checks.claims import claim_extrapolation
from tests.analysis import planted_forms
from tests.analysis.planted import law, sweep
from tests.analysis.planted_curves import isoflop

WIDE = (2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)


def test_the_planted_law_predicts_held_out_budgets_best_and_inside_its_band():
    found = validate(isoflop(noise=0.01, seeds=2, budgets=8), resamples=60)
    assert found.best == "chinchilla"
    scores = found.scores.set_index("law")
    assert scores["log_rmse"]["chinchilla"] < 0.5 * scores["log_rmse"]["log-linear"]
    reach, off = found.reach()
    assert reach > 3
    assert off < 0.03


def test_training_rows_are_the_cheaper_ones_and_every_cut_holds_out_one_level_more():
    table = isoflop(noise=0.01, seeds=2, budgets=8)
    cuts = validate(table, resamples=20).table.drop_duplicates("held")
    assert cuts["held"].tolist() == [1, 2, 3, 4]
    assert cuts["test"].tolist() == [18, 36, 54, 72]
    assert (cuts["train"] + cuts["test"]).eq(len(table)).all()
    step = 1000 ** (1 / 7)
    assert cuts["reach"].to_numpy() == pytest.approx(step ** np.arange(1, 5), rel=1e-6)


def test_exact_laws_are_predicted_exactly():
    found = validate(law(), "flops", resamples=20)
    assert found.scores["law"][:2].str.startswith("power law with floor").all()  # with and without a shift
    assert found.scores["log_rmse"][:2].max() < 1e-6
    steep = validate(law(floor=0.0), "flops", resamples=20).scores.set_index("law")
    assert steep["log_rmse"]["power law"] < 1e-6


def test_band_of_the_right_law_covers_a_new_run():
    covered = [validate(law(n=24, noise=0.02, seed=k), "flops", resamples=40) for k in range(5)]
    table = pd.concat([found.table for found in covered])
    assert table[table["law"] == "power law with floor"]["covered"].mean() >= 0.85
    assert table[table["law"] == "power law"]["covered"].mean() < 0.6


def test_a_law_of_ones_own_can_be_compared():
    def guess(train, question):
        middle = float(np.log(train[question.y]).min())
        return lambda test: tuple(np.full(len(test), middle + off) for off in (0.0, -1.0, 1.0))

    found = validate(law(noise=0.01), "flops", laws={"as good as the best so far": guess}, resamples=20)
    assert found.scores["law"].tolist() == ["as good as the best so far"]
    assert found.scores["log_rmse"][0] > 0.02


def test_laws_that_are_not_ruled_out_and_part_beyond_the_data_leave_it_open():
    short = law(n=12, high=1e11, noise=0.02)  # two decades: with and without a floor are as good
    found = validate(short, "flops", resamples=60)
    assert found.table["covered"].max() == 1
    assert found.reach()[0] == 1
    assert "the laws that are not ruled out reach" in str(verdict(short, "flops", resamples=60).extrapolation)
    assert validate(law(n=40, noise=0.002), "flops", resamples=60).reach()[0] > 3


def test_a_broken_law_predicts_what_bends():
    x = np.geomspace(1e2, 1e5, 16)
    table = pd.DataFrame({"examples": x, "error": 0.9 * x**-0.1 * (1 + (x / 1e3) ** 4) ** -0.1})
    question = predictors.Question(("examples",), "error", {"resamples": 20, "level": 0.95, "seed": 0})
    off = {}
    for name, fit in {"power": predictors.power(floor=True), "curve": predictors.curve("broken-1")}.items():
        middle, low, high = fit(table[:13], question)(table[13:])
        assert np.all((low <= middle) & (middle <= high))
        off[name] = np.max(np.abs(middle - np.log(table["error"][13:])))
    assert off["curve"] < 0.2 * off["power"]


def test_a_law_that_cannot_be_fitted_says_why():
    table = isoflop(noise=0.01, budgets=6, sizes=4)
    found = validate(table[table["flops"] > 1e12], resamples=20)
    assert found.table["why_not"].notna().all()
    json.dumps(found.to_dict(), allow_nan=False)
    with pytest.raises(FitError, match="no law could be fitted"):
        validate({"flops": np.geomspace(1, 1e4, 8), "error": np.linspace(1, 2, 8)}, "flops", resamples=20)


def test_continuous_compute_is_cut_into_bins():
    rng = np.random.default_rng(0)
    n, d = np.exp(rng.uniform(11, 18, (2, 80)))
    error = 0.05 + 0.2 * (n / 1e6) ** -0.34 + 0.2 * (d / 1e6) ** -0.3
    found = validate(
        {"params": n, "examples": d, "error": error * np.exp(0.01 * rng.normal(size=80))}, resamples=20
    )
    assert found.order == "params x examples"
    assert found.table.drop_duplicates("held")["test"].tolist() == [10, 20, 30, 40]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resamples": 0}, "2 inputs and 0 resamples"),
        ({"x": ("params", "examples", "flops")}, "3 inputs and 200 resamples"),
        ({"order": "flop"}, "no column 'flop'; did you mean 'flops'"),
    ],
)
def test_senseless_questions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        validate(isoflop(), **options)
    with pytest.raises(ValueError, match="3 levels of 'flops'; holding one out needs at least 4"):
        validate(isoflop(budgets=3))


def test_the_range_moves_an_exponent_where_the_law_bends_and_not_where_it_holds():
    straight = sensitivity(law(noise=0.005, n=30), "flops", resamples=60)
    assert straight.moved == ()
    x = np.geomspace(1e9, 1e13, 30)
    bent = sensitivity({"flops": x, "error": 1 / (1 + (x / 1e11) ** 0.8)}, "flops", resamples=60)
    assert "exponent" in bent.moved
    assert "depending on the fitted range the exponent is" in bent.warnings[0]
    assert bent.table["without"].tolist() == ["", "smallest", "2 smallest", "largest", "2 largest"]
    json.dumps(bent.to_dict(), allow_nan=False)


def test_parts_that_carry_no_law_are_gaps():
    found = sensitivity(law(n=4), "flops", resamples=20)
    assert found.table["exponent"].notna().tolist() == [True, True, False, True, False]
    assert "no law" in str(found)


def test_a_table_of_a_planted_surface_supports_all_three_claims():
    found = verdict(isoflop(noise=0.005, seeds=2, floor=0.1), resamples=60)
    assert found.exponent.supported
    assert found.floor.supported
    assert found.extrapolation.supported
    assert "this table supports an exponent of the best params in compute ~ params x examples, 0.4" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_bias_of_a_design_is_told_and_does_not_dispute_the_exponent():
    found = verdict(sweep(2, 0.01, widths=WIDE, seed=1), resamples=60)
    assert found.exponent.supported
    assert not found.floor.supported
    assert any("design alone moves bottleneck" in text for text in found.warnings)


@pytest.mark.parametrize("form", ["coupled", "soft", "kaplan", "bounded"])
def test_claims_rest_on_the_form_that_describes_the_table(form):
    found = verdict(planted_forms.table(form, noise=0.003), resamples=60)
    assert found.fit.name == planted_forms.EXACT[form]
    assert found.exponent.supported
    low, high = found.fit.compatible["params_exponent"]
    assert low <= planted_forms.truth(form)["params_exponent"] <= high
    assert f"the points rule out the law chinchilla: the claims rest on the law {found.fit.name}" in found.warnings
    assert "chinchilla" not in found.validation.rejected
    answered = found.agreement.table.query("approach == 'surface' and quantity == 'n'")
    assert answered["low"].notna().all()
    assert np.isfinite(found.bias.of("frontier", "n"))


def test_an_optimum_that_is_no_power_law_is_not_claimed():
    found = verdict(planted_forms.table("overfitted", noise=0.003, levels=6), resamples=40)
    assert found.fit.name == "overfitted"
    assert "the best params by the law overfitted is no power law of compute" in found.exponent.reasons
    assert found.bias is None


@pytest.mark.parametrize(("floor", "supported"), [(0.05, True), (0.0, False)])
def test_a_floor_is_supported_where_one_is_planted(floor, supported):
    found = verdict(law(noise=0.005, n=40, floor=floor), "flops", resamples=100)
    assert found.floor.supported is supported
    assert found.exponent.supported
    assert found.agreement is None


def test_a_table_too_small_to_hold_out_supports_no_extrapolation():
    found = verdict(law(n=3, floor=0.0), "flops", resamples=20)
    assert not found.extrapolation.supported
    assert not found.exponent.supported
    assert any("held-out budgets not checked" in text for text in found.warnings)
    assert "does not support any extrapolation" in str(found)


@pytest.mark.parametrize("seed", [5, 10])
def test_seven_noisy_single_runs_support_no_extrapolation_although_their_bands_hold_what_was_held_out(seed):
    rng, flops = np.random.default_rng(seed), np.geomspace(1e9, 1e12, 7)
    params = np.sqrt(flops / 6) * np.exp(rng.uniform(-1, 1, 7))
    error = ((300 / params) ** (0.34 / 0.3) + 200 * params * 6 / flops) ** 0.3 * np.exp(0.15 * rng.normal(size=7))
    table = pd.DataFrame({"params": params, "examples": flops / 6 / params, "flops": flops, "error": error})
    checked = validate(table, resamples=20)
    assert checked.reach()[0] > 3
    claim = claim_extrapolation(checked, 1e12, "flops")
    assert claim.reasons[0] == "only 3 runs were held out; a claim needs 5: add runs, or repeats of the largest"


@pytest.mark.parametrize(
    ("alpha", "beta", "exponent", "side"), [(0.5, 0.2, 2 / 7, "below"), (0.2, 0.5, 5 / 7, "above")]
)
def test_a_wrong_surface_gives_way_to_the_law_of_the_table(alpha, beta, exponent, side):
    table = isoflop(alpha=alpha, beta=beta, budgets=8, decades=2)
    luck = np.exp(0.001 * np.random.default_rng(0).normal(size=len(table)))
    kaplan = 0.3 * (table["params"] / 1e6) ** (-alpha / beta) + 0.3 / (table["examples"] / 1e6)
    table = table.assign(error=kaplan**beta * luck)
    additive = fit_surface(table, y="error", resamples=40)
    low, high = additive.intervals["params_exponent"]
    assert (high < exponent) if side == "below" else (low > exponent)  # the surface is not the law, and is wrong
    assert any("it is not the law of this table" in text for text in additive.rejected)
    found = verdict(table, resamples=40, fitted=Fitted(surface=additive))
    assert found.fit.name == "kaplan"
    assert found.exponent.supported
    low, high = found.fit.compatible["params_exponent"]
    assert low <= exponent <= high
    assert not found.floor.supported


def test_a_log_linear_law_that_predicts_better_refuses_the_exponent():
    exact, table = isoflop(seeds=2), isoflop(noise=0.01, seeds=2)
    log_linear = 0.5 * (table["params"] / 1e6) ** -0.1 * (table["examples"] / 1e6) ** -0.15
    found = verdict(table.assign(error=log_linear * table["error"] / exact["error"]), resamples=40)
    scores = found.validation.scores.set_index("law")["log_rmse"]
    assert scores["log-linear"] < scores[found.fit.name]
    assert any("a log-linear law predicts the largest flops better" in text for text in found.exponent.reasons)
    assert not found.exponent.supported


@pytest.mark.parametrize(("floor", "ratio", "supported"), [(0.01, 1.048, False), (0.02, 1.183, True)])
def test_a_floor_must_predict_better_than_none_by_more_than_5_percent(floor, ratio, supported):
    found = verdict(law(noise=0.01, n=40, floor=floor, seed=2), "flops", resamples=40)
    scores = found.validation.scores.set_index("law")["log_rmse"]
    assert scores["power law"] / scores["power law with floor"] == pytest.approx(ratio, abs=2e-3)
    assert found.fit.intervals["floor"][0] > 0.01 * found.fit.floor
    assert found.floor.supported is supported
    assert all("a law without a floor predicts as well" in text for text in found.floor.reasons)


def test_every_check_orders_the_runs_by_the_column_named():
    table = isoflop(noise=0.005, seeds=2, floor=0.1)
    named = verdict(table.rename(columns={"flops": "price"}), order="price", resamples=40)
    usual = verdict(table, resamples=40)
    assert (named.sensitivity.order, named.validation.order) == ("price", "price")
    assert named.agreement.table.equals(usual.agreement.table)
    assert named.bias.table.equals(usual.bias.table)
    assert named.exponent == usual.exponent
