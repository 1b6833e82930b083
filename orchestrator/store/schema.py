"""The schema of the results table: its tables, the states, and the row of a planned run."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from orchestrator.sweep.planner import run_flops
from trainer import cost
from trainer.spec import SETTINGS, RunSpec, model_name

VERSION = 9
"""Version of the schema, kept in `meta`. 2: columns of the later recipes and of checkpoints; 3: of chains;
4: of the queue: priorities, limits, pauses, the workers of attempts and what they used; 5: of searches;
6: of devices; 7 and 8: of what several coordinators are told; 9: of evaluation."""

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
DIVERGED, PRUNED, CANCELLED, BLOCKED = "diverged", "pruned", "cancelled", "blocked"
STATES = (QUEUED, RUNNING, DONE, DIVERGED, PRUNED, FAILED, CANCELLED, BLOCKED)
MOVES = {
    QUEUED: (BLOCKED, FAILED, CANCELLED),
    RUNNING: (QUEUED, DONE, DIVERGED, PRUNED, FAILED, CANCELLED),
    BLOCKED: (QUEUED, CANCELLED),
    FAILED: (QUEUED,),
    CANCELLED: (QUEUED,),
    DONE: (QUEUED,),
}
"""The states that may follow each state, apart from claims (queued -> running). Only the attempt of a run itself
may end `running` (docs/explanation/queue.md)."""

_KIND: dict[type, Any] = {int: sa.Integer, float: sa.Float, str: sa.Text}
_METRICS = ("error", "loss", "train_loss", "val_error", "val_loss", "top5_error", "real_error")
PLANNED = [name for name, field in SETTINGS.items() if field.planned]
"""Columns of what a spec says; its plan of the others stands in `planned_flops` and in `spec`."""

metadata = sa.MetaData()


meta = sa.Table(
    "meta",
    metadata,
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("speed", sa.JSON),
    sa.Column("devices", sa.JSON),
)
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("cell_id", sa.Text, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
    sa.Column("model", sa.Text),
    *(sa.Column(name, _KIND[SETTINGS[name].kind.number]) for name in PLANNED),
    *(sa.Column(name, sa.Integer) for name in ("params", "params_embed", "params_body", "params_head")),
    sa.Column("planned_flops", sa.BigInteger),
    *(sa.Column(name, sa.BigInteger) for name in ("steps", "examples", "flops", "flops_paper", "flops_6nd")),
    sa.Column("charged_flops", sa.BigInteger),
    sa.Column("flops_rule", sa.Text),
    *(sa.Column(name, sa.Float) for name in ("epochs", *_METRICS, "seconds", "eval_seconds")),
    *(sa.Column(name, sa.Text) for name in ("device", "engine")),
    *(sa.Column(name, sa.Integer) for name in ("threads", "stack")),
    sa.Column("reason", sa.Text),
    sa.Column("asked", sa.Text),
    sa.Column("spec", sa.JSON, nullable=False),
)
members = sa.Table(
    "members",
    metadata,
    sa.Column("sweep", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, sa.ForeignKey("runs.run_id"), primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("search_cell", sa.Text),
    sa.Column("trial", sa.Integer),
)
sweeps = sa.Table(
    "sweeps",
    metadata,
    sa.Column("sweep", sa.Text, primary_key=True),
    sa.Column("declared", sa.Text, nullable=False),
    sa.Column("file", sa.Text, nullable=False),
    sa.Column("limits", sa.JSON),
    sa.Column("paused", sa.Text),
    sa.Column("seconds", sa.Float, nullable=False, server_default="0"),
    sa.Column("seconds_left", sa.Float),
    sa.Column("message", sa.Text),
    *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in ("changed", "added")),
)
records = sa.Table(
    "history",
    metadata,
    sa.Column("run_id", sa.Text, sa.ForeignKey("runs.run_id"), primary_key=True),
    sa.Column("step", sa.BigInteger, primary_key=True),
    *(sa.Column(name, sa.BigInteger) for name in ("examples", "flops")),
    *(sa.Column(name, sa.Float) for name in ("seconds", "train_loss", "loss", "error")),
)
attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("run_id", sa.Text, sa.ForeignKey("runs.run_id"), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("coordinator", sa.Text),
    sa.Column("host", sa.Text),
    sa.Column("boot_id", sa.Text),
    sa.Column("pid", sa.Integer),
    sa.Column("pid_started", sa.BigInteger),
    sa.Column("stack", sa.Integer),
    sa.Column("started", sa.Text),
    sa.Column("lease", sa.Float),
    sa.Column("reserved", sa.BigInteger),
    sa.Column("resumed_step", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("resumed_flops", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("resumed_seconds", sa.Float, nullable=False, server_default="0"),
    sa.Column("ended", sa.Text),
    sa.Column("outcome", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("exception", sa.Text),
    sa.Column("traceback", sa.Text),
    sa.Column("flops", sa.BigInteger),
    sa.Column("seconds", sa.Float),
    sa.Column("gpu_seconds", sa.Float),
    sa.Column("peak_memory", sa.BigInteger),
    sa.Column("energy", sa.Float),
)
RESULT_COLUMNS = (
    *(*_METRICS, "steps", "examples", "flops", "flops_paper", "flops_6nd"),
    *("seconds", "eval_seconds", "device", "loader", "engine", "accumulate", "threads", "stack"),
)


def row_of(run: RunSpec) -> dict[str, Any]:
    """The row of a queued run, for INSERT."""
    shape = cost.shape_of(run)
    params = cost.params(shape)
    spec = spec_of(run)
    return {
        **{name: spec[name] for name in PLANNED},
        "run_id": run.run_id,
        "cell_id": run.cell_id,
        "state": QUEUED,
        "attempt": 0,
        "model": model_name(run),
        "params": params.total,
        "params_embed": params.embed,
        "params_body": params.body,
        "params_head": params.head,
        "planned_flops": run_flops(run),
        "flops_rule": cost.FLOPS_RULE,
        "spec": spec,
    }


def spec_of(run: RunSpec) -> dict[str, Any]:
    """The fields of a run; `dataclasses.asdict` copies them deep, which took half of the time of adding runs."""
    return {name: getattr(run, name) for name in SETTINGS}
