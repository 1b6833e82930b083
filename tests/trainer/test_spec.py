from __future__ import annotations

import json
import math
from dataclasses import asdict, fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.reference import PICTURES, resolved
from trainer import cost
from trainer.data.datasets import resolve
from trainer.spec import OWNERS, RunSpec, SpecError, model_name, parse_model_name, stack_key

QUICK = settings(deadline=None, max_examples=100)
BASE: dict[str, Any] = {
    "family": "b-mlp",
    "optimizer": "sgd",
    "schedule": "wsd",
    "dataset": "zipf",
    "zipf_alpha": 0.5,
    "zipf_tokens": 100,
    "steps": 10,
    "fingerprint": "a",
    "inputs": 64,
    "classes": 10,
    "dataset_size": 100,
    "augment": "resized-crop",
    "mixup": 0.5,
    "param": "mup",
    "tta": 2,
}
"""A run in which every setting does something, but for the betas."""


def base_for(name):
    return {**BASE, "optimizer": "adamw"} if name.startswith("beta") else BASE


OTHER: dict[str, Any] = {
    "dataset": "digits",
    "resolution": 8,
    "dataset_size": 101,
    "augment": "flip",
    "zipf_alpha": 0.6,
    "zipf_tokens": 101,
    "family": "s-mlp",
    "depth": 3,
    "width": 65,
    "expansion": 3,
    "activation": "relu",
    "optimizer": "lion",
    "lr": 2e-3,
    "weight_decay": 0.1,
    "momentum": 0.8,
    "batch_size": 65,
    "schedule": "cosine",
    "warmup": 0.1,
    "cooldown": 0.3,
    "label_smoothing": 0.1,
    "crop_scale": 0.5,
    "mixup": 0.8,
    "mixup_per": "example",
    "dropout": 0.1,
    "lr_embed": 2.0,
    "lr_body": 2.0,
    "lr_head": 2.0,
    "param": "standard",
    "base_width": 32,
    "beta1": 0.8,
    "beta2": 0.95,
    "clip": 1.0,
    "precision": "bf16",
    "validation": 0.1,
    "order": "quasi-random",
    "trains": "head",
    "tta": 3,
    "tta_average": "probabilities",
    "parent": "a" * 32,
    "seed": 1,
    "fingerprint": "b",
    "inputs": 65,
    "classes": 11,
    "steps": 11,
}
WORDING: dict[str, Any] = {
    "path": "elsewhere",
    "budget": 1e9,
    "epochs": 3.0,
    "examples": 640,
    "loader": "mmap",
    "accumulate": 2,
    "start": "there",
    "stage": "probe",
    "parent_cell": "b" * 32,
    "test_examples": 360,
    "validation_examples": 100,
}


def test_every_field_is_either_identity_or_wording():
    assert set(OTHER) | set(WORDING) == {field.name for field in fields(RunSpec)}


@pytest.mark.parametrize("name", OTHER)
def test_a_run_is_another_when_a_setting_is(name):
    base = base_for(name)
    assert RunSpec(**base).run_id != RunSpec(**{**base, name: OTHER[name]}).run_id


@pytest.mark.parametrize("name", WORDING)
def test_a_run_is_the_same_in_other_words(name):
    assert RunSpec(**BASE).run_id == RunSpec(**{**BASE, name: WORDING[name]}).run_id


@pytest.mark.parametrize("name", OWNERS)
def test_a_setting_that_does_nothing_makes_no_other_run(name):
    owner = OWNERS[name].field
    unused = {**OTHER, "mixup": 0, "tta": 0, "family": "tests.trainer.model.bilinear:FAMILY"}
    unused |= {"optimizer": "sgd"} if name.startswith("beta") else {}
    idle = {**BASE, owner: unused[owner]}
    assert RunSpec(**idle).run_id == RunSpec(**{**idle, name: OTHER[name]}).run_id


@pytest.mark.parametrize(("name", "whole"), [("lr", 1), ("weight_decay", 0), ("zipf_alpha", 1), ("momentum", 0)])
def test_a_whole_number_and_the_same_float_are_one_run(name, whole):
    assert RunSpec(**{**BASE, name: whole}).run_id == RunSpec(**{**BASE, name: float(whole)}).run_id


