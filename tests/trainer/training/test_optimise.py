from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.reference import resolved
from trainer.checkpoints.checkpoints import State, restore, tensors_of
from trainer.families import Slot
from trainer.training.optimise import PIECES, Optimizer, Update, in_pieces, lr_factor, make_optimizer
from trainer.training.optimizers.lion import LION

QUICK = settings(deadline=None, max_examples=60)
MEMBERS = [{"lr": 1e-3, "weight_decay": 0.0}, {"lr": 3e-2, "weight_decay": 0.1}, {"lr": 1e-4, "momentum": 0.5}]


def _gradients(rows, steps=10):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(steps, rows, 37, generator=generator)


def _rows(count, size):
    """Rows of ones over one memory, with gradients likewise, as those of a stack."""
    rows = list(torch.ones(count, size).unbind())
    for row, gradient in zip(rows, torch.zeros(count, size).unbind(), strict=True):
        row.grad = gradient
    return rows


def _stacked(name, gradients, *how, flat=None, members=MEMBERS):
    """The rows of a stack after one update a gradient."""
    specs = [resolved(optimizer=name, **member) for member in members]
    rows = _rows(len(specs), gradients.shape[-1])
    optimizer = make_optimizer(specs, rows, [Slot("embed.weight", rows[0].shape, 0, 1)], flat=flat)
    optimizer.set_rates([spec.lr for spec in specs])
    for step in gradients:
        for row, gradient in zip(rows, step, strict=True):
            row.grad.copy_(gradient)
        optimizer.step(*how)
    return rows


