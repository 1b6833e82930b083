"""Numbers with units, and rows as columns."""

import pytest

from orchestrator import text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "?"),
        (0.2, "< 1 s"),
        (59.4, "59 s"),
        (59.7, "1 min 0 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds, said):
    assert text.duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0.5, "0.5"), (999, "999"), (9188574, "9.19e6"), (53700, "53700"), (1.11e11, "1.11e11")]
)
def test_numbers(value, said):
    assert text.number(value) == said


def test_a_table_aligns_numbers_to_the_right_and_words_to_the_left():
    rows = [{"model": "S-2/16", "params": "1.2k"}, {"model": "B-2/Wi-128", "params": "659k"}]
    assert text.table(rows, {"model": "2 cells", "params": "660k"}).splitlines() == [
        "model       params",
        "S-2/16        1.2k",
        "B-2/Wi-128    659k",
        "------------------",
        "2 cells       660k",
    ]
    assert text.table([]) == ""


def test_an_html_table_has_a_head_a_foot_and_nothing_to_be_read_as_a_tag():
    page = text.html_table([{"model": "<b>", "params": 3}], {"model": "1 cell"})
    assert page == (
        "<table><thead><tr><th>model</th><th>params</th></tr></thead>"
        "<tbody><tr><td>&lt;b&gt;</td><td>3</td></tr></tbody>"
        "<tfoot><tr><th>1 cell</th><th></th></tr></tfoot></table>"
    )
    assert text.html_table([]) == ""
