"""Figures as they are described: runs told apart, families side by side, residuals, coverage."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from analysis import draw, fit_frontier, fit_power_law, save, validate
from analysis.figures import legend, style
from analysis.figures.law import describe_families, describe_law
from analysis.figures.plotly import to_plotly
from analysis.figures.residuals import describe_coverage, describe_held_out, describe_residuals
from analysis.figures.runs import MOST_LINES, MOST_MARKERS, describe_runs
from tests.analysis.planted import law, sweep


def runs(sizes=(500, 1000), epochs=(2, 6), widths=(16, 32), lrs=(1e-3, 3e-3)):
    """A grid whose error is 1000 / examples / width, times 2 at the worse learning rate; one run a cell."""
    rows = [
        {"model": f"B-1/Wi-{w}", "params": w * w, "dataset_size": n, "epochs": e * (1 - w / 1e4), "lr": lr}
        for n in sizes
        for e in epochs
        for w in widths
        for lr in lrs
    ]
    table = pd.DataFrame(rows)
    table["flops"] = table["params"] * table["dataset_size"] * table["epochs"]
    table["error"] = 1000 / table["dataset_size"] / table["epochs"] / table["params"] * (1 + (table["lr"] > 2e-3))
    return table.assign(run_id=[f"{k:08x}ffff" for k in range(len(table))])


def test_colour_is_the_model_marker_the_dataset_and_line_the_epochs():
    figure = describe_runs(runs())
    assert figure.shades == {256.0: "B-1/Wi-16", 1024.0: "B-1/Wi-32"}
    assert (figure.markers, figure.marker_label) == (("500", "1,000"), "dataset size")
    assert (figure.dashes, figure.dash_label) == (("2", "6"), "epochs")  # whole steps leave 1.994 and 1.997
    assert figure.points["marker"].tolist() == [0] * 8 + [1] * 8
    assert {(line.shade, line.dash) for line in figure.of("link")} == {(s, d) for s in (256, 1024) for d in (0, 1)}


def test_lines_join_the_best_of_each_kind():
    table = runs()
    figure = describe_runs(table)
    best = table[table["lr"] < 2e-3]
    assert sorted(figure.points.loc[figure.points["strong"], "y"]) == pytest.approx(sorted(best["error"]))
    joined = np.concatenate([line.y for line in figure.of("link")])
    assert sorted(joined) == pytest.approx(sorted(best["error"]))
    assert all(np.all(np.diff(line.x) > 0) for line in figure.of("link"))


def ends(figure):
    """The dataset size at every place of every line."""
    kinds = {(row.x, row.y): row.marker for row in figure.points.itertuples()}
    return [{kinds[place] for place in zip(line.x, line.y, strict=True)} for line in figure.of("link")]


def test_a_line_does_not_join_subsets_trained_for_different_epochs():
    table = runs(sizes=(500, 1100, 2300), epochs=(1, 2, 4, 8, 16, 32))
    lines = ends(describe_runs(table, line=None))
    assert sorted(map(len, lines)) == [1] * 6  # 3 subsets of 2 models
    assert all(len(line.x) == 6 for line in describe_runs(table, line=None).of("link"))
    hidden = describe_runs(table, marker=None, line=None)  # also where no marker shows the subset
    assert [len(line.x) for line in hidden.of("link")] == [6] * 6


def test_a_line_does_not_join_subsets_where_they_do_not_set_x():
    table = pd.concat([runs().assign(batch_size=b, error=runs()["error"] * b) for b in (8, 16, 32)])
    figure = describe_runs(table.assign(run_id=np.arange(len(table))), x="batch_size")
    assert {len(line.x) for line in figure.of("link")} == {3}
    assert {len(kinds) for kinds in ends(figure)} == {1}


def test_a_line_does_not_join_data_sets():
    table = pd.concat([runs().assign(dataset=name) for name in ("cifar10", "digits")], ignore_index=True)
    table.loc[table["dataset"] == "digits", ["flops", "error"]] *= [2.0, 3.0]
    one = describe_runs(runs()).of("link")
    assert len(describe_runs(table).of("link")) == 2 * len(one)


def test_a_point_names_its_runs_and_what_tells_it_apart():
    figure = describe_runs(runs())
    assert figure.points["name"][0] == "B-1/Wi-16, dataset_size 500, epochs 1.9968, lr 0.001, run 00000000"
    assert figure.points["group"][0] == "B-1/Wi-16"
    seeds = sweep(seeds=5, widths=(16, 32, 64), budgets=3)
    seeds = seeds.assign(run_id=[f"{k:08x}ffff" for k in range(len(seeds))])
    named = describe_runs(seeds, colour="width", marker=None, line=None).points["name"]
    assert named[0].endswith("5 seeds, runs 00000000 00000001 00000002 and 2 more")


def test_more_kinds_than_an_eye_tells_apart_are_refused():
    table = runs(epochs=(1, 2, 4, 8, 16, 32))
    with pytest.raises(ValueError, match="column 'epochs' has 6 values; a figure shows at most 5"):
        describe_runs(table)
    with pytest.raises(ValueError, match="no column 'dataset_sizes'; did you mean 'dataset_size'"):
        describe_runs(table, line=None, marker="dataset_sizes")


def test_kinds_that_a_figure_tells_apart_look_different_on_paper_and_on_a_page():
    assert all(len(set(kinds)) == MOST_MARKERS for kinds in zip(*style.MARKERS, strict=True))
    assert all(len(set(kinds)) == MOST_LINES for kinds in zip(*style.DASHES, strict=True))


def test_families_stand_side_by_side_with_their_laws():
    table = sweep()
    slower = table.assign(error=1.3 * table["error"])
    fits = {name: fit_frontier(t, floor=False, resamples=100) for name, t in (("a", table), ("b$", slower))}
    figure = describe_families(fits, annotation=("twice the FLOPs",))
    assert figure.shades == {1.0: "a", 2.0: "b$"}
    assert figure.points["group"].value_counts().to_dict() == {name: len(f.points) for name, f in fits.items()}
    assert len(figure.of("law")) == 2
    assert figure.annotation[0] == f"a: exponent {fits['a'].quoted('exponent')}"
    assert figure.annotation[1:] == (rf"b\$: exponent {fits['b$'].quoted('exponent')}", "twice the FLOPs")
    with pytest.raises(ValueError, match="expected one pair of columns"):
        describe_families({})


def test_residuals_are_those_of_the_logarithm():
    table = law(noise=0.05)
    fit = fit_power_law(table, resamples=100)
    figure = describe_residuals(fit)
    expected = 100 * np.log(fit.points["error"] / fit.predict(fit.points["flops"])["y"])
    assert figure.points["y"].tolist() == pytest.approx(expected.tolist())
    assert not figure.y_log
    assert [line.style for line in figure.lines] == ["guide"]


def test_a_refused_law_has_no_residuals_and_the_title_says_why():
    fit = fit_power_law(law(n=8, high=5e9, noise=0.3, seed=3), resamples=100)
    figure = describe_residuals(fit)
    assert not fit.supported
    assert figure.points.empty
    assert "not identified" in " ".join(figure.annotation)


def test_coverage_has_exact_binomial_bars_and_a_diagonal():
    table = pd.DataFrame({"nominal": [0.5, 0.95], "covered": [0.45, 1.0], "n": [200, 40]})
    figure = describe_coverage(table)
    for row, held, n in zip(figure.points.itertuples(), (90, 40), (200, 40), strict=True):
        exact = binomtest(held, n).proportion_ci(0.95)
        assert [row.low, row.high] == pytest.approx([exact.low, exact.high])
    (diagonal,) = figure.of("guide")
    assert diagonal.x.tolist() == diagonal.y.tolist() == [0.5, 0.95]
    with pytest.raises(ValueError, match="expected values in"):
        describe_coverage(table.assign(covered=95.0))


def test_held_out_errors_are_those_of_the_validation():
    found = validate(sweep(budgets=6), resamples=20)
    figure = describe_held_out(found)
    assert list(figure.shades.values()) == found.scores["law"].tolist()
    table = found.table.sort_values(["law", "reach"])
    drawn = figure.points.assign(law=figure.points["shade"].map(figure.shades)).sort_values(["law", "x"])
    assert drawn["x"].tolist() == table["reach"].tolist()
    assert drawn["y"].tolist() == pytest.approx((100 * table["log_rmse"]).tolist())


def ten_models():
    """Ten models of 7 lengths of training, two learning rates and two seeds."""
    table = runs(sizes=(1000,), epochs=(1, 2, 4, 8, 16, 32, 64), widths=[16 * 2**k for k in range(10)])
    table = pd.concat([table, table.assign(error=1.1 * table["error"])], ignore_index=True)
    return table.assign(seed=np.arange(len(table)) // (len(table) // 2), run_id=np.arange(len(table)))


CHARTS = {
    "ten models": lambda: describe_runs(ten_models(), line=None, marker=None),
    "three kinds": lambda: describe_runs(runs()),
    "law": lambda: describe_law(sweep(seeds=2), fit_frontier(sweep(seeds=2), resamples=100), x="flops"),
    "families": lambda: describe_families({k: fit_frontier(sweep(), floor=False, resamples=20) for k in "ab"}),
    "long names": lambda: describe_families(
        {f"{k} with a long name": fit_frontier(sweep(), resamples=20) for k in "ab"}
    ),
    "long title": lambda: describe_law(sweep(), x="flops", colour="flops"),
    "many colours": lambda: describe_law(sweep(budgets=15), x="flops", colour="flops"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_no_legend_lies_over_the_axes_or_outside_the_paper(name, tmp_path):
    drawn = []

    def kept(figure, ax):
        drawn.append(draw(figure, ax))
        return ax

    save(CHARTS[name](), tmp_path / "chart", ("png",), draw=kept)
    (ax,) = drawn
    page = ax.figure
    legends = [artist for artist in ax.get_children() if type(artist).__name__ == "Legend"]
    assert legends
    boxes = [legend.get_window_extent() for legend in legends]
    assert not any(box.overlaps(ax.get_window_extent()) for box in boxes)
    assert not any(box.overlaps(ax.xaxis.label.get_window_extent()) for box in boxes)
    assert all(page.bbox.x1 >= box.x1 and box.y0 >= page.bbox.y0 for box in boxes)


def test_ten_models_differ_in_marker_colour_and_the_dash_of_neighbours_on_paper_and_page():
    figure = describe_runs(ten_models(), line=None, marker=None)
    (models,) = legend.groups(figure)
    assert [key.name for key in models.keys] == [f"B-1/Wi-{16 * 2**k}" for k in range(10)]
    assert len({key.marker for key in models.keys}) == 10
    assert all(one.dash != two.dash for one, two in itertools.pairwise(models.keys))
    data = to_plotly(figure)["data"]
    for model, key in zip(figure.shades.values(), models.keys, strict=True):
        (points,) = [trace for trace in data if trace.get("meta") == model and "text" in trace]
        assert set(points["marker"]["symbol"]) == {style.MARKERS[key.marker or 0][1]}
        (line,) = [trace for trace in data if trace.get("meta") == model and trace["mode"] == "lines"]
        assert line["line"]["dash"] == style.DASHES[key.dash or 0][1]
        (entry,) = [trace for trace in data if trace.get("name") == model and trace["showlegend"]]
        assert (entry["marker"]["symbol"], entry["line"]["dash"]) == (
            points["marker"]["symbol"][0],
            line["line"]["dash"],
        )


def test_shades_that_are_close_have_distant_colours():
    table = runs(widths=(100, 101, 102))
    palette = style.Palette(describe_runs(table))
    colours = np.array([palette.of(shade)[:3] for shade in palette.shades])
    assert min(np.linalg.norm(one - two) for one, two in itertools.combinations(colours, 2)) > 0.3


@pytest.mark.parametrize("name", CHARTS)
def test_every_kind_of_mark_has_an_entry_on_paper_and_page(name):
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

    figure = CHARTS[name]()
    parts = [*legend.groups(figure), legend.marks(figure)]
    looks = {key.look for part in parts for key in part.keys}
    strong = figure.points["strong"]
    drawn = {line.style for line in figure.lines} | {"strong"} | ({"pale"} if not strong.all() else set())
    drawn |= {"bar"} if (figure.points["high"] > figure.points["low"]).any() else set()
    drawn |= {"band", "beyond"} if figure.of("law") else set()
    linked = any(key.dash is not None for part in parts for key in part.keys if key.look in ("strong", "link"))
    assert drawn - ({"link"} if linked else set()) <= looks
    names = [key.name for part in parts for key in part.keys]
    ax = draw(figure, Figure().add_subplot())
    texts = [t.get_text() for a in ax.get_children() if isinstance(a, Legend) for t in a.get_texts()]
    assert [text for text in texts if text in names] == names
    assert [trace["name"] for trace in to_plotly(figure)["data"] if trace.get("showlegend")] == names


def test_a_curve_and_a_guide_have_entries():
    history = sweep().assign(step=1)[["run_id", "flops", "error"]]
    curves = describe_law(sweep(), x="flops", history=history)
    assert "training curve" in [key.name for key in legend.marks(curves).keys]
    guide = describe_residuals(fit_power_law(law(noise=0.05), resamples=100))
    assert [key.name for key in legend.marks(guide).keys] == ["fitted point", "the law"]


def test_methods_are_told_apart():
    table = pd.DataFrame(
        {"nominal": [0.5, 0.9] * 2, "covered": [0.5, 0.9, 0.4, 0.7], "method": ["x", "x", "y", "y"]}
    )
    assert describe_coverage(table).shades == {1.0: "x", 2.0: "y"}


@pytest.mark.parametrize(
    "figure",
    [
        describe_runs(runs()),
        describe_residuals(fit_power_law(law(noise=0.05), resamples=100)),
        describe_coverage(pd.DataFrame({"nominal": [0.5, 0.9], "covered": [0.5, 0.8], "n": 50})),
    ],
    ids=["runs", "residuals", "coverage"],
)
def test_what_was_described_is_what_is_drawn(figure):
    from matplotlib.figure import Figure

    ax = draw(figure, Figure().add_subplot())
    scales = tuple("log" if log else "linear" for log in (figure.x_log, figure.y_log))
    assert (ax.get_xscale(), ax.get_yscale()) == scales
    lines = [np.asarray(line.get_xydata()) for line in ax.lines if line.get_linestyle() == "None"]
    drawn = [tuple(dot) for line in lines for dot in line]
    assert {(x, y) for x, y in zip(figure.points["x"], figure.points["y"], strict=True)} <= set(drawn)
    for line in figure.lines:
        assert any(np.array_equal(other.get_xydata(), np.stack([line.x, line.y], 1)) for other in ax.lines)
