"""What a design can show: compared with the fits of planted tables, and what it refuses before any run."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis import expect, fit_frontier, fit_isoflop, fit_power_law, fit_surface
from analysis.decisions import additions, expected
from analysis.decisions.assumption import Assumption, assume, default, few_test_examples
from analysis.decisions.design import cells_of, judge, undertrained

COLUMNS = ("params", "examples", "flops", "budget")


def grid(sizes, examples, seeds=1):
    n, d = (part.ravel() for part in np.meshgrid(sizes, examples, indexing="ij"))
    return pd.DataFrame({"params": n, "examples": d, "flops": 6 * n * d}).loc[np.repeat(np.arange(n.size), seeds)]


def curves(sizes, budgets, seeds=1):
    n, c = (part.ravel() for part in np.meshgrid(sizes, budgets, indexing="ij"))
    table = pd.DataFrame({"params": n, "examples": c / (6 * n), "flops": c, "budget": c})
    return table.loc[np.repeat(np.arange(n.size), seeds)]


def planted(design, assumed, seed):
    n, d = design["params"].to_numpy(), design["examples"].to_numpy()
    noise = assumed.sigma * np.random.default_rng(seed).normal(size=n.size)
    cell = pd.Series(design.index).map(str).to_numpy()
    return design.assign(error=assumed.y(n, d) * np.exp(noise), cell_id=cell)


def half(interval):
    return (interval[1] - interval[0]) / 2


SQUARE = grid(np.geomspace(1e4, 1e6, 5), np.geomspace(1e4, 1e6, 5), seeds=2)
ISOFLOP = curves(np.geomspace(3e3, 3e6, 9), np.geomspace(3e9, 1e13, 6))


# against the fits


@pytest.mark.parametrize("design", [SQUARE, grid(np.geomspace(1e4, 3e5, 5), np.geomspace(3e3, 3e5, 6)), ISOFLOP])
@pytest.mark.parametrize("sigma", [0.005, 0.02])
def test_intervals_of_a_surface_are_as_wide_as_expected(design, sigma):
    cells = cells_of(design, COLUMNS)
    assumed = replace(default(cells.n, cells.d), sigma=sigma)
    names = {"alpha": "alpha", "beta": "beta", "params exponent": "params_exponent"}
    fits = [fit_surface(planted(design, assumed, seed), y="error", resamples=120, seed=seed) for seed in range(5)]
    for e in expected.surface(cells, assumed):
        actual = np.median([half(fit.intervals[names[e.quantity]]) for fit in fits])
        assert 1 / 1.5 < e.half / actual < 1.5, e


def test_the_interval_of_isoflop_minima_is_as_wide_as_expected():
    cells = cells_of(ISOFLOP, COLUMNS)
    assumed = replace(default(cells.n, cells.d), sigma=0.003)
    fits = [fit_isoflop(planted(ISOFLOP, assumed, seed), resamples=100, seed=seed).n_exponent for seed in range(5)]
    e = expected.optimum(cells, assumed)
    assert 1 / 1.5 < e.half / np.median([half((q.low, q.high)) for q in fits]) < 1.5
    assert e.value == pytest.approx(0.5)


def test_the_interval_of_a_short_frontier_is_as_wide_as_expected():
    design = curves(np.geomspace(3e3, 3e6, 9), np.geomspace(3e9, 1e13, 5))
    cells = cells_of(design, COLUMNS)
    assumed = replace(default(cells.n, cells.d), sigma=0.005)
    tables = [planted(design, assumed, seed) for seed in range(5)]
    fits = [fit_frontier(table, kind="each", resamples=100, seed=k) for k, table in enumerate(tables)]
    e = expected.frontier(cells, assumed, "flops")
    assert 1 / 1.5 < e.half / np.median([half(fit.intervals["exponent"]) for fit in fits]) < 1.5


@pytest.mark.parametrize("design", [grid([1e5], np.geomspace(1e4, 1e6, 6)), grid(np.geomspace(1e4, 1e6, 8), [1e6])])
def test_the_interval_of_a_law_of_a_few_single_runs_is_as_wide_as_expected(design):
    cells = cells_of(design, COLUMNS)
    assumed = replace(default(cells.n, cells.d), sigma=0.005)
    x, name = ("d", "examples") if cells.distinct("n") == 1 else ("n", "params")
    tables = [planted(design, assumed, seed) for seed in range(15)]
    halves = [half(fit_power_law(table, name, resamples=100).intervals["exponent"]) for table in tables]
    assert 1 / 1.5 < expected.line(cells, assumed, x).half / np.median(halves) < 1.5


def test_an_addition_to_a_few_single_runs_still_answers_where_its_fit_is_rehearsed():
    cells = cells_of(grid([1e5], np.geomspace(3e4, 3e5, 5)), COLUMNS)
    assumed = replace(default(cells.n, cells.d), sigma=0.02)
    space = additions.space_of(cells)
    assert space is not None
    added = judge(cells, assumed, space=space).addition
    assert added is not None
    whole = next(
        one.cells
        for one in additions.larger_designs(space)
        if (one.sizes, one.lengths, one.seeds) == (added.sizes, added.lengths, added.seeds)
    )
    assert expected.line(whole, assumed, "d") == added.expected
    assert added.expected.answers


@pytest.mark.parametrize("floor", [True, False])
def test_the_interval_of_one_law_is_as_wide_as_expected(floor):
    design = grid([1e5], np.geomspace(1e4, 1e6, 8), seeds=3)
    cells = cells_of(design, COLUMNS)
    assumed = Assumption(0.0, 1.0, 1.0, 0.4, 0.002 if floor else 0.0, sigma=0.02)
    e = expected.line(cells, assumed, "d", floor=floor)
    fits = [
        fit_power_law(planted(design, assumed, seed), "examples", floor=floor, resamples=150, seed=seed)
        for seed in range(5)
    ]
    assert 1 / 1.5 < e.half / np.median([half(fit.intervals["exponent"]) for fit in fits]) < 1.5
    assert e.value == 0.4


# what moves the interval, and what does not


def test_noise_widens_in_proportion_and_seeds_narrow():
    cells = cells_of(SQUARE, COLUMNS)
    assumed = default(cells.n, cells.d)
    once, twice = (expected.surface(cells, replace(assumed, sigma=sigma))[0].half for sigma in (0.01, 0.02))
    assert twice == pytest.approx(2 * once)
    more = expected.surface(replace(cells, runs=4 * cells.runs), assumed)[0].half
    assert 0.4 < more / expected.surface(cells, assumed)[0].half < 0.55  # half, and less of Student's factor


def test_units_do_not_matter():
    cells = cells_of(ISOFLOP, COLUMNS)
    law = default(cells.n, cells.d)
    in_thousands = replace(cells, n=cells.n / 1e3, budget=cells.budget / 1e3, flops=cells.flops / 1e3)
    other = replace(law, A=law.A * 1e3**-law.alpha)
    for before, after in zip(expected.surface(cells, law), expected.surface(in_thousands, other), strict=True):
        assert after.half == pytest.approx(before.half, rel=1e-6)
    assert expected.optimum(in_thousands, other).half == pytest.approx(expected.optimum(cells, law).half, rel=1e-6)


# refusals


def test_three_widths_by_three_budgets_cannot_answer_and_the_addition_can():
    design = curves([1e4, 1e5, 1e6], [1e10, 1e11, 1e12])
    result = expect(design)
    assert not result.supported
    assert result.reasons[-1] == "at most 3 sizes a budget; a minimum needs 4"
    assert [law.refused for law in result.laws if law.quantity == "FLOPs"] == [
        "3 distinct FLOPs on the frontier; a claim needs 5"
    ]
    assert result.addition is not None
    assert result.addition.expected.answers
    assert str(result.addition) in " ".join(result.summary().split())
    assert not any(fit_isoflop(planted(design, result.assumed, seed), resamples=50).supported for seed in range(3))


def test_single_runs_of_few_sizes_leave_the_noise_unknown():
    sizes = np.geomspace(2e3, 2e6, 4)
    once, twice = (expect(curves(sizes, [1e9, 1e10, 1e11], seeds)).optimum for seeds in (1, 2))
    assert once is not None
    assert twice is not None
    assert once.refused == "no repeats and at most 4 sizes a budget: the noise is not known"
    assert np.isfinite(twice.half)


def test_no_cheaper_addition_answers():
    cells = cells_of(curves([1e4, 1e5, 1e6], [1e10, 1e11, 1e12]), COLUMNS)
    assumed, space = default(cells.n, cells.d), additions.space_of(cells)
    assert space is not None
    found = additions.cheapest(cells, assumed, space)
    assert found is not None
    larger = {(one.sizes, one.lengths, one.seeds): one.cells for one in additions.larger_designs(space)}
    chosen = larger[found.sizes, found.lengths, found.seeds]
    assert chosen.cost - cells.cost == pytest.approx(found.flops)
    assert expected.optimum(chosen, assumed).answers
    assert expected.surface(chosen, assumed)[-1].answers
    cheaper = [other for other in larger.values() if other.cost < 0.99 * chosen.cost]
    assert cheaper
    for other in cheaper:
        assert not (expected.surface(other, assumed)[-1].answers and expected.optimum(other, assumed).answers)


@pytest.mark.parametrize(
    ("design", "text"),
    [
        (grid([1e4], np.geomspace(1e4, 1e6, 4)), "4 distinct examples; a claim needs 5"),
        (grid([1e4], np.geomspace(1e4, 2e4, 6)), "examples spans a factor of 2; a claim needs 3"),
        (grid([1e4, 1e5], np.geomspace(1e4, 1e6, 6)), "2 distinct params; a surface needs 3"),
        (grid(np.geomspace(1e4, 1e6, 5), [1e5]), ""),
    ],
)
def test_what_a_fit_would_refuse_is_refused_before(design, text):
    result = expect(design)
    assert (text in result.reasons) if text else ("a claim needs" not in str(result))


@pytest.mark.parametrize("design", [grid([1e4], [1e5], seeds=9), grid([1e4, 1e5], [1e5]), grid([1e4], [1e5, 1e6])])
def test_a_design_that_is_no_scaling_sweep_is_asked_nothing(design):
    result = expect(design)
    assert not result.asks
    assert result.summary() == ""


# warnings


def test_budgets_whose_best_model_is_at_the_edge_are_named():
    sizes = np.geomspace(1e6, 1e8, 6)  # the best has as many params as examples: 4e4 to 4e5
    (text,) = [w for w in expect(curves(sizes, [1e10, 1e11, 1e12])).warnings if "expected to be the best" in w]
    assert text.startswith("at 3 of 3 budgets (1e10, 1e11, 1e12) the smallest model")
    assert not [w for w in expect(ISOFLOP).warnings if "expected to be the best" in w]


def test_params_and_examples_that_vary_together_are_named():
    n = np.geomspace(1e4, 1e6, 8)
    together = pd.DataFrame({"params": n, "examples": 20 * n})
    assert any(
        w.startswith("params and examples vary together (correlation 1.000)") for w in expect(together).warnings
    )
    assert not any("vary together" in w for w in expect(SQUARE).warnings)


def test_single_runs_are_named():
    assert any("one run per cell" in w for w in expect(ISOFLOP).warnings)
    assert not any("one run per cell" in w for w in expect(SQUARE).warnings)


def test_the_least_trained_cell_is_named():
    (text,) = undertrained(["a", "b", "c", "d"], np.array([100, 5, 500, 99]), np.array([0.1, 0.3, 0.05, 9.0]))
    assert text.startswith("3 of 4 cells train fewer than 100 steps or 0.1 epochs (b: 5 steps, 0.3 epochs)")
    assert undertrained(["a"], np.array([100]), np.array([0.1])) == []
    (text,) = [w for w in expect(SQUARE.assign(steps=5, epochs=1.0)).warnings if "fewer than" in w]
    assert text.startswith("50 of 50 runs train fewer than 100 steps or 0.1 epochs (params 10000: 5 steps")


# earlier runs


def earlier(assumed, seeds, sizes=6):
    design = grid(np.geomspace(1e4, 1e6, sizes), np.geomspace(1e4, 1e6, sizes), seeds)
    return planted(design, assumed, 1)


def test_earlier_runs_tell_the_noise_and_the_law():
    truth = Assumption(2.0, 0.4, 5.0, 0.5, 0.01, sigma=0.03)
    assumed = expect(SQUARE, earlier=earlier(truth, 4)).assumed
    assert assumed.sigma == pytest.approx(0.03, rel=0.15)
    assert assumed.alpha == pytest.approx(0.4, abs=0.08)
    assert assumed.beta == pytest.approx(0.5, abs=0.08)
    assert assumed.noise_from == assumed.law_from == "144 earlier runs"


def test_of_earlier_runs_the_finished_ones_count_once():
    runs = pd.DataFrame(earlier(Assumption(2.0, 0.4, 5.0, 0.5, 0.01, sigma=0.03), 4)).assign(state="done")
    runs["run_id"] = [f"r{k}" for k in range(len(runs))]
    more = pd.concat([runs, runs, runs.assign(run_id=runs["run_id"] + "x", state="diverged", error=0.9)])
    assert expect(SQUARE, earlier=more).assumed == expect(SQUARE, earlier=runs).assumed
    with pytest.raises(ValueError, match="no column 'error'"):
        expect(SQUARE, earlier=runs.drop(columns="error"))
    with pytest.raises(ValueError, match="column 'error' holds text such as 'high'"):
        expect(SQUARE, earlier=runs.assign(error="high"))


def test_few_earlier_runs_leave_the_defaults():
    truth = Assumption(2.0, 0.4, 5.0, 0.5, 0.01, sigma=0.03)
    cells = cells_of(SQUARE, COLUMNS)
    assert expect(SQUARE, earlier=earlier(truth, 2, sizes=2)).assumed == default(cells.n, cells.d)
    noise_only = expect(SQUARE, earlier=earlier(truth, 4, sizes=2)).assumed
    assert (noise_only.law_from, noise_only.alpha) == ("default", 0.3)
    assert noise_only.sigma == pytest.approx(0.03, rel=0.5)
    assert noise_only.noise_from == "16 earlier runs"


def test_a_table_that_does_not_fall_leaves_the_default_law():
    runs = earlier(Assumption(2.0, 0.4, 5.0, 0.5, 0.01, sigma=0.03), 4)
    columns = {"n": runs["params"], "d": runs["examples"], "cell": runs["cell_id"]}
    flat = {name: value.to_numpy() for name, value in columns.items()} | {"y": np.full(len(runs), 0.5)}
    cells = cells_of(SQUARE, COLUMNS)
    assert assume(cells.n, cells.d, flat).law_from == "default"


# as a result


def test_a_design_can_be_written_as_json():
    result = expect(curves([1e4, 1e5, 1e6], [1e10, 1e11, 1e12]))
    said = json.loads(json.dumps(result.to_dict()))
    assert said["supported"] is False
    assert said["optimum"]["half"] is None
    assert said["assumed"]["sigma"] == 0.02
    assert said["addition"]["flops"] > 0


def test_lines_fit_a_terminal():
    assert max(map(len, str(expect(ISOFLOP)).splitlines())) <= 80


@pytest.mark.parametrize("frame", [{"params": [1.0]}, {"params": [1e4, -1], "examples": [1.0, 1.0]}, {}])
def test_unfit_columns_are_refused(frame):
    with pytest.raises(ValueError, match="params"):
        expect(frame)


def test_without_a_space_there_is_no_addition():
    cells = cells_of(curves([1e4, 1e5, 1e6], [1e10, 1e11, 1e12]), COLUMNS)
    assert judge(cells, default(cells.n, cells.d)).addition is None


def test_an_error_counted_on_few_test_examples_is_said_to_be_noisy():
    assert few_test_examples(10_000) == few_test_examples(None) == []
    assert few_test_examples(5_625) != []
    assert few_test_examples(5_626) == []
    (text,) = few_test_examples(360)
    assert text.startswith("on 360 test examples an error of 10 % has 16 % noise by chance, not 2 %")
    luck = np.random.default_rng(0).binomial(360, 0.1, 20_000) / 360
    assert np.std(np.log(luck[luck > 0])) == pytest.approx(0.16, rel=0.1)


def test_runs_that_are_no_full_grid_are_told_that_no_addition_was_looked_for():
    ragged = grid(np.geomspace(1e4, 1e5, 3), np.geomspace(1e4, 1e5, 3)).head(8)
    assert any(
        "no addition was looked for: the runs are not a full grid" in text for text in expect(ragged).warnings
    )
    whole = expect(grid(np.geomspace(1e4, 1e5, 3), np.geomspace(1e4, 1e5, 3)))
    assert not any("no addition was looked for" in text for text in whole.warnings)
    assert (whole.addition is None) == any("no addition of a few" in text for text in whole.warnings)
