"""Learning curves whose continuation is known: x, noisy y and the law, for a seed."""

from __future__ import annotations

import numpy as np


def saturates(seed):
    """x = 2^0 .. 2^9 with 0.8 % noise; a power law that levels off at 2^4 to 2^7.5."""
    rng = np.random.default_rng(seed)
    x, c, end, k = 2.0 ** np.arange(10), rng.uniform(0.2, 0.3), 2 ** rng.uniform(4, 7.5), np.exp(rng.normal(0, 0.3))
    return noisy(x, lambda at: (at**-k + end**-k) ** (c / k), 0.008, rng)


def from_chance(seed, *, short):
    """The sigmoid law from 0.9 with 1.5 % noise: 12 to 16 x over a decade, linear; or 30 to 50 over three."""
    rng = np.random.default_rng(seed + 1000)
    count = rng.integers(12, 17) if short else rng.integers(30, 50)
    floor, exponent, gamma = rng.uniform(0.03, 0.12), rng.uniform(0.6, 1.1), np.exp(rng.normal(0, 0.3))
    coefficient = rng.uniform(0.4, 1.5)
    y = np.linspace(0.9 - 1e-6, floor + 1e-6, 200_001)
    log_x = np.log(coefficient * (0.9 - y) ** gamma / (y - floor)) / exponent
    x = np.linspace(1, 10, count) if short else np.geomspace(1, 1000, count)
    return noisy(x, lambda at: np.exp(np.interp(np.log(at), log_x, np.log(y))), 0.015, rng)


def power(seed, *, floor=False, count=20, noise=0.01):
    """x^-c, c from 0.1 to 0.6, over 1.5 to 4 decades; with a floor of 0.02 to 0.5 times y at 1."""
    rng = np.random.default_rng(seed + 2000)
    x, c = np.geomspace(1, 10 ** rng.uniform(1.5, 4), count), rng.uniform(0.1, 0.6)
    level = rng.uniform(0.02, 0.5) if floor else 0.0
    return noisy(x, lambda at: level + at**-c, noise, rng)


def noisy(x, law, noise, rng):
    return x, law(x) * np.exp(noise * rng.normal(size=x.size)), law


KINDS = {
    "saturates": saturates,
    "short, from chance": lambda seed: from_chance(seed, short=True),
    "long, from chance": lambda seed: from_chance(seed, short=False),
    "power law": power,
    "power law, 10 points": lambda seed: power(seed, count=10, noise=0.005),
    "floor": lambda seed: power(seed, floor=True),
    "floor, 12 points": lambda seed: power(seed, floor=True, count=12),
}


def ahead(x):
    """Eight x beyond the data, up to twice the largest."""
    return x.max() * np.geomspace(1.05, 2, 8)
