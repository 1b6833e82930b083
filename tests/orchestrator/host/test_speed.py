"""The speed of a machine: found from timed steps, and the stacks that pay by it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.host.calibration import Probe, Timed, measure, timed
from orchestrator.host.machine_cache import code_version
from orchestrator.host.speed import CHUNK, Speed, evaluation_work, start_work, step_work
from orchestrator.sweep.planner import run_flops
from trainer import RunSpec, cost
from trainer.data.datasets import describe, resolve
from trainer.evaluations import evaluated_examples, evaluation_flops

SPEED = Speed("cpu", layer=1e-5, value=0.0, weight=0.0, flop=1e-9, spread=0.0)


def test_products_in_another_precision_take_their_share_of_the_time(planned):
    (run,) = planned(width="24", seeds=1).runs
    mixed = replace(SPEED, flop_share={"bf16": 0.25})
    saved = SPEED.seconds([run]) - mixed.seconds([replace(run, precision="bf16")])
    assert saved == pytest.approx(0.75e-9 * run_flops(run))  # evaluations are in fp32
    assert mixed.seconds([run]) == SPEED.seconds([run])


def test_the_time_of_a_run_is_that_of_its_steps_and_evaluations(planned):
    (run,) = planned(width="24", seeds=1).runs
    layers = cost.costs(cost.shape_of(run)).layers
    passes = evaluated_examples(run) / CHUNK
    expected = 1e-5 * layers * (run.steps + passes / 3) + 1e-9 * (run_flops(run) + evaluation_flops(run))
    assert SPEED.seconds([run]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("said", "price"),
    [({"augment": "flip"}, "moved"), ({"augment": "resized-crop"}, "resampled"), ({"mixup": 0.2}, "mixed")],
)
def test_what_happens_to_every_example_is_paid_for_every_value_of_it(planned, said, price):
    (run,) = planned(width="24", seeds=1).runs
    priced: dict[str, Any] = {price: 1e-6}
    dear = replace(SPEED, **priced)
    values = run.steps * run.batch_size * run.inputs
    assert dear.seconds([replace(run, **said)]) - SPEED.seconds([run]) == pytest.approx(1e-6 * values)
    assert dear.seconds([run]) == SPEED.seconds([run])


PLANTED = Speed(
    "cpu",
    *(7e-5, 2e-9, 1e-9, 1e-11, 0.0),
    {"bf16": 0.2},
    run=2e-5,
    moved=3e-9,
    resampled=8e-9,
    mixed=4e-9,
    start=1e-3,
    drawn=1e-8,
)


def planted_timer(probe, _device, _seconds):
    """What calibration would time on a machine that is exactly as the model says."""
    spec = RunSpec(
        width=probe.width,
        batch_size=probe.batch,
        depth=probe.depth,
        precision=probe.precision,
        examples=probe.batch,
        augment=probe.augment,
        mixup=probe.mixup,
    )
    run = resolve(spec, describe(spec))
    if probe.dataset == "random":
        run = replace(run, inputs=3072)
    step = step_work(run, probe.runs, PLANTED.flop_share.get(probe.precision, 1.0))
    rows = [step, evaluation_work(run, 360.0 * probe.runs, 1), start_work(run, probe.runs)]
    counted = [step_work(run, probe.runs), *rows[1:]]
    return Timed([(work, PLANTED.modelled(paid)) for work, paid in zip(counted, rows, strict=True)])


def test_what_a_step_costs_is_found_from_the_steps_that_were_timed():
    measured = measure("cpu", planted_timer)
    for price in ("layer", "weight", "flop", "run", "moved", "resampled", "mixed", "start", "drawn"):
        assert getattr(measured, price) == pytest.approx(getattr(PLANTED, price), rel=0.02), price
    assert measured.flop_share == pytest.approx(PLANTED.flop_share, rel=0.02)
    assert measured.spread < 1e-3
    assert measured.code == code_version()


def test_a_probe_is_timed_in_a_fraction_of_a_second():
    (step, _), (evaluation, _), *_ = timed(Probe(16, 32), "cpu", 0.02).rows
    assert step.weight > 0 == evaluation.weight
    assert timed(Probe(16, 32), "cpu", 0.02).step > 0


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
    assert [starts.stack_size(run, n) for n in (1, 5, 64, 1000)] == [1, 5, 64, 128]
    assert busy.stack_size(run, 64) == 1
    assert starts.stack_size(planned(width=65, seeds=1).runs[0], 64) == 1
