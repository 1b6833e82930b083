"""Suggested runs can be trained well, and their sweep file is planned as it is written."""

import numpy as np
import pandas as pd
import pytest

from analysis import suggest
from orchestrator import load_sweep, plan, read_sweep
from orchestrator.reporting import next_runs
from orchestrator.sweep.sweep import FIRST_STAGE
from tests.paths import ROOT
from trainer import cost

SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


def runs_of_file(path):
    return [run for run in plan(load_sweep(path), decode=False).runs if run.stage == FIRST_STAGE]


def params_of(run):
    return cost.params(cost.shape_of(run)).total


@pytest.fixture(scope="module", params=SWEEPS, ids=lambda path: path.stem)
def offered(request):
    """The runs of a shipped sweep, and those that would extend it."""
    runs = runs_of_file(request.param)
    return runs, next_runs.candidates(runs, [params_of(run) for run in runs], [run.examples for run in runs])


def test_every_candidate_has_ten_whole_batches_of_a_size_that_the_hardware_likes(offered):
    runs, found = offered
    most = max(next_runs.MOST_EPOCHS, *(run.epochs for run in runs))
    assert found
    for run in found:
        assert run.width % (8 if run.width < 32 else 16 if run.width < 128 else 32) == 0
        assert run.examples == run.steps * run.batch_size >= 10 * run.batch_size
        assert run.examples <= most * run.dataset_size
        assert run.budget == run.examples * cost.flops_per_example(cost.shape_of(run))
    assert not {run.run_id for run in found} & {run.run_id for run in runs}


def test_the_file_of_candidates_is_planned_as_these_very_runs(offered):
    _, found = offered
    chosen = found[:: max(1, len(found) // 20)]
    text, price = next_runs.priced("next.yaml", next_runs.sweep_file("next", chosen, [7], ["why"]))
    planned = plan(read_sweep(text, name="next.yaml"), decode=False)
    assert [run.run_id for run in planned.runs] == [run.changed(seed=7).run_id for run in chosen]
    assert text.startswith(f"# {price}\n# why\nsweep: next\n")
    assert price.startswith(f"{len(chosen)} runs, ")


def test_a_table_of_another_lab_is_extended_by_runs_of_a_sweep_of_ours(tmp_path):
    rng = np.random.default_rng(0)
    n, d = (part.ravel() for part in np.meshgrid(np.geomspace(2e3, 2e5, 8), np.geomspace(3e3, 2e5, 8)))
    error = (0.02 + 3 * n**-0.4 + 5 * d**-0.4) * np.exp(0.01 * rng.normal(size=n.size))
    table = pd.DataFrame({"params": n, "examples": d, "error": error, "flops": 6 * n * d})
    found = next_runs.candidates(runs_of_file(ROOT / "sweeps/quickstart.yaml"), [*n], [*d])
    chosen = suggest(table, 1e11, candidates=next_runs.table_of(found), repeats=1).runs
    assert len(chosen)
    assert chosen["seeds"].eq(1).all()
    by_name = {
        (row.model, row.examples): run
        for row, run in zip(next_runs.table_of(found).itertuples(), found, strict=True)
    }
    runs = [by_name[row.model, row.examples] for row in chosen.itertuples()]
    text = next_runs.sweep_file("next", runs, [0])
    assert [run.run_id for run in plan(read_sweep(text)).runs] == [run.run_id for run in runs]


def test_runs_are_read_back_from_the_table(tmp_path, planned, result_of):
    from orchestrator import results
    from orchestrator.store.table import Table

    made = planned(width="[16, 32]", seeds="1", more="")
    with Table(tmp_path / "a.db", writable=True) as table:
        table.queue.enqueue(made)
        tokens = table.queue.claim([run.run_id for run in made.runs])
        table.queue.finish([result_of(run) for run in made.runs], tokens)
    found = next_runs.runs_of(results(tmp_path / "a.db"))
    assert [run.run_id for run in found] == [run.run_id for run in made.runs]
