"""A law some of whose parameters are fixed, tied to one another, or bounded."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import Constraints, Law, differences
from analysis.laws.newton import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from analysis.laws.newton import Problem

Array = NDArray[np.float64]
_CANDIDATES, _PROBES, _HALVINGS, _EXACT = 24, 6, 100, 1e-9
_SHARE = 0.3
"""Where a line is tested between its ends: not in the middle, about which a sigmoid is odd."""


def constrain(law: Law, constraints: Constraints, centre_y: float) -> Law:
    """The placed law under constraints in the units of the data; `centre_y` is the logarithm of the unit of y.

    Raises:
        ValueError: the law has no such parameter, it cannot be constrained exactly, or no value is left.
    """
    return Constrained(law, constraints, centre_y) if constraints else law


def has_parameters(law: Law, names: tuple[str, ...]) -> bool:
    """Whether a placed law has all these parameters."""
    return set(names) <= set(law.parameters(_probes(law)[:1], 0.0))


@dataclass(frozen=True)
class _Handle:
    """How a parameter is set: by theta[index] alone where `link` is None, else by theta[index] given the others.

    In the second case link(parameter) is linear in theta[index].
    """

    index: int
    link: Callable[[Array], Array] | None


class Constrained(Law):
    """A law whose theta are those of `base` that are neither fixed nor tied to another one.

    A parameter that depends on one theta alone, such as an exponent or a floor, is that theta with other bounds.
    One that depends on several, such as a coefficient, takes the place of its theta, which then follows from it.
    """

    def __init__(self, base: Law, constraints: Constraints, centre_y: float) -> None:
        super().__init__(base.logs, base.centre)
        for name in ("inputs", "formula", "exponents", "rates", "terms", "linear", "exponent_range"):
            setattr(self, name, getattr(base, name))
        self.base, self.constraints, self._centre_y = base, constraints, centre_y
        self._handles: dict[str, _Handle] = {}
        for name in sorted(constraints.names, key=lambda name: name not in base.theta_names):
            taken = {handle.index for handle in self._handles.values()}
            self._handles[name] = _handle(base, name, centre_y, taken)
        self._leader = self._tied()
        low, high = np.array(base.low, dtype=float), np.array(base.high, dtype=float)
        fixed: dict[int, float] = {}
        for handle in self._handles.values():
            if handle.link:
                low[handle.index], high[handle.index] = -np.inf, np.inf
        for name, ends in constraints.ranges():
            k, theta = int(self._leader[self._handles[name].index]), self._ends(name, ends)
            low[k], high[k] = max(low[k], theta[0]), min(high[k], theta[1])
            if low[k] > high[k]:
                raise ValueError(f"the constraints leave no value of {name!r}")
            if name in constraints.fix:
                fixed[k] = theta[0]
        own = [k for k, leader in enumerate(self._leader) if k == leader and k not in fixed]
        self._kept = np.array(own, dtype=np.intp)
        self._still = np.array([fixed.get(k, 0.0) for k in range(low.size)])
        self.theta_names = tuple(base.theta_names[k] for k in self._kept)
        self.low, self.high = low[self._kept], high[self._kept]
        self.limit = np.broadcast_to(base.limit, low.shape)[self._kept]
        if not self.free.size:
            raise ValueError("no parameter is left to fit: every one is fixed")

    @property
    def free(self) -> NDArray[np.intp]:
        """Indices of the theta that are fitted."""
        return np.flatnonzero(np.isin(self._kept, self.base.free))

    def at(self, logs: Array) -> Self:
        """The same law at other inputs, logarithms [k, m] from the same centre."""
        law = super().at(logs)
        law.base = self.base.at(logs)
        return law

    def rivals(self) -> dict[str, Law]:
        """The rivals under the same constraints, but for those that switch or lack a constrained parameter."""
        rivals = {part: rival for part, rival in self.base.rivals().items() if part not in self.constraints.names}
        return {
            part: constrain(rival, self.constraints, self._centre_y)
            for part, rival in rivals.items()
            if has_parameters(rival, self.constraints.names)
        }

    def value(self, theta: Array) -> Array:
        """Logarithm of the law, [B, n]."""
        return self.base.value(self.whole(theta))

    def gradient(self, theta: Array) -> tuple[Array, Array]:
        """Logarithm of the law [B, n] and its derivatives [B, P, n]."""
        log_law, parts = self.base.gradient(self.whole(theta))
        if any(handle.link for handle in self._handles.values()):
            return log_law, differences(self.whole, theta) @ parts
        fold = np.equal.outer(self._kept, self._leader).astype(float)
        return log_law, fold @ parts

    def starts(self, problem: Problem, count: int) -> Array:
        """The best of the law's own starts, moved to where the constraints hold: [B, count, P]."""
        theta = self.base.starts(replace(problem, law=self.base), max(count, _CANDIDATES))
        batch, tries, size = theta.shape
        return choose(problem, self.nearest(theta.reshape(-1, size)).reshape(batch, tries, -1), count)

    def parameters(self, theta: Array, centre_y: float) -> dict[str, Array]:
        """Parameters in the units of the data: arrays [B]; those that are fixed have exactly their value."""
        values = self.base.parameters(self.whole(theta), centre_y)
        return values | {name: np.full(len(theta), value) for name, value in self.constraints.fix.items()}

    def holds(self, every: Array) -> bool:
        """Whether the constraints hold for theta [1, all] of `base`."""
        with np.errstate(all="ignore"):
            return bool(np.allclose(self.whole(self.nearest(every)), every, rtol=_EXACT, atol=_EXACT))

    def whole(self, theta: Array) -> Array:
        """The theta of `base`, [B, all]."""
        every = np.tile(self._still, (len(theta), 1))
        every[:, self._kept] = theta
        every = every[:, self._leader]
        solved = {name: h for name, h in self._handles.items() if h.link}
        targets = {name: every[:, handle.index].copy() for name, handle in solved.items()}
        for _ in solved:  # one may depend on the theta of another
            for name, handle in solved.items():
                ends = [self._linked(every, name, handle, at) for at in (0.0, 1.0)]
                every[:, handle.index] = (targets[name] - ends[0]) / (ends[1] - ends[0])
        return every

    def _linked(self, every: Array, name: str, handle: _Handle, at: float | None = None) -> Array:
        """The linked value of a parameter [B], its own theta at another value if given."""
        if at is not None:
            every = every.copy()
            every[:, handle.index] = at
        value = self.base.parameters(every, self._centre_y)[name]
        return np.asarray(handle.link(value) if handle.link else value)

    def nearest(self, every: Array) -> Array:
        """Theta [B, P] near those of `base` [B, all]: cut at the bounds, tied ones their mean."""
        moved = every.copy()
        for name, handle in self._handles.items():
            if handle.link:
                moved[:, handle.index] = self._linked(every, name, handle)
        means = [moved[:, self._leader == k].mean(axis=1) for k in self._kept]
        return np.asarray(np.clip(np.stack(means, axis=1), self.low, self.high))

    def _tied(self) -> NDArray[np.intp]:
        """The theta from which each theta takes its value, [all]: itself, or the one that it is tied to."""
        leader = np.arange(self.base.low.size)
        for first, second in self.constraints.tie:
            pair = self._handles[first], self._handles[second]
            if not _alike(self.base, (first, second), pair, self._centre_y):
                raise ValueError(f"{first!r} and {second!r} are not of one kind, so they cannot be tied")
            leader[leader == leader[pair[1].index]] = leader[pair[0].index]
        return leader

    def _ends(self, name: str, ends: tuple[float, float]) -> tuple[float, float]:
        """The range of theta that belongs to a range of a parameter."""
        handle, base = self._handles[name], self.base
        if handle.link is None:
            return _inverses(base, name, handle.index, ends, self._centre_y)
        with np.errstate(divide="ignore", invalid="ignore"):
            first, last = (float(handle.link(np.array(end))) for end in ends)
        first = -np.inf if np.isnan(first) and ends[0] < ends[1] else first
        if np.isnan(last) or not np.isfinite(max(first, -1e300) + min(last, 1e300)):
            raise ValueError(f"{name!r} cannot be {ends[1]:g}; expected a value > 0")
        return first, last


