"""Which laws a table is asked for, on tables whose laws are planted."""

import itertools

import numpy as np
import pandas as pd
import pytest

from orchestrator.reporting.laws import at_stage, calibration, laws, shares_budgets
from trainer.data.sets import zipf


def table_of(widths, sizes, error, seeds=2, budget=None, noise=0.01, **columns):
    """Results as a sweep over widths and dataset sizes would leave them, with `error(params, examples, flops)`."""
    rng = np.random.default_rng(0)
    rows = []
    for (i, width), (j, size), seed in itertools.product(enumerate(widths), enumerate(sizes), range(seeds)):
        params = width * 1000
        examples = budget / (6 * params) if budget else size * 10
        flops = 6 * params * examples
        rows.append(
            {
                "cell_id": f"{i}-{j}",
                "run_id": f"{i}-{j}-{seed}",
                "state": "done",
                "dataset": "digits",
                "dataset_size": size,
                "width": width,
                "seed": seed,
                "budget": flops,
                "params": params,
                "examples": examples,
                "flops": flops,
                "error": error(params, examples, flops) * np.exp(noise * rng.standard_normal()),
                **columns,
            }
        )
    return pd.DataFrame(rows)


def test_every_axis_that_varies_is_fitted():
    frame = table_of([16, 32, 64, 128, 256, 512], [100, 200, 400, 800, 1600, 3200], lambda n, d, c: 20 * d**-0.5)
    found = {law.x: law for law in laws(frame, resamples=100)}
    assert list(found) == ["params", "examples", "flops"]
    assert found["params"].fit is None  # more parameters buy nothing here
    fit = found["examples"].fit
    assert fit.points["examples"].nunique() == 6
    assert fit.intervals["exponent"][0] < 0.5 < fit.intervals["exponent"][1]


def test_a_frontier_leaves_out_what_a_cheaper_cell_beats():
    frame = table_of([16, 32, 64, 128, 256], [100, 400, 1600, 6400], lambda n, d, c: 3 * n**-0.3 + 5 * d**-0.4)
    fit = next(law.fit for law in laws(frame, resamples=100) if law.x == "flops")
    points = fit.points.sort_values("flops")
    assert 3 <= len(points) < frame["cell_id"].nunique()
    assert (points["error"].diff().dropna() < 0).all()


def test_where_one_thing_was_varied_all_runs_count():
    frame = table_of([64], [100, 200, 400, 800, 1600, 3200], lambda n, d, c: 20 * d**-0.5, seeds=3)
    fit = next(law.fit for law in laws(frame, resamples=100) if law.x == "examples")
    assert len(fit.points) == len(frame)


def test_cells_of_one_budget_are_one_point_of_the_frontier():
    budgets = [1e10, 1e11, 1e12, 1e13, 1e14]
    curves = [
        table_of([16, 64, 256], [100], lambda n, d, c: 100 * c**-0.2 * (1 + 0.1 * np.log(n / 6e4) ** 2), budget=b)
        for b in budgets
    ]
    for budget, curve in zip(budgets, curves, strict=True):
        curve["cell_id"] += f"-{budget:g}"
        curve["flops"] *= np.linspace(0.98, 1, len(curve))  # whole steps
        curve["budget"] = budget
    fit = next(law.fit for law in laws(pd.concat(curves), resamples=100) if law.x == "flops")
    assert fit.points["flops"].tolist() == budgets
    assert fit.exponent == pytest.approx(0.2, abs=0.02)


def test_what_is_not_there_is_said():
    frame = table_of([64], [100, 200], lambda n, d, c: 20 * d**-0.5)
    found = {law.x: law for law in laws(frame, resamples=100)}
    assert found["params"].why_not == "1 distinct value of params among 4 finished runs; a law needs 3"
    assert found["examples"].to_dict() == {
        "x": "examples",
        "fit": None,
        "why_not": "2 distinct values of examples among 4 finished runs; a law needs 3",
    }


def test_runs_that_failed_are_left_out():
    frame = table_of([64], [100, 200, 400, 800, 1600], lambda n, d, c: 20 * d**-0.5)
    worse = frame.assign(state="failed", error=np.nan)
    fit = next(law.fit for law in laws(pd.concat([frame, worse]), resamples=100) if law.x == "examples")
    assert len(fit.points) == len(frame)


def zipf_table(exponent_of):
    sizes = [250, 500, 1000, 2000, 4000, 8000]
    frame = table_of([64], sizes, lambda n, d, c: exponent_of(d / 10), seeds=3, noise=0.02)
    return frame.assign(dataset="zipf", zipf_alpha=0.5, zipf_tokens=1000)


def test_calibration_holds_where_the_instrument_measures_the_exact_curve():
    frame = zipf_table(lambda size: zipf.expected_error(np.array([int(size)]), 0.5, 1000)[0])
    found = laws(frame, resamples=200)
    assert [law.x for law in found] == ["examples"]
    known = calibration(frame, found)
    assert known.holds
    assert known.measured == pytest.approx(known.exact, abs=0.05)
    assert known.theory == pytest.approx(1 / 3)
    assert "covers that of the exact finite curve" in str(known)


def test_calibration_can_fail():
    frame = zipf_table(lambda size: 0.5 * size**-0.1)
    known = calibration(frame, laws(frame, resamples=200))
    assert not known.holds
    assert "MISSES" in str(known)


def test_there_is_no_calibration_of_other_tasks():
    frame = table_of([64], [100, 200, 400, 800], lambda n, d, c: 20 * d**-0.5, zipf_alpha=None, zipf_tokens=None)
    assert calibration(frame, laws(frame, resamples=100)) is None


def test_a_stage_is_read_against_what_the_beginning_of_its_chain_cost():
    chain = {
        "run_id": ["a", "b", "c", "d"],
        "parent": ["", "a", "b", ""],
        "stage": ["train", "probe", "tta", "train"],
    }
    spent = {"flops": [100, 7, 0, 200], "lr": [1e-3, 1.0, 2.0, 3e-3], "error": [0.4, 0.3, 0.2, 0.1]}
    others = ("flops_paper", "flops_6nd", "examples", "epochs", "steps", "dataset_size", "budget", "batch_size")
    frame = pd.DataFrame({**chain, **spent, **{name: [1, 2, 3, 4] for name in others}})
    frame = frame.assign(schedule="constant", optimizer="sgd", weight_decay=0.0)
    for stage in ("probe", "tta"):
        (row,) = at_stage(frame, stage).to_dict("records")
        assert (row["flops"], row["lr"], row["examples"]) == (100, 1e-3, 1)
        assert row["error"] == dict(zip(frame["stage"], [0.1, 0.3, 0.2, 0], strict=True))[stage]
    assert at_stage(frame, "train").equals(frame[frame["stage"] == "train"])


def test_budgets_are_shared_by_sizes_and_not_by_learning_rates_or_seeds():
    def table(budgets, sizes, rates):
        rows = itertools.product(budgets, sizes, range(rates), range(2))
        frame = pd.DataFrame(rows, columns=["budget", "params", "lr", "seed"])
        return frame.assign(cell_id=frame.groupby(["budget", "params", "lr"], dropna=False).ngroup())

    assert shares_budgets(table([1e9, 1e10], [1e3, 1e4], 1))
    assert not shares_budgets(table([1e9, 1e10, 1e11], [1e3], 5))
    assert shares_budgets(table([1e9, 1e10, 1e11], [1e3, 1e4], 5))
    assert not shares_budgets(table([np.nan], [1e3, 1e4], 2))
