"""Mixing, dropout, clipping, accumulation, rates by layer, muP and precision, against torch and definitions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainer.reference import initial_row, numbers, resolved, slots
from trainer import RunSpec, train
from trainer.cost import shape_of
from trainer.data.augment.draws import Draws, mixing_planes
from trainer.data.augment.transforms import mix, planes
from trainer.presets import PRESETS
from trainer.training.dropout import dropout
from trainer.training.optimise import clip, head_gain, lr_factor, make_optimizer
from trainer.training.stack import Stack

CPU = torch.device("cpu")
RECIPES: dict[str, dict[str, Any]] = {
    "mixup": {"mixup": 0.8},
    "mixup an example": {"mixup": 0.8, "mixup_per": "example"},
    "dropout": {"dropout": 0.2},
    "dropout in parts": {"dropout": 0.2, "accumulate": 2},
    "parts": {"accumulate": 2},
    "rates by layer": {"lr_embed": 0.1, "lr_head": 3.0},
    "mup": {"param": "mup", "base_width": 8},
    "mup with sgd": {"param": "mup", "base_width": 8, "optimizer": "sgd"},
    "linear": {"schedule": "linear", "warmup": 0.1},
    "bf16": {"precision": "bf16"},
}


def quick(**said: Any) -> RunSpec:
    return RunSpec(**{"width": 16, "batch_size": 64, "examples": 64 * 30, **said})


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("family", ["b-mlp", "s-mlp"])
def test_a_run_is_the_same_to_the_last_bit_in_any_company(recipe, family):
    members: list[dict[str, Any]] = [
        {"seed": 0},
        {"seed": 1, "lr": 1e-2, "clip": 0.5, "label_smoothing": 0.2, "beta1": 0.8},
        {"seed": 2, "clip": 1e-3, "dataset_size": 100},
    ]
    members = [{k: v for k, v in m.items() if k != "beta1" or recipe.get("optimizer") != "sgd"} for m in members]
    specs = [quick(family=family, **recipe, **member) for member in members]
    alone = [numbers(train(spec, device="cpu", evaluations=3)) for spec in specs]
    assert len(set(alone)) == len(alone)
    assert [numbers(result) for result in train(specs, device="cpu", evaluations=3)] == alone


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "linear"])
def test_every_recipe_changes_the_numbers_and_learns(recipe):
    plain, own = (train(quick(epochs=8, examples=None, **said), device="cpu") for said in ({}, RECIPES[recipe]))
    assert own.loss != plain.loss
    assert own.error < 0.35


# mixup


def mixed(spec, batch=2000, step=3):
    x = torch.arange(batch, dtype=torch.float32).view(1, batch, 1) * torch.ones(1, 1, 3)
    drawn = torch.from_numpy(Draws(replace(spec, batch_size=batch)).block(step, 1)[0]).unsqueeze(1)
    out, _, second, share = mix(x, torch.arange(batch)[None], planes(mixing_planes(spec), drawn.unbind()))
    return x, out, second, share


def test_mixing_is_of_two_examples_by_a_share_of_beta():
    x, out, second, share = mixed(resolved(mixup=0.8, mixup_per="example"))
    expected = share[0] * x[0, :, 0] + (1 - share[0]) * x[0, second[0], 0]
    torch.testing.assert_close(out[0, :, 0], expected, rtol=1e-5, atol=1e-2)
    assert sorted(second[0].tolist()) == list(range(2000))
    shares = share[0].numpy()
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.8 + 1)), rel=0.1)  # of Beta(a, a)


def test_one_share_a_batch_is_one():
    *_, share = mixed(resolved(mixup=0.8))
    assert len(share.unique()) == 1
    assert len({float(mixed(resolved(mixup=0.8), step=step)[-1][0, 0]) for step in range(5)}) == 5


def test_the_loss_of_a_mixed_example_is_mixed_too():
    """With all examples alike but for their labels, the loss is that of soft targets."""
    from trainer.training.target import Target

    logits, y = torch.randn(1, 6, 4), torch.tensor([[0, 1, 2, 3, 0, 1]])
    second, share = y.flip(1), torch.rand(1, 6)
    soft = share[..., None] * nn.functional.one_hot(y, 4) + (1 - share[..., None]) * nn.functional.one_hot(
        second, 4
    )
    ours = Target(y, torch.zeros(1, 1), second, share).loss(logits)
    torch.testing.assert_close(ours.mean(), nn.functional.cross_entropy(logits[0], soft[0]))


# dropout


def test_dropout_drops_its_share_and_keeps_the_mean():
    drop = dropout([resolved(dropout=0.25, seed=s) for s in (0, 1)], steps=[5, 5])
    assert drop is not None
    out = drop(torch.ones(2, 300, 100), 0)
    assert sorted(out.unique().tolist()) == pytest.approx([0, 1 / 0.75])
    assert out.mean().item() == pytest.approx(1, abs=0.02)
    assert not torch.equal(out[0], out[1])
    assert torch.equal(out, drop(torch.ones(2, 300, 100), 0))
    assert not torch.equal(out, drop(torch.ones(2, 300, 100), 1))
    assert dropout([resolved()], steps=[5]) is None


def test_evaluation_drops_nothing():
    spec = quick(dropout=0.9, examples=64, lr=1e-30)
    assert train(spec, device="cpu").loss == pytest.approx(train(quick(examples=64, lr=1e-30), device="cpu").loss)


# the gradient


def test_clipping_is_torchs_over_all_of_a_runs_parameters():
    specs = [resolved(clip=0.1), resolved(clip=1e9), resolved()]
    rows = [torch.zeros(100) for _ in specs]
    gradients = [torch.randn(100) for _ in specs]
    for row, gradient in zip(rows, gradients, strict=True):
        row.grad = gradient.clone()
    clip(specs, rows)
    reference = nn.Parameter(torch.zeros(100))
    reference.grad = gradients[0].clone()
    nn.utils.clip_grad_norm_([reference], 0.1)
    torch.testing.assert_close(rows[0].grad, reference.grad)
    for row, gradient in zip(rows[1:], gradients[1:], strict=True):
        assert row.grad is not None
        assert torch.equal(row.grad, gradient)


def test_a_batch_in_parts_is_the_same_batch_and_the_same_run():
    whole, parts = (train(quick(accumulate=n, mixup=0.5, dropout=0.3), device="cpu", evaluations=4) for n in (1, 4))
    assert [r.loss for r in parts.history] == pytest.approx([r.loss for r in whole.history], rel=1e-4)
    assert parts.run_id == whole.run_id
    assert (whole.accumulate, parts.accumulate) == (1, 4)


# learning rates by layer


def made(**said):
    spec = resolved(**said)
    stack = Stack([spec], CPU)
    optimizer = make_optimizer([spec], stack.rows, slots(stack.shape))
    optimizer.set_rates([spec.lr * lr_factor(spec, 0)])
    return spec, stack, optimizer


def rates(**said):
    """(learning rate, weight decay) of every slot."""
    spec, stack, optimizer = made(**said)
    found, start = {}, 0
    for group in optimizer.param_groups:
        (part,) = group["params"]
        for slot in slots(stack.shape):
            if start <= slot.start < start + len(part):
                found[slot.name] = (group["lr"] / spec.lr, group["weight_decay"])
        start += len(part)
    assert start == len(stack.rows[0])
    assert list(found) == [slot.name for slot in slots(stack.shape)]
    return found


def test_a_plain_run_is_one_stretch():
    assert len(made()[2].param_groups) == 1


def test_layers_learn_at_their_own_rates():
    found = rates(lr_embed=0.1, lr_body=2.0, lr_head=5.0, weight_decay=0.3)
    expected = {"embed": 0.1, "head": 5.0}
    for name, (lr, decay) in found.items():
        assert lr == pytest.approx(expected.get(name.split(".")[0], 2.0))
        assert decay == 0.3


@pytest.mark.parametrize("optimizer", ["adamw", "lion", "sgd"])
def test_mup_is_table_3_of_tensor_programs_v(optimizer):
    """Compared with the standard parametrisation, from base_width 16 to width 64."""
    found = rates(param="mup", base_width=16, width=64, optimizer=optimizer, weight_decay=0.1)
    vector, matrix, head = (4, 1, 1 / 4) if optimizer == "sgd" else (1, 1 / 4, 1 / 4)
    for name, (lr, decay) in found.items():
        layer, kind = name.rsplit(".", 1)
        grown = (
            (head if layer == "head" else vector if layer == "embed" else matrix) if kind == "weight" else vector
        )
        expected = 1 if name == "head.bias" else grown
        assert lr == pytest.approx(expected), name
        assert decay * lr == pytest.approx(0.1 * (lr if optimizer == "sgd" else 1 if lr >= 1 else 0.1 / 0.1)), name


def test_mup_starts_the_head_smaller():
    spec = resolved(param="mup", base_width=16, width=64)
    shape = shape_of(spec)
    plain, own = initial_row(shape, 0), initial_row(shape, 0, head_gain(spec))
    head = next(slot for slot in slots(shape) if slot.name == "head.weight")
    columns = slice(head.start, head.start + head.shape[0] * head.shape[1])
    torch.testing.assert_close(own[columns], plain[columns] / 2)
    assert torch.equal(own[: head.start], plain[: head.start])


def test_mup_at_its_base_width_is_the_standard_parametrisation():
    at_base = train(quick(param="mup", base_width=16), device="cpu")
    assert at_base.loss == pytest.approx(train(quick(), device="cpu").loss, rel=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_mup_keeps_the_best_learning_rate_over_a_16_fold_width():
    """Digits, one epoch grid of factor 2: the best rate moves by at most one step with muP, by more without."""
    grid = [2.0**-k for k in range(4, 13)]

    def best(width, param):
        losses = []
        for lr in grid:
            said = {"param": param, "base_width": 16, "depth": 3, "width": width, "lr": lr, "batch_size": 32}
            results = train([RunSpec(**said, epochs=4, seed=s) for s in range(3)], device="cpu", evaluations=2)
            losses.append(np.mean([min(r.train_loss, 10) if r.state == "done" else 10 for r in results]))
        return int(np.argmin(losses))

    moved = {param: abs(best(256, param) - best(16, param)) for param in ("mup", "standard")}
    assert moved["mup"] <= 1
    assert moved["standard"] > moved["mup"]


def test_linear_falls_from_the_warm_up_to_zero():
    spec = resolved(schedule="linear", warmup=0.2, examples=64 * 10, batch_size=64)
    assert [lr_factor(spec, step) for step in range(10)] == pytest.approx([1 / 3, 2 / 3, *np.arange(8, 0, -1) / 8])


# precision


def test_bf16_is_close_to_fp32_and_keeps_fp32_weights():
    coarse, exact = (train(quick(precision=p, epochs=8, examples=None), device="cpu") for p in ("bf16", "fp32"))
    assert coarse.loss != exact.loss
    assert coarse.loss == pytest.approx(exact.loss, rel=0.1)


def test_tf32_is_of_cuda():
    with pytest.raises(ValueError, match="precision: tf32 needs a CUDA device, this device is cpu"):
        train(quick(precision="tf32"), device="cpu")


# presets


@pytest.mark.parametrize("name", ["scratch", "pretrain", "scaling"])  # the others: test_transfer.py
def test_a_preset_is_a_recipe_that_trains(name):
    spec = RunSpec(**{**PRESETS[name], "dataset": "digits", "width": 16, "batch_size": 256, "epochs": 2})
    assert spec.optimizer == "lion"
    assert train(spec, device="cpu").state == "done"
