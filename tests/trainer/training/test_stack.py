from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.trainer.reference import initial_row, numbers, resolved, slots
from trainer import RunSpec, train
from trainer.cost import params, shape_of
from trainer.training.stack import Stack

CPU = torch.device("cpu")
MEMBERS: list[dict[str, Any]] = [
    {"seed": 0, "lr": 1e-3},
    {"seed": 1, "lr": 1e-2, "weight_decay": 0.1, "schedule": "cosine", "warmup": 0.1},
    {"seed": 2, "lr": 3e-4, "dataset_size": 100, "schedule": "wsd", "momentum": 0.5},
    {"seed": 0, "lr": 3e-3, "dataset_size": 40},
]


def _specs(**shape):
    return [RunSpec(**{"width": 16, "batch_size": 32, "examples": 32 * 40, **shape, **own}) for own in MEMBERS]


def _train(specs):
    return train(specs, device="cpu", evaluations=3)


def _assert_company_does_not_matter(specs):
    alone = [numbers(_train(spec)) for spec in specs]
    assert len(set(alone)) == len(specs)
    assert [numbers(result) for result in _train(specs)] == alone
    assert [numbers(result) for result in _train([specs[k] for k in (2, 0)])] == [alone[2], alone[0]]


@pytest.mark.parametrize("family", ["b-mlp", "s-mlp"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion"])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_a_run_is_the_same_to_the_last_bit_in_any_company(family, optimizer, activation):
    _assert_company_does_not_matter(_specs(family=family, optimizer=optimizer, activation=activation))


@pytest.mark.parametrize(("width", "batch"), [(32, 64), (48, 32), (64, 96)])
def test_a_run_is_the_same_to_the_last_bit_at_other_widths_and_batches(width, batch):
    specs = _specs(width=width, batch_size=batch, examples=batch * 20, label_smoothing=0.1)
    _assert_company_does_not_matter(specs)


@pytest.fixture
def pictures(tmp_path):
    """Small images: 6 x 6 pixels, 3 channels, 3 classes, 7 test images (108 inputs: no multiple of 16)."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (207, 6, 6, 3), dtype=np.uint8), np.arange(207) % 3
    np.savez(tmp_path / "p.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    return {"dataset": "pictures", "path": str(tmp_path / "p.npz")}


@pytest.mark.parametrize("augment", ["none", "flip", "flip+crop"])
def test_a_run_is_the_same_to_the_last_bit_on_augmented_images(pictures, augment):
    _assert_company_does_not_matter(_specs(**pictures, augment=augment))


def test_a_run_is_the_same_to_the_last_bit_on_tokens():
    specs = [
        RunSpec(dataset="zipf", zipf_tokens=300, width=16, examples=64 * 30, dataset_size=n, seed=s)
        for s, n in enumerate((50, 500, 200))
    ]
    _assert_company_does_not_matter(specs)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion"])
def test_a_run_that_diverges_ends_alone(optimizer):
    good = _specs(optimizer=optimizer)
    expected = [numbers(result) for result in _train(good)]
    bad = RunSpec(width=16, batch_size=32, examples=32 * 40, optimizer=optimizer, lr=1e30)
    results = _train([*good[:1], bad, *good[1:]])
    assert results[1].state == "diverged"
    assert results[1].steps < results[0].steps
    assert [numbers(result) for k, result in enumerate(results) if k != 1] == expected


@pytest.mark.parametrize(
    "other", [{"width": 32}, {"depth": 3}, {"batch_size": 32}, {"activation": "relu"}, {"dataset": "zipf"}]
)
def test_runs_of_unlike_shapes_are_refused(other):
    with pytest.raises(ValueError, match="stack"):
        _train([RunSpec(width=16, examples=6400), RunSpec(**{"width": 16, "examples": 6400, **other})])


def test_rows_and_weights_are_one_memory():
    specs = [resolved(width=16, seed=seed) for seed in (3, 4)]
    stack = Stack(specs, CPU)
    shape = shape_of(specs[0])
    for k, spec in enumerate(specs):
        assert torch.equal(stack.rows[k][: params(shape).total], initial_row(shape, spec.seed))
    stack.rows[1].fill_(0.5)
    for slot in slots(shape):
        assert (stack.weights[slot.name][1] == 0.5).all()
        assert not (stack.weights[slot.name][0] == 0.5).all()


def test_gradients_are_those_of_autograd_row_by_row():
    specs = [resolved(width=16, seed=seed) for seed in (3, 4)]
    stack = Stack(specs, CPU)
    x = torch.randn(2, 8, 48)
    for _ in range(2):  # the second replaces the first, it does not add
        stack.backward(stack.logits(x).square().sum())
    for k, spec in enumerate(specs):
        own = Stack([spec], CPU)
        own.logits(x[k : k + 1]).square().sum().backward()
        for slot in slots(own.shape):
            columns = slice(slot.start, slot.start + own.weights[slot.name][0].numel())
            expected, found = own.weights[slot.name].grad, stack.rows[k].grad
            assert expected is not None
            assert found is not None
            torch.testing.assert_close(found[columns], expected[0].flatten())