def test_budget_epochs_and_examples_that_come_to_the_same_steps_are_one_run():
    by_epochs = resolved(batch_size=50, epochs=3)
    by_examples = resolved(batch_size=50, examples=3000)
    by_budget = resolved(batch_size=50, budget=3000.0 * cost.flops_per_example(cost.shape_of(by_epochs)))
    assert by_epochs.run_id == by_examples.run_id == by_budget.run_id


def test_all_examples_and_their_number_are_one_run():
    assert resolved().run_id == resolved(dataset_size=PICTURES.train_examples).run_id


@pytest.mark.parametrize("name", OTHER)
def test_the_cell_forgets_the_seed_and_nothing_else(name):
    base = base_for(name)
    same = RunSpec(**base).cell_id == RunSpec(**{**base, name: OTHER[name]}).cell_id
    assert same == (name == "seed")


def test_ids_are_128_bits_in_hex():
    for made in (resolved().run_id, resolved().cell_id):
        assert len(made) == 32
        assert set(made) <= set("0123456789abcdef")


def test_another_arithmetic_is_another_run(monkeypatch):
    before = resolved().run_id
    monkeypatch.setattr("trainer.spec.NUMERICS", 10**6)
    assert resolved().run_id != before


@pytest.mark.parametrize("name", ["run_id", "cell_id"])
def test_an_unresolved_run_has_no_identity(name):
    with pytest.raises(ValueError, match="resolve"):
        getattr(RunSpec(epochs=1), name)


NONSENSE: dict[str, list[Any]] = {
    "family": ["mlp", "", None, 3],
    "activation": ["tanh", None],
    "optimizer": ["adam", "AdamW", None],
    "schedule": ["exponential", None],
    "augment": ["mixup", None],
    "depth": [0, -1, 1.5, True, "2", None],
    "width": [0, -64, 64.0, None],
    "expansion": [0, 0.5, None],
    "batch_size": [0, -1, 32.0, None],
    "resolution": [0, 32.0, "32"],
    "dataset_size": [0, -5, 1e3],
    "zipf_tokens": [0, 10.0],
    "examples": [0, -1, 1e6],
    "lr": [0, 0.0, -1e-3, math.inf, math.nan, True, "1e-3", None],
    "budget": [0.0, -1e9, math.inf, math.nan, "1e9"],
    "epochs": [0, -1, math.inf, "3"],
    "zipf_alpha": [0.0, -0.5, math.inf],
    "momentum": [-0.1, 1.0, math.nan, "0.9", None],
    "warmup": [-0.1, 1.0, math.nan, None],
    "label_smoothing": [-0.1, 1.0, math.nan, "no"],
    "weight_decay": [-1e-4, math.inf, math.nan, "0.1", None],
    "cooldown": [0.0, -0.1, 1.1, math.nan, None],
    "seed": [-1, 0.5, True, "0", None],
    "mixup": [-0.1, math.inf, "0.8", None],
    "mixup_per": ["image", None],
    "crop_scale": [0, 1.1, math.nan, None],
    "dropout": [1.0, -0.1, None],
    "param": ["ntk", None],
    "base_width": [0, 64.0, None],
    "lr_head": [0, -1.0, math.inf, None],
    "beta1": [1.0, -0.1, "0.9"],
    "clip": [0, -1.0, math.inf, "1"],
    "accumulate": [0, 1.5, None],
    "precision": ["fp16", None],
}


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, values in NONSENSE.items() for v in values])
def test_a_bad_value_is_an_error_that_names_its_field_and_the_value(name, value):
    length: dict[str, Any] = {} if name in ("budget", "epochs", "examples") else {"epochs": 1}
    with pytest.raises(SpecError) as caught:
        RunSpec(**{**length, name: value})
    assert caught.value.field == name
    assert repr(value) in caught.value.message
    assert "\n" not in str(caught.value)


def test_warm_up_and_cool_down_must_fit_into_one_run():
    with pytest.raises(SpecError, match="cooldown"):
        RunSpec(schedule="wsd", warmup=0.6, cooldown=0.5, epochs=1)
    assert RunSpec(schedule="wsd", warmup=0.5, cooldown=0.5, epochs=1).cooldown == 0.5


