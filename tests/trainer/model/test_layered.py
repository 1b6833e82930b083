from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.reference import ACTIVATIONS, Reference, as_weights, forward, initial_row, shapes, slots
from trainer import cost
from trainer.cost import Shape

QUICK = settings(deadline=None, max_examples=40)


@QUICK
@given(shape=shapes(), activation=st.sampled_from(sorted(ACTIVATIONS)), runs=st.integers(1, 3))
def test_logits_are_those_of_an_independent_model_with_the_same_weights(shape, activation, runs):
    torch.manual_seed(0)
    models = [Reference(shape, activation) for _ in range(runs)]
    for model in models:  # norms that do something
        for name, value in model.named_parameters():
            if ".norm." in name:
                torch.nn.init.normal_(value, 1.0)
    x = torch.randn(runs, 5, shape.inputs)
    with torch.no_grad():
        expected = torch.stack([model(x[k]) for k, model in enumerate(models)])
        torch.testing.assert_close(forward(as_weights(models), x, shape, activation), expected)


@QUICK
@given(shape=shapes())
def test_slots_lie_end_to_end(shape):
    at = 0
    for slot in slots(shape):
        assert slot.start == at
        at += math.prod(slot.shape)
    assert at == cost.params(shape).total


@pytest.mark.parametrize("family", ["b-mlp", "s-mlp"])
def test_initialisation_is_that_of_torch_modules(family):
    shape = Shape(family, 3, 48, 96, 30)
    row = initial_row(shape, seed=3)
    theirs = as_weights([Reference(shape)])
    for slot in slots(shape):
        ours = row[slot.start : slot.start + math.prod(slot.shape)]
        if ".norm." in slot.name:
            assert torch.equal(ours, theirs[slot.name].detach().flatten())
            continue
        fan_in = {"embed": 96}.get(slot.name.split(".")[0], 48)
        fan_in *= 4 if ".contract." in slot.name else 1
        bound = 1 / math.sqrt(fan_in)
        assert ours.abs().max() <= bound
        assert theirs[slot.name].abs().max() <= bound  # the rule itself, as torch has it
        if slot.name.endswith(".weight"):
            assert ours.abs().max() > 0.95 * bound
            assert ours.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)
            assert abs(ours.mean()) < 0.1 * bound


def test_initialisation_is_a_function_of_the_seed():
    shape = Shape("b-mlp", 2, 16, 8, 4)
    assert torch.equal(initial_row(shape, 1), initial_row(shape, 1))
    assert not torch.equal(initial_row(shape, 1), initial_row(shape, 2))


def test_initialisation_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    initial_row(Shape("s-mlp", 2, 16, 8, 4), 1)
    assert torch.equal(torch.get_rng_state(), state)
