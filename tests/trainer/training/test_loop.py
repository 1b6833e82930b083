from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.trainer.reference import Reference, initial_row, numbers, slots
from trainer import RunSpec, cost, train
from trainer.data import datasets
from trainer.data.batches import Order, on_device
from trainer.evaluations import record_steps
from trainer.training.loop import LOOK
from trainer.training.target import Target

if TYPE_CHECKING:
    from trainer.result import Record

QUICK = settings(deadline=None, max_examples=60)
SMALL = RunSpec(width=16, batch_size=32, examples=32 * 200, weight_decay=0.01)


def test_the_same_spec_gives_the_same_numbers():
    assert numbers(train(SMALL, device="cpu")) == numbers(train(SMALL, device="cpu"))


def test_another_seed_gives_others():
    assert train(SMALL, device="cpu").loss != train(replace(SMALL, seed=5), device="cpu").loss


def test_a_run_reports_what_it_spent():
    handed: list[Record] = []
    result = train(SMALL, handed.append, device="cpu")
    spec = datasets.resolve(SMALL, datasets.describe(SMALL))
    shape = cost.shape_of(spec)
    assert result.run_id == spec.run_id
    assert (result.state, result.steps, result.examples) == ("done", 200, 6400)
    assert result.flops == 6400 * cost.flops_per_example(shape)
    assert result.flops_paper == 6400 * cost.flops_paper_per_example(shape)
    assert result.flops_6nd == 6400 * cost.flops_6nd_per_example(shape)
    assert result.params == cost.params(shape).total
    assert (result.device, result.threads, result.stack) == ("cpu", 1, 1)
    assert result.history == tuple(handed)
    for record in handed:
        assert record.run_id == spec.run_id
        assert record.examples == 32 * record.step
        assert record.flops == record.examples * cost.flops_per_example(shape)


def test_records_stand_at_the_evaluation_steps_and_end_with_the_result():
    result = train(SMALL, device="cpu", evaluations=7)
    assert [record.step for record in result.history] == record_steps(200, 7)
    last = result.history[-1]
    assert (last.step, last.error, last.loss, last.train_loss) == (
        200,
        result.error,
        result.loss,
        result.train_loss,
    )
    seconds = [record.seconds for record in result.history]
    assert seconds[0] > 0
    assert seconds == sorted(seconds)
    assert all(0 <= record.error <= 1 for record in result.history)


@QUICK
@given(steps=st.integers(1, 10**6), evaluations=st.integers(1, 40))
def test_record_steps_rise_to_the_end_in_even_ratios(steps, evaluations):
    found = record_steps(steps, evaluations)
    assert found == sorted(set(found))
    assert found[0] >= 1
    assert found[-1] == steps
    inner = [step for step in found if steps / 300 <= step < steps]
    assert len(inner) <= max(2, evaluations)
    ratio = 300 ** (1 / max(1, evaluations - 1))
    assert all((b - 0.5) / (a + 0.5) <= ratio * 1.0001 for a, b in pairwise(found))  # 0.5: each is rounded


@QUICK
@given(short=st.integers(1, 10**5), more=st.integers(1, 10**5), evaluations=st.integers(2, 40))
def test_a_longer_run_is_recorded_where_a_shorter_one_is(short, more, evaluations):
    longer = record_steps(short + more, evaluations)
    assert set(record_steps(short, evaluations)) - {short} == {step for step in longer if step < short}


def test_a_run_that_is_told_to_stop_ends_as_cancelled(monkeypatch):
    monkeypatch.setattr("trainer.training.loop.SOON", np.inf)
    looks = iter([False, True])
    result = train(SMALL, device="cpu", should_stop=lambda: next(looks))
    assert result.state == "cancelled"
    assert result.steps == 2 * LOOK
    assert result.examples == 32 * result.steps
    assert result.flops == result.examples * cost.flops_per_example(cost.Shape("b-mlp", 2, 16, 64, 10))
    assert result.history
    assert result.history[-1].step <= result.steps
    assert result.error == result.history[-1].error


def test_slow_steps_are_looked_at_sooner(monkeypatch):
    monkeypatch.setattr("trainer.training.loop.SOON", -1.0)
    assert train(SMALL, device="cpu", should_stop=lambda: True).steps < LOOK


def test_a_run_that_is_never_told_to_stop_is_not_changed_by_the_asking():
    assert numbers(train(SMALL, device="cpu", should_stop=lambda: False)) == numbers(train(SMALL, device="cpu"))


