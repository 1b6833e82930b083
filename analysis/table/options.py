"""The keywords that every fit takes, and what values they accept."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypedDict

import numpy as np

from analysis.laws.base import Constraints

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.laws.newton import Residuals

Bootstrap = Literal["pairs", "wild", "parametric"]


class OptionNames(TypedDict, total=False):
    """The keywords that every fit takes; see `Options`."""

    loss: Literal["huber", "squares"]
    delta: float | None
    residuals: Residuals
    quantile: float
    weights: str | None
    sd: str | None
    bootstrap: Bootstrap
    by: str
    run: str | None
    cell: str | None
    resamples: int
    level: float
    seed: int
    fix: Mapping[str, float] | None
    tie: Sequence[str] | Sequence[Sequence[str]] | None
    bounds: Mapping[str, tuple[float, float]] | None
    pool: bool


@dataclass(frozen=True)
class Options:
    """How a law is fitted and its intervals are computed.

    Attributes:
        loss: "huber" on the residuals, or "squares".
        delta: Huber's threshold in the unit of the residuals (log y, or y). None takes it from the data,
            1.345 x 1.4826 x MAD after a pilot fit; Hoffmann et al. 2022 use 1e-3 on log residuals.
        residuals: "log" (relative errors) or "raw".
        quantile: 0.5 for the law through the middle; smaller for a lower envelope: residuals above the law
            count 2 quantile, those below 2 (1 - quantile).
        weights: column of weights on the loss, > 0.
        sd: column of the standard deviation of y among seeds, as from `average_seeds`; each residual is divided
            by it. A deviation from few seeds is moderated towards the pooled one (four degrees of freedom).
        bootstrap: "pairs" draws rows (or clusters of rows) with replacement and assumes nothing about their noise.
            "wild" keeps the design and gives the residuals of each cluster a random sign; "parametric" draws
            Gaussian noise with the robust spread of the residuals. Both assume that the law holds, the last one
            also that the noise is equal.
        by: the unit that is resampled. "auto": rows that share a `run_id` (records of one run), otherwise rows;
            "row": rows; "seed": runs inside every cell (`cell_id`), so that intervals contain the noise of seeds
            only; or the name of a column: rows that share its value.
        run: column that names the run of each row, where it is not `run_id` and cannot be told from the table.
        cell: column whose equal values are repeats of one design, where it is not `cell_id`.
        resamples: bootstrap resamples; 0 for no intervals.
        level: nominal coverage of the intervals, in (0, 1).
        seed: seed of the resampling; the same call gives the same result.
        fix: parameter -> its known value, such as {"floor": 1.6}.
        tie: two parameters that are equal, such as ("alpha", "beta"), or a list of such pairs.
        bounds: parameter -> (smallest, largest) value, such as {"alpha": (0.2, 0.6)}; an end may be infinite.
            These three are in the units of the data, and intervals are those of the law under them.
        pool: whether populations that do not share the law are fitted together all the same; without it such a fit
            is rejected (`analysis.table.groups`), with it the test is among the warnings.
    """

    loss: Literal["huber", "squares"] = "huber"
    delta: float | None = None
    residuals: Residuals = "log"
    quantile: float = 0.5
    weights: str | None = None
    sd: str | None = None
    bootstrap: Bootstrap = "pairs"
    by: str = "auto"
    run: str | None = None
    cell: str | None = None
    resamples: int = 1000
    level: float = 0.95
    seed: int = 0
    fix: Mapping[str, float] | None = None
    tie: Sequence[str] | Sequence[Sequence[str]] | None = None
    bounds: Mapping[str, tuple[float, float]] | None = None
    pool: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            check_option(field.name, getattr(self, field.name))
        if self.by == "seed" and self.bootstrap != "pairs":
            raise ValueError(f"by is 'seed' with bootstrap {self.bootstrap!r}; 'seed' needs bootstrap 'pairs'")
        if self.delta is not None and self.loss != "huber":
            raise ValueError(f"delta is {self.delta!r} with loss {self.loss!r}; a threshold needs loss 'huber'")
        if both := sorted({*(self.fix or ())} & {*(self.bounds or ())}):
            raise ValueError(f"{both[0]!r} is in fix and in bounds; expected one of them")

    @property
    def constraints(self) -> Constraints:
        """What the caller knows of the parameters."""
        tie: Any = [self.tie] if _is_pair(self.tie) else self.tie or ()
        pairs = tuple((str(first), str(second)) for first, second in tie)
        bounds = {name: (float(low), float(high)) for name, (low, high) in (self.bounds or {}).items()}
        return Constraints({name: float(value) for name, value in (self.fix or {}).items()}, pairs, bounds)

    @classmethod
    def names(cls) -> list[str]:
        """The names of all options."""
        return [field.name for field in fields(cls)]

    @classmethod
    def of(cls, given: Mapping[str, Any], *, unused: Mapping[str, str] | None = None) -> Options:
        """Options from keywords; `unused` maps those without a meaning for the fit to the reason.

        Raises:
            TypeError: there is no option of this name.
            ValueError: a value is not valid, or the fit has no use for it.
        """
        names = cls.names()
        for name in given:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(names)}"
                raise TypeError(f"unknown option {name!r}; {hint}")
            if name in (unused or {}):
                raise ValueError(f"{name!r} has no use here: {(unused or {})[name]}")
        return cls(**given)


def check_option(name: str, value: Any) -> None:
    """Raise a ValueError that says what is right where `value` is not a valid option `name`."""
    valid, expected = _VALID[name]
    if not valid(value):
        refuse(name, value, expected)


def refuse(name: str, value: Any, expected: str) -> NoReturn:
    """Raise the ValueError of an argument: what was found, what would be right, on one line."""
    shown = repr(_plain(value))
    if len(shown) > _SHOWN or "\n" in shown:
        shown = f"a {type(value).__name__}"
    raise ValueError(f"{name} is {shown}; expected {expected}")


def _plain(value: Any) -> Any:
    """A value without numpy's types, whose repr would name them."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in {list, tuple}:
        return type(value)(map(_plain, value))
    return {_plain(key): _plain(item) for key, item in value.items()} if type(value) is dict else value


