from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis import fit_forms, fit_surface
from analysis.fits.quantity import quote
from tests.analysis.planted_forms import EXACT, table, truth

EXPONENTS = ("alpha", "beta", "params_exponent", "frontier_exponent")


@pytest.mark.parametrize("form", EXACT)
def test_planted_form_is_not_ruled_out_and_its_values_are_inside(form):
    found = fit_forms(table(form, 0.01, seed=1), y="error", resamples=150)
    assert EXACT[form] in found.open
    assert found.supported
    for name, planted in truth(form).items():
        if name in found.intervals:
            low, high = found.intervals[name]
            assert 0.97 * low <= planted <= 1.03 * high, name
    if form not in ("additive", "kaplan"):
        assert list(found.open) == [EXACT[form]]
        assert "chinchilla" in found.ruled_out


def test_forms_that_are_as_good_widen_what_is_claimed_and_are_named():
    found = fit_forms(table("additive", 0.01, seed=1), y="error", resamples=150)
    assert {"chinchilla", "coupled"} <= set(found.open)
    assert sum(found.weights.values()) == pytest.approx(1.0)
    for name, (low, high) in found.intervals.items():
        parts = [fit.intervals[name] for fit in found.open.values()]
        assert (low, high) == (min(part[0] for part in parts), max(part[1] for part in parts))
    assert any("not rule out the form 'coupled'" in text for text in found.warnings)
    assert "kaplan" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_form_that_is_ruled_out_is_refused_with_the_one_that_is_better():
    runs = table("coupled", 0.003, seed=1)
    additive = fit_surface(runs, y="error", resamples=100)
    assert not additive.supported
    assert any("the form 'coupled' describes the points better (AICc" in text for text in additive.rejected)
    assert not additive.intervals["alpha"][0] <= 0.34 <= additive.intervals["alpha"][1]
    for name in EXPONENTS:
        low, high = additive.compatible[name]
        assert 0.97 * low <= truth("coupled")[name] <= 1.03 * high
    assert fit_surface(runs, y="error", law="coupled", resamples=100).supported


def test_fit_and_comparison_tell_the_same_numbers():
    runs = table("additive", 0.01, seed=0)
    fit, found = fit_surface(runs, y="error", resamples=150), fit_forms(runs, y="error", resamples=150)
    assert not any("may leave the law" in text for text in fit.cautions())
    for name, ends in found.intervals.items():
        assert fit.compatible[name] == pytest.approx(ends, rel=1e-9)
        assert fit.quoted(name).endswith(f"{quote(ends[0], ends)}, {quote(ends[1], ends)}]")
    assert fit.forms.aicc == pytest.approx(found.aicc, abs=1e-6)
    assert found.best.intervals == fit.intervals


def test_a_smaller_law_with_fewer_parameters_refuses_none_that_fits_better():
    few = table("additive", 0.01, seed=3, seeds=1).sample(12, random_state=0)
    fit = fit_surface(few, y="error", law="bounded", resamples=50)
    assert "bounded" in fit.forms.ruled_out
    assert not any("better" in text for text in fit.reasons)


def test_exact_law_needs_no_caution_about_other_forms():
    assert not any(
        "not rule out" in text for text in fit_surface(table("additive"), y="error", resamples=50).warnings
    )


def test_constraints_hold_in_every_form_that_has_the_parameter():
    runs = table("additive", 0.01, seed=1)
    found = fit_forms(runs, y="error", resamples=50, fix={"floor": 0.3})
    assert "kaplan" not in found.fits
    assert all(fit["floor"] == 0.3 for fit in found.fits.values())
    assert list(fit_forms(runs, y="error", resamples=0, fix={"q": 1.0}).fits) == ["coupled"]


def test_overfitting_counts_only_where_larger_models_do_worse():
    flat = fit_forms(table("additive", 0.01, seed=1), y="error", resamples=0)
    assert "overfitted" not in flat.fits
    fit = fit_surface(table("additive", 0.01, seed=1), y="error", law="overfitted", resamples=50)
    assert any("nothing shows overfitting" in text for text in fit.reasons)


def test_repeated_examples_are_compared_where_there_are_any():
    rng = np.random.default_rng(0)
    params, unique = 10 ** rng.uniform(5, 8, size=(2, 90))
    examples = unique * np.exp(rng.uniform(0, 4, size=90))
    worth = unique * (1 + 15 * -np.expm1(-(examples / unique - 1) / 15))
    loss = (1.8 + 60 * params**-0.35 + 60 * worth**-0.37) * np.exp(0.003 * rng.normal(size=90))
    runs = pd.DataFrame({"params": params, "dataset_size": unique, "examples": examples, "loss": loss})
    found = fit_forms(runs, resamples=50)
    assert list(found.open) == ["repeated-examples"]
    assert found.best["examples_decay"] == pytest.approx(15, rel=0.3)
    assert len(found.predict(1e6, 1e6, 1e7)) == 1
    once = fit_forms(runs.assign(dataset_size=examples), resamples=0)
    assert "repeated-examples" not in once.fits


def test_mixture_predicts_between_its_forms_inside_their_bands():
    found = fit_forms(table("additive", 0.02, seed=2), y="error", resamples=100)
    band = found.predict([1e5, 1e8], 1e9)
    parts = [fit.predict([1e5, 1e8], 1e9) for fit in found.open.values()]
    assert len(parts) > 1
    assert np.all(band["low"] == np.min([part["low"] for part in parts], axis=0))
    assert np.all(band["high"] == np.max([part["high"] for part in parts], axis=0))
    assert np.all((band["low"] <= band["y"]) & (band["y"] <= band["high"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantile": 0.1}, "quantile is 0.1; forms are compared under a symmetric loss"),
        ({"forms": ["chinchila"]}, "unknown law 'chinchila'; did you mean 'chinchilla'?"),
        ({"forms": ["power"]}, "law 'power' has the inputs x; fit it with fit_law"),
        ({"y": "loss"}, "no column 'loss'"),
        ({"fix": {"slope": 1.0}}, "no form has the parameters slope"),
    ],
)
def test_senseless_comparisons_are_refused(options, message):
    with pytest.raises(ValueError, match=r"quantile|law|column|form") as refusal:
        fit_forms(table("additive"), **{"y": "error", **options})
    assert message in str(refusal.value)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.003, 0.01])
@pytest.mark.parametrize("form", EXACT)
def test_exponents_of_every_form_are_covered_or_refused(form, noise):
    planted, covered, refused = truth(form), dict.fromkeys(EXPONENTS, 0), 0
    for seed in range(20):
        found = fit_forms(table(form, noise, seed), y="error", resamples=150)
        refused += not found.supported
        for name in EXPONENTS:
            low, high = found.intervals[name]
            covered[name] += not found.supported or low <= planted[name] <= high
    assert min(covered.values()) >= 16  # 0.95 of 20, less three standard errors
    assert refused <= (10 if form == "overfitted" else 2)
