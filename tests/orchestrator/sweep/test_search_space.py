"""How a sweep file says a search, and what it is told where it says it wrong."""

import json
from pathlib import Path

import jsonschema
import pytest

from orchestrator import SweepError, plan, read_sweep, text
from orchestrator.cli.main import summary
from orchestrator.sweep.search_space import choices, schema
from orchestrator.sweep.yaml_source import parse

GOOD = """\
sweep: s
data: {dataset: digits, validation: 0.2}
model: {family: b-mlp, depth: 1, width: [16, 32]}
train:
  lr: {search: {min: 1e-4, max: 1e-1, distribution: log_uniform}}
  batch_size: 32
budget: {epochs: 1}
search: {trials: 6}
"""


def complaints(text):
    with pytest.raises(SweepError) as caught:
        read_sweep(text)
    return [line.removeprefix("<sweep>:") for line in caught.value.complaints]


def test_beside_the_key_and_among_the_parameters_one_thing_is_said():
    beside = read_sweep(GOOD)
    among = read_sweep(
        GOOD.replace("  lr: {search: {min: 1e-4, max: 1e-1, distribution: log_uniform}}\n", "").replace(
            "{trials: 6}", "{trials: 6, parameters: {lr: {min: 1e-4, max: 1e-1, distribution: log_uniform}}}"
        )
    )
    assert beside.search == among.search
    assert read_sweep(GOOD.replace("search: {trials: 6}\n", "")).search.parameters == beside.search.parameters


def test_a_search_is_planned_as_its_dearest_trial_and_priced_as_all_of_them():
    planned = plan(read_sweep(GOOD))
    assert [run.lr for run in planned.runs] == [0.1, 0.1]
    assert planned.trials == 6
    assert planned.notes == ("a search of 6 trials in each of 2 cells; a cell is priced by its dearest trial",)
    assert summary(planned, None) == f"at most 12 runs, {text.flops(6 * planned.flops)} FLOPs"


def test_values_are_taken_as_an_axis_takes_them():
    said = "{trials: 6, parameters: {label_smoothing: {values: [0, 0.1]}, width: {values: [1.6e1, 32]}}}"
    search = read_sweep(GOOD.replace("{trials: 6}", said).replace(", width: [16, 32]", "")).search
    found = [value for name in ("label_smoothing", "width") for value in choices(name, search.parameters[name])]
    assert repr(found) == "[0.0, 0.1, 16, 32]"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("min: 1e-4", "mni: 1e-4", "5: unknown key 'mni'; did you mean 'min'?"),
        ("log_uniform", "log_unifrom", "5: distribution: 'log_unifrom' is unknown; did you mean 'log_uniform'?"),
        ("max: 1e-1", "max: 1e-5", "5: lr: found min 0.0001 and max 1e-05; max must be above min"),
        ("min: 1e-4", "min: 0", "5: lr: found 0.0; it must be above 0"),
        ("min: 1e-4, ", "", "5: lr: min is missing"),
        ("max: 1e-1", "max: 1e-1, points: 3", "5: lr: points belongs to method grid, found tpe"),
        ("max: 1e-1", "max: 1e-1, values: [1e-3]", "5: lr: give either values, or min and max"),
        ("log_uniform", "int_uniform", "5: lr: found int_uniform; it must be uniform or log_uniform"),
        ("trials: 6", "trials: 6, method: grdi", "8: method: 'grdi' is unknown; did you mean 'grid'?"),
        ("trials: 6", "method: grid", "5: lr: a grid needs values, or points between min and max, e.g. points: 7"),
        ("trials: 6", "trails: 6", "8: unknown key 'trails'; did you mean 'trials'?"),
        ("trials: 6", "parameters: {lrr: {values: [1]}}", "8: unknown parameter 'lrr'; did you mean 'lr'?"),
        (
            "trials: 6",
            "parameters: {width: {min: 8, max: 16}}",
            "3: width: it is searched in line 8; leave it out here",
        ),
        ("trials: 6", "parameters: {lr: {values: [1]}}", "5: lr: it is searched in line 8 already; leave one out"),
        ("trials: 6", "parameters: {momentum: {values: [0.9, 1.5]}}", "8: momentum: found 1.5; it must be below 1"),
        (
            ", validation: 0.2",
            "",
            "8: search: it selects by the validation split; set validation in data above 0, e.g. 0.1",
        ),
        (
            "0.2",
            "[0, 0.2]",
            "2: search: it selects by the validation split; set validation in data above 0, e.g. 0.1",
        ),
        ("trials: 6", "scheduler: ashe", "8: scheduler: 'ashe' is unknown; did you mean 'asha'?"),
        (
            "budget: {epochs: 1}\nsearch: {trials: 6}",
            "budget: {epochs: 1}\nseeds: 2\nsearch: {scheduler: pbt}",
            "8: seeds: a member of pbt has one seed; repeat the search with another search.seed",
        ),
        (
            "batch_size: 32\nbudget: {epochs: 1}\nsearch: {trials: 6}",
            "schedule: cosine\nbudget: {epochs: 1}\nsearch: {scheduler: pbt}",
            "6: schedule: found cosine; pbt needs constant",
        ),
        (
            "trials: 6",
            "scheduler: asha, pruner: median",
            "8: pruner: asha of Ray Tune stops trials itself; leave the pruner out",
        ),
        (
            "trials: 6",
            "scheduler: asha, batch: 4",
            "8: batch: asha of Ray Tune trains each trial alone; leave it out",
        ),
        (
            "search: {trials: 6}",
            "limits: {hours: 2}\nsearch: {scheduler: pbt}",
            "8: limits: pbt of Ray Tune ignores them; omit them, or search without a scheduler",
        ),
        (
            "trials: 6",
            "scheduler: bohb",
            (
                "8: scheduler: bohb was removed; use method: tpe with pruner: hyperband or successive_halving "
                "(which is ASHA), or scheduler: hyperband or asha"
            ),
        ),
        (
            "trials: 6",
            "method: cmaes",
            "8: method: cmaes needs two parameters at least, each with a min and a max; tpe takes any",
        ),
        (
            "budget",
            "cells: [{train: {lr: 1e-3}}]\nbudget",
            "7: lr: it is searched in every cell; leave it out here",
        ),
    ],
)
def test_mistakes_are_told_with_their_line_and_what_would_be_right(old, new, expected):
    assert old in GOOD
    assert expected in complaints(GOOD.replace(old, new, 1))


