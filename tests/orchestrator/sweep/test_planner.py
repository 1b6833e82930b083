"""Sweep to Plan: pure, deterministic, priced."""

import itertools
import json
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.numbers import short
from orchestrator import SweepError, load_sweep, plan, read_sweep
from orchestrator.cli.main import summary
from orchestrator.host.speed import Speed
from orchestrator.scheduling.forecast import planned_forecast
from orchestrator.scheduling.stacks import group_into_stacks, plan_rows
from orchestrator.sweep.planner import run_flops
from tests.paths import ROOT
from trainer import cost, trunk
from trainer.spec import RunSpec, stack_key

SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))
EMBEDDED = [path for path in SWEEPS if path.stem in ("quickstart", "zipf")]


def test_a_grid_is_the_product_of_its_axes_times_seeds(planned):
    runs = planned(width="[16, 32, 48]", lr="[1e-3, 1e-2]", epochs="[1, 2]", seeds="[3, 5]").runs
    found = {(run.width, run.lr, run.steps, run.seed) for run in runs}
    assert found == set(itertools.product((16, 32, 48), (1e-3, 1e-2), (5, 11), (3, 5)))
    assert len(runs) == len(found) == 24


def test_a_number_of_seeds_counts_from_zero(planned):
    assert [run.seed for run in planned(width=16, seeds=3).runs] == [0, 1, 2]


def test_the_same_sweep_gives_the_same_plan(planned, text_of):
    assert planned() == planned()
    assert plan(read_sweep(text_of())) == plan(read_sweep(text_of()))


def test_ids_depend_on_what_is_trained_and_not_on_how_it_is_written(planned):
    usual = planned(width=16, seeds=1).runs[0]
    shuffled = """\
    budget: {examples: 160}
    model: {width: 16, depth: 1, family: b-mlp}
    train: {lr: 0.001, batch_size: 32}
    data: {dataset_size: 180, dataset: digits}
    sweep: another
    """
    (other,) = plan(read_sweep(shuffled)).runs
    assert (other.run_id, other.cell_id) == (usual.run_id, usual.cell_id)


def test_a_model_may_be_named_or_spelled_out(planned):
    named = read_sweep(
        "sweep: a\ndata: {dataset: digits, dataset_size: 180}\nmodel: {name: B-1/Wi-16}\n"
        "train: {batch_size: 32, lr: 1e-3}\nbudget: {epochs: 1}\nseeds: 1\n"
    )
    assert [run.run_id for run in plan(named).runs] == [run.run_id for run in planned(width=16, seeds=1).runs]


@pytest.mark.parametrize(
    "other", [{"lr": "2e-3"}, {"width": "48"}, {"epochs": "3"}, {"dataset_size": "200"}, {"seeds": "[7]"}]
)
def test_what_changes_a_run_changes_its_id(planned, other):
    said = {"width": "16", "seeds": "1"}
    assert planned(**said).runs[0].run_id != planned(**{**said, **other}).runs[0].run_id


def test_repeats_of_a_cell_share_its_id(planned):
    made = planned(width="[16, 32]", seeds=3)
    assert {cell: len(runs) for cell, runs in made.cells.items()} == {run.cell_id: 3 for run in made.runs}
    assert len(made.cells) == 2


def test_cells_stand_beside_the_grid_and_take_from_it_what_they_leave_out(planned):
    cell = "cells:\n  - model: {width: 64}\n    budget: {flops: 2e7}\n"
    runs = planned(width="16", seeds=2, more=cell).runs
    assert [(run.width, run.depth, run.lr, run.seed) for run in runs] == [
        *((16, 1, 1e-3, 0), (16, 1, 1e-3, 1)),
        *((64, 1, 1e-3, 0), (64, 1, 1e-3, 1)),
    ]
    assert runs[2].budget == 2e7  # and not the grid's epochs


def test_a_sweep_may_be_cells_alone():
    text = "sweep: a\ndata: {dataset: digits}\ncells:\n  - model: {width: 16}\n    budget: {epochs: 1}\n"
    assert [run.width for run in plan(read_sweep(text)).runs] == [16]


