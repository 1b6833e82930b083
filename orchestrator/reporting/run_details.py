"""A run in full: its settings, its result, its attempts and its curve."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from orchestrator import text
from orchestrator.reporting.curve import curve
from orchestrator.store.columns import shown
from trainer.spec import OWNERS, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_RESULTS = ("error", "loss", "train_loss", "val_error", "val_loss", "top5_error", "real_error")
_ATTEMPT = ("attempt", "outcome", "started", "seconds", "flops", "resumed_step", "host", "pid", "reason")
_LEFT = 9


@dataclass(frozen=True)
class RunDetails:
    """A run in full; printing it shows its settings, result, attempts and curve.

    Attributes:
        row: its columns (docs/columns.md), with `sweeps`, and `plan`: steps, examples and epochs of its end.
        attempts: one entry for each time it was started.
        records: its metrics during training, by step.
    """

    row: Mapping[str, Any]
    attempts: Sequence[Mapping[str, Any]]
    records: Sequence[Mapping[str, Any]]

    def text(self, width: int = 80) -> str:
        """Return it as text in lines of at most `width` characters, but for tracebacks."""
        lines = [line for name, value in self._entries() for line in _wrapped(name, value, width)]
        rows = [{name: shown(name, one[name]) for name in _ATTEMPT} for one in self.attempts]
        filled = [{k: v[:19] for k, v in row.items() if any(other[k] for other in rows)} for row in rows]
        lines += ["", text.table(text.fitting(filled, width, _ATTEMPT[:2]))] if rows else []
        for one in self.attempts:
            lines += ["", f"attempt {one['attempt']}:", one["traceback"].rstrip()] if one["traceback"] else []
        return "\n".join([*lines, *self._curve(width)])

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return f"<pre>{text.escape(self.text(100))}</pre>"

    def _entries(self) -> Iterator[tuple[str, str]]:
        row, plan = self.row, self.row["plan"]
        yield "run", row["run_id"]
        yield "state", ", ".join(filter(None, (row["state"], row["reason"], row["asked"])))
        yield "sweeps", ", ".join(row["sweeps"])
        yield "model", f"{row['model']}, {text.number(row['params'])} params, {_settings(row, 'model')}"
        yield "data", _settings(row, "data")
        yield "training", f"{_settings(row, 'train')}, seed {row['seed']}"
        units = _listed(plan, ("epochs", "examples", "steps"))
        yield "length", f"{units}, {text.flops(row['planned_flops'])} FLOPs"
        if any(shown(name, row[name]) for name in _RESULTS):
            yield "result", _listed(row, _RESULTS)
        if row["flops"]:
            yield "cost", self._cost()

    def _cost(self) -> str:
        row = self.row
        charged = f" ({text.flops(row['charged_flops'])} charged)" if row["charged_flops"] != row["flops"] else ""
        parts = [f"{text.flops(row['flops'])} FLOPs{charged}"]
        if row["seconds"] is not None:
            share = f"its share of a stack of {row['stack']} runs" if (row["stack"] or 1) > 1 else ""
            parts += [f"{text.duration(row['seconds'])} of training", share, f"on {row['device']}"]
        return ", ".join(filter(None, parts))

    def _curve(self, width: int) -> list[str]:
        """The error, else the training loss, against examples; nothing with fewer than two records."""
        for name in ("error", "train_loss"):
            points = [(one["examples"], one[name]) for one in self.records if one[name] is not None]
            if lines := curve(points, "examples", name, min(width, 80)):
                return ["", *lines]
        return []


def _settings(row: Mapping[str, Any], section: str) -> str:
    """The settings of a section of the sweep file that have an effect."""
    names = [name for name, field in SETTINGS.items() if field.section == section and field.planned]
    used = [name for name in names if name not in OWNERS or OWNERS[name].uses(row[OWNERS[name].field])]
    return _listed(row, [name for name in used if row[name] != SETTINGS[name].off])


def _listed(row: Mapping[str, Any], names: Iterable[str]) -> str:
    return ", ".join(f"{name} {value}" for name in names if (value := shown(name, row[name])))


def _wrapped(name: str, value: str, width: int) -> list[str]:
    return wrap(value, width, initial_indent=f"{name:<{_LEFT}}", subsequent_indent=" " * _LEFT)