def test_a_run_that_diverges_before_its_first_record_has_no_error():
    spec = replace(SMALL, lr=1e30, examples=32 * 100_000)
    result = train(spec, device="cpu", evaluations=2)
    assert (result.state, result.history) == ("diverged", ())
    assert result.steps <= LOOK
    assert np.isnan([result.error, result.loss, result.train_loss]).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_training_loss_is_torchs_cross_entropy(smoothing):
    logits, labels = torch.randn(3, 20, 7), torch.randint(0, 7, (3, 20))
    criterion = nn.CrossEntropyLoss(label_smoothing=smoothing)
    expected = torch.stack([criterion(logits[k], labels[k]) for k in range(3)])
    torch.testing.assert_close(Target(labels, torch.full((3, 1), smoothing)).loss(logits).mean(1), expected)


@pytest.mark.parametrize("family", ["b-mlp", "s-mlp"])
def test_training_is_that_of_a_plain_loop_over_a_plain_model(family):
    """Same start, same batches, torch's own modules, loss and optimiser: the same loss curve to float precision."""
    asked = RunSpec(family=family, width=16, batch_size=32, examples=32 * 12, lr=3e-3, schedule="cosine")
    spec = datasets.resolve(asked, datasets.describe(asked))
    result = train(asked, device="cpu", evaluations=5)
    assert spec.steps is not None
    arrays, shape = datasets.load(spec), cost.shape_of(spec)
    data, own = on_device(arrays, torch.device("cpu"), "resident"), datasets.split(arrays, spec)
    model, row = Reference(shape), initial_row(shape, spec.seed)
    with torch.no_grad():
        for slot in slots(shape):
            layer, kind = slot.name.rsplit(".", 1)
            held = model.get_submodule(layer.replace("block", "body."))
            value = row[slot.start : slot.start + np.prod(slot.shape)].view(slot.shape)
            getattr(held, "weight" if kind == "gain" else kind).copy_(value.T if value.ndim == 2 else value)
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.lr, weight_decay=0.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, spec.steps)
    order, losses = Order(spec, own.train), {}
    for step in range(spec.steps):
        x, y = data.read(torch.from_numpy(order.block(step, 1)))
        loss = nn.functional.cross_entropy(model(x[0]), y[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cosine.step()
        with torch.no_grad():
            x, y = data.read(torch.from_numpy(own.test[None]))
            losses[step + 1] = nn.functional.cross_entropy(model(x[0]), y[0]).item()
    assert {r.step: r.loss for r in result.history} == pytest.approx(
        {step: losses[step] for step in record_steps(spec.steps, 5)}, rel=1e-4
    )


def test_five_epochs_of_digits_are_learned_to_a_tenth_of_chance():
    start = train(RunSpec(width=32, examples=64), device="cpu")
    assert start.error > 0.5
    assert train(RunSpec(width=32, epochs=5), device="cpu").error < 0.09


def test_digits_come_to_the_reference_error():
    spec = RunSpec(family="s-mlp", width=64, depth=2, batch_size=64, epochs=50, weight_decay=0.05)
    results = train([replace(spec, seed=seed) for seed in range(5)], device="cpu")
    assert np.mean([result.error for result in results]) <= 0.035


def test_a_memoriser_of_tokens_knows_what_it_saw_and_guesses_the_rest():
    spec = RunSpec(dataset="zipf", zipf_tokens=200, dataset_size=100, width=32, batch_size=32, epochs=100)
    result = train(spec, device="cpu")
    own = datasets.split(datasets.load(spec), datasets.resolve(spec, datasets.describe(spec)))
    unseen = np.setdiff1d(own.test, own.train)
    assert own.test_weight[unseen].sum() / 2 < result.error <= own.test_weight[unseen].sum()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion"])
def test_cuda_trains_as_the_cpu_does(optimizer):
    specs = [replace(SMALL, optimizer=optimizer, lr=lr, examples=32 * 20) for lr in (1e-4, 1e-3)]
    ours, theirs = train(specs, device="cuda"), train(specs, device="cpu")
    for a, b in zip(ours, theirs, strict=True):
        assert (a.state, a.run_id, a.flops) == (b.state, b.run_id, b.flops)
        assert a.loss == pytest.approx(b.loss, rel=2e-2)
        assert a.device != "cpu"
