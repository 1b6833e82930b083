"""The columns of runs that a terminal shows, and rows in order, the best of them, and means over groups."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import text
from orchestrator.store.columns import chosen, fitted, naming, shown
from orchestrator.store.selection import best, group_means, in_order
from trainer.errors import UserError


def rows_of(**axes):
    """The product of some axes, as rows."""
    rows = [
        {"model": "B-1/Wi-16", "lr": 1e-3, "epochs": 2.0, "budget": 1e6, "seed": 0, "state": "done", "error": 0.5}
    ]
    for name, values in axes.items():
        rows = [{**row, name: value} for row in rows for value in values]
    return [{"run_id": f"{i:032x}"[::-1], **row} for i, row in enumerate(rows)]


def test_columns_that_vary_are_shown_and_others_not():
    names, others = naming(rows_of(lr=[1e-3, 3e-3], seed=[0, 1]))
    assert (names, others) == (["model", "lr", "seed"], [])
    assert naming(rows_of())[0] == ["model"]


def test_what_another_column_determines_comes_last():
    paired = [{**row, "batch_size": int(1e5 * row["lr"])} for row in rows_of(lr=[1e-3, 3e-3])]
    assert naming(paired) == (["model", "lr"], ["batch_size"])
    shown_rows, missing = fitted(paired, ("error",), 80)
    assert list(shown_rows[0]) == ["run_id", "model", "lr", "error", "batch_size"]
    assert missing == []


def test_length_that_was_declared_is_the_one_that_is_shown():
    """Two budgets at three sizes: the epochs differ in every row."""
    rows = rows_of(budget=[1e6, 1e7], model=["B-1/Wi-16", "B-1/Wi-32", "B-1/Wi-64"])
    rows = [{**row, "epochs": i + 2.5} for i, row in enumerate(rows)]
    assert naming(rows)[0] == ["model", "budget"]


def test_essential_columns_stay_and_missing_ones_are_named():
    rows = rows_of(lr=[1e-3, 3e-3], seed=[0, 1], model=["B-1/Wi-16", "B-1/Wi-32"], clip=[0.5, 1.0])
    kept, missing = fitted(rows, ("state", "error"), 40, ("error",))
    assert list(kept[0]) == ["run_id", "model", "lr", "clip", "error"]
    assert missing == ["seed"]


@given(
    st.lists(
        st.text(st.characters(codec="ascii", min_codepoint=33), max_size=12), min_size=1, max_size=8, unique=True
    ),
    st.integers(1, 60),
    st.data(),
)
def test_table_is_never_wider_than_asked(names, width, data):
    cells = st.text(st.characters(codec="ascii", min_codepoint=33), max_size=20)
    rows = [{name: data.draw(cells) for name in names} for _ in range(3)]
    kept = text.fitting(rows, width, data.draw(st.lists(st.sampled_from(names), unique=True)))
    assert all(len(line) <= width for line in text.table(kept).splitlines())
    assert [name for name in names if name in kept[0]] == list(kept[0])


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("run_id", "ab" * 16, "abababab"),
        ("lr", 0.0003, "0.0003"),
        ("dataset_size", 1281167.0, "1281167"),
        ("params", 3370, "3370"),
        ("budget", 6105088.0, "6.11e6"),
        ("error", math.nan, ""),
        ("clip", None, ""),
        ("sweeps", ["a", "b"], "a, b"),
        ("reason", "x" * 99, "x" * 39 + "…"),
    ],
)
def test_values_are_short(name, value, text):
    assert shown(name, value) == text


def test_chosen_columns_are_shown_in_their_order_and_unknown_ones_refused():
    rows = rows_of(lr=[1e-3, 3e-3])
    assert list(chosen(rows, "lr, model")[0]) == ["lr", "model"]
    assert list(chosen(rows, "all")[0]) == list(rows[0])
    with pytest.raises(UserError, match=r"^--columns 'modle': no such column; did you mean 'model'\?$"):
        chosen(rows, "modle")
    assert chosen([], "modle") == []


FRAME = pd.DataFrame(
    {
        "model": ["a", "a", "b", "b", "b"],
        "state": ["done", "done", "done", "failed", "done"],
        "error": [0.5, 0.3, 0.2, 0.1, math.nan],
        "params": [10, 10, 20, 20, 20],
        "seconds": 1.0,
        "flops": 5,
        "loss": math.nan,
    }
)


def test_rows_are_sorted_by_several_columns_with_missing_values_last():
    assert in_order(FRAME, ["-model", "error"]).index.tolist() == [3, 2, 4, 1, 0]
    with pytest.raises(UserError, match="--sort 'eror': no such column; did you mean 'error'"):
        in_order(FRAME, ["-eror"])


def test_best_rows_are_finished_ones():
    assert best(FRAME, 2).index.tolist() == [2, 1]
    assert best(FRAME, 1, "params").index.tolist() == [0]


def test_groups_have_mean_spread_and_number():
    means = group_means(FRAME, ["model"])
    assert means.columns.tolist() == ["model", "n", "error", "error_sd", "params", "flops", "seconds"]
    first, second = means.to_dict("records")
    assert (first["n"], first["error"]) == (2, pytest.approx(0.4))
    assert first["error_sd"] == pytest.approx(0.1414, abs=1e-4)
    assert (second["n"], second["error"]) == (2, 0.2)
    assert math.isnan(second["error_sd"])
    assert best(means, 1)["model"].tolist() == ["b"]
