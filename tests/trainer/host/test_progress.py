"""The progress of long work, on a clock that only the tests advance."""

import logging
import sys

import pytest

from trainer.host.progress import Progress


def counted(total, seconds):
    """Count a thousand at a time up to a total, in so many seconds."""
    now = [0.0]
    with Progress("decoding", "images", total, clock=lambda: now[0]) as progress:
        for begin in range(0, total, 1000):
            now[0] += seconds * 1000 / total
            progress.advance(min(1000, total - begin))


def test_without_a_terminal_lines_are_logged_up_to_the_whole(caplog):
    caplog.set_level(logging.INFO, logger="isoflop")
    counted(60_000, seconds=9.0)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 5
    assert said[0] == "decoding: 14,000 of 60,000 images (23 %)"
    assert said[-1] == "decoding: 60,000 of 60,000 images (100 %)"


def test_what_is_quick_is_not_shown(caplog):
    caplog.set_level(logging.INFO, logger="isoflop")
    counted(60_000, seconds=1.9)
    assert caplog.records == []


@pytest.mark.parametrize("columns", [40, 80])
def test_in_a_terminal_one_line_is_a_bar_that_becomes_full(capsys, caplog, monkeypatch, columns):
    caplog.set_level(logging.INFO, logger="isoflop")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    counted(59_500, seconds=6.0)
    said = capsys.readouterr().err
    assert caplog.records == []
    assert said.endswith("\n")
    lines = said.rstrip("\n").split("\r\x1b[K")
    assert max(map(len, lines)) < columns
    assert lines[-1].startswith(f"decoding  {'#' * 20}"[: columns - 1])
    if columns == 80:
        assert lines[-1] == f"decoding  {'#' * 20}  100 %  59,500 of 59,500 images, 0 s left"


def test_who_does_not_read_the_log_sees_nothing(capsys, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, logger="isoflop")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    counted(60_000, seconds=6.0)
    assert capsys.readouterr().err == ""