def test_a_run_declared_twice_runs_once_and_is_mentioned(planned):
    made = planned(width="16", seeds=2, more="cells:\n  - model: {width: 16}\n")
    assert len(made.runs) == 2
    assert made.notes == ("2 runs declared more than once will run once",)


def test_a_limit_below_the_plan_is_mentioned(planned):
    (note,) = planned(more="limits: {total_flops: 1e6}").notes
    assert "limits.total_flops 1e6 is below" in note


@given(budget=st.floats(2e6, 1e12), batch=st.sampled_from([1, 7, 32, 64]), width=st.integers(1, 200))
def test_a_budget_is_met_to_within_one_step_and_never_exceeded(budget, batch, width):
    text = (
        f"sweep: a\ndata: {{dataset: digits}}\nmodel: {{depth: 1, width: {width}}}\n"
        f"train: {{batch_size: {batch}}}\nbudget: {{flops: {budget!r}}}\n"
    )
    (shortest,) = plan(read_sweep(text.replace(f"flops: {budget!r}", f"examples: {batch}"))).runs
    one_step = run_flops(shortest)
    if one_step > budget:
        return
    (run,) = plan(read_sweep(text)).runs
    assert budget - one_step < run_flops(run) <= budget * (1 + 1e-9)


def test_the_total_is_the_sum_over_runs_of_the_closed_form(planned):
    made = planned(width="[16, 32]", epochs="[1, 4]")
    by_hand = sum(r.steps * r.batch_size * cost.flops_per_example(cost.shape_of(r)) for r in made.runs)
    rows = plan_rows(made)
    assert made.flops < by_hand == sum(row["flops"] * row["runs"] for row in rows)  # one epoch begins the four
    assert made.flops == sum(run_flops(run) for run in made.runs if run.epochs > 2)
    assert made.notes == (
        f"the common steps of runs of one recipe are trained once: {short(made.flops)} FLOPs, not {short(by_hand)}",
    )
    assert sum(row["runs"] for row in rows) == len(made.runs)


def test_a_path_is_looked_up_beside_the_file_then_in_the_named_folders(tmp_path, monkeypatch):
    import numpy as np

    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    x, y = np.arange(80, dtype=np.float32).reshape(20, 4), np.arange(20) % 2
    np.savez(there / "toy.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (here / "toy.yaml").write_text(
        "sweep: a\ndata: {dataset: toy, path: toy.npz}\nmodel: {width: 4}\n"
        "train: {batch_size: 4}\nbudget: {epochs: 1}\n"
    )
    monkeypatch.setenv("ISOFLOP_DATA", os.pathsep.join([str(tmp_path / "nowhere"), str(there)]))
    (elsewhere,) = plan(load_sweep(here / "toy.yaml")).runs
    assert elsewhere.path == str(there / "toy.npz")
    (here / "toy.npz").write_bytes((there / "toy.npz").read_bytes())
    (beside,) = plan(load_sweep(here / "toy.yaml")).runs
    assert beside.path == str(here / "toy.npz")
    assert beside.run_id == elsewhere.run_id  # the content counts, not the place


# the order in which stacks start


def test_bundles_partition_the_runs_into_stacks_of_one_shape(planned):
    runs = planned(width="[16, 24, 32]", lr="[1e-3, 1e-2]", epochs="[1, 3]", seeds=5).runs
    made = group_into_stacks(runs)
    assert sorted(run.run_id for stack in made for run in stack) == sorted(run.run_id for run in runs)
    assert all(len({stack_key(run) for run in stack}) == 1 for stack in made)
    assert max(map(len, made)) > 1
    recipes = [trunk.by_recipe(stack) for stack in made]
    assert {len(recipe) for some in recipes for recipe in some} == {2}  # both lengths of a recipe are in one stack
    assert {len(some) for some in recipes if some[0][0].width == 24} == {1}  # others would change its last bit


def test_stacks_of_one_shape_are_even(planned):
    runs = planned(width="16", seeds=200).runs
    assert [len(stack) for stack in group_into_stacks(runs)] == [100, 100]