def _handle(law: Law, name: str, centre_y: float, taken: Collection[int]) -> _Handle:
    """How to set a parameter of a law exactly, by none of the theta that are taken.

    Raises:
        ValueError: the law has no such parameter, or no theta sets it alone.
    """
    probes = _probes(law)
    known = law.parameters(probes, centre_y)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"the law has no parameter {name!r}; {hint}it has {', '.join(known)}")
    if handle := _setter(law, name, centre_y, taken):
        return handle
    if _setter(law, name, centre_y):
        raise ValueError(f"{name!r} follows from the other constraints; leave it out")
    others = ", ".join(other for other in known if _setter(law, other, centre_y))
    raise ValueError(f"{name!r} depends on several others and cannot be held exactly; constrain {others}")


def _setter(law: Law, name: str, centre_y: float, taken: Collection[int] = ()) -> _Handle | None:
    """The theta, none of those taken, that sets a parameter; None where there is none."""
    values = law.parameters(_probes(law), centre_y)[name]
    movers = [int(k) for k in law.free if np.any(_along(law, name, int(k), centre_y, np.array)[1:] != values)]
    if len(movers) == 1 and movers[0] not in taken:
        return _Handle(movers[0], None)
    own = [law.theta_names.index(name)] if name in law.theta_names else movers
    for k in [k for k in own if k not in taken and len(movers) > 1]:
        for link in (np.log, np.asarray):
            first, between, last = _along(law, name, k, centre_y, link)
            with np.errstate(invalid="ignore"):
                even = np.abs(first + _SHARE * (last - first) - between) <= _EXACT * np.abs(last - first)
            if np.all(even & (last != first)):
                return _Handle(k, link)
    return None


