"""When runs are evaluated: as often as they can afford, at the same steps whatever their length."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.reference import resolved
from trainer import RunSpec, cost
from trainer.data import datasets
from trainer.evaluations import SHARE, evaluated_examples, evaluation_flops, evaluation_steps, record_steps

QUICK = settings(deadline=None, max_examples=60)
RUNS = st.builds(
    lambda steps, batch, width, probe: resolved(
        batch_size=batch, width=width, examples=steps * batch, trains="head" if probe else "all"
    ),
    st.integers(1, 10**5),
    st.sampled_from([1, 32, 500]),
    st.sampled_from([4, 64]),
    st.booleans(),
)
TESTED = st.integers(1, 20_000)


@QUICK
@given(run=RUNS, tested=TESTED)
def test_evaluations_but_the_last_take_at_most_a_tenth_at_any_step(run, tested):
    found = evaluation_steps(run, tested)
    assert found[-1] == run.steps
    assert set(found) <= set(record_steps(run.steps))
    shape = cost.shape_of(run)
    for number, step in enumerate(found[:-1], 1):
        evaluation = number * tested * 2 * cost.macs(shape)
        training = step * run.batch_size * cost.flops_per_example(shape)
        assert evaluation <= SHARE * (evaluation + training) * (1 + 1e-12)


@QUICK
@given(run=RUNS, tested=TESTED, factor=st.integers(2, 100))
def test_a_longer_run_is_evaluated_where_a_shorter_one_is(run, tested, factor):
    longer = resolved(batch_size=run.batch_size, width=run.width, trains=run.trains, examples=run.examples * factor)
    before = [step for step in evaluation_steps(longer, tested) if step < run.steps]
    assert evaluation_steps(run, tested)[:-1] == before


def test_a_run_that_pays_for_all_of_them_is_evaluated_at_every_record():
    run = resolved(batch_size=512, examples=512 * 10_000)
    assert evaluation_steps(run, 32) == record_steps(10_000)


def test_what_is_evaluated_is_counted_from_the_spec_alone():
    def examples(**fields):
        asked = RunSpec(width=16, batch_size=32, **fields)
        run = datasets.resolve(asked, datasets.describe(asked))
        assert evaluation_flops(run) == evaluated_examples(run) * 2 * cost.macs(cost.shape_of(run))
        return evaluated_examples(run)

    assert examples(examples=32) == 360
    assert examples(examples=32, validation=0.2) == 287 + 360
    assert examples(examples=32, augment="crop", tta=5) == 360 + 5 * 360
    assert examples(examples=0, parent="x") == 360
    assert examples(examples=32 * 2000) > 5 * 360


@pytest.mark.parametrize(
    "fields", [{"dataset": "digits", "validation": 0.1}, {"dataset": "zipf", "dataset_size": 50}]
)
def test_a_resolved_run_knows_on_how_many_examples_it_is_evaluated(fields):
    asked = RunSpec(epochs=10, **fields)
    run = datasets.resolve(asked, datasets.describe(asked))
    split = datasets.split(datasets.load(run), run)
    assert run.test_examples == len(split.test)
    assert run.validation_examples == len(split.validation)
    assert run.run_id == datasets.resolve(asked, datasets.describe(asked)).run_id
