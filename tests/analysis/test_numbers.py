"""The one format of numbers in texts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.numbers import short


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        *(
            (0.3784, 3, "0.378"),
            (3928.0, 3, "3930"),
            (28740, 3, "28700"),
            (99999.0, 3, "1e5"),
            (6.01e11, 3, "6.01e11"),
        ),
        *((1000.0, 2, "1000"), (0.000123, 2, "0.00012"), (1.5e-5, 3, "1.5e-5"), (0, 3, "0"), (-2.5e7, 3, "-2.5e7")),
        *((0.5, 4, "0.5"), (9.999, 3, "10"), (math.inf, 3, "inf"), (math.nan, 3, "nan")),
    ],
)
def test_numbers_have_one_format(value, digits, text):
    assert short(value, digits) == text


@given(st.floats(1e-300, 1e300), st.integers(1, 8))
def test_a_number_says_its_value_to_its_digits(value, digits):
    assert float(short(value, digits)) == float(f"{value:.{digits - 1}e}")
    assert float(short(-value, digits)) == -float(short(value, digits))