def _one_of(*choices: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: isinstance(value, str) and value in choices, " or ".join(map(repr, choices))


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return type(value) is not bool and isinstance(value, Real) and math.isfinite(value)


def is_count(value: Any) -> bool:
    """Whether a value is a whole number, 0 or more."""
    return type(value) is not bool and isinstance(value, Integral) and int(value) >= 0


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(map(_is_name, value)) and value[0] != value[1]


def _is_range(value: Any) -> bool:
    if not (isinstance(value, Sequence) and len(value) == 2):
        return False
    return all(isinstance(end, Real) and not isinstance(end, bool) for end in value) and value[0] < value[1]


def _are_named(valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a value is None, or a mapping from names to valid values."""
    return lambda value: (
        value is None
        or (isinstance(value, Mapping) and all(_is_name(name) and valid(each) for name, each in value.items()))
    )


def _are_pairs(value: Any) -> bool:
    if value is None or _is_pair(value):
        return True
    return isinstance(value, Sequence) and not isinstance(value, str) and all(map(_is_pair, value))


def is_flag(value: Any) -> bool:
    """Whether a value is True or False."""
    return isinstance(value, bool | np.bool_)


_SHOWN = 60
"""Length of a value's text beyond which only its type is told."""
NAMED = ("resamples", "level", "seed", "floor", "shift", "chance")
"""Arguments that mean the same in every function."""
_FRACTION = (lambda value: is_number(value) and 0 < value < 1, "a fraction between 0 and 1 such as {}")
_COLUMN = (lambda value: value is None or _is_name(value), "the name of a column, or None")
_FLAG = (is_flag, "True or False; a known value is fix={{'{}': value}}")
_VALID: dict[str, tuple[Callable[[Any], bool], str]] = {
    "loss": _one_of("huber", "squares"),
    "delta": (lambda value: value is None or (is_number(value) and value > 0), "a threshold > 0, or None"),
    "residuals": _one_of("log", "raw"),
    "quantile": (_FRACTION[0], _FRACTION[1].format(0.5)),
    "weights": _COLUMN,
    "sd": _COLUMN,
    "bootstrap": _one_of("pairs", "wild", "parametric"),
    "run": _COLUMN,
    "cell": _COLUMN,
    "by": (_is_name, "'auto', 'row', 'seed' or the name of a column"),
    "resamples": (is_count, "0 (no intervals) or more, such as 1000"),
    "level": (_FRACTION[0], _FRACTION[1].format(0.95)),
    "seed": (is_count, "a whole number, 0 or more"),
    "chance": (
        lambda value: value is None or (is_number(value) and value > 0),
        "y of a model that has learnt nothing, such as 0.9, or None",
    ),
    "fix": (_are_named(is_number), "parameters and their values such as {'floor': 1.6}, or None"),
    "tie": (_are_pairs, "two names such as ('alpha', 'beta'), a list of such pairs, or None"),
    "bounds": (_are_named(_is_range), "parameters and their ranges such as {'alpha': (0.2, 0.6)}, or None"),
    "floor": (_FLAG[0], _FLAG[1].format("floor")),
    "shift": (_FLAG[0], _FLAG[1].format("shift")),
    "pool": (_FLAG[0], "True or False"),
}
