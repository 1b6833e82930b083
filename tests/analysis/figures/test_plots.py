from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import average_seeds, describe_law, draw, fit_frontier, fit_power_law, save
from analysis.figures.style import MARKERS, log_ticks
from tests.analysis.planted import law, sweep


@pytest.fixture(scope="module")
def table():
    return sweep(seeds=3, widths=(16, 32, 64, 128, 256), budgets=6)


@pytest.fixture(scope="module")
def fit(table):
    return fit_frontier(table, floor=False, resamples=100)


def history(table):
    parts = [table.assign(step=k, flops=table["flops"] / 2**k, error=table["error"] * 1.1**k) for k in range(3)]
    return pd.concat(parts, ignore_index=True)[["run_id", "step", "flops", "error"]]


def test_described_points_are_the_averaged_cells(table, fit):
    figure = describe_law(table, fit, x="flops")
    cells = average_seeds(table)
    assert figure.points["x"].tolist() == cells["flops"].tolist()
    assert figure.points["y"].tolist() == cells["error"].tolist()
    assert figure.points["sd"].tolist() == cells["error_sd"].tolist()
    assert figure.points["shade"].tolist() == cells["width"].tolist()
    assert figure.points["strong"].sum() == len(fit.points)
    assert (figure.x_label, figure.y_label) == ("training compute C (FLOPs)", "test error")


def test_described_line_is_the_prediction_and_knows_where_it_extrapolates(table, fit):
    (line,) = describe_law(table, fit, x="flops").of("law")
    low, high = fit.x_range
    expected = fit.predict(line.x)
    assert line.y.tolist() == pytest.approx(expected["y"].tolist())
    assert line.low.tolist() == pytest.approx(expected["low"].tolist())
    assert (line.x.min(), line.x.max()) == (pytest.approx(low / 3), pytest.approx(high * 3))
    assert (line.x[line.inside].min(), line.x[line.inside].max()) == (low, high)


def test_described_curves_are_those_of_the_history(table, fit):
    records = history(table)
    figure = describe_law(table, fit, x="flops", history=records)
    curves = figure.of("curve")
    assert {curve.name for curve in curves} == set(table["run_id"])
    own = records[records["run_id"] == curves[0].name].sort_values("flops")
    assert curves[0].x.tolist() == own["flops"].tolist()
    assert curves[0].y.tolist() == own["error"].tolist()
    assert describe_law(table, x="params", history=records).of("curve") == ()


def test_unsupported_fit_is_a_refusal_in_words_and_no_line():
    table = law(n=8, high=5e9, noise=0.3, seed=3)
    fit = fit_power_law(table, resamples=100)
    figure = describe_law(table, fit, x="flops")
    assert not fit.supported
    assert figure.of("law") == ()
    assert "exponent not identified (95 % interval" in " ".join(figure.annotation)


def test_supported_fit_is_annotated_with_its_interval(table, fit):
    assert fit.quoted("exponent") in describe_law(table, fit, x="flops").annotation[1]


def test_any_two_columns_can_be_shown():
    figure = describe_law(pd.DataFrame({"a$": [1, 2, 3], "b": [3.0, 2, 1]}), x="a$", y="b")
    assert (figure.x_label, figure.y_label, figure.shade_label) == ("a$", "b", "")
    assert figure.points["shade"].isna().all()


def test_fit_of_other_columns_is_refused(table, fit):
    with pytest.raises(ValueError, match="the fit is of 'error' against 'flops'"):
        describe_law(table, fit, x="params")


def test_drawn_axes_show_what_was_described(table, fit):
    from matplotlib.figure import Figure

    figure = describe_law(table, fit, x="flops", history=history(table))
    ax = Figure().add_subplot()
    assert draw(figure, ax) is ax
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlabel() == figure.x_label
    low, high = ax.get_ylim()
    assert low < figure.points["y"].min()
    assert high > figure.points["y"].max()
    lines = [
        np.asarray(line.get_xydata()) for line in ax.lines if line.get_marker() in {sign for sign, _ in MARKERS}
    ]
    dots = {tuple(dot) for line in lines for dot in line}
    assert dots == {(row.x, row.y) for row in figure.points.itertuples()}


@pytest.mark.parametrize("colour", ["flops", None])
def test_files_are_written_and_vectors_are_the_same_to_the_byte(tmp_path, table, fit, colour):
    figure = describe_law(table, fit, x="flops", colour=colour, history=history(table))
    first = save(figure, tmp_path / "one" / "law.v1", ("png", "svg", "pdf"))
    second = save(figure, tmp_path / "two" / "law.v1", ("png", "svg", "pdf"))
    assert [path.name for path in first] == ["law.v1.png", "law.v1.svg", "law.v1.pdf"]
    assert [path.read_bytes() for path in first[1:]] == [path.read_bytes() for path in second[1:]]
    assert first[0].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.25, 0.33), (0.3, 0.9), (0.02, 1), (1e8, 1e13), (1e-3, 1e15), (100, 101), (5.8e4, 3.4e6)],
)
def test_ticks_are_few_and_inside_also_under_a_decade(low, high):
    ticks = log_ticks(low, high)
    assert 3 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(set(ticks))