def test_a_cheap_scout_goes_first_then_the_longest(planned):
    runs = planned(width="[16, 24, 40, 56]", epochs="[1, 2, 4, 8, 16]", seeds=1).runs
    prices = [sum(map(run_flops, stack)) for stack in group_into_stacks(runs)]
    turn = prices.index(max(prices))
    assert prices[0] == min(prices)
    assert prices[:turn] == sorted(prices[:turn])
    assert prices[turn:] == sorted(prices[turn:], reverse=True)
    assert 0.05 * sum(prices) <= sum(prices[:turn]) < 0.2 * sum(prices)


def test_runs_that_go_on_at_different_steps_share_a_stack(planned):
    runs = planned(width="16", seeds=5).runs
    steps = dict(zip(runs, (128, 0, 64, 128, 0), strict=True))
    assert [set(stack) for stack in group_into_stacks(runs, steps.__getitem__)] == [set(runs)]


def test_nothing_is_bundled_of_nothing():
    assert group_into_stacks([]) == []


# time and axes

SPEED = Speed("cpu", layer=1e-5, value=0.0, weight=0.0, flop=1e-9, spread=0.0)


def test_every_worker_has_a_stack(planned):
    starts = Speed("cpu", 1e-3, 0, 0, 1e-15, 0.1)
    made = planned(width="16", seeds=16).runs
    assert [len(stack) for stack in group_into_stacks(made, speed=starts)] == [16]
    assert [len(stack) for stack in group_into_stacks(made, speed=starts, slots=4)] == [4, 4, 4, 4]


# the sweeps that ship


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_plans_in_well_under_a_second(path):
    began = time.process_time()
    made = plan(load_sweep(path), decode=False)
    assert time.process_time() - began < 1
    assert made.sweep == path.stem
    assert path not in EMBEDDED or made.notes == ()


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_header_of_a_shipped_sweep_says_what_it_costs(path):
    header, more = path.read_text().split("\n")[:2]
    assert header.startswith(f"# {summary(plan(load_sweep(path), decode=False), None)}, ")
    assert " on 2 CPU cores" in header
    assert "; yields " in header or more.startswith("# ")


EPYC = Speed(
    "cpu", layer=1.24e-4, run=2.33e-5, value=3.12e-9, weight=2.49e-9, start=1.53e-3, drawn=8.7e-9, flop=1.17e-11,
    resampled=4.1e-9, mixed=1.6e-9, flop_share={"bf16": 0.54}, spread=0.07,
)  # fmt: skip
"""What `isoflop doctor` measured on the machine of the headers, 2026-11-28."""
UNITS = {"s": 1, "min": 60, "h": 3600, "days": 86400}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_time_in_the_header_of_a_shipped_sweep_is_what_plan_predicts(path, monkeypatch, tmp_path):
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path))  # nothing is learned, nothing decoded
    for module in ("forecast", "stacks"):
        monkeypatch.setattr(f"orchestrator.scheduling.{module}.cores", lambda: 2, raising=False)
    words = path.read_text().partition("FLOPs, ")[2].partition(" on 2 CPU cores")[0].replace(",", "").split()[1:]
    stated = sum(float(count) * UNITS[unit] for count, unit in zip(words[::2], words[1::2], strict=True))
    predicted = planned_forecast(plan(load_sweep(path), decode=False), EPYC, slots=2)
    assert predicted.seconds == pytest.approx(stated, rel=0.25)