def _along(law: Law, name: str, k: int, centre_y: float, link: Callable[[Array], Array]) -> Array:
    """A linked parameter at the probes, with theta[k] at the lower end, between, at the upper end: [3, probes]."""
    low, high = _box(law)
    rows = []
    for at in (low[k], low[k] + _SHARE * (high[k] - low[k]), high[k]):
        theta = _probes(law)
        theta[:, k] = at
        with np.errstate(all="ignore"):
            rows.append(link(law.parameters(theta, centre_y)[name]))
    return np.array(rows)


def _alike(law: Law, names: tuple[str, str], handles: tuple[_Handle, _Handle], centre_y: float) -> bool:
    """Whether two parameters are the same function of their theta."""
    if any(handle.link for handle in handles):
        return handles[0].link is handles[1].link
    low, high = (np.max(ends[[h.index for h in handles]]) for ends in _box(law))
    theta = np.tile(_probes(law)[:1], (3, 1))
    for handle in handles:
        theta[:, handle.index] = np.linspace(low, high, 3)
    first, second = (law.parameters(theta, centre_y)[name] for name in names)
    return bool(np.allclose(first, second, rtol=1e-12, atol=0))


def _box(law: Law) -> tuple[Array, Array]:
    """Finite ends inside the bounds of each theta, [all] each."""
    low = np.clip(-1.0, law.low, law.high)
    high = np.clip(1.0, low, law.high)
    narrow = high - low < 1e-3
    return np.where(narrow, np.maximum(law.low, high - 1.0), low), high


def _probes(law: Law) -> Array:
    """Points inside the bounds at which a law is examined, [probes, all]."""
    low, high = _box(law)
    return np.asarray(np.random.default_rng(0).uniform(low, high, size=(_PROBES, low.size)))


def _inverses(law: Law, name: str, k: int, ends: tuple[float, float], centre_y: float) -> tuple[float, float]:
    """The range of theta[k] for that of a parameter, monotone in it alone; the bound of theta for an end beyond."""
    theta = _probes(law)[:1]

    def value(at: float) -> float:
        theta[0, k] = at
        with np.errstate(over="ignore"):
            return float(law.parameters(theta, centre_y)[name][0])

    low, high = _box(law)
    sign = 1.0 if value(float(high[k])) > value(float(low[k])) else -1.0
    rising = sorted(sign * end for end in ends)
    first, last = (_root(lambda at: sign * value(at), end, law, k) for end in rising)
    slack = [_EXACT * abs(end) for end in rising]
    if sign * value(last) < rising[0] - slack[0] or sign * value(first) > rising[1] + slack[1]:
        least, most = sorted((value(float(law.low[k])), value(float(law.high[k]))))
        raise ValueError(f"{name!r} cannot be {ends[0]:g}; expected {least:g} to {most:g}")
    return first, last


def _root(value: Callable[[float], float], end: float, law: Law, k: int) -> float:
    """Where the value reaches an end as theta[k] rises between its bounds; else the nearer bound."""

    def below(at: float) -> bool:
        return value(at) < end

    (low, high), step = (float(ends[k]) for ends in _box(law)), 1.0
    while below(high) and high < law.high[k]:
        low, high, step = high, min(high + step, float(law.high[k])), 2 * step
    while not below(low) and low > law.low[k]:
        low, high, step = max(low - step, float(law.low[k])), low, 2 * step
    if not below(low):
        return low
    for _ in range(_HALVINGS):
        middle = low + (high - low) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return high
