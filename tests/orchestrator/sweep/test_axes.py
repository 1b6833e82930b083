"""Axes of a sweep file: products, paired settings, ranges, formulas, and cells that are small grids."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import SweepError, plan, read_sweep
from orchestrator.sweep import ranges
from orchestrator.sweep.search_space import choices
from trainer.data import datasets
from trainer.spec import RunSpec

COUPLE = """\
sweep: couple
data: {dataset: digits, dataset_size: [360, 1437]}
model: {family: b-mlp, depth: 1}
train: {optimizer: adamw, batch_size: 32, schedule: cosine}
budget: {epochs: [2, 6]}
cells:
  - {model: {width: 16}, train: {lr: [1e-2, 5e-3]}}
  - {model: {width: 64}, train: {lr: [1e-3, 2e-3]}}
"""


def runs_of(more, *, data="", model="width: 16", train="batch_size: 16", budget="epochs: 1"):
    text = (
        f"sweep: a\ndata: {{dataset: digits{data and ', ' + data}}}\nmodel: {{depth: 1, {model}}}\n"
        f"train: {{{train}}}\nbudget: {{{budget}}}\n{more}"
    )
    return plan(read_sweep(text)).runs


def found(runs, *names):
    return [tuple(getattr(run, name) for name in names) for run in runs]


def test_an_entry_of_cells_is_a_grid_that_takes_the_axes_of_the_top():
    runs = plan(read_sweep(COUPLE)).runs
    rates = {16: (1e-2, 5e-3), 64: (1e-3, 2e-3)}
    pairs = [(width, lr) for width, own in rates.items() for lr in own]
    expected = {(w, lr, size, e) for (w, lr), size, e in itertools.product(pairs, (360, 1437), (2, 6))}
    assert {(r.width, r.lr, r.dataset_size, math.ceil(r.epochs or 0)) for r in runs} == expected
    assert len(runs) == 16


def test_paired_values_go_together_and_multiply_with_the_axes_and_other_pairs():
    runs = runs_of(
        "zip:\n  - {width: [16, 32, 64], lr: [1e-2, 3e-3, 1e-3]}\n  - {dataset_size: [180, 360], epochs: [2, 1]}\n",
        model="activation: [gelu, relu]",
        budget="",
    )
    pairs = itertools.product(("gelu", "relu"), ((16, 1e-2), (32, 3e-3), (64, 1e-3)), ((180, 2.0), (360, 1.0)))
    got = [(r.activation, (r.width, r.lr), (r.dataset_size, round(r.epochs, 0))) for r in runs]
    assert got == list(pairs)


def test_one_pair_needs_no_list():
    one, many = (
        runs_of(f"zip: {text}\n", model="expansion: 2")
        for text in ("{width: [16, 32], lr: [1, 2]}", "[{width: [16, 32], lr: [1, 2]}]")
    )
    assert [run.run_id for run in one] == [run.run_id for run in many]
    assert found(one, "width", "lr") == [(16, 1.0), (32, 2.0)]


def test_names_of_models_are_paired_as_well():
    runs = plan(
        read_sweep(
            "sweep: a\ndata: {dataset: digits}\nbudget: {epochs: 1}\n"
            "zip: {name: [B-1/Wi-16, S-2/Wi-32], lr: [1e-2, 1e-3]}\n"
        )
    ).runs
    assert found(runs, "family", "depth", "width", "lr") == [("b-mlp", 1, 16, 1e-2), ("s-mlp", 2, 32, 1e-3)]


def test_a_cell_that_sets_a_whole_pair_replaces_it():
    cells = "cells:\n  - {model: {width: 128}, train: {lr: [1e-4, 2e-4]}}\n  - {data: {dataset_size: 360}}\n"
    runs = runs_of(f"zip: {{width: [16, 64], lr: [1e-2, 1e-3]}}\n{cells}", model="expansion: 4")
    assert found(runs, "width", "lr", "dataset_size") == [
        *((16, 1e-2, 1437), (64, 1e-3, 1437)),
        *((128, 1e-4, 1437), (128, 2e-4, 1437)),
        *((16, 1e-2, 360), (64, 1e-3, 360)),
    ]


def test_a_pair_overrides_the_preset():
    runs = runs_of("zip: {lr: [1, 2], batch_size: [16, 32]}\n", train="preset: probe, trains: all")
    assert found(runs, "lr", "batch_size") == [(1.0, 16), (2.0, 32)]


@pytest.mark.parametrize(
    ("text", "whole", "values"),
    [
        ({"from": 16, "to": 256, "log": 2}, True, [16, 32, 64, 128, 256]),
        ({"from": 16, "to": 250, "log": 2}, True, [16, 32, 64, 128]),
        ({"from": 16, "to": 256, "steps": 5, "log": True}, True, [16, 32, 64, 128, 256]),
        ({"from": 10, "to": 1000, "steps": 5, "log": True}, True, [10, 32, 100, 316, 1000]),
        ({"from": 10, "to": 1000, "steps": 5, "log": True, "multiple_of": 8}, True, [8, 32, 96, 320, 1000]),
        ({"from": 1, "to": 10, "step": 3}, True, [1, 4, 7, 10]),
        ({"from": 1, "to": 9, "step": 3}, True, [1, 4, 7]),
        ({"from": 1e-4, "to": 1e-1, "steps": 4, "log": True}, False, [1e-4, 1e-3, 1e-2, 1e-1]),
        ({"from": 0.1, "to": 0.3, "step": 0.1}, False, [0.1, 0.2, 0.3]),
        ({"from": 0, "to": 1, "steps": 4}, False, [0, 0.333333, 0.666667, 1]),
        ({"from": 0.123456789, "to": 1, "steps": 2}, False, [0.123456789, 1]),
    ],
)
def test_a_range_is_the_list_of_its_values(text, whole, values):
    assert ranges.values_of(text, whole=whole) == values


POSITIVE = st.floats(1e-6, 1e6)


@settings(max_examples=200, deadline=None)
@given(low=POSITIVE, ratio=st.floats(1.01, 1e6), steps=st.integers(2, 40), log=st.booleans())
def test_a_range_has_as_many_values_as_asked_rising_from_end_to_end(low, ratio, steps, log):
    values = ranges.values_of({"from": low, "to": low * ratio, "steps": steps, "log": log}, whole=False)
    assert (values[0], values[-1], len(values)) == (low, low * ratio, steps)
    assert values == sorted(values)


def test_a_grid_search_and_an_axis_have_the_same_values():
    text = "{from: 1e-4, to: 1e-1, steps: 7, log: true}"
    axis = runs_of("", train=f"lr: {text}, batch_size: 16")
    search = read_sweep(
        "sweep: a\ndata: {dataset: digits, validation: 0.2}\nmodel: {width: 16}\nbudget: {epochs: 1}\n"
        f"train: {{lr: {{search: {text}}}}}\nsearch: {{method: grid}}\n"
    ).search
    assert choices("lr", search.parameters["lr"]) == [run.lr for run in axis]


def test_a_search_says_a_range_in_either_words():
    one, other = (
        read_sweep(
            "sweep: a\ndata: {dataset: digits, validation: 0.2}\nmodel: {width: 16}\nbudget: {epochs: 1}\n"
            f"train: {{lr: {{search: {text}}}}}\n"
        ).search.parameters["lr"]
        for text in ("{from: 1e-4, to: 1e-1}", "{min: 1e-4, max: 1e-1}")
    )
    assert one == other


def test_a_formula_follows_the_other_settings_and_is_the_run_of_its_value():
    runs = runs_of("", model="width: [16, 32, 96]", train="lr: 1e-3 * 64 / width, batch_size: 16")
    plain = [
        runs_of("", model=f"width: {w}", train=f"lr: {lr}, batch_size: 16")[0]
        for w, lr in ((16, "4e-3"), (32, "2e-3"), (96, "0.000666666666667"))
    ]
    assert [run.run_id for run in runs] == [run.run_id for run in plain]


def test_formulas_may_need_each_other_and_stand_on_axes_in_pairs_and_in_cells():
    runs = runs_of(
        "zip: {dataset_size: [180, 360], epochs: ['max(1, 360 / dataset_size)', 1]}\n"
        "cells:\n  - train: {lr: 2 ** -10 * sqrt(batch_size)}\n",
        train="lr: [0.1 * weight_decay, 1e-3], weight_decay: 16 / width, batch_size: width",
        budget="",
    )
    assert found(runs[:4], "lr", "dataset_size") == [(0.1, 180), (0.1, 360), (1e-3, 180), (1e-3, 360)]
    assert found(runs[4:], "lr", "batch_size") == [(2**-8, 16)] * 2
    assert [round(run.epochs) for run in runs[:2]] == [2, 1]


def test_a_formula_of_a_stage_may_name_the_parent_s_model():
    text = (
        "sweep: a\ndata: {dataset: digits}\nmodel: {name: [B-1/Wi-16, B-1/Wi-64]}\nbudget: {epochs: 1}\n"
        "then:\n  - {stage: tuned, train: {lr: 0.064 / width}, budget: {epochs: 1}}\n"
    )
    tuned = [run for run in plan(read_sweep(text)).runs if run.stage == "tuned"]
    assert found(tuned, "width", "lr") == [(16, 0.004), (64, 0.001)]


def test_a_formula_of_a_searched_setting_follows_each_trial():
    from orchestrator.sweep.planner import makers

    text = (
        "sweep: a\ndata: {dataset: digits, validation: 0.2}\nmodel: {width: 16}\nbudget: {epochs: 1}\n"
        "train: {weight_decay: 10 * lr, lr: {search: {min: 1e-3, max: 1e-1}}}\n"
    )
    ((declared, make),) = makers(read_sweep(text))
    assert declared.weight_decay == 1.0
    assert make({"lr": 0.02}, 0).weight_decay == 0.2


def test_the_plan_says_what_varies_and_by_which_formula():
    text = COUPLE.replace("batch_size: 32", "batch_size: 32, weight_decay: 10 * lr, schedule: [cosine, constant]")
    text = text.replace(", schedule: cosine}", "}")
    planned = plan(read_sweep(text))
    assert planned.axes == (
        "dataset_size 360, 1437; weight_decay = 10 * lr; schedule cosine, constant; epochs 2, 6; width 16, 64; "
        "lr 0.01, 0.005, 0.001, 0.002"
    )
    from orchestrator.scheduling.stacks import plan_rows

    row = plan_rows(planned)[0]
    assert (row["weight_decay"], row["schedule"]) == (0.1, "cosine")
    assert "augment" not in row


def test_cells_are_counted_before_they_are_built():
    grid = "zip: {width: [16, 32], lr: [1, 2]}\ncells:\n  - {train: {momentum: [0.1, 0.2, 0.3], optimizer: sgd}}\n"
    text = f"sweep: a\ndata: {{dataset: digits}}\nmodel: {{depth: [1, 2]}}\nbudget: {{epochs: 1}}\n{grid}"
    sweep = read_sweep(text)
    assert len(plan(sweep).cells) == 4 + 12 == len(plan(sweep, cells=16).cells)
    with pytest.raises(SweepError, match="multiply to 16 cells; at most 15 cells"):
        plan(sweep, cells=15)


def test_sixty_thousand_digits_of_width_are_refused_in_a_moment(tmp_path):
    wide = "sweep: a\ndata: {dataset: digits}\nmodel: {width: %s}\nbudget: {epochs: 1}\n"
    for value in ("9" * 4000, "9" * 60_000, "'" + "9*" * 30_000 + "9'", "[" + "1, " * 99_000 + "1]"):
        with pytest.raises(SweepError) as caught:
            read_sweep(wide % value)
        assert len(str(caught.value)) < 300


# A sweep file without the axes of this module expands as it always has: the product of its lists, in the order of
# its sections, then its cells.

AXES: dict[str, dict[str, st.SearchStrategy[object]]] = {
    "data": {"dataset_size": st.integers(64, 1200), "validation": st.sampled_from([0.0, 0.1])},
    "model": {
        "depth": st.integers(1, 3),
        "width": st.integers(1, 64),
        "activation": st.sampled_from(["gelu", "relu"]),
    },
    "train": {
        "lr": st.floats(1e-5, 1.0),
        "weight_decay": st.floats(0.0, 1.0),
        "batch_size": st.integers(1, 32),
        "schedule": st.sampled_from(["constant", "cosine", "linear"]),
    },
    "budget": {"epochs": st.integers(1, 4)},
}


@st.composite
def grids(draw):
    """Sections with a list or a value for some keys."""
    sections = {}
    for section, keys in AXES.items():
        sections[section] = {
            key: draw(st.lists(values, min_size=1, max_size=3, unique=True))
            for key, values in keys.items()
            if key in ("width", "epochs") or draw(st.booleans())
        }
    return sections


def written(sections):
    """A sweep file of the sections."""
    lines = ["sweep: old"]
    for section, keys in sections.items():
        said = {key: values[0] if len(values) == 1 else values for key, values in keys.items()}
        text = ", ".join(f"{key}: {str(value).replace(chr(39), '')}" for key, value in said.items())
        dataset = "dataset: digits, " if section == "data" else ""
        lines.append(f"{section}: {{{(dataset + text).rstrip(', ')}}}")
    return "\n".join(lines) + "\n"


@settings(max_examples=60, deadline=None)
@given(grids())
def test_a_plain_grid_expands_to_the_product_of_its_lists(sections):
    keys = [key for section in sections.values() for key in section]
    lists = [values for section in sections.values() for values in section.values()]
    expected = {}
    for values in itertools.product(*lists):
        spec = RunSpec(dataset="digits", **dict(zip(keys, values, strict=True)))
        run = datasets.resolve(spec, datasets.describe(spec))
        expected.setdefault(run.run_id, run)
    assert list(plan(read_sweep(written(sections))).runs) == list(expected.values())
