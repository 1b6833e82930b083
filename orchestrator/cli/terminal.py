"""Text for a terminal: aligned tables, figures with units, one line of progress."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orchestrator.scheduling.progress import Progress


def table(rows: Sequence[dict[str, Any]], total: dict[str, Any] | None = None) -> str:
    """Rows as aligned columns under their names; numbers to the right. `total` stands under a line."""
    if not rows:
        return ""
    body = [[str(row.get(name, "")) for name in rows[0]] for row in [*rows, *([total] if total else [])]]
    widths = [max(len(name), *(len(line[i]) for line in body)) for i, name in enumerate(rows[0])]
    right = [all(_numeric(line[i]) for line in body) for i in range(len(widths))]

    def line(cells: Sequence[str]) -> str:
        fit = zip(cells, widths, right, strict=True)
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in fit).rstrip()

    lines = [line(list(rows[0])), *map(line, body[: len(rows)])]
    if total:
        lines += ["-" * (sum(widths) + 2 * len(widths) - 2), line(body[-1])]
    return "\n".join(lines)


def _numeric(cell: str) -> bool:
    return not cell or cell[0] in "0123456789.-<?"


def number(value: float | None) -> str:
    """Three significant digits: `9,188,574` is `9.19M`, FLOPs are `1.11e11`."""
    if value is None:
        return "?"
    if abs(value) >= 1e9:
        return f"{value:.3g}".replace("e+", "e")
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def flops(value: float) -> str:
    """FLOPs in scientific notation."""
    return f"{value:.3g}".replace("e+", "e")


def duration(seconds: float | None) -> str:
    """`8 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds is None:
        return "?"
    if seconds < 1:
        return "< 1 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Bytes: `12 MB`."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} B"


STATES = ("queued", "running", "done", "diverged", "pruned", "failed", "cancelled", "blocked")
_RARE = STATES[3:]


def standing(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A sweep's line of `status`, of `Table.sweeps`; states and figures that no row has are left out of all."""
    states = [state for state in STATES if state not in _RARE or any(other[state] for other in rows)]
    more = [name for name in ("reserved_flops", "wasted_flops") if any(other[name] for other in rows)]
    return {
        **{name: row[name] for name in ("sweep", "runs", *states)},
        **{name: flops(row[name] or 0) for name in ("planned_flops", "flops", *more)},
        "best_error": "" if row["best_error"] is None else f"{row['best_error']:.4g}",
    }


class ProgressLine:
    """One line on stderr, written over as a sweep goes on; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._last = 0.0
        self._said = ""

    def __call__(self, progress: Progress) -> None:
        """Show where the sweep is, at most ten times a second."""
        if progress.message and progress.message != self._said:
            self._said = progress.message
            self.end()
            print(progress.message, file=sys.stderr)
        if self._on and time.monotonic() - self._last > 0.1:
            self._last = time.monotonic()
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{line(progress)[:width]}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if self._on:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def shown_progress() -> Iterator[ProgressLine]:
    """A progress line that is cleared at the end."""
    show = ProgressLine()
    try:
        yield show
    finally:
        show.end()


def line(progress: Progress) -> str:
    """`quickstart  120/240 runs  45 % of 1.1e11 FLOPs  12 s left  best error 0.025`."""
    share = progress.spent / progress.flops if progress.flops else 1.0
    parts = [
        progress.sweep,
        f"{progress.ended}/{progress.runs} runs",
        f"{share:.0%} of {flops(progress.flops)} FLOPs",
        f"{duration(progress.seconds_left)} left",
    ]
    if progress.best_error is not None:
        parts.append(f"best error {progress.best_error:.3g}")
    if bad := progress.failed + progress.diverged:
        parts.append(f"{bad} failed or diverged")
    if progress.blocked:
        parts.append(f"{progress.blocked} blocked")
    return "  ".join(parts)