def _alone(gradients, make):
    """What torch's own, unfused optimiser makes of one run."""
    p = torch.nn.Parameter(torch.ones(gradients.shape[-1]))
    optimizer = make(p)
    for gradient in gradients:
        p.grad = gradient.clone()
        optimizer.step()
    return p.detach()


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_rows_are_those_of_torch_with_their_own_lr_decay_and_momentum(name):
    gradients = _gradients(len(MEMBERS))
    for k, (row, member) in enumerate(zip(_stacked(name, gradients), MEMBERS, strict=True)):
        said = {"lr": member["lr"], "weight_decay": member.get("weight_decay", 0.0)}
        if name == "adamw":
            expected = _alone(gradients[:, k], lambda p, said=said: torch.optim.AdamW([p], **said, foreach=False))
        else:
            said["momentum"] = member.get("momentum", 0.9)
            expected = _alone(gradients[:, k], lambda p, said=said: torch.optim.SGD([p], **said, foreach=False))
        torch.testing.assert_close(row, expected, rtol=1e-6, atol=1e-6)
        assert not torch.allclose(row, torch.ones_like(row))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_rows_are_those_of_torchs_fused_optimiser_to_the_last_bit(name):
    gradients = _gradients(len(MEMBERS))
    make = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
    for k, (row, member) in enumerate(zip(_stacked(name, gradients), MEMBERS, strict=True)):
        said = {"lr": member["lr"], "weight_decay": member.get("weight_decay", 0.0)}
        said |= {"momentum": member.get("momentum", 0.9)} if name == "sgd" else {}
        assert torch.equal(row, _alone(gradients[:, k], lambda p, said=said: make([p], **said, fused=True)))


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion"])
@pytest.mark.parametrize("own", [{}, {"momentum": 0.0}, {"beta1": 0.8, "beta2": 0.95}], ids=str)
def test_runs_updated_at_once_are_updated_as_one_by_one(name, own):
    members = [{**member, **own} for member in MEMBERS]
    gradients = torch.cat([_gradients(len(members)), torch.zeros(1, len(members), 37)])
    at_once, apart = (_stacked(name, gradients, flat=flat, members=members) for flat in (True, False))
    torch.testing.assert_close(torch.stack(at_once), torch.stack(apart), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion"])
def test_the_state_of_runs_updated_at_once_can_be_restored(name):
    """Of two learning rates in a run, whose state lies in buffers of all runs and is read by run."""
    specs = [resolved(optimizer=name, lr=lr, lr_head=0.5) for lr in (1e-3, 1e-2, 1e-1)]
    slots = [Slot("embed.weight", (20,), 0, 1, "embed"), Slot("head.weight", (12,), 20, 1, "head")]
    gradients = torch.randn(6, len(specs), 32, generator=torch.Generator().manual_seed(0))
    found = []
    for at in (None, 3):
        rows = _rows(len(specs), 32)
        optimizer = make_optimizer(specs, rows, slots, flat=True)
        for step, gradient in enumerate(gradients):
            if step == at:
                saved = [tensors_of(row, optimizer, torch.zeros(())) for row in rows]
                states = [State(step=3, since=0, seconds=0.0, history=(), tensors=tensors) for tensors in saved]
                rows = _rows(len(specs), 32)
                optimizer = make_optimizer(specs, rows, slots, flat=True)
                restore(states, rows, optimizer, torch.zeros(len(specs)))
            for row, own in zip(rows, gradient, strict=True):
                row.grad.copy_(own)
            optimizer.set_rates([spec.lr for spec in specs])
            optimizer.step()
        found.append(torch.stack(rows))
    assert torch.equal(*found)


def test_runs_that_keep_unlike_states_are_updated_one_by_one():
    members = [{"momentum": 0.0}, {"momentum": 0.9, "lr": 1e-2}]
    gradients = _gradients(len(members))
    assert all(map(torch.equal, *(_stacked("sgd", gradients, flat=f, members=members) for f in (True, False))))


def test_training_does_without_torchs_compiler():
    """Which costs a second of every process, and comes with the first of torch.optim's optimisers."""
    code = "import sys; from trainer import RunSpec, train; train(RunSpec(width=8, examples=64), device='cpu')"
    subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch._dynamo' in sys.modules)"], check=True)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["adamw", "sgd", "lion"])
def test_a_captured_update_is_the_eager_one(name):
    """Of runs of one size that share their rates two by two, as steps go by."""
    specs = [
        resolved(optimizer=name, lr=lr, schedule="cosine", weight_decay=0.1) for lr in (1e-3, 1e-3, 3e-3, 3e-3)
    ]
    size, found = 100_000, []
    start, *gradients = torch.randn(9, len(specs), size, generator=torch.Generator().manual_seed(0)).cuda()
    for engine in ("eager", "graph"):
        rows = list(start.clone().unbind())
        for row in rows:
            row.grad = torch.zeros_like(row)
        update = Update(specs, rows, make_optimizer(specs, rows, [Slot("embed.weight", (size,), 0, 1)]))
        for step, gradient in enumerate(gradients):
            for row, own in zip(rows, gradient, strict=True):
                row.grad.copy_(own)
            update([step] * len(specs), engine)
        found.append(torch.stack(rows))
    assert torch.equal(*found)
    assert not torch.equal(found[0][0], found[0][2])


def test_what_is_cut_into_pieces_is_all_there():
    first, step = [torch.arange(5000.0), torch.arange(7.0)], [torch.tensor(1.0), torch.tensor(2.0)]
    pieces, steps = in_pieces([first, step])
    assert [len(piece) for piece in pieces] == [2048, 2048, 904, 7]
    assert torch.equal(torch.cat(pieces), torch.cat(first))
    assert [int(piece) for piece in steps] == [1, 1, 1, 2]
    assert len(in_pieces([list(torch.zeros(4, 300_000).unbind())])[0]) <= PIECES


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion"])
def test_an_update_in_pieces_is_the_same_to_the_last_bit(name):
    gradients = torch.randn(4, len(MEMBERS), 5008, generator=torch.Generator().manual_seed(0))
    whole, pieces = (_stacked(name, gradients, arrange) for arrange in (list, in_pieces))
    assert all(map(torch.equal, whole, pieces))


def test_only_runs_of_the_same_rates_at_every_step_are_updated_together():
    specs = [
        *(resolved(seed=1), resolved(seed=2), resolved(lr=2e-3), resolved(weight_decay=0.1), resolved(warmup=0.1)),
        *(resolved(schedule="cosine"), resolved(schedule="cosine", epochs=7), resolved(beta1=0.8)),
    ]
    rows = list(torch.zeros(len(specs), 8).unbind())
    for row in rows:
        row.grad = torch.zeros_like(row)
    groups = make_optimizer(specs, rows, [Slot("embed.weight", (8,), 0, 1)]).param_groups
    assert groups[0]["alike"] == groups[1]["alike"]
    assert len({group["alike"] for group in groups}) == len(specs) - 1


def test_lion_is_the_papers_update():
    gradients = _gradients(len(MEMBERS))
    for k, (row, member) in enumerate(zip(_stacked("lion", gradients), MEMBERS, strict=True)):
        lr, decay = member["lr"], member.get("weight_decay", 0.0)
        theta, m = [1.0] * gradients.shape[-1], [0.0] * gradients.shape[-1]
        for gradient in gradients[:, k].double().tolist():
            for i, g in enumerate(gradient):
                c = 0.9 * m[i] + 0.1 * g
                theta[i] -= lr * (math.copysign(1, c) + decay * theta[i])
                m[i] = 0.99 * m[i] + 0.01 * g
        torch.testing.assert_close(row.double(), torch.tensor(theta, dtype=torch.double), rtol=1e-6, atol=1e-6)


def test_lion_stands_still_where_there_is_no_gradient():
    p = torch.ones(3)
    p.grad = torch.tensor([0.0, 1.0, -1.0])
    Optimizer([{"params": [p], "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0}], LION).step()
    torch.testing.assert_close(p, torch.tensor([1.0, 0.9, 1.1]))


schedules = st.builds(
    lambda steps, schedule, warmup, cooldown: replace(
        resolved(schedule=schedule, warmup=warmup, cooldown=cooldown * (1 - warmup)), steps=steps
    ),
    steps=st.integers(1, 300),
    schedule=st.sampled_from(["constant", "cosine", "wsd"]),
    warmup=st.sampled_from([0.0, 0.05, 0.3]),
    cooldown=st.sampled_from([0.1, 0.5, 1.0]),
)


@QUICK
@given(spec=schedules)
def test_a_schedule_rises_once_and_falls_once_within_0_and_1(spec):
    factors = [lr_factor(spec, step) for step in range(spec.steps)]
    assert all(0 < f <= 1 for f in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


@QUICK
@given(spec=schedules)
def test_warm_up_is_linear_and_leads_to_the_full_rate(spec):
    warm = round(spec.warmup * spec.steps)
    assert [lr_factor(spec, s) for s in range(warm)] == pytest.approx([(s + 1) / (warm + 1) for s in range(warm)])
    cool = max(1, round(spec.cooldown * spec.steps))
    if spec.schedule != "wsd" or warm + cool <= spec.steps:
        assert lr_factor(spec, warm) == 1


def test_cosine_is_half_way_in_the_middle_and_nearly_nothing_at_the_end():
    spec = replace(resolved(schedule="cosine"), steps=1000)
    assert lr_factor(spec, 0) == 1
    assert lr_factor(spec, 500) == pytest.approx(0.5)
    assert lr_factor(spec, 250) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert lr_factor(spec, 999) == pytest.approx(math.pi**2 / 4 / 1000**2, rel=0.01)


def test_wsd_stays_and_then_falls_on_a_line_to_one_step_from_nothing():
    spec = replace(resolved(schedule="wsd", warmup=0.1, cooldown=0.2), steps=100)
    factors = [lr_factor(spec, step) for step in range(100)]
    assert factors[10:81] == [1.0] * 71
    assert factors[80:] == pytest.approx([j / 20 for j in range(20, 0, -1)])


def test_constant_stays():
    spec = replace(resolved(schedule="constant"), steps=7)
    assert {lr_factor(spec, step) for step in range(7)} == {1.0}
