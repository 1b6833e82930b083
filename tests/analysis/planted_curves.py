"""Planted isoFLOP curves: E = floor + A (N / 1e6)^-alpha + B (D / 1e6)^-beta with D = C / 6N, optima known."""

from __future__ import annotations

import numpy as np
import pandas as pd

A, B = 0.2, 0.2


def optimum(flops, alpha=0.34, beta=0.3, a=A, b=B):
    """params* and examples* at compute: where d/dN vanishes (Hoffmann et al. 2022, equation 4)."""
    g = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    return 1e6 * g * (flops / 6e12) ** (beta / (alpha + beta)), 1e6 / g * (flops / 6e12) ** (alpha / (alpha + beta))


def isoflop(  # noqa: PLR0917 - a planted table has many sides
    budgets=6,
    sizes=9,
    decades=1.5,
    alpha=0.34,
    beta=0.3,
    floor=0.05,
    noise=0.0,
    seeds=1,
    seed=0,
    low=6e11,
    high=6e14,
    off=1.0,
    a=A,
    b=B,
):
    """Sizes over `decades` about the optimum of each budget (times `off`), `seeds` runs a cell."""
    rng, rows = np.random.default_rng(seed), []
    for k, flops in enumerate(np.geomspace(low, high, budgets)):
        middle = off * optimum(flops, alpha, beta, a, b)[0]
        for j, params in enumerate(middle * np.geomspace(10 ** (-decades / 2), 10 ** (decades / 2), sizes)):
            examples = flops / 6 / params
            error = floor + a * (params / 1e6) ** -alpha + b * (examples / 1e6) ** -beta
            for repeat in range(seeds):
                name = f"{k}-{j}"
                row = {"cell_id": name, "run_id": f"{name}-{repeat}", "params": params, "examples": examples}
                rows.append(row | {"flops": flops, "error": error * np.exp(noise * rng.normal())})
    return pd.DataFrame(rows)
