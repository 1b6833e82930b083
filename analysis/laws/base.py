"""What a law must say of itself to be fitted, predicted and explained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from analysis.laws.newton import Problem

Array = NDArray[np.float64]

EXPONENT_BOUNDS = (1e-3, 10.0)
"""The exponents that are searched. A fit at either end has found no law."""
LOG_EXPONENT = tuple(np.log(EXPONENT_BOUNDS))
ABSENT = -30.0
"""Logarithm of a term over the median of y below which the term counts as absent."""


class Smooth(ABC):
    """What Newton's steps need of a law with P parameters theta at n places.

    Attributes:
        low, high, limit: [P], the bounds and the longest step of each theta.
    """

    low: Array
    high: Array
    limit: Array

    @property
    def free(self) -> NDArray[np.intp]:
        """Indices of the theta that are fitted; the others stay as they start."""
        return np.arange(self.low.size)

    @abstractmethod
    def value(self, theta: Array) -> Array:
        """Logarithm of the law for theta [B, P]: [B, n]."""

    @abstractmethod
    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, P, n]."""


class Law(Smooth):
    """A law with P parameters theta, placed at n inputs.

    Inputs are logarithms [k, n] from `centre` [k], that of the data, and y is divided by its median: an exponent
    then does not know the unit, and is nearly uncorrelated with its coefficient.

    Attributes:
        inputs: letters of the k inputs.
        formula: text with a place `{..}` for each letter and parameter.
        theta_names: what each theta is, by the names of the parameters.
        exponents: those that are exponents; a wide interval of one means that there is no answer.
        rates: those that may stay unknown while the exponents are known.
        terms: coefficient -> index of the input whose term vanishes with it.
        linear: those that may be 0: their intervals are not on a log scale.
    """

    inputs: ClassVar[tuple[str, ...]]
    formula: str
    theta_names: tuple[str, ...]
    exponents: tuple[str, ...]
    rates: tuple[str, ...] = ()
    terms: ClassVar[dict[str, int]] = {}
    linear: tuple[str, ...] = ("floor",)

    def __init__(self, logs: Array, centre: Array) -> None:
        self.logs, self.centre = logs, centre

    def at(self, logs: Array) -> Self:
        """The same law at other inputs, logarithms [k, m] from the same centre."""
        return type(self)(logs, self.centre)

    @abstractmethod
    def starts(self, problem: Problem, count: int) -> Array:
        """The best `count` starts of each data set: [B, count, P]."""

    @abstractmethod
    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """What theta [B, P] means in the units of the data, and what follows from it: arrays [B] by name."""
