"""What a law must have to be fitted, predicted and explained."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from analysis.laws.newton import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from analysis.laws.newton import Problem

Array = NDArray[np.float64]

EXPONENT_BOUNDS = (1e-3, 10.0)
"""Range of the exponents that are searched. A fit at either end has found no law."""
LOG_EXPONENT = tuple(np.log(EXPONENT_BOUNDS))
ABSENT = -30.0
"""Logarithm of a term over the median of y below which the term counts as absent."""


@dataclass(frozen=True)
class Constraints:
    """Parameters of a law that are fixed, tied in pairs, or bounded, by name and in the units of the data."""

    fix: Mapping[str, float] = field(default_factory=dict)
    tie: tuple[tuple[str, str], ...] = ()
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every parameter that is named."""
        return tuple(dict.fromkeys([*self.fix, *(name for pair in self.tie for name in pair), *self.bounds]))

    def __bool__(self) -> bool:
        return bool(self.names)

    def unfixed(self, name: str) -> Constraints:
        """The constraints without a known value of this parameter."""
        return replace(self, fix={other: value for other, value in self.fix.items() if other != name})

    def ranges(self) -> list[tuple[str, tuple[float, float]]]:
        """The smallest and largest value of each parameter that is fixed or bounded."""
        return [*((name, (value, value)) for name, value in self.fix.items()), *self.bounds.items()]


class Smooth(ABC):
    """What Newton's method needs of a law with P parameters theta at n places.

    Attributes:
        low, high: [P], bounds of each theta; `value` must be defined there and 1e-6 beyond.
        limit: [P] or a number, the longest step of each theta.
    """

    low: Array
    high: Array
    limit: Array | float = np.inf

    @property
    def free(self) -> NDArray[np.intp]:
        """Indices of the theta that are fitted; the others keep their starting values."""
        return np.arange(self.low.size)

    @abstractmethod
    def value(self, theta: Array) -> Array:
        """Logarithm of the law for theta [B, P]: [B, n]."""

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, P, n]; numerical unless a law overrides this."""
        return self.value(theta), differences(self.value, theta)


class Law(Smooth):
    """A law with P parameters theta, placed at n inputs.

    Inputs are logarithms [k, n] from `centre` [k], the mean of the data's, and y is divided by its median: an
    exponent then does not depend on the unit and is nearly uncorrelated with its coefficient.

    A subclass must have `formula`, `theta_names`, `low`, `high`, `value`, `parameters`, and `candidates` or
    `starts`.

    Attributes:
        inputs: letters of the k inputs.
        formula: text with a place `{..}` for each letter and parameter.
        theta_names: the name of the parameter that each theta stands for.
        exponents: parameters that are exponents; where the interval of one is wide, the data support no law.
        exponent_range: smallest and largest exponent that is searched.
        constraints: what the caller knows of the parameters.
        rates: parameters that may stay unknown while the exponents are known.
        terms: coefficient -> index of the input whose term vanishes with it.
        linear: parameters that may be 0: their intervals are not on a log scale.
    """

    inputs: ClassVar[tuple[str, ...]] = ("x",)
    formula: str
    theta_names: tuple[str, ...]
    exponents: tuple[str, ...] = ()
    exponent_range: tuple[float, float] = EXPONENT_BOUNDS
    constraints: Constraints = Constraints()
    rates: tuple[str, ...] = ()
    terms: ClassVar[dict[str, int]] = {}
    linear: tuple[str, ...] = ("floor",)

    def __init__(self, logs: Array, centre: Array) -> None:
        self.logs, self.centre = logs, centre

    def at(self, logs: Array) -> Self:
        """The same law at other inputs, logarithms [k, m] from the same centre."""
        law = copy.copy(self)
        law.logs = logs
        return law

    def rivals(self) -> dict[str, Law]:
        """Laws that could describe the same points; none by default.

        Of one input, variants with one part switched on or off, by the name of the part; of params and examples,
        other forms, by their names.
        """
        return {}

    def candidates(self, problem: Problem) -> Array:
        """Points from which a search may start, for each of the B data sets: theta [B, K, P]."""
        raise NotImplementedError

    def starts(self, problem: Problem, count: int) -> Array:
        """The best `count` starts of each data set: [B, count, P]."""
        return choose(problem, self.candidates(problem), count)

    @abstractmethod
    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """Parameters in the units of the data, and what follows from them, for theta [B, P]: arrays [B] by name."""


def differences(function: Callable[[Array], Array], theta: Array) -> Array:
    """Derivatives [B, P, m] of a function of theta [B, P] with values [B, m], by central differences."""
    batch, count = theta.shape
    steps = 1e-6 * np.maximum(np.abs(theta), 1e-3)
    moves = np.eye(count) * steps[:, None, :]
    ends = [function((theta[:, None] + sign * moves).reshape(-1, count)) for sign in (1, -1)]
    return np.asarray((ends[0] - ends[1]).reshape(batch, count, -1) / (2 * steps[:, :, None]))


def check_law(name: str, law: Any) -> None:
    """Raise a TypeError that names the required parts that a law lacks."""
    if not (inspect.isclass(law) and issubclass(law, Law)):
        raise TypeError(f"law {name!r} is {law!r}; expected a subclass of analysis.Law")
    absent = sorted(f"{part}()" for part in law.__abstractmethods__)
    if law.candidates is Law.candidates and law.starts is Law.starts:
        absent.append("candidates() or starts()")
    if not absent:
        inputs = len(law.inputs)
        placed = law(np.tile(np.linspace(-1.0, 1.0, 5), (inputs, 1)), np.zeros(inputs))
        absent = [part for part in ("formula", "theta_names", "low", "high") if not hasattr(placed, part)]
    if absent:
        raise TypeError(f"law {name!r} lacks {', '.join(absent)}; see analysis.Law")
    sizes = {np.size(placed.low), np.size(placed.high), len(placed.theta_names)}
    if len(sizes) > 1:
        raise TypeError(f"law {name!r} has low, high and theta_names of different lengths: {sorted(sizes)}")
