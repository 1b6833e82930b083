from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis import fit_frontier, fit_law, fit_power_law, fit_surface
from analysis.table.options import Options
from tests.analysis.planted import law

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
