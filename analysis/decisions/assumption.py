"""What a design is judged by before it runs: a law of params and examples, and the noise of a run. numpy alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.decisions.information import condition
from analysis.fits.thresholds import FEW_REPEATS, ILL, LEAST_VALUES
from analysis.laws import newton
from analysis.laws.newton import Loss, Problem
from analysis.laws.surfaces.chinchilla import Chinchilla
from analysis.numbers import short

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = NDArray[np.float64]

EXPONENT, FLOOR, NOISE = 0.3, 0.25, 0.02
"""The default: both exponents, the floor's share of the lowest error of the design, sd of log error of a run."""
ERROR = 0.1
"""The error at which the chance of a finite test set is counted, before any is measured."""
_STARTS = 8


@dataclass(frozen=True)
class Assumption:
    """The law floor + A N^-alpha + B D^-beta and the noise `sigma` of a run, sd of log y, with their sources."""

    A: float
    alpha: float
    B: float
    beta: float
    floor: float
    sigma: float = NOISE
    law_from: str = "default"
    noise_from: str = "default"

    def y(self, n: Array, d: Array) -> Array:
        """The law at params n and examples d."""
        return np.asarray(self.floor + self.A * n**-self.alpha + self.B * d**-self.beta)

    def place(self, n: Array, d: Array) -> tuple[Chinchilla, Array, float]:
        """The law placed at n and d [G], its scaled parameters theta [5], and the log of its median there."""
        logs = np.log(np.stack([n, d]))
        centre, scale = logs.mean(axis=1), float(np.median(np.log(self.y(n, d))))
        terms = np.log([self.A, self.B]) - np.array([self.alpha, self.beta]) * centre - scale
        theta = np.array([np.log(self.alpha), terms[0], np.log(self.beta), terms[1], self.floor * np.exp(-scale)])
        return Chinchilla(logs - centre[:, None], centre), theta, scale

    def __str__(self) -> str:
        noise = f"{short(100 * self.sigma, 2)} % noise a run ({self.noise_from})"
        return f"{self._law()}{'' if self.law_from == self.noise_from else f' ({self.law_from})'}, {noise}"

    def _law(self) -> str:
        if self.A == 0:
            return f"error falling as examples^-{short(self.beta, 2)}"
        if self.law_from == "default":
            return f"error falling as params^-{short(self.alpha, 2)} and examples^-{short(self.beta, 2)} to a floor"
        terms = f"{short(self.A)} params^-{short(self.alpha, 2)} + {short(self.B)} examples^-{short(self.beta, 2)}"
        return f"error = {short(self.floor, 2)} + {terms}"


def default(n: Array, d: Array) -> Assumption:
    """Both terms fall with exponent 0.3 and are equal at one example per param; the floor is a quarter at best.

    Only the floor's share and the ratio of the terms matter to an exponent's interval, not the unit of the error.
    """
    terms = n**-EXPONENT + d**-EXPONENT
    return Assumption(1.0, EXPONENT, 1.0, EXPONENT, float(FLOOR / (1 - FLOOR) * terms.min()))


def few_test_examples(count: int | None) -> list[str]:
    """A warning where an error counted on so many test examples scatters by twice the default noise and more.

    The count is binomial: its sd is sqrt(error (1 - error) / examples), here at an error of 10 %.
    """
    chance = np.sqrt((1 - ERROR) / ERROR / count) if count else 0.0
    if chance < 2 * NOISE:
        return []
    luck = (
        f"on {count:,} test examples an error of {100 * ERROR:g} % has {short(100 * chance, 2)} % noise by chance"
    )
    return [f"{luck}, not {100 * NOISE:g} %: measure it with a few seeds first"]


def assume(n: Array, d: Array, runs: Mapping[str, Array] | None = None, source: str = "earlier runs") -> Assumption:
    """The law and the noise for a design at n and d [G].

    Args:
        n: params of each cell.
        d: examples of each cell.
        runs: earlier runs, arrays `n`, `d`, `y` > 0 and `cell` (which are repeats); those of cells with a repeat
            tell the noise, all of them the law if they determine it.
        source: what to call them.
    """
    assumed = default(n, d)
    if runs is None or not runs["y"].size:
        return assumed
    sigma, spare = _noise(runs)
    measured = spare >= FEW_REPEATS and sigma > 0
    if measured:
        assumed = replace(assumed, sigma=sigma, noise_from=f"{runs['y'].size} {source}")
    law = _fitted(runs)
    if law is None:
        return assumed
    scatter = assumed.sigma if measured else law.sigma
    noise_from = law_from = f"{runs['y'].size} {source}"
    return replace(law, sigma=scatter, law_from=law_from, noise_from=noise_from)


def _noise(runs: Mapping[str, Array]) -> tuple[float, int]:
    """Standard deviation of log y among the runs of a cell, and its degrees of freedom."""
    cell = np.unique(runs["cell"], return_inverse=True)[1].ravel()
    logs, count = np.log(runs["y"]), np.bincount(cell)
    spare = int(np.sum(count - 1))
    left = logs - (np.bincount(cell, logs) / count)[cell]
    return float(np.sqrt(np.sum(left**2) / max(spare, 1))), spare


def _fitted(runs: Mapping[str, Array]) -> Assumption | None:
    """The law of earlier runs, its `sigma` their scatter about it; None where they do not determine one."""
    n, d, y = runs["n"], runs["d"], runs["y"]
    logs = np.log(np.stack([n, d]))
    points = np.unique(logs, axis=1).shape[1]
    if min(np.unique(n).size, np.unique(d).size) < LEAST_VALUES or points < 2 * 5:
        return None
    centre, scale = logs.mean(axis=1), float(np.median(np.log(y)))
    law = Chinchilla(logs - centre[:, None], centre)
    problem = Problem(law, (np.log(y) - scale)[None], np.ones((1, y.size)), np.ones(y.size), Loss())
    theta, objective, converged = newton.search(law, problem, None, _STARTS)
    determined = condition(law.gradient(theta)[1][0].T) < ILL
    inside = np.all(theta[0, :4] > law.low[:4] + 1e-6) and np.all(theta[0, [0, 2]] < law.high[[0, 2]] - 1e-6)
    if not (converged[0] and inside and determined):
        return None
    p = {name: float(value[0]) for name, value in law.parameters(theta, scale).items()}
    sigma = float(np.sqrt(2 * objective[0] / (y.size - 5)))
    return Assumption(p["A"], p["alpha"], p["B"], p["beta"], p["floor"], max(sigma, 1e-4))
