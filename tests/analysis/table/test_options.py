from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from analysis import (
    agree,
    best_learning_rates,
    fit_frontier,
    fit_isoflop,
    fit_law,
    fit_laws,
    fit_power_law,
    fit_surface,
)
from analysis.table.options import Options
from tests.analysis.planted import law, sweep

WRONG: dict[str, list[Any]] = {
    "loss": ["mean", None],
    "delta": [0, "small", True, np.nan],
    "residuals": ["raw ", 1],
    "quantile": [0, 1.0, "0.5"],
    "weights": [1, ""],
    "sd": [0.1],
    "bootstrap": ["rows", None],
    "by": ["", None],
    "run": [1, ""],
    "cell": [0.5, ""],
    "resamples": [-1, 10.5, "100", True],
    "level": [95, 0, 1, "0.95", np.nan],
    "seed": [-1, "0", None],
    "pool": [1, "yes", None],
    "fix": [1.6, {"floor": "1.6"}, {"floor": np.nan}, {1: 2.0}, {"floor": True}, "floor"],
    "tie": ["alpha", ("alpha",), ("alpha", "alpha"), ("alpha", 1), [("alpha", "beta"), "gamma"], 3],
    "bounds": [(0, 1), {"alpha": 0.3}, {"alpha": (0.6, 0.2)}, {"alpha": (0.2, "0.6")}, {"alpha": (np.nan, 1)}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in WRONG for value in WRONG[name]])
def test_every_option_is_checked_and_the_message_says_what_is_right(name, value):
    with pytest.raises(ValueError, match=f"^{name} is .*; expected ") as refusal:
        Options(**{name: value})
    assert repr(value) in str(refusal.value)


def test_every_option_has_a_wrong_value_here():
    assert set(WRONG) == set(Options.__dataclass_fields__)


def test_numbers_of_numpy_are_numbers():
    numbers: dict[str, Any] = {"level": np.float32(0.9), "resamples": np.int64(10), "delta": np.float64(1e-3)}
    assert Options(**numbers).resamples == 10


@pytest.mark.parametrize("fit", [fit_power_law, fit_frontier])
@pytest.mark.parametrize("part", ["floor", "shift"])
def test_a_text_is_no_truth_value(fit, part):
    with pytest.raises(ValueError, match=f"{part} is 'no'; expected True or False"):
        fit(law(), **{part: "no"})
    with pytest.raises(ValueError, match=rf"{part} is 1.6; .* a known value is fix={{'{part}': value}}"):
        fit(law(), **{part: 1.6})


@pytest.mark.parametrize("fit", [fit_power_law, fit_law, fit_surface, fit_frontier])
def test_an_unknown_option_is_named_with_the_nearest(fit):
    with pytest.raises(TypeError, match=r"unknown option 'resample' of fit_.*; did you mean 'resamples'"):
        fit(law(), resample=10)


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match=r"delta is 0.1 with loss 'squares'; a threshold needs loss 'huber'"):
        Options(delta=0.1, loss="squares")
    with pytest.raises(ValueError, match="'seed' needs bootstrap 'pairs'"):
        Options(by="seed", bootstrap="wild")


@pytest.mark.parametrize("known", [{"fix": {"floor": 2.0}}, {"bounds": {"floor": (2.0, 3.0)}}])
def test_a_floor_above_all_that_was_measured_is_refused(known):
    table = {"examples": [1e3, 1e4, 1e5, 1e6], "error": [1.9, 1.5, 1.3, 1.2]}
    with pytest.raises(ValueError, match=r"'floor' cannot be 2; the largest 'error' is 1\.9"):
        fit_power_law(table, "examples", resamples=0, **known)


TAKEN: dict[str, dict[str, Any]] = {
    "loss": {"loss": "squares"},
    "delta": {"delta": 1e-3},
    "residuals": {"residuals": "raw"},
    "quantile": {"quantile": 0.3},
    "weights": {"weights": "examples"},
    "sd": {"sd": "examples"},
    "bootstrap": {"bootstrap": "wild"},
    "by": {"by": "row"},
    "run": {"run": "run_id"},
    "cell": {"cell": "cell_id"},
    "resamples": {"resamples": 20},
    "level": {"level": 0.9},
    "seed": {"seed": 3},
    "fix": {"fix": {"floor": 0.01}},
    "tie": {"tie": ("alpha", "beta")},
    "bounds": {"bounds": {"floor": (0.0, 0.2)}},
    "pool": {"pool": True},
}
DRAWN = {"run", "cell", "resamples", "level", "seed", "pool"}
OF_A_LAW = {"loss", "delta", "residuals", "quantile", "fix", "bounds"}
FITS: dict[str, tuple[Any, set[str]]] = {
    "fit_power_law": (fit_power_law, set(TAKEN) - {"tie"}),
    "fit_law": (fit_law, set(TAKEN) - {"tie"}),
    "fit_surface": (partial(fit_surface, y="error"), set(TAKEN)),
    "fit_frontier": (fit_frontier, DRAWN | OF_A_LAW),
    "fit_isoflop": (fit_isoflop, DRAWN),
    "fit_isoflop joint": (partial(fit_isoflop, method="joint"), DRAWN | OF_A_LAW | {"tie"}),
    "fit_laws": (fit_laws, (DRAWN | {"weights", "sd"}) - {"cell"}),
    "best_learning_rates": (partial(best_learning_rates, lr="width", by=["flops"]), DRAWN - {"pool"}),
}


@pytest.mark.parametrize("name", FITS)
def test_every_fit_takes_every_option_or_says_why_it_has_no_use(name):
    assert set(TAKEN) == set(Options.__dataclass_fields__)
    fit, taken = FITS[name]
    table = sweep(seeds=2, budgets=4)
    for option, value in TAKEN.items():
        if option in taken:
            assert fit(table, **{"resamples": 0, **value})
        elif option not in ("tie", "by"):  # a law of one input has no pair; `by` of the rates names designs
            with pytest.raises(ValueError, match=f"'{option}' has no use here: .* .*"):
                fit(table, resamples=0, **value)


def test_options_change_what_they_should_on_a_frontier_and_a_joint_fit():
    table = sweep(seeds=2, budgets=6)
    assert fit_frontier(table, resamples=0).delta < np.inf
    assert fit_frontier(table, loss="squares", resamples=0).delta == np.inf
    low, middle = (fit_frontier(table, quantile=q, resamples=0).predict(1e12)["y"][0] for q in (0.05, 0.5))
    assert low < middle
    free = fit_isoflop(table, method="joint", resamples=0)
    held = fit_isoflop(table, method="joint", resamples=0, fix={"alpha": 0.9})
    assert free.n_exponent.value != held.n_exponent.value


def test_an_option_that_a_function_without_options_lacks_is_said_to_be_one():
    with pytest.raises(TypeError, match="'loss' is an option of fits that agree does not take; it takes level"):
        agree(sweep(), loss="squares")  # type: ignore[call-arg]
