"""What shows a session's progress: a line in a terminal, a bar in a notebook, nothing elsewhere."""

import io
import sys
from types import SimpleNamespace

import pytest

from orchestrator.display import Display, NotebookBar, TerminalLine, default_display
from orchestrator.scheduling.progress import Progress


@pytest.fixture
def half():
    return Progress(
        sweep="digits",
        runs=240,
        flops=11 * 10**10,
        done=119,
        failed=1,
        spent=4.95e10,
        seconds_left=12.0,
        best_error=0.025,
    )


class Tty(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch):
    """Make stderr a terminal, within a test (pytest sets it anew before); returns it."""
    tty = Tty()
    monkeypatch.setattr(sys, "stderr", tty)
    return tty


class Notebook:
    """Stands for IPython.display: keeps what a cell shows."""

    def __init__(self):
        self.pages, self.updates = [], 0

    def HTML(self, page):  # noqa: N802 - IPython's name
        return page

    def display(self, page, *, display_id):
        assert display_id is True
        self.pages.append(page)
        return self

    def update(self, page):
        self.pages[-1] = page
        self.updates += 1


def test_the_line_says_how_far_the_sweep_is(half):
    assert str(half) == (
        "digits  120/240 runs  45% of 1.1e11 FLOPs  12 s left  best error 0.025  1 failed or diverged"
    )


def test_a_terminal_shows_one_line_and_messages_above_it(half, monkeypatch, clock):
    tty = terminal(monkeypatch)
    with TerminalLine(clock) as show:
        show(half)
        half.message = "limits.hours 1 reached; the rest stays queued"
        clock.sleep(1)
        show(half)
    shown = tty.getvalue().split("\r\x1b[K")
    assert [line for line in shown if line] == [
        str(half)[:79],
        "limits.hours 1 reached; the rest stays queued\n",
        str(half)[:79],
    ]


def test_updates_are_no_more_frequent_than_the_period(half, clock):
    shown = []

    class Counted(Display):
        def show(self, progress):
            shown.append(progress)

    show = Counted(clock)
    for _ in range(10):
        show(half)
        clock.sleep(0.03)
    assert len(shown) == 3


def test_messages_alone_are_printed_where_the_command_has_no_terminal(half, capsys):
    with TerminalLine() as show:
        for message in ("", "limits.hours 1 reached", "limits.hours 1 reached"):
            half.message = message
            show(half)
    assert capsys.readouterr().err == "limits.hours 1 reached\n"


def test_nothing_is_shown_where_nobody_looks(half, capsys):
    half.message = "starting Ray"
    with default_display() as show:
        show(half)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_line_a_notebook_a_bar(monkeypatch):
    terminal(monkeypatch)
    assert isinstance(default_display(), TerminalLine)
    shells = {
        "ZMQInteractiveShell": NotebookBar,
        "TerminalInteractiveShell": TerminalLine,
        "NoneType": TerminalLine,
    }
    for name, kind in shells.items():
        shell = None if name == "NoneType" else type(name, (), {})()
        module = SimpleNamespace(get_ipython=lambda shell=shell: shell, display=Notebook())
        monkeypatch.setitem(sys.modules, "IPython", module)
        assert type(default_display()) is kind


def test_a_notebook_has_one_output_that_is_updated_and_ends_with_the_last_state(half, clock):
    notebook = Notebook()
    with NotebookBar(notebook, clock) as show:
        for _ in range(10):
            show(half)
            clock.sleep(0.1)
        assert notebook.updates == 1
        half.message = "a <b>"
        show(half)
        half.done += 120
        show(half)
    (page,) = notebook.pages
    assert "240/240 runs" in page
    assert "<progress" in page
    assert "<div>a &lt;b&gt;</div>" in page
