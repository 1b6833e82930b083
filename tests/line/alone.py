"""What a sweep promises of each run, whatever happened while it trained."""

from __future__ import annotations

import orchestrator
from trainer import cost, train

NUMBERS = ("state", "error", "loss", "train_loss", "flops", "params")


def assert_as_trained_alone(store, sweep):
    """Every run of a sweep file has the numbers and the FLOPs of that run trained alone; some trained in stacks."""
    rows = orchestrator.results(store).set_index("run_id")
    runs = orchestrator.plan(orchestrator.load_sweep(sweep)).runs
    assert sorted(rows.index) == sorted(run.run_id for run in runs)
    assert (rows["stack"] > 1).any()
    for run in runs:
        alone, row = train(run, device="cpu"), rows.loc[run.run_id]
        assert {name: getattr(alone, name) for name in NUMBERS} == {name: row[name] for name in NUMBERS}
        assert row["flops"] == run.steps * run.batch_size * cost.flops_per_example(cost.shape_of(run))
    return rows
