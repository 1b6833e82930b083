"""Curves as text."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.reporting.curve import curve

POSITIVE = st.floats(1e-6, 1e12)


def test_falling_curve_falls():
    head, *lines, axis = curve([(1, 1.0), (10, 0.1), (100, 0.01)], "steps", "error", width=24, height=4)
    assert head == "error against steps, log axes"
    assert [len(line) - len(line.lstrip(" 0.1⠀")) for line in lines] == [5, 9, 14, 19]
    assert lines[0].startswith("   1 ")
    assert lines[-1].startswith("0.01 ")
    assert axis == "     1               100"


def test_a_curve_needs_two_places():
    assert curve([], "steps", "error") == []
    assert curve([(3, 0.5)], "steps", "error") == []
    assert curve([(3, 0.5), (4, 0.0), (0, 1.0)], "steps", "error") == []
    assert len(curve([(3, 0.5), (4, 0.5)], "steps", "error", height=5)) == 7


@given(st.lists(st.tuples(POSITIVE, POSITIVE), max_size=30), st.integers(30, 90), st.integers(2, 12))
def test_any_curve_fits_and_is_connected(points, width, height):
    lines = curve(points, "steps", "error", width, height)
    assert all(len(line) <= width for line in lines)
    if lines:
        assert len(lines) == height + 2
        margin = len(lines[-1]) - len(lines[-1].lstrip())
        dots = [{i for i, c in enumerate(line) if c > "\u2800" and i >= margin} for line in lines[1:-1]]
        assert set().union(*dots) == set(range(margin, width))
