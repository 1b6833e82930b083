"""The formula above a figure is the one in the text."""

from __future__ import annotations

import re

import pytest

from analysis import describe_law, fit_frontier
from analysis.figures.law import mathtext
from tests.analysis.planted import sweep


@pytest.mark.parametrize(
    ("formula", "drawn"),
    [
        ("error = 0.01 + 19.4 examples^-0.8", r"$\mathrm{error}\ =\ 0.01\ +\ 19.4\ \mathrm{examples}^{-0.8}$"),
        ("y = 2.5e8 (x_1 + 3)^-1", r"$\mathrm{y}\ =\ 2.5{\times}10^{8}\ (\mathrm{x\_1}\ +\ 3)^{-1}$"),
        ("cost $ = 3 x^-1", r"cost \$ = 3 x^-1"),
        ("y = [x^-2]^(1/3)", "y = [x^-2]^(1/3)"),
    ],
)
def test_a_formula_is_drawn_as_it_is_written(formula, drawn):
    from matplotlib.mathtext import MathTextParser

    assert mathtext(formula) == drawn
    MathTextParser("path").parse(drawn)


def test_text_and_figure_have_one_formula():
    fit = fit_frontier(sweep(), resamples=100)
    above = describe_law(sweep(), fit, x="flops").annotation[0]
    numbers = re.compile(r"\d+(?:\.\d+)?")
    assert numbers.findall(above.replace(r"{\times}10^", "")) == numbers.findall(fit.formula().replace("e", ""))
