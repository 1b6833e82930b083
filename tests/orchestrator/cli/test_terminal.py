"""Text for a terminal."""

import pytest

from orchestrator.cli import terminal
from orchestrator.scheduling.progress import Progress


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
    assert terminal.duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0.5, "0.5"), (999, "999"), (9188574, "9.19M"), (53700, "53.7k"), (1.11e11, "1.11e11")]
)
def test_numbers(value, said):
    assert terminal.number(value) == said


def test_a_table_aligns_numbers_to_the_right_and_words_to_the_left():
    rows = [{"model": "S-2/16", "params": "1.2k"}, {"model": "B-2/Wi-128", "params": "659k"}]
    assert terminal.table(rows, {"model": "2 cells", "params": "660k"}).splitlines() == [
        "model       params",
        "S-2/16        1.2k",
        "B-2/Wi-128    659k",
        "------------------",
        "2 cells       660k",
    ]
    assert terminal.table([]) == ""


def test_the_progress_line_says_how_far_the_sweep_is():
    now = Progress(sweep="digits", runs=240, flops=1.1e11)
    now.done, now.failed, now.spent, now.seconds_left, now.best_error = 119, 1, 4.95e10, 12.0, 0.025
    assert terminal.line(now) == (
        "digits  120/240 runs  45% of 1.1e11 FLOPs  12 s left  best error 0.025  1 failed or diverged"
    )


def test_where_nobody_looks_only_messages_are_printed(capsys):
    show = terminal.ProgressLine()
    now = Progress(sweep="digits", runs=2, flops=1e9)
    show(now)
    now.message = "limits.hours 1 reached; the rest stays queued"
    show(now)
    show(now)
    show.end()
    assert capsys.readouterr().err == "limits.hours 1 reached; the rest stays queued\n"
