"""Evidence on a fit made by hand, and what every rule says of it."""

from __future__ import annotations

from types import SimpleNamespace as Some
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.diagnosis.cautions import CAUTIONS
from analysis.fits.diagnosis.ends import End
from analysis.fits.diagnosis.floors import FLOOR
from analysis.fits.diagnosis.identification import BLOCKING
from analysis.fits.diagnosis.rejection import REJECTING
from analysis.fits.diagnosis.scatter import Scatter
from analysis.fits.diagnosis.stability import Few
from analysis.laws.base import Constraints

RULES = {rule.__name__: rule for rules in (REJECTING, BLOCKING, FLOOR, CAUTIONS) for rule in rules}
REPLICATES = {"exponent": np.full(40, 0.3), "floor": np.full(40, 0.05)}


def evidence(**changes) -> Any:
    """The evidence on a power law with floor through twenty points over three decades, with nothing against it."""
    law: dict[str, Any] = {
        "exponents": ("exponent",),
        "rates": (),
        "terms": {},
        "linear": ("floor",),
        "exponent_range": (1e-3, 10.0),
        "theta_names": ("log_exponent", "log_term", "floor"),
        "free": np.arange(3),
        "constraints": Constraints(),
    }
    data: dict[str, Any] = {"distinct": 20, "clusters": 20, "notes": (), "pool": False, "dropped": 0}
    fit: dict[str, Any] = {
        "name": "power-floor",
        "x": ("flops",),
        "y": "error",
        "n": 20,
        "resamples": 40,
        "rms": 0.01,
        "exponent": 0.3,
        "floor": 0.05,
        "at_bounds": (),
        "estimates": {"exponent": 0.3, "coefficient": 2.0, "floor": 0.05},
        "intervals": {"exponent": (0.28, 0.32), "coefficient": (1.8, 2.2), "floor": (0.04, 0.06)},
        "replicates": REPLICATES,
    }
    solution: dict[str, Any] = {
        "converged": True,
        "condition": 10.0,
        "weakest": np.array([0.9, 0.3, 0.1]),
        "replicates_converged": np.ones(40, dtype=bool),
    }
    own: dict[str, Any] = {
        "scatter": Scatter(0.01),
        "trimmed": {"smallest": 0.3, "largest": 0.3},
        "rivals": {"floor": (0.2, -20.0), "shift": (0.31, -5.0)},
        "unconstrained": 0.0,
        "forms": None,
        "ends": (),
        "few": {},
        "populations": {},
        "span": 1e3,
        "one": True,
        "x": "flops",
        "count": 3,
    }
    parts = {"law": law, "data": data, "fit": fit, "solution": solution, "own": own}
    for name, value in changes.items():
        place, _, key = name.rpartition("__")
        parts[place or "own"][key] = value
    fit |= {"law": Some(**law), "data": Some(**data), "solution": Some(**solution)}
    fit["__getitem__"] = fit["estimates"].__getitem__
    kind = type("Fit", (Some,), {"__getitem__": lambda self, name: self.estimates[name]})
    return Some(fit=kind(**fit), **own)


def surface(**changes) -> Any:
    """The evidence on a surface of params and tokens."""
    names = ("alpha", "beta", "params_exponent", "floor")
    given: dict[str, Any] = {
        "law__exponents": ("alpha", "beta"),
        "law__terms": {"A": 0, "B": 1},
        "fit__x": ("params", "tokens"),
        "fit__name": "chinchilla",
        "fit__estimates": dict(zip(names, (0.34, 0.28, 0.45, 0.05), strict=True)),
        "fit__intervals": {
            "alpha": (0.3, 0.4),
            "beta": (0.25, 0.31),
            "params_exponent": (0.42, 0.48),
            "floor": (0.04, 0.06),
        },
        "data__logs": np.random.default_rng(0).normal(size=(2, 20)),
        "trimmed": {},
        "rivals": {},
        "one": False,
        "x": "params",
        "count": 5,
    }
    return evidence(**(given | changes))


def forms(*, ruled_out=(), aicc=None, losses=None, intervals=None, fits=("chinchilla", "coupled")) -> Any:
    """Forms of a surface, the first the best, all as good unless ruled out."""
    quantities = ("alpha", "beta", "params_exponent", "floor")
    ends = dict.fromkeys(quantities, (0.3, 0.3)) | {"floor": (0.05, 0.05), "params_exponent": (0.45, 0.45)}
    ends |= {"beta": (0.28, 0.28), "alpha": (0.34, 0.34)} | (intervals or {})
    every = {name: Some(name=name) for name in fits}
    extra = ("examples_exponent", "frontier_exponent")
    return Some(
        best=every[fits[0]],
        fits=every,
        open={name: fit for name, fit in every.items() if name not in ruled_out},
        aicc=aicc or dict.fromkeys(fits, 0.0),
        losses=losses or dict.fromkeys(fits, 1.0),
        intervals=ends | dict.fromkeys(extra, (0.3, 0.3)),
        quantities={name: Some(value=low) for name, (low, _) in (ends | dict.fromkeys(extra, (0.3, 0.3))).items()},
    )


def said(e: Any) -> dict[str, str]:
    """Rule -> sentence, of every rule that speaks."""
    return {name: text for name, rule in RULES.items() if (text := rule(e))}


def end(**changes) -> End:
    given: dict[str, Any] = {"axis": "flops", "smallest": True, "at": 1e10, "rows": 3, "off": 0.1, "chance": 0.001}
    return End(**(given | {"others_hold": True} | changes))


def few(value, rows=1) -> Few:
    return Few(value, pd.DataFrame({"flops": 1e9 * np.arange(1, rows + 1), "error": 0.5}))
