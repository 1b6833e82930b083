"""Planted surfaces of every form: cells of sizes x examples x seeds, and the exponents that they were made of."""

from __future__ import annotations

import numpy as np
import pandas as pd

EXACT = {
    "additive": "chinchilla",
    "coupled": "coupled",
    "sharp": "coupled",
    "soft": "coupled",
    "kaplan": "kaplan",
    "bounded": "bounded",
    "overfitted": "overfitted",
}
"""Planted form -> the law that describes it."""
_BASE = {"alpha": 0.34, "beta": 0.28}
_PLANTED: dict[str, dict[str, float]] = {
    "additive": {"floor": 0.3},
    "coupled": {"floor": 0.3, "q": 1.8},
    "sharp": {"floor": 0.3, "q": 5.0},
    "soft": {"floor": 0.3, "q": 0.7},
    "kaplan": {},
    "bounded": {"floor": 0.05, "ceiling": 0.9},
    "overfitted": {"floor": 0.05, "ceiling": 0.9, "gamma": 0.3, "delta": 0.6},
}


def truth(form: str) -> dict[str, float]:
    """The planted parameters, and the exponents of the optimum under C = 6 N D."""
    planted = _BASE | _PLANTED[form]
    share = planted["beta"] / (planted["alpha"] + planted["beta"])
    if form == "overfitted":
        share = min(share, planted["delta"] / (planted["alpha"] + planted["gamma"] + planted["delta"]))
    return planted | {"params_exponent": share, "frontier_exponent": planted["alpha"] * share}


def value(form: str, params: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """The planted error at params (about 1e6) and examples (about 1e7)."""
    p = truth(form)
    n, d = params / 1e6, examples / 1e7
    by_n, by_d = 0.5 * n ** -p["alpha"], 0.4 * d ** -p["beta"]
    if form in ("bounded", "overfitted"):
        total = by_n + by_d + (0.05 * n ** p["gamma"] * d ** -p["delta"] if form == "overfitted" else 0.0)
        return (p["floor"] + total) / (1 + total / p["ceiling"])
    q = 1 / p["beta"] if form == "kaplan" else p.get("q", 1.0)
    return p.get("floor", 0.0) + (by_n**q + by_d**q) ** (1 / q)


def table(form: str, noise: float = 0.0, seed: int = 0, levels: int = 5, seeds: int = 3) -> pd.DataFrame:
    """`params`, `examples`, `error` of levels x levels x seeds runs over three decades of each axis."""
    axes = (middle * np.geomspace(10**-1.5, 10**1.5, levels) for middle in (1e6, 1e7))
    params, examples = (np.repeat(axis.ravel(), seeds) for axis in np.meshgrid(*axes))
    luck = np.random.default_rng(seed).normal(size=params.size)
    error = value(form, params, examples) * np.exp(noise * luck)
    return pd.DataFrame({"params": params, "examples": examples, "error": error})
