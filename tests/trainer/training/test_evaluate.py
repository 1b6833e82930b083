from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainer.reference import PICTURES, resolved
from trainer.data.arrays import Arrays, Split
from trainer.data.batches import Resident
from trainer.training.evaluate import CHUNK, Evaluation
from trainer.training.stack import Stack

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (4000, 48), dtype=np.uint8), rng.integers(0, 10, 4000)
    labels[0] = 3  # row 0 is what padding reads
    return Resident(
        Arrays(PICTURES, pixels, labels, 100, np.full(1, 128.0, np.float32), np.full(1, 70, np.float32)), CPU
    )


@pytest.fixture(scope="module")
def stack():
    return Stack([resolved(width=16, seed=seed, batch_size=32) for seed in range(3)], CPU)


def _directly(data, stack, k, rows, weight):
    """Error and loss of one run by definition, in double precision."""
    x, y = data.read(torch.from_numpy(np.stack([rows] * len(stack.rows))))
    with torch.no_grad():
        log_p = stack.logits(x)[k].double().log_softmax(-1)
    nats = -log_p[torch.arange(len(rows)), y[k]].numpy()
    wrong = (log_p.argmax(-1) != y[k]).double().numpy()
    return (wrong @ weight) / weight.sum(), (nats @ weight) / weight.sum()


@pytest.mark.parametrize("sizes", [(1, 31, 32), (900, 1000, 1023), (CHUNK, CHUNK + 1, 3 * CHUNK - 5)])
@pytest.mark.parametrize("weighted", [False, True])
def test_error_and_loss_are_those_of_a_direct_computation(data, stack, sizes, weighted):
    rng = np.random.default_rng(1)
    splits = []
    for size in sizes:
        weight = rng.exponential(size=size) if weighted else np.ones(size)
        splits.append(Split(np.arange(5), rng.permutation(4000)[:size], weight))
    error, loss, _, _ = Evaluation(data, splits)(stack)
    for k, own in enumerate(splits):
        expected_error, expected_loss = _directly(data, stack, k, own.test, own.test_weight)
        assert error[k] == pytest.approx(expected_error, abs=1e-12)
        assert loss[k] == pytest.approx(expected_loss, rel=1e-5)


def test_runs_with_the_same_test_examples_share_what_is_read_and_keep_their_numbers(data, stack):
    rows = np.arange(100, 1400)
    alike, other = Split(rows, rows, np.ones(1300)), Split(rows, rows[::-1].copy(), np.ones(1300))
    shared = Evaluation(data, [alike] * 3)(stack)
    mixed = Evaluation(data, [alike, alike, other])(stack)
    for k in range(3):
        alone = Evaluation(data, [alike])(stack.some([k]))
        assert [metric[k] for metric in shared[:3]] == [metric[0] for metric in alone[:3]]
    assert [metric[:2].tolist() for metric in mixed[:3]] == [metric[:2].tolist() for metric in shared[:3]]
    assert mixed.error[2] == shared.error[2]


def test_some_runs_are_evaluated_as_all_are(data, stack):
    rows = np.arange(100, 400)
    evaluate = Evaluation(data, [Split(rows, rows[k:], np.ones(300 - k)) for k in range(3)])
    whole, some = evaluate(stack), evaluate(stack, [2, 0])
    assert [metric[[2, 0]].tolist() for metric in whole[:3]] == [metric.tolist() for metric in some[:3]]


def test_a_row_of_weight_nothing_counts_nothing(data, stack):
    rows, weight = np.arange(100, 160), np.ones(60)
    weight[20:] = 0
    with_them = Evaluation(data, [Split(rows, rows, weight)] * 3)(stack)
    without = Evaluation(data, [Split(rows, rows[:20], weight[:20])] * 3)(stack)
    assert np.array_equal(with_them[0], without[0])
    assert with_them[1] == pytest.approx(without[1], rel=1e-6)


def test_the_unit_of_weights_does_not_matter(data, stack):
    rows, weight = np.arange(100, 160), np.linspace(1, 2, 60)
    one = Evaluation(data, [Split(rows, rows, weight)] * 3)(stack)
    other = Evaluation(data, [Split(rows, rows, weight * 1e-4)] * 3)(stack)
    assert one[0] == pytest.approx(other[0], rel=1e-12)
    assert one[1] == pytest.approx(other[1], rel=1e-12)


def test_evaluating_twice_is_evaluating_once(data, stack):
    evaluate = Evaluation(data, [Split(np.arange(5), np.arange(100, 400), np.ones(300))] * 3)
    assert np.array_equal(evaluate(stack), evaluate(stack), equal_nan=True)