def test_a_search_of_nothing_is_refused():
    text = GOOD.replace("  lr: {search: {min: 1e-4, max: 1e-1, distribution: log_uniform}}\n", "")
    assert complaints(text)[0].startswith("7: search: no parameters to search; write e.g. parameters: {lr:")


@pytest.mark.parametrize(
    "wrong",
    [
        {"search": {"method": "guess"}},
        {"train": {"lr": {"search": {"distribution": "log"}}}},
        {"train": {"lr": {"serach": {"min": 1}}}},
        {"train": {"lr": ["fast"]}},
        {"model": {"family": "c-mlp"}},
        {"cells": [{"train": {"lr": {"search": {"min": 1, "max": 2}}}}]},
    ],
)
def test_the_schema_knows_a_search_and_what_is_wrong(wrong):
    validator = jsonschema.Draft202012Validator(json.loads(json.dumps(schema())))
    said, _ = parse("good.yaml", GOOD)
    validator.validate(said)
    assert not validator.is_valid(said | wrong)


@pytest.mark.parametrize(
    ("section", "key", "name", "plugin"),
    [("model", "family", "s-mlp", "mine:MIXER"), ("train", "optimizer", "lion", "mine:SHAMPOO")],
)
def test_the_schema_lists_built_in_names_and_takes_those_of_plug_ins(section, key, name, plugin):
    validator = jsonschema.Draft202012Validator(schema())
    values, _ = parse("good.yaml", GOOD)
    for valid in (name, plugin, [name, plugin]):
        validator.validate(values | {section: values[section] | {key: valid}})
    assert not validator.is_valid(values | {section: values[section] | {key: "nobody"}})


def test_the_schema_lists_data_sets_and_takes_names_of_the_users_own():
    made = schema()
    assert {"digits", "zipf", "cifar10"} <= set(
        made["$defs"]["SearchedDataSection"]["properties"]["dataset"]["examples"]
    )
    values, _ = parse("good.yaml", GOOD)
    values["data"]["dataset"] = "ours"
    jsonschema.Draft202012Validator(made).validate(values)


@pytest.mark.parametrize("file", sorted(Path("sweeps").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_sweeps_that_we_ship_keep_to_the_schema(file):
    said, _ = parse(str(file), file.read_text())
    jsonschema.Draft202012Validator(schema()).validate(said)


def test_a_searched_momentum_does_nothing_for_adamw_and_says_so():
    text = GOOD.replace("trials: 6", "parameters: {momentum: {values: [0.5, 0.9]}}")
    with pytest.raises(SweepError, match="momentum does nothing here"):
        plan(read_sweep(text))
