"""Numbers as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.table.foreign.numbers import decimals, number, parse, scale


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *(("12.5%", 0.125), ("1,2e9", 1.2e9), ("1.2E+09", 1.2e9), ("125M", 1.25e8), ("1.2 B", 1.2e9)),
        *(("300B tokens", 3e11), ("3 PF-days", 2.592e20), ("2.5 GFLOPs", 2.5e9), ("3 min", 180.0), (".5", 0.5)),
        *(("1.000.000,5", 1000000.5), ("1,000,000", 1e6), ("1'000'000", 1e6), ("1\u202f000\u202f000", 1e6)),
        *(("10^9", 1e9), ("2^20", 2.0**20), ("1.2 x 10^{-3}", 1.2e-3), ("\u22121e-3", -1e-3), ("~0.5 ± 0.1", 0.5)),
        *(("**0.5**", 0.5), ("0.35 (0.01)", 0.35)),
    ],
)
def test_a_cell_is_read_in_units(cell, value):
    assert number(cell) == pytest.approx(value)


@pytest.mark.parametrize(
    "cell", ["", "OOM", "1.2.3", "12:30", "2026-01-02", "64 large", "12 34", "1e999", "inf", "nan", "3e", "<0.1"]
)
def test_a_text_is_no_number(cell):
    assert number(cell) is None


@pytest.mark.parametrize(
    ("columns", "delimiter", "mark"),
    [
        ({"N": ["1,024", "2,048", "128"]}, ";", "."),  # whole numbers below 1000 have no mark
        ({"N": ["1,234", "2,345"], "y": ["0,5", "0,25"]}, ";", ","),  # as the other column
        ({"N": ["1,000", "2,000"], "y": ["0.5"]}, ",", "."),
        ({"N": ["1,234"]}, ";", ","),
        ({"N": ["1,234"]}, ",", "."),
        ({"N": ["1.234"]}, ";", "."),
        ({"N": ["1.000", "2.000"], "y": ["0,5"]}, ";", ","),
    ],
)
def test_an_open_mark_is_decided_by_the_column_then_the_file(columns, delimiter, mark):
    assert decimals(columns, delimiter)["N"] == mark


@given(st.lists(st.floats(1e-6, 1e12), min_size=1, max_size=8))
def test_a_column_with_decimal_commas_is_that_with_points(values):
    points = [f"{value:,.4f}" for value in values]
    commas = [text.translate(str.maketrans(",.", ".,")) for text in points]
    assert list(parse(commas, decimals({"x": commas}, ";")["x"]).numbers) == pytest.approx(
        list(parse(points, decimals({"x": points}, ";")["x"]).numbers)
    )


def test_a_column_counts_as_numbers_if_half_of_its_cells_are():
    assert parse(["1", "OOM", "-", ""]).mostly
    assert not parse(["1", "OOM", "failed"]).mostly
    assert not parse(["", "-"]).mostly


def test_units_of_headings_are_known_or_nothing():
    assert [scale(unit) for unit in ("", "%", "M", "B tokens", "nats", "e")] == [1, 0.01, 1e6, 1e9, 1, None]
