"""What a plan can show: of the shipped sweeps, of those that cannot answer, and of those that ask for no law."""

import time

import pytest

from orchestrator import load_sweep, plan, read_sweep
from orchestrator.sweep.design import design_of
from tests.paths import ROOT

SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))
SCALING = (
    "cifar10-small",
    "paper-scaling",
    "paper-scaling-s-mlp",
    "paper-transfer",
    "quickstart",
    "small-scaling",
    "zipf",
)

ISOFLOP = """
sweep: three
data: {{dataset: cifar10, augment: flip+crop}}
model: {{family: {family}, depth: 2, width: {width}}}
train: {{optimizer: adamw, lr: {lr}, batch_size: 256, schedule: cosine}}
budget: {{flops: {flops}}}
seeds: {seeds}
"""


def shown(family="b-mlp", width="[64, 256, 1024]", flops="[1e11, 3e11, 1e12]", lr="1e-3", seeds=1):
    return plan(read_sweep(ISOFLOP.format(**locals())), decode=False)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_says_what_it_can_show_or_nothing(path):
    planned = plan(load_sweep(path), decode=False)
    began = time.process_time()
    design = planned.design
    assert time.process_time() - began < 1
    assert (design is not None) == (path.stem in SCALING)
    if design is not None:
        assert max(map(len, str(design).splitlines())) <= 80
        assert len(str(design).splitlines()) <= 24


def test_three_budgets_by_three_widths_are_told_what_is_missing():
    text = " ".join(str(shown().design).split())
    assert "isoFLOP minima): at most 3 sizes a budget; a minimum needs 4" in text
    assert "4 of 9 cells train fewer than 100 steps or 0.1 epochs (B-2/Wi-1024 at 1e11 FLOPs: 3 steps" in text
    assert "the smallest model is expected to be the best: add smaller ones" in text
    assert "cheapest addition that would answer: +" in text


def test_the_addition_is_a_sweep_that_answers():
    """The widths and budgets that it names, written into the file, are planned with the interval that it gives."""
    addition = shown().design.addition
    assert addition is not None
    widths, budgets = [64, 256, 1024, *map(int, addition.sizes)], [1e11, 3e11, 1e12, *addition.lengths]
    larger = shown(width=str(sorted(widths)), flops=str(sorted(budgets)), seeds=addition.seeds)
    assert larger.design.optimum.answers
    assert larger.design.optimum.half == pytest.approx(addition.expected.half, rel=0.3)
    assert larger.flops - shown().flops == pytest.approx(addition.flops, rel=0.05)


@pytest.mark.parametrize(
    "axes",
    [
        {"width": "[64]", "flops": "[1e11]", "seeds": 9},
        {"width": "[64]", "flops": "[1e11]", "lr": "[1e-4, 1e-3, 1e-2]"},
        {"width": "[64, 128]", "flops": "[1e11, 1e12]"},
    ],
)
def test_what_varies_no_size_or_length_three_times_asks_for_no_law(axes):
    assert shown(**axes).design is None


def test_a_grid_of_rates_is_not_taken_for_repeats():
    grid = {"width": "[16, 32, 64, 128, 256]", "flops": "[1e10, 1e11, 1e12, 1e13]"}
    one, three = shown(**grid).design, shown(**grid, lr="[1e-4, 1e-3, 1e-2]").design
    assert three.surface == one.surface
    assert shown(**grid, seeds=3).design.surface[0].half < 0.7 * one.surface[0].half


def test_each_population_is_judged_alone():
    both = shown(family="[b-mlp, s-mlp]", seeds=2)
    alone = shown(seeds=2)
    assert both.design.surface == alone.design.surface
    assert any(text.startswith("2 populations differ in family") for text in both.design.warnings)


def test_what_follows_the_width_is_named():
    text = """
sweep: pair
data: {dataset: digits}
cells:
  - {model: {width: 16}, train: {lr: 8e-3}, budget: {epochs: 5}}
  - {model: {width: 32}, train: {lr: 4e-3}, budget: {epochs: 10}}
  - {model: {width: 64}, train: {lr: 2e-3}, budget: {epochs: 20}}
  - {model: {width: 128}, train: {lr: 1e-3}, budget: {epochs: 40}}
"""
    warnings = plan(read_sweep(text)).design.warnings
    assert any(warning.startswith("lr and params vary together (correlation -1.00)") for warning in warnings)
    assert any(warning.startswith("params and examples vary together") for warning in warnings)
    tied = plan(read_sweep(text.replace("4e-3", "1e-4"))).design.warnings
    assert not any(warning.startswith("lr and") for warning in tied)
    for rate, batch in (("8e-3", 16), ("4e-3", 32), ("2e-3", 64), ("1e-3", 128)):
        text = text.replace(f"lr: {rate}", f"batch_size: {batch}")
    warnings = plan(read_sweep(text)).design.warnings
    assert any(warning.startswith("batch_size and params vary together (correlation 1.00)") for warning in warnings)


def test_error_on_the_zipf_task_is_a_law_of_the_examples_alone():
    design = plan(load_sweep(ROOT / "sweeps" / "zipf.yaml")).design
    assert [law.quantity for law in design.laws] == ["examples"]
    assert design.laws[0].value == pytest.approx(1 / 3)
    assert design.surface == ()


def test_a_notebook_shows_it_below_the_cells():
    assert "what this design can show" in shown()._repr_html_()
    assert "what this design can show" not in shown(width="[64]", flops="[1e11]")._repr_html_()


def test_a_search_is_asked_nothing():
    planned = plan(load_sweep(ROOT / "sweeps" / "search-lr.yaml"))
    assert planned.design is None
    assert design_of(planned) is None
