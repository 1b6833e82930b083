"""Answers in Python: the laws of a sweep or of any table, what may be claimed of them, and the page about them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.session import STORE, check_sweep
from trainer.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from orchestrator.reporting.figures import Findings

MOST_RECORDS = 20_000
"""Records that a figure draws; of more, every run keeps each second, third, ... of its own."""


class AskError(UserError, ValueError):
    """A question that a table cannot be asked: a column, a condition or a stage that it does not have."""


def findings(
    which: str | Path | None = None,
    store: str | Path = STORE,
    *,
    x: str | Sequence[str] = (),
    y: str = "",
    where: str = "",
    stage: str | None = None,
    pool: bool = False,
    resamples: int = 1000,
) -> Findings:
    """Return what the runs of a sweep, or of any table, show: each law is fitted when it is first read.

    `.answer` has the laws against every input, `.isoflop` and `.surface` those of approaches 2 and 3, `.verdict`
    what may be claimed, `.learning_rates` the best ones; `.groups(by)` the same of each population.

    Args:
        which: the name or file of a sweep, or a table as for `analysis.read_table`; default: the only sweep.
        store: the results table.
        x: the inputs; default: params, examples and flops.
        y: the measured column; default: the error, in a table what its columns say.
        where: an SQL condition on the rows.
        stage: of a chain; default: the first.
        pool: fit populations together.
        resamples: of every interval.

    Raises:
        UserError: there is no such sweep, table, column or row. What the runs do not show is a FitError or a
            ValueError when it is read.
    """
    return _asked(which, store, x, y, where, stage, pool=pool).findings(resamples)


def report(  # noqa: PLR0913 - what is asked
    which: str | Path | None = None,
    store: str | Path = STORE,
    out: str | Path = "report.html",
    *,
    x: str | Sequence[str] = (),
    y: str = "",
    where: str = "",
    stage: str | None = None,
    by: str = "",
    pool: bool = False,
    resamples: int = 1000,
) -> Path:
    """Write the HTML page about a sweep or any table, and return its path. Arguments and errors as for `findings`.

    Raises ReportError where plotly is not installed.
    """
    asked = replace(_asked(which, store, x, y, where, stage, pool=pool), by=by)
    return written(asked, resamples, Path(out))


def _asked(
    which: str | Path | None,
    store: str | Path,
    x: str | Sequence[str],
    y: str,
    where: str,
    stage: str | None,
    *,
    pool: bool,
) -> Asked:
    inputs = (x,) if isinstance(x, str) and x else tuple(x)
    return Asked(str(store), None if which is None else str(which), stage, where, "", pool, y, inputs)


def written(asked: Asked, resamples: int, out: Path) -> Path:
    """Write the page about the rows that are asked about; return its path."""
    from analysis.report.document import plotly_code
    from analysis.report.page import render
    from orchestrator.reporting.foreign import fingerprint
    from orchestrator.reporting.page import page_of
    from orchestrator.store.table import Table

    plotly_code()  # before the fits, which take a minute
    findings = asked.findings(resamples, history=True)
    sweep = str(findings.frame["sweep"].iloc[0])
    if asked.is_foreign:
        digest = fingerprint(str(asked.which))
        when, source, paid = f"SHA-256 {digest}" if digest else "", str(asked.which), findings.frame
        declared = asked.rows.text
    else:
        with Table(asked.store) as results:
            when, declared = results.declaration(sweep)
        source, paid = asked.store, frame_of(asked.store, asked.which)  # every stage of a chain was paid for
    page = page_of(sweep, declared, when, source, findings, asked.groups(findings))
    document = render(findings.frame, page, y=findings.y, paid=paid)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(document, encoding="utf-8")
    return out


@dataclass(frozen=True)
class Runs:
    """The rows that a verb is asked about.

    Attributes:
        frame: the rows.
        y: the column that was measured; inputs: those that laws are sought in.
        names: column of a file -> its name here.
        text: what the columns of a file were taken for.
        by: the column of runs, where each run of a file has a law of its own.
    """

    frame: pd.DataFrame
    y: str
    inputs: tuple[str, ...]
    names: dict[str, str] = field(default_factory=dict)
    text: str = ""
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """The rows that a verb is asked about, and what was measured on them; see the options of these names."""

    store: str
    which: str | None
    stage: str | None = None
    where: str = ""
    by: str = ""
    pool: bool = False
    y: str = ""
    x: tuple[str, ...] = ()

    @property
    def is_foreign(self) -> bool:
        """Whether the rows are those of a file or folder, not of a sweep."""
        return self.which is not None and is_foreign(self.which)

    @cached_property
    def rows(self) -> Runs:
        """The rows of the table; stops if a condition, a stage or a column does not exist."""
        from orchestrator.store.export import filtered

        whole = self._foreign() if self.is_foreign else self._of_sweep()
        again = {name: whole.frame[here] for name, here in whole.names.items() if name not in whole.frame}
        kept = filtered(whole.frame.assign(**again), self.where)[whole.frame.columns]
        if len(whole.frame) and not len(kept):
            raise AskError(f"--where {self.where!r}: no row satisfies it")
        done = kept[kept["state"] == "done"]
        if len(done) and not done[whole.y].notna().any():
            raise AskError(
                f"--y {whole.y!r}: not one of {len(done)} finished runs has a value; choose another column"
            )
        return replace(whole, frame=kept)

    def _of_sweep(self) -> Runs:
        from analysis.table import columns
        from orchestrator.reporting.laws import AXES

        frame, y = at_stage(frame_of(self.store, self.which), self.stage), self.y or "error"
        if y not in frame:
            raise AskError(f"--y {y!r}: no such column in the results table")
        try:
            for name in self.x:
                columns.require(frame, name)
        except ValueError as error:
            raise AskError(f"--x: {error}") from error
        return Runs(frame, y, self.x or AXES)

    def _foreign(self) -> Runs:
        """The rows of a file; what its columns were taken for is said."""
        from analysis import ReadError
        from orchestrator.reporting.foreign import foreign_runs

        assert self.which is not None
        if self.stage is not None:
            raise AskError(f"--stage {self.stage!r}: {self.which} is no sweep and has no stages")
        try:
            known = foreign_runs(self.which, self.x, self.y)
        except ReadError as error:
            text = str(error)
            raise AskError(text if text.startswith(self.which) else f"{self.which}: {text}") from error
        text = f"{self.which}: {known}"
        return Runs(known.frame, known.y, known.inputs, known.names, text, known.by)

    def findings(self, resamples: int, *, history: bool = False) -> Findings:
        """The rows with what is fitted to them; with at most MOST_RECORDS of their records if asked."""
        from orchestrator.reporting.figures import Findings

        runs = self.rows
        history = history and not self.is_foreign
        records = frame_of(self.store, self.which, "history", several=True) if history else None
        if records is not None and len(records) > MOST_RECORDS:
            every = -(-len(records) // MOST_RECORDS)
            records = records[records.groupby("run_id").cumcount(ascending=False) % every == 0]
        return Findings(
            runs.frame,
            records,
            resamples,
            judged=min(resamples, 200),
            y=runs.y,
            pool=self.pool,
            inputs=runs.inputs,
        )

    def groups(self, findings: Findings) -> list[Findings]:
        """The findings on each group of the rows."""
        names = [self.rows.names.get(name, name) for part in self.by.split(",") if (name := part.strip())]
        names = names or list(() if self.pool else self.rows.by)
        if names and self.pool:
            raise AskError("--by and --pool exclude each other")
        try:
            return findings.groups(names)
        except ValueError as error:
            raise AskError(f"--by {self.by!r}: {error}") from error


def is_foreign(which: str) -> bool:
    """Whether a word names a table in a file or folder: one that exists, or would be one by its name."""
    from pathlib import Path

    if which.endswith((".yaml", ".yml")):
        return False
    path = Path(which)
    if path.is_file():
        return True
    if not path.is_dir() and "/" not in which and not path.suffix:
        return False
    from analysis.table.foreign.read import is_table

    return is_table(path) or "/" in which


def at_stage(frame: pd.DataFrame, stage: str | None) -> pd.DataFrame:
    """Return the runs of one stage."""
    from orchestrator.reporting.laws import at_stage as runs_at

    stages = list(dict.fromkeys(frame["stage"].dropna()))
    if stage is not None and stage not in stages:
        raise AskError(f"--stage {stage!r} is unknown; it is one of {', '.join(stages)}")
    return runs_at(frame, stage or stages[0]) if stages else frame


def frame_of(store: str, which: str | None, what: str = "runs", *, several: bool = False) -> pd.DataFrame:
    """Return a table's runs, or their history: of one sweep, or of all if `several` are allowed."""
    from orchestrator.store.engine import name_of
    from orchestrator.store.table import Table

    with Table(store) as table:
        sweeps = [row["sweep"] for row in table.sweeps()]
        if (name := sweep_name(which)) is not None:
            check_sweep(table, name)
        elif len(sweeps) > 1 and not several:
            raise AskError(f"{name_of(store)} holds several sweeps; name one of {', '.join(sweeps)}")
        return table.frame(what, name)


def sweep_name(which: str | None) -> str | None:
    """Return a sweep's name: as given, or as declared in a sweep file."""
    if which is None or not which.endswith((".yaml", ".yml")):
        return which
    from orchestrator.sweep.reader import load_sweep

    return load_sweep(which).sweep
