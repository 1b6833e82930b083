"""The speed of a machine: found from timed steps, and the stacks that pay by it."""

from dataclasses import astuple, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.host import speed
from orchestrator.host.speed import Speed
from orchestrator.sweep.planner import run_flops
from trainer import RunSpec
from trainer.data.datasets import describe, resolve

SPEED = Speed("cpu", layer=1e-5, value=0.0, weight=0.0, flop=1e-9, spread=0.0)


def test_products_in_another_precision_take_their_share_of_the_time(planned):
    (run,) = planned(width="24", seeds=1).runs
    mixed = replace(SPEED, flop_share={"bf16": 0.25})
    rest = SPEED.seconds([run]) - run_flops(run) * 1e-9
    assert mixed.seconds([replace(run, precision="bf16")]) == pytest.approx(rest + run_flops(run) * 0.25e-9)
    assert mixed.seconds([run]) == SPEED.seconds([run])


def test_what_a_step_costs_is_found_from_the_steps_that_were_timed(monkeypatch):
    """Of a machine that is exactly as the model says."""
    planted = Speed("cpu", 7e-5, 2e-9, 1e-9, 1e-11, 0.0, {"bf16": 0.2})

    def timed(probe, _, precision="fp32"):
        width, batch, depth, runs = probe
        spec = RunSpec(width=width, batch_size=batch, depth=depth, examples=batch, precision=precision)
        stack = [replace(resolve(spec, describe(spec)), seed=seed) for seed in range(runs)]
        return speed.step_counts(stack[0], runs), planted.seconds(stack)

    monkeypatch.setattr(speed, "time_step", timed)
    measured = speed.measure("cpu")
    assert astuple(measured)[1:5] == pytest.approx(astuple(planted)[1:5], rel=1e-3)
    assert measured.flop_share == pytest.approx(planted.flop_share, rel=1e-3)
    assert measured.spread < 1e-3


# stacks as large as pays

COSTS = st.floats(1e-12, 1e-3)


@given(
    layer=COSTS, value=COSTS, weight=COSTS, flop=COSTS, width=st.sampled_from([16, 64, 256]), n=st.integers(1, 99)
)
@settings(deadline=None, max_examples=60)
def test_a_stack_is_never_dearer_than_its_runs_alone(planned, layer, value, weight, flop, width, n):
    planted, run = Speed("cpu", layer, value, weight, flop, 0.1), planned(width=width, seeds=1).runs[0]
    size = planted.stack_size(run, n)
    assert 1 <= size <= min(n, 64)
    alike = [replace(run, seed=seed) for seed in range(size)]
    assert planted.seconds(alike) <= size * planted.seconds([run]) * (1 + 1e-9)


def test_stacks_grow_where_starting_kernels_is_all_and_not_where_they_are_busy(planned):
    run = planned(width=64, seeds=1).runs[0]
    starts, busy = Speed("cpu", 1e-3, 0, 0, 1e-15, 0.1), Speed("cpu", 1e-12, 0, 0, 1e-9, 0.1)
    assert [starts.stack_size(run, n) for n in (1, 5, 64, 1000)] == [1, 5, 64, 64]
    assert busy.stack_size(run, 64) == 1
    assert starts.stack_size(planned(width=65, seeds=1).runs[0], 64) == 1
