"""Figures of optima: what is described is what the fits found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import draw, fit_isoflop
from analysis.approaches.learning_rate import best_learning_rates
from analysis.figures.optima import describe_isoflop, describe_learning_rates, describe_optima
from tests.analysis.planted import sweep

SIZES = (4, 8, 16, 32, 64, 128, 256, 512)


@pytest.fixture(scope="module")
def fit():
    return fit_isoflop(sweep(widths=SIZES, budgets=5), resamples=100)


@pytest.fixture(scope="module")
def rates():
    """Three designs with bowls at lr 0.01 and one that still falls at its largest rate; 2 seeds."""
    bowls = {"a": 1.0, "b": 2.0, "edge": 1.0}
    rows = [
        {"model": m, "lr": lr, "cell_id": f"{m}{lr}", "error": e * (1 + s * 1e-6)}
        for m, height in bowls.items()
        for lr in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
        for e in [height * (0.1 + 0.01 * np.log(lr / 1e-2) ** 2 if m != "edge" else 0.1 * lr**-0.1)]
        for s in (0, 1)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("method", ["akima", "parabola"])
def test_every_budget_has_its_curve_and_its_minimum(method):
    fit = fit_isoflop(sweep(widths=SIZES, budgets=5), method=method, resamples=100)
    figure = describe_isoflop(fit)
    optima = figure.points[figure.points["strong"]]
    used = fit.optima[fit.optima["refused"] == ""]
    assert optima["x"].tolist() == used["n"].tolist()
    assert optima["y"].tolist() == used["y"].tolist()
    assert (optima["low"].tolist(), optima["high"].tolist()) == (used["y_low"].tolist(), used["y_high"].tolist())
    assert len(figure.of("link")) == len(fit.curves)
    for line, row in zip(figure.of("link"), fit.optima.itertuples(), strict=True):
        lowest = int(np.argmin(line.y))
        assert line.x[lowest] == pytest.approx(row.n, rel=0.1)  # the drawn curve is lowest where the minimum is
        assert line.y[lowest] == pytest.approx(row.y, rel=1e-3)


def test_a_refused_budget_has_points_and_no_minimum():
    table = sweep(widths=SIZES[:4], budgets=5)
    fit = fit_isoflop(table, resamples=100)
    refused = fit.optima["refused"] != ""
    assert refused.any()
    figure = describe_isoflop(fit)
    assert figure.points["strong"].sum() == (~refused).sum()
    assert (~figure.points["strong"]).sum() == 4 * 5


def test_both_optima_grow_on_their_laws(fit):
    figure = describe_optima(fit)
    assert figure.shades == {1.0: "N*", 2.0: "D*"}
    assert figure.annotation == (f"N* ~ C^{fit.n_exponent}", f"D* ~ C^{fit.d_exponent}")
    for line, letter in zip(figure.of("law"), ("n", "d"), strict=True):
        expected = fit.predict(line.x)
        assert line.y.tolist() == expected[letter].tolist()
        assert line.low.tolist() == expected[f"{letter}_low"].tolist()
        budgets = fit.optima["budget"]
        assert (line.x[line.inside].min(), line.x[line.inside].max()) == (budgets.min(), budgets.max())


def test_a_law_of_optima_that_is_not_supported_is_words():
    figure = describe_optima(fit_isoflop(sweep(widths=SIZES[:4], budgets=5), resamples=100))
    assert figure.of("law") == ()
    assert figure.annotation[0] == "exponents not identified"


def test_learning_rates_have_a_parabola_where_the_best_is_inside(rates):
    found = best_learning_rates(rates, resamples=100)
    figure = describe_learning_rates(rates, found)
    assert figure.shades == {1.0: "a", 2.0: "b", 3.0: "edge"}
    best = figure.points[figure.points["strong"]]
    assert best["x"].tolist() == found.best.loc[found.best["flag"] == "", "lr"].tolist()
    assert best["x"].tolist() == pytest.approx([1e-2, 1e-2])
    means = figure.points[~figure.points["strong"]]
    assert len(means) == 15
    for line in figure.of("link")[:2]:
        assert line.x[np.argmin(line.y)] == pytest.approx(1e-2, rel=0.05)
    assert figure.of("link")[2].x.tolist() == [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]


def test_one_design_needs_no_names(rates):
    one = rates[rates["model"] == "a"]
    figure = describe_learning_rates(one, best_learning_rates(one, resamples=100))
    assert (figure.shades, figure.shade_label) == ({}, "")
    assert figure.points["strong"].sum() == 1


def test_they_can_be_drawn(fit, rates):
    from matplotlib.figure import Figure

    found = best_learning_rates(rates, resamples=100)
    for figure in (describe_isoflop(fit), describe_optima(fit), describe_learning_rates(rates, found)):
        ax = draw(figure, Figure().add_subplot())
        assert (ax.get_xlabel(), ax.get_ylabel()) == (figure.x_label, figure.y_label)