def test_a_batch_must_divide_into_its_parts():
    with pytest.raises(SpecError, match="accumulate: 3 parts don't divide a batch of 64"):
        RunSpec(batch_size=64, accumulate=3, epochs=1)


def test_a_recipe_without_the_newer_settings_keeps_its_id(monkeypatch):
    """From before mixup, clipping and the rest were there."""
    monkeypatch.setattr("trainer.spec.NUMERICS", 1)
    spec = RunSpec(dataset="digits", width=16, steps=10, fingerprint="a", inputs=64, classes=10, dataset_size=100)
    assert spec.run_id == "3545bf208b6845ee324c2b74796d5fcd"


def test_a_cool_down_that_does_nothing_does_not_limit_the_warm_up():
    assert RunSpec(schedule="cosine", warmup=0.9, epochs=1).warmup == 0.9


@pytest.mark.parametrize("said", [{}, {"epochs": 1, "examples": 10}, {"budget": 1e9, "epochs": 1}])
def test_length_is_said_exactly_once(said):
    with pytest.raises(SpecError, match="one of budget"):
        RunSpec(**said)


lengths = st.one_of(
    st.tuples(st.just("budget"), st.floats(1e7, 1e18) | st.integers(10**7, 10**18)),
    st.tuples(st.just("epochs"), st.floats(0.5, 1e6) | st.integers(1, 10**6)),
    st.tuples(st.just("examples"), st.integers(500, 10**12)),
)
sizes = {"family": st.sampled_from(["b-mlp", "s-mlp"]), "width": st.integers(1, 64), "depth": st.integers(1, 3)}


def _spent(spec, unit):
    examples = spec.steps * spec.batch_size
    price = {"examples": 1, "budget": cost.flops_per_example(cost.shape_of(spec)), "epochs": 1 / spec.dataset_size}
    return examples * price[unit], spec.batch_size * price[unit]


@QUICK
@given(length=lengths, batch=st.integers(1, 64), size=st.integers(100, 1000), shape=st.fixed_dictionaries(sizes))
def test_a_budget_is_met_to_within_one_step_and_never_exceeded(length, batch, size, shape):
    unit, asked = length
    try:
        spec = resolved(batch_size=batch, dataset_size=size, **shape, **{unit: asked})
    except SpecError:
        probe = resolved(batch_size=batch, dataset_size=size, examples=batch, **shape)
        assert _spent(probe, unit)[1] > asked  # one step is too much indeed
        return
    spent, step = _spent(spec, unit)
    slack = 1e-9 * asked if unit == "epochs" else 0  # an epoch is a fraction; FLOPs and examples are counted
    assert spent <= asked + slack
    assert spent + step > asked - slack


@QUICK
@given(steps=st.integers(10**3, 10**7), batch=st.integers(1, 512), short=st.integers(0, 1))
def test_a_budget_one_operation_short_of_a_step_does_not_buy_it(steps, batch, short):
    price = batch * cost.flops_per_example(cost.shape_of(resolved()))
    assert resolved(batch_size=batch, budget=steps * price - short).steps == steps - short


@pytest.mark.parametrize(
    ("epochs", "size", "examples"), [(0.29, 100, 29), (0.1, 30, 3), (1.1, 10, 11), (0.57, 100, 57)]
)
def test_rounding_of_a_fraction_costs_no_step(epochs, size, examples):
    assert resolved(epochs=epochs, dataset_size=size, batch_size=1).steps == examples


def test_resolving_says_what_the_steps_come_to():
    spec = resolved(batch_size=64, epochs=2, dataset_size=500)
    assert (spec.steps, spec.examples, spec.dataset_size) == (15, 960, 500)
    assert spec.epochs == 960 / 500
    assert spec.budget == 960 * cost.flops_per_example(cost.shape_of(spec))
    assert (spec.inputs, spec.classes, spec.fingerprint) == (48, 10, PICTURES.fingerprint)


def test_the_budget_asked_for_is_kept_as_it_was_said():
    assert resolved(budget=1e9).budget == 1e9


