"""Numbers with units, and rows as columns."""

import re

import pytest

from orchestrator import text
from tests.paths import ROOT


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "?"),
        (0.0, "0 s"),
        (0.04, "40 ms"),
        (0.2, "0.2 s"),
        (0.97, "1 s"),
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


@pytest.mark.parametrize(("number", "said"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs")])
def test_counts(number, said):
    assert text.count(number, "run") == said
    assert text.count(number, "family", "families").startswith(f"{number} famil")


def test_no_message_writes_a_plural_after_a_number():
    """`{n} runs` would say "1 runs"; after "of {n}" and for constants it is right."""
    nouns = "runs|cells|trials|sweeps|workers|recipes|designs|attempts|members|families|cores|threads|seeds|steps"
    plural = re.compile(
        rf"(?<!of )(?<!/)\{{(?!_?[A-Z_]+[:}}])[^{{}}:]*\}} (more |new |failed |finished |CPU )?({nouns})\b"
    )
    files = [*(ROOT / "orchestrator").rglob("*.py")]
    found = [
        (path.name, line.strip()) for path in files for line in path.read_text().splitlines() if plural.search(line)
    ]
    docstrings = [(name, line) for name, line in found if line.startswith(('"""', "`"))]
    assert [one for one in found if one not in docstrings] == []
