"""Gradients written by hand against autograd, in double precision where both are exact to 1e-10."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.model import bilinear
from tests.trainer.reference import shapes
from trainer.cost import Layer, Shape
from trainer.families import family_of
from trainer.model.layered import LayeredFamily
from trainer.model.passes import WHOLE, Passes
from trainer.training.target import Target

QUICK = settings(deadline=None, max_examples=60)
RUNS, BATCH = 3, 6


def weights_of(family, shape, dtype=torch.float64):
    """Random parameters of RUNS models, gains and biases of norms included, in one buffer as in a stack."""
    slots = family.slots(shape)
    size = slots[-1].start + math.prod(slots[-1].shape)
    values = torch.randn(RUNS, size, dtype=dtype).mul_(0.5)
    return {
        s.name: values[:, s.start : s.start + math.prod(s.shape)].view(-1, *s.shape).requires_grad_() for s in slots
    }


def drop(hidden, layer, rate=0.4):
    """Masks that depend on the layer alone."""
    kept = torch.rand(hidden.shape, generator=torch.Generator().manual_seed(layer)) > rate
    return hidden * kept.to(hidden.dtype).div_(1 - rate)


def target_of(shape, *, smoothing=False, mixup=False):
    share = torch.tensor([[0.1], [0.0], [0.3]] if smoothing else [[0.0]] * RUNS, dtype=torch.float64)
    labels, others = torch.randint(shape.classes, (2, RUNS, BATCH))
    return Target(labels, share, *((others, torch.rand(RUNS, BATCH, dtype=torch.float64)) if mixup else ()))


def by_autograd(family, shape, weights, trained, batches, target, drop=None):
    """Losses, and the sum of gradients over batches."""
    losses = [target.loss(family.forward(weights, x, shape, drop)) for x in batches]
    gradients = torch.autograd.grad(sum(loss.mean() for loss in losses), [weights[name] for name in trained])
    return torch.stack(losses).detach(), dict(zip(trained, gradients, strict=True))


def by_hand(family, shape, weights, trained, batches, target, drop=None, dtype=torch.float64):
    operations = family.operations(shape)
    assert operations is not None
    gradients = {name: torch.full_like(weights[name], torch.nan) for name in trained}
    passes = Passes(operations, weights, gradients, BATCH, shape.activation, dtype)
    losses = []
    with torch.no_grad():
        for x in batches:
            logits = passes.forward(x, drop)
            losses.append(target.loss(logits, passes.gradient, 1 / (RUNS * BATCH)))
            passes.backward(add=len(losses) > 1)
    return torch.stack(losses), gradients


def assert_equal_gradients(family, shape, *, mask=None, batches=1, **options):
    torch.manual_seed(0)
    weights, target = weights_of(family, shape), target_of(shape, **options)
    trained = [slot.name for slot in family.slots(shape) if slot.group == "head" or not shape.probe]
    x = torch.randn(batches, RUNS, BATCH, shape.inputs, dtype=torch.float64)
    found, expected = (
        compute(family, shape, weights, trained, x, target, mask) for compute in (by_hand, by_autograd)
    )
    torch.testing.assert_close(found[0], expected[0], rtol=1e-10, atol=1e-12)
    for name in trained:
        torch.testing.assert_close(found[1][name], expected[1][name], rtol=1e-8, atol=1e-12, msg=name)


@QUICK
@given(
    shape=shapes(),
    activation=st.sampled_from(["gelu", "relu"]),
    probe=st.booleans(),
    mask=st.sampled_from([None, drop]),
    batches=st.integers(1, 2),
    smoothing=st.booleans(),
    mixup=st.booleans(),
)
def test_gradients_of_every_family_and_option_are_those_of_autograd(shape, activation, probe, **options):
    assert_equal_gradients(family_of(shape.family), replace(shape, activation=activation, probe=probe), **options)


@pytest.mark.parametrize("family", ["b-mlp", "s-mlp"])
def test_gradients_of_large_layers_are_those_of_autograd(family):
    """Whose gradients are computed run by run."""
    shape = Shape(family, 2, 160, 120, 5)
    assert shape.width**2 > WHOLE
    assert_equal_gradients(family_of(family), shape)


def layers(shape, norm=""):
    inner = [Layer(f"block{b}.mix", shape.width, shape.width, norm=f"block{b}.norm") for b in range(shape.depth)]
    return [Layer("embed", shape.inputs, shape.width), *inner, Layer("head", shape.width, shape.classes)]


def branches(weights, x, shape, act):
    """Values that are read again much later, twice by one addition, and an activation without a layer before it."""
    from trainer.model.operations import linear, norm

    first = z = linear(weights, "embed", x)
    for b in range(shape.depth):
        y = norm(weights, f"block{b}.norm", z)
        z = y + act(z + linear(weights, f"block{b}.mix", act(y, b)), b)
        z = z + z
    return linear(weights, "head", first + (act(first, 9) + z))


def shared(weights, x, shape, act):
    """Two layers that read one value, and an addition whose second value is needed again."""
    from trainer.model.operations import linear, norm

    z = linear(weights, "embed", x)
    for b in range(shape.depth):
        y = norm(weights, f"block{b}.norm", z)
        inner = linear(weights, f"block{b}.mix", y)
        z = (y + inner) + linear(weights, f"block{b}.mix", act(inner, b)) if b % 2 else inner + act(inner, b)
    return linear(weights, "head", z)


@pytest.mark.parametrize("compute", [branches, bilinear.compute], ids=["branches", "bilinear"])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("probe", [False, True])
def test_gradients_of_a_family_from_outside_are_those_of_autograd(compute, activation, probe):
    own = layers if compute is branches else bilinear.layers
    family = LayeredFamily(letter="T", layers=own, compute=compute)
    shape = Shape("t", 3, 16, 8, 4, probe=probe, activation=activation)
    assert_equal_gradients(family, shape, mask=None if compute is bilinear.compute else drop)


def other_operations(weights, x, shape, act):
    from trainer.model.operations import linear

    return linear(weights, "head", act(linear(weights, "embed", x).tanh(), 0))


def own_product(weights, x, shape, act):
    from trainer.model.operations import linear

    return linear(weights, "head", torch.bmm(x, weights["embed.weight"]))


def scaled(weights, x, shape, act):
    from trainer.model.operations import linear

    return linear(weights, "head", 2 * linear(weights, "embed", x))


def twice(weights, x, shape, act):
    """A layer that is used twice: its gradients would have to be summed."""
    from trainer.model.operations import linear

    z = linear(weights, "block0.mix", act(linear(weights, "block0.mix", linear(weights, "embed", x)), 0))
    return linear(weights, "head", z)


@pytest.mark.parametrize("compute", [other_operations, own_product, scaled, twice, shared])
def test_what_cannot_be_recorded_is_left_to_autograd(compute):
    family = LayeredFamily(letter="T", layers=layers, compute=compute)
    assert family.operations(Shape("t", 2, 16, 8, 4)) is None


def test_modules_are_left_to_autograd():
    assert family_of("tests.trainer.model.modules:mlp").operations(Shape("m", 2, 16, 8, 4)) is None


@pytest.mark.parametrize("family", ["b-mlp", "s-mlp"])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_bf16_gradients_are_as_near_the_exact_ones_as_those_of_autocast(family, activation):
    torch.manual_seed(0)
    shape = Shape(family, 3, 64, 32, 8, activation=activation)
    family = family_of(family)
    weights, target = weights_of(family, shape, torch.float32), target_of(shape)
    target = replace(target, smoothing=target.smoothing.float())
    trained, x = list(weights), torch.randn(1, RUNS, BATCH, shape.inputs)
    _, exact = by_autograd(family, shape, weights, trained, x, target)
    _, ours = by_hand(family, shape, weights, trained, x, target, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        _, theirs = by_autograd(family, shape, weights, trained, x, target)

    def error(found):
        return math.sqrt(sum(float((found[name] - exact[name]).square().sum()) for name in trained))

    size = math.sqrt(sum(float(value.square().sum()) for value in exact.values()))
    assert 1e-4 * size < error(ours) < 1.5 * error(theirs)


def test_runs_of_a_stack_do_not_touch_each_other():
    """A NaN in one of them stays there."""
    shape, family = Shape("b-mlp", 2, 32, 16, 4), family_of("b-mlp")
    torch.manual_seed(0)
    weights, target = weights_of(family, shape), target_of(shape)
    x = torch.randn(1, RUNS, BATCH, 16, dtype=torch.float64)
    compute = partial(by_hand, family, shape, weights, list(weights), target=target)
    _, clean = compute(batches=x)
    x[0, 1] = torch.nan
    _, found = compute(batches=x)
    for name in weights:
        assert found[name][1].isnan().any()
        assert torch.equal(found[name][[0, 2]], clean[name][[0, 2]])


def test_memory_is_freed_with_the_last_reference():
    """And not by a later collection of cycles, which would leave a GPU full."""
    shape, family = Shape("b-mlp", 2, 32, 16, 4), family_of("b-mlp")
    weights = weights_of(family, shape)
    gradients = {name: torch.empty_like(weight) for name, weight in weights.items()}
    operations = family.operations(shape)
    assert operations is not None
    passes = Passes(operations, weights, gradients, BATCH, "gelu", torch.float64)
    with torch.no_grad():
        logits = weakref.ref(passes.forward(torch.randn(RUNS, BATCH, 16, dtype=torch.float64), drop))
        passes.gradient.fill_(1.0)
        passes.backward()
        passes.backward(add=True)
    gc.disable()
    try:
        del passes
        assert logits() is None
    finally:
        gc.enable()
