from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import best_learning_rates

RATES = np.geomspace(1e-4, 1e-1, 7)


def grid(best=3e-3, widths=(16, 64), rates=RATES, noise=0.0, seeds=1, seed=0, curve=0.05, design="width"):
    """error = 0.3 + curve log(lr / best(width))^2 with best falling as width^-0.5."""
    rng, rows = np.random.default_rng(seed), []
    for width in widths:
        for lr in rates:
            error = 0.3 + curve * np.log(lr / best / (width / 16) ** -0.5) ** 2
            for _ in range(seeds):
                row = {design: width, "lr": lr, "cell_id": f"{width}-{lr}"}
                rows.append(row | {"error": error * np.exp(noise * rng.normal())})
    return pd.DataFrame(rows)


@settings(deadline=None, max_examples=10, derandomize=True)
@given(best=st.floats(5e-4, 2e-2), log_unit=st.floats(-3, 3), log_y=st.floats(-3, 3))
def test_best_rate_of_an_exact_bowl_is_recovered_in_any_unit(best, log_unit, log_y):
    table = grid(best, widths=(16,))
    table["lr"], table["error"] = table["lr"] * 10**log_unit, table["error"] * 10**log_y
    found = best_learning_rates(table, resamples=0)
    assert found.settled
    assert found.best["lr"][0] == pytest.approx(best * 10**log_unit, rel=1e-6)
    assert found.best["y"][0] == pytest.approx(0.3 * 10**log_y, rel=1e-6)


def test_every_design_has_its_own():
    found = best_learning_rates(grid(), resamples=0)
    assert found.by == ("width",)
    assert found.best["width"].tolist() == [16, 64]
    assert found.best["lr"].tolist() == pytest.approx([3e-3, 1.5e-3])
    assert found.missing.empty


def test_intervals_cover_the_planted_rate():
    hits = []
    for seed in range(40):
        table = grid(noise=0.03, seeds=3, seed=seed)
        row = best_learning_rates(table, resamples=100).best.iloc[0]
        hits.append(row["lr_low"] <= 3e-3 <= row["lr_high"])
    assert np.mean(hits) >= 0.87


@pytest.mark.parametrize(
    ("best", "flag", "missing"),
    [
        (1e-5, "the best rate is the smallest tried", 1e-4 / np.sqrt(10)),
        (1.0, "the best rate is the largest tried", 1e-1 * np.sqrt(10)),
    ],
)
def test_a_best_rate_at_the_edge_of_the_grid_is_flagged_and_the_next_is_named(best, flag, missing):
    found = best_learning_rates(grid(best, widths=(16,)), resamples=20)
    assert not found.settled
    assert found.best["flag"].tolist() == [flag]
    assert np.isnan(found.best["lr_low"][0])
    assert found.missing["lr"].tolist() == pytest.approx([missing])
    assert flag in str(found)


def test_the_edge_of_divergence_is_told_from_the_edge_of_the_grid():
    table = grid(1.0, widths=(16,))
    table.loc[table["lr"] > 0.02, "error"] = np.nan
    found = best_learning_rates(table, resamples=0)
    assert found.best["flag"][0] == "the best rate is the largest that did not diverge (0.032 did)"
    assert found.best["diverged"][0] == 2
    assert found.missing["lr"].tolist() == pytest.approx([np.sqrt(0.01 * 0.0316228)], rel=1e-4)


def test_one_rate_asks_for_one_on_either_side():
    found = best_learning_rates(grid(widths=(16,), rates=[1e-3]), resamples=0)
    assert found.best["flag"].tolist() == ["only one rate"]
    assert found.missing["lr"].tolist() == pytest.approx([1e-3 / 3, 3e-3])


def test_designs_that_only_diverged_are_counted():
    table = grid()
    table.loc[table["width"] == 64, "error"] = np.nan
    found = best_learning_rates(table, by=["width"], resamples=0)
    assert found.best["width"].tolist() == [16]
    assert found.warnings[-1] == "1 designs diverged at every rate tried and have no row here"


def test_noise_that_hides_the_bowl_is_said():
    found = best_learning_rates(grid(widths=(16,), curve=0.0005, noise=0.05, seeds=2), resamples=200)
    assert found.best["flag"][0]


def test_answer_is_strict_json():
    found = best_learning_rates(grid(widths=(16, 64)), resamples=20)
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert read["best"][1]["width"] == 64
    json.dumps(best_learning_rates(grid(1.0), resamples=0).to_dict(), allow_nan=False)


def test_bad_tables_are_refused():
    with pytest.raises(ValueError, match="no column 'lr'; did you mean 'lrs'"):
        best_learning_rates(grid().rename(columns={"lr": "lrs"}))
    with pytest.raises(ValueError, match="no column 'depht'"):
        best_learning_rates(grid(), by=["depht"])
    with pytest.raises(ValueError, match="no row has a finite 'error'"):
        best_learning_rates(grid().assign(error=np.nan))
    with pytest.raises(ValueError, match="no row has a finite 'error', of 0 rows"):
        best_learning_rates(grid().iloc[:0], y="error")


def test_a_diverged_run_with_an_error_is_a_rate_that_diverged():
    table = grid(best=5e-2, widths=(16,)).assign(state="done")
    table.loc[table["lr"] > 5e-2, ["state", "error"]] = ["diverged", 0.31]
    waiting = table[:2].assign(state="queued", lr=[1e-7, 1e-6], error=np.nan)
    found = best_learning_rates(pd.concat([table, waiting], ignore_index=True), resamples=0)
    alone = best_learning_rates(table[table["state"] == "done"], resamples=0)
    row = found.best.iloc[0]
    assert (row["rates"], row["diverged"]) == (7, 1)
    assert row["flag"] == "the best rate is the largest that did not diverge (0.1 did)"
    assert alone.best["diverged"][0] == 0
    assert 3.2e-2 < found.missing["lr"][0] < 0.1
    assert found.warnings[0] == "2 of 9 rows are of runs that are not done or diverged (queued 2): left out"


def test_equal_repeats_give_a_best_rate_without_an_interval():
    table = pd.concat([grid(widths=(16,)).assign(seed=k) for k in range(3)])
    row = best_learning_rates(table).best.iloc[0]
    assert row["lr"] == pytest.approx(3e-3)
    assert np.isnan(row["lr_low"])