def test_resolving_twice_is_resolving_once():
    spec = resolved(budget=1e9)
    assert resolve(spec, PICTURES) == spec
    assert RunSpec(**json.loads(json.dumps(asdict(spec)))).run_id == spec.run_id


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"budget": 10.0}, "budget"),
        ({"epochs": 0.01}, "epochs"),
        ({"examples": 63}, "examples"),
        ({"epochs": 1, "dataset_size": 1001}, "dataset_size"),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_its_field(fields, named):
    with pytest.raises(SpecError) as caught:
        resolved(batch_size=64, **fields)
    assert caught.value.field == named


def test_augmenting_what_is_no_image_is_refused():
    with pytest.raises(SpecError, match="augment"):
        resolved(replace(PICTURES, image=None), augment="flip")


def test_a_run_planned_on_other_files_is_refused():
    with pytest.raises(SpecError, match="changed since"):
        resolve(resolved(), replace(PICTURES, fingerprint="fedcba9876543210"))


SPELLINGS = ["B-12/Wi-1024", "B_12-Wi_1024", "B-12_Wi-1024"]


@pytest.mark.parametrize("name", SPELLINGS)
def test_three_spellings_name_one_model(name):
    assert parse_model_name(name) == {"family": "b-mlp", "depth": 12, "width": 1024}
    for suffix in ("-X_4", "_X-4", "-X-4"):
        assert parse_model_name(name + suffix) == {"family": "b-mlp", "depth": 12, "width": 1024, "expansion": 4}
    assert parse_model_name(name.replace("B", "S"))["family"] == "s-mlp"


@QUICK
@given(
    family=st.sampled_from(["b-mlp", "s-mlp"]),
    depth=st.integers(1, 99),
    width=st.integers(1, 10**5),
    expansion=st.integers(1, 9),
)
def test_a_model_name_is_read_back(family, depth, width, expansion):
    spec = RunSpec(family=family, depth=depth, width=width, expansion=expansion, epochs=1)
    back = RunSpec(**parse_model_name(model_name(spec)), epochs=1)
    assert back == (spec if family == "b-mlp" else replace(spec, expansion=4))


def test_names_are_written_as_the_paper_does():
    assert model_name(RunSpec(depth=12, width=1024, epochs=1)) == SPELLINGS[0]
    assert model_name(RunSpec(depth=12, width=1024, expansion=2, epochs=1)) == "B-12/Wi-1024-X-2"


@pytest.mark.parametrize("name", ["", "B12", "C-12/Wi-1024", "B-12/Wi-1024x", "B-12/Wi-", "B-12/Wi-1024-X"])
def test_what_is_no_model_name_is_refused(name):
    with pytest.raises(SpecError, match="model"):
        parse_model_name(name)


def test_runs_share_a_stack_where_only_row_settings_differ():
    rows = {"seed", "lr", "weight_decay", "momentum", "dataset_size", "schedule", "warmup", "cooldown"}
    rows |= {"beta1", "beta2", "clip", "label_smoothing", "parent", "parent_cell", "start", "stage"}
    free = rows | {"budget", "epochs", "examples", "steps", "test_examples", "validation_examples"}
    for name, value in {**OTHER, **WORDING}.items():
        same = stack_key(RunSpec(**BASE)) == stack_key(RunSpec(**{**BASE, name: value}))
        assert same == (name in free), name


@QUICK
@given(seeds=st.lists(st.integers(0, 99), min_size=1), schedule=st.sampled_from(["constant", "cosine", "wsd"]))
def test_a_run_with_other_seeds_is_the_run_that_each_seed_would_make(seeds, schedule):
    first = RunSpec(**{**BASE, "schedule": schedule})
    assert first.trunk_id  # which is not that of another seed
    for seed, run in zip(seeds, first.seeded(seeds), strict=True):
        made = replace(first, seed=seed)
        assert run == made
        assert (run.run_id, run.cell_id, run.trunk_id) == (made.run_id, made.cell_id, made.trunk_id)


def test_a_seed_below_zero_is_refused_beside_others_too():
    with pytest.raises(SpecError, match="seed"):
        RunSpec(**BASE).seeded([0, -1])
