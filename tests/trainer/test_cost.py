from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tests.trainer.reference import Reference, numel, resolved, shapes, slots
from trainer import cost
from trainer.cost import Shape
from trainer.training.optimise import make_optimizer
from trainer.training.stack import Stack
from trainer.training.target import Target

QUICK = settings(deadline=None, max_examples=40)

PAPER = [  # depth, width, all parameters, those of the body, multiply-adds as fvcore counts them
    (6, 256, 9_188_574, 3_156_480, 9_174_016),
    (12, 256, 12_345_054, 6_312_960, 12_327_424),
    (6, 512, 24_657_374, 12_604_416, 24_639_488),
    (12, 512, 37_261_790, 25_208_832, 37_237_760),
    (6, 1024, 74_469_342, 50_374_656, 74_444_800),
    (12, 1024, 124_843_998, 100_749_312, 124_807_168),
]


@QUICK
@given(shape=shapes())
def test_params_are_those_of_an_independent_model_group_by_group(shape):
    model, params = Reference(shape), cost.params(shape)
    assert (params.embed, params.body, params.head) == (numel(model.embed), numel(model.body), numel(model.head))
    assert params.total == numel(model)


@QUICK
@given(shape=shapes())
def test_params_are_those_of_the_slots(shape):
    sizes = {"embed": 0, "body": 0, "head": 0}
    for slot in slots(shape):
        sizes[slot.group] += math.prod(slot.shape)
    params = cost.params(shape)
    assert sizes == {"embed": params.embed, "body": params.body, "head": params.head}


@QUICK
@given(shape=shapes(), batch=st.integers(1, 5))
def test_flops_are_those_that_torch_counts_forward_and_backward(shape, batch):
    model, counter = Reference(shape), FlopCounterMode(display=False)
    with counter:
        model(torch.randn(batch, shape.inputs)).sum().backward()
    assert cost.flops_per_example(shape) * batch == counter.get_total_flops()


@pytest.mark.parametrize(("depth", "width", "total", "body", "macs"), PAPER)
def test_the_papers_table(depth, width, total, body, macs):
    shape = Shape("b-mlp", depth, width, 64 * 64 * 3, 11_230)
    assert cost.params(shape).total == total
    assert cost.params(shape).body == body
    assert cost.flops_paper_per_example(shape) == 3 * macs
    assert cost.flops_6nd_per_example(shape) == 6 * total


def test_the_papers_simple_mlp():
    assert cost.params(Shape("s-mlp", 6, 2048, 64 * 64 * 3, 11_230)).total == 69_180_382


def test_the_papers_axis_holds_the_share_that_no_backward_pass_needs():
    for width, depth, excess in ((256, 6, 0.114), (1024, 12, 0.034)):
        shape = Shape("b-mlp", depth, width, 64 * 64 * 3, 11_230)
        assert 1 - cost.flops_per_example(shape) / (6 * cost.macs(shape)) == pytest.approx(excess, abs=5e-4)


def test_the_cost_of_an_unresolved_spec_is_refused():
    with pytest.raises(ValueError, match="resolve"):
        cost.shape_of(replace(resolved(), inputs=None))


def _peak_of_training(shape, batch, optimizer):
    """Most bytes that torch held at once in three steps of training one model."""
    spec = resolved(
        family=shape.family,
        depth=shape.depth,
        width=shape.width,
        expansion=shape.expansion,
        optimizer=optimizer,
        batch_size=batch,
        epochs=100,
    )
    spec = replace(spec, inputs=shape.inputs, classes=shape.classes)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        stack = Stack([spec], torch.device("cpu"))
        steps = make_optimizer([spec], stack.rows, slots(shape))
        passes = stack.passes(batch, torch.float32)
        for _ in range(3):
            x, y = torch.randn(1, batch, shape.inputs), torch.zeros(1, batch, dtype=torch.long)
            with torch.no_grad():
                Target(y, torch.zeros(1, 1)).loss(passes.forward(x), passes.gradient)
                passes.backward()
            steps.step()
    held = peak = 0
    for event in prof.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion"])
@pytest.mark.parametrize("family", ["b-mlp", "s-mlp"])
@pytest.mark.parametrize(
    ("depth", "width", "inputs", "batch"), [(2, 256, 3072, 32), (4, 64, 64, 2048), (6, 128, 768, 256)]
)
def test_memory_is_within_the_factor_it_promises(optimizer, family, depth, width, inputs, batch):
    shape = Shape(family, depth, width, inputs, 10)
    measured = _peak_of_training(shape, batch, optimizer)
    assert 1 / 1.5 < measured / cost.memory_bytes(shape, batch, optimizer) < 1.5


@pytest.mark.parametrize(("batch", "width"), [(33, 64), (16, 64), (64, 40), (64, 8)])
def test_shapes_that_vector_instructions_would_misalign_are_trained_alone(batch, width):
    assert not cost.stackable(Shape("b-mlp", 2, width, 64, 10), batch)
