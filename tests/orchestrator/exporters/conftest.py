"""A table of a small sweep that has trained, without training."""

import pytest


@pytest.fixture
def trained(table, planned, result_of):
    """The table and the plan of a sweep of four runs: three done, one diverged; nothing failed to be recorded."""
    made = planned()
    table.queue.enqueue(made)
    tokens = table.queue.claim([run.run_id for run in made.runs])
    states = ["done", "done", "diverged", "done"]
    results = [
        result_of(run, state, 0.1 + 0.1 * i) for i, (run, state) in enumerate(zip(made.runs, states, strict=True))
    ]
    table.queue.finish(results, tokens)
    return table, made