def test_planning_imports_nothing_heavy():
    asked = """
import json, sys
from orchestrator import load_sweep, plan
from tests.paths import ROOT
runs = [len(plan(load_sweep(path)).runs) for path in sys.argv[1:]]
heavy = ["torch", "ray", "pandas", "matplotlib", "scipy", "sklearn", "sqlalchemy"]
print(json.dumps([runs, [name for name in heavy if name in sys.modules]]))
"""
    command = [sys.executable, "-c", asked, *map(str, EMBEDDED)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    runs, imported = json.loads(said)
    assert imported == []
    assert min(runs) > 0


def test_every_field_of_a_sweep_reaches_the_run(planned):
    text = """\
    sweep: all
    data: {dataset: digits, dataset_size: 500, augment: crop}
    model: {family: b-mlp, depth: 2, width: 16, expansion: 2, activation: relu}
    train: {optimizer: sgd, lr: 0.1, weight_decay: 0.01, momentum: 0.5, batch_size: 32, schedule: wsd,
            warmup: 0.1, cooldown: 0.3, label_smoothing: 0.2}
    budget: {epochs: 2}
    seeds: [4]
    """
    (run,) = plan(read_sweep(text)).runs
    said = {"dataset_size": 500, "augment": "crop", "depth": 2, "width": 16, "expansion": 2, "activation": "relu"}
    said |= {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.01, "momentum": 0.5, "batch_size": 32}
    said |= {"schedule": "wsd", "warmup": 0.1, "cooldown": 0.3, "label_smoothing": 0.2, "seed": 4}
    assert {name: getattr(run, name) for name in said} == said
    assert isinstance(run, RunSpec)


# presets


def test_a_preset_is_the_papers_recipe_and_is_overridden_by_what_stands_beside_it():
    text = """\
    sweep: p
    data: {dataset: digits, augment: [none, flip]}
    model: {width: 16}
    train: {preset: scaling, batch_size: 32, lr: [1e-5, 1e-4]}
    budget: {epochs: 2}
    """
    runs = plan(read_sweep(text)).runs
    assert {(run.augment, run.lr) for run in runs} == {(a, lr) for a in ("none", "flip") for lr in (1e-5, 1e-4)}
    for run in runs:
        assert (run.optimizer, run.weight_decay, run.mixup, run.label_smoothing) == ("lion", 1e-3, 0.8, 0.3)
        assert run.batch_size == 32


def test_what_a_preset_says_and_the_data_cannot_do_is_told_at_the_preset():
    text = (
        "sweep: p\ndata: {dataset: zipf}\nmodel: {width: 16}\ntrain:\n  preset: scratch\nbudget: {examples: 1e6}\n"
    )
    with pytest.raises(SweepError) as caught:
        plan(read_sweep(text, name="p.yaml"))
    said = "p.yaml:5: augment: zipf holds no images to flip+resized-crop; use none"
    assert caught.value.complaints == [said]


# stages

STAGES = """then:
  - {stage: probe, train: {trains: head, batch_size: 32, lr: %s}, budget: {epochs: 1}}
"""


def test_the_seeds_of_a_stage_are_averaged_by_the_cell_of_their_parents(planned):
    made = planned(width="[16, 32]", lr="[1e-3, 1e-2]", seeds=2, more=STAGES % "1e-3")
    parents = {run.run_id: run for run in made.runs if run.stage == "train"}
    children = [run for run in made.runs if run.stage == "probe"]
    assert len(parents) == len(children) == 8
    assert {child.parent_cell for child in children} == {parent.cell_id for parent in parents.values()}
    cells = {child.cell_id: [] for child in children}
    for child in children:
        assert child.parent_cell == parents[child.parent].cell_id
        cells[child.cell_id].append((child.parent_cell, child.seed))
    assert len(cells) == 4
    for seeds in cells.values():
        assert len({parent_cell for parent_cell, _ in seeds}) == 1
        assert sorted(seed for _, seed in seeds) == [0, 1]


def test_a_stage_of_too_many_runs_is_refused_at_its_line(text_of):
    rates = [f"{i}e-6" for i in range(1, 1002)]
    many = STAGES % f"[{', '.join(rates)}]"
    text = text_of(width="[16, 32]", seeds=50, more=many)
    line = 1 + text.splitlines().index("then:") + 1
    with pytest.raises(SweepError) as caught:
        plan(read_sweep(text, name="s.yaml"))
    assert caught.value.complaints == [f"s.yaml:{line}: stage 'probe': its axes multiply to more than 100,000 runs"]


def test_planned_memory_counts_the_parts_of_a_batch():
    text = "sweep: a\ndata: {dataset: digits}\nmodel: {width: 256}\nbudget: {epochs: 1}\n"
    whole, parts = (
        plan_rows(plan(read_sweep(text + f"train: {{batch_size: 1024, accumulate: {parts}}}\n")))[0]["memory"]
        for parts in (1, 8)
    )
    assert parts < 0.6 * whole
