"""Families of torch modules from outside the packages, as good as the built-in ones."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.trainer.model import modules
from tests.trainer.reference import forward, initial_row, numbers, resolved, slots
from trainer import RunSpec, SpecError, cost, train
from trainer.checkpoints.checkpoints import kept_parameters
from trainer.cost import Shape
from trainer.families import FAMILIES
from trainer.model import module
from trainer.spec import model_name

PLACE = "tests.trainer.model.modules"
MLP, CONV, CHOOSY = (f"{PLACE}:{name}" for name in ("mlp", "Convolutional", "Choosy"))
RUN = RunSpec(dataset="digits", family=MLP, width=32, depth=3, batch_size=32, examples=3200, lr=3e-3)


@pytest.mark.parametrize(("family", "make"), [(MLP, modules.mlp), (CONV, modules.Convolutional)])
@pytest.mark.parametrize("probe", [False, True])
def test_cost_is_that_of_the_module(family, make, probe):
    shape, net = Shape(family, 3, 24, 64, 10, probe=probe), make(64, 10, 3, 24)
    head = net.head if family == CONV else net[-1]
    if probe:
        net.requires_grad_(requires_grad=False)
        head.requires_grad_(requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        net(torch.randn(5, 64)).sum().backward()
    assert 5 * cost.flops_per_example(shape) == counter.get_total_flops()
    assert cost.params(shape).total == sum(value.numel() for value in net.parameters())
    assert cost.params(shape).head == sum(value.numel() for value in head.parameters())
    assert cost.params(shape).embed == sum(value.numel() for value in next(net.children()).parameters())


def test_own_rule_of_flops_is_used():
    shape = Shape(f"{PLACE}:cheap", 3, 24, 64, 10)
    assert cost.flops_per_example(shape) == 24_000
    assert cost.macs(shape) == cost.macs(replace(shape, family=MLP))


def test_an_mlp_of_modules_costs_what_the_built_in_one_does():
    theirs, ours = (cost.costs(Shape(family, 3, 32, 64, 10)) for family in (MLP, "s-mlp"))
    assert (theirs.params, theirs.macs, theirs.flops) == (ours.params, ours.macs, ours.flops)
    assert theirs.layers == ours.layers
    assert theirs.widest == ours.widest
    assert 1 / 1.5 < theirs.kept / ours.kept < 1.5


@pytest.mark.parametrize("family", [MLP, CONV, CHOOSY])
def test_logits_and_initial_values_are_those_of_the_module(family):
    shape = Shape(family, 2, 16, 64, 10)
    rows = torch.stack([initial_row(shape, seed) for seed in (0, 1)])
    assert not torch.equal(*rows)
    assert torch.equal(rows[0], initial_row(shape, 0))
    weights = {
        slot.name: rows[:, slot.start : slot.start + torch.Size(slot.shape).numel()].view(-1, *slot.shape)
        for slot in slots(shape)
    }
    x = torch.randn(2, 32, 64)
    logits = forward(weights, x, shape, "gelu")
    for k in range(2):
        alone = FAMILIES.get(family)(64, 10, 2, 16, **({"activation": "gelu"} if family == MLP else {}))
        alone.load_state_dict({name: value[k] for name, value in weights.items()})
        torch.testing.assert_close(logits[k], alone(x[k]))


@pytest.mark.parametrize("family", [MLP, CONV, CHOOSY])
def test_a_stack_trains_the_numbers_of_its_runs_alone(family, caplog):
    specs = [replace(RUN, family=family, depth=2, width=16, examples=960, seed=seed) for seed in range(3)]
    with caplog.at_level(logging.WARNING, "isoflop"):
        stack = train(specs, device="cpu")
    assert [numbers(result) for result in stack] == [numbers(train(spec, device="cpu")) for spec in specs]
    assert sum("vmap" in record.message for record in caplog.records) == (family == CHOOSY)


def test_it_learns():
    assert train(RUN, device="cpu").error < 0.2


@pytest.mark.parametrize("family", [MLP, CONV])
def test_a_stopped_run_goes_on_to_the_last_bit(family, tmp_path):
    spec = replace(RUN, family=family, width=16, optimizer="adamw")
    looks = iter([False, False, True])
    stopped = train(spec, device="cpu", checkpoints=tmp_path, every=0, should_stop=lambda: next(looks))
    assert stopped.state == "cancelled"
    assert 0 < stopped.steps < 100
    assert numbers(train(spec, device="cpu", checkpoints=tmp_path)) == numbers(train(spec, device="cpu"))


def test_a_probe_trains_the_head_alone(tmp_path):
    parent = train(RUN, device="cpu", checkpoints=tmp_path, keep=True)
    probe = replace(RUN, parent=parent.run_id, trains="head", weight_decay=0.1)
    after = kept_parameters(tmp_path, train(probe, device="cpu", checkpoints=tmp_path, keep=True).run_id)[1]
    before = kept_parameters(tmp_path, parent.run_id)[1]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {slot.name for slot in slots(Shape(MLP, 3, 32, 64, 10)) if slot.group == "head"}


def test_learning_rates_of_the_ends_are_those_of_their_modules(tmp_path):
    still = replace(RUN, lr=1e-30, lr_embed=1e27)
    after = kept_parameters(tmp_path, train(still, device="cpu", checkpoints=tmp_path, keep=True).run_id)[1]
    row, shape = initial_row(Shape(MLP, 3, 32, 64, 10), 0), Shape(MLP, 3, 32, 64, 10)
    for slot in slots(shape):
        before = row[slot.start : slot.start + after[slot.name].numel()].view(slot.shape)
        assert torch.allclose(after[slot.name], before, rtol=0, atol=1e-12) == (slot.group != "embed")


def test_source_of_the_family_is_part_of_the_run(tmp_path, monkeypatch):
    text = "from tests.trainer.model import modules\ndef mlp(inputs, classes, depth, width):\n"
    end = "    return modules.mlp(inputs, classes, depth, width)\n"
    ids = []
    monkeypatch.syspath_prepend(tmp_path)
    for name, comment in (("one", ""), ("two", "    # another text\n")):
        (tmp_path / f"family_{name}.py").write_text(text + comment + end)
        ids.append(resolved(family=f"family_{name}:mlp").run_id)
    assert len({*ids, resolved(family="s-mlp").run_id}) == 3


def test_models_are_named_after_the_function():
    assert model_name(RUN) == "mlp-3/Wi-32"


def test_unknown_family_is_refused_with_the_nearest_name():
    with pytest.raises(
        SpecError, match=r"family: unknown model family 'b-mpl'; did you mean 'b-mlp'\? valid: b-mlp, s"
    ):
        RunSpec(family="b-mpl", epochs=1)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (modules.shallow, "model family 'mine' lacks the parameter 'depth'"),
        (7, "model family 'mine' must be a trainer.families.Family, or a function that makes a torch.nn.Module"),
    ],
)
def test_incomplete_family_is_refused_at_registration(entry, message):
    with pytest.raises(TypeError, match=message):
        FAMILIES.add("mine", entry)


def test_incomplete_family_named_by_its_module_is_refused_by_the_spec():
    with pytest.raises(SpecError, match=r"family: .* lacks the parameter 'depth'"):
        RunSpec(family=f"{PLACE}:shallow", epochs=1)


def test_dropout_is_refused_where_a_family_has_none():
    with pytest.raises(SpecError, match=r"dropout: tests.*:mlp has none"):
        RunSpec(family=MLP, dropout=0.1, epochs=1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dropping", r"bernoulli.* draws random numbers"),
        ("normalising", "a buffer changes in the forward pass"),
        ("frozen", "0.weight is torch.float32 or frozen"),
        ("flat", r"logits of 2 examples are \[2, 11\]; they must be \[2, 10\]"),
        ("nothing", "found NoneType; it must make a torch.nn.Module"),
    ],
)
def test_module_that_cannot_be_trained_is_refused_as_it_is_priced(name, message):
    with pytest.raises(SpecError, match=f"family: {name}: .*{message}"):
        resolved(family=f"{PLACE}:{name}")


def test_random_buffer_is_refused_before_training():
    with pytest.raises(SpecError, match="buffer projection depends on the seed"):
        train(replace(RUN, family=f"{PLACE}:Projecting"), device="cpu")


def test_large_modules_are_counted_without_being_built(monkeypatch):
    shape = Shape(MLP, 3, 24, 64, 10)
    price = cost.costs(shape)
    cost.costs.cache_clear()
    monkeypatch.setattr(module, "SMALL", 0)
    assert cost.costs(shape) == price
