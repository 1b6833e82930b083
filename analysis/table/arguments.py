"""Checks of the arguments of public functions, by their annotations."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from analysis.table.options import NAMED, Options, check_option, is_count, is_flag, is_number, refuse

P = ParamSpec("P")
R = TypeVar("R")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which then checks its arguments before it runs.

    An unknown keyword is a TypeError that names the nearest; a value that does not match its annotation is a
    ValueError that says what does. Every number is positive. Annotations that are not known here are not checked.
    """
    signature = inspect.signature(function)
    named = [p.name for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    rest = [str(p.annotation) for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
    known = [*named, *(Options.names() if rest else ())]

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs if "Any" not in rest else ():  # the function checks keywords of any kind itself
            if name not in known and name in Options.names():
                own = ", ".join(sorted({*named} & {*Options.names()})) or "none of them"
                raise TypeError(
                    f"{name!r} is an option of fits that {function.__name__} does not take; it takes {own}"
                )
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(known)}"
                raise TypeError(f"unknown option {name!r} of {function.__name__}; {hint}")
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if name in NAMED:
                check_option(name, value)
            elif name in named:
                _check(name, value, str(signature.parameters[name].annotation))
        return function(*args, **kwargs)

    return call


def _check(name: str, value: Any, annotation: str) -> None:
    kinds = [_kind(part) for part in annotation.split(" | ")]
    known = [kind for kind in kinds if kind]
    if len(known) < len(kinds) or any(valid(value) for valid, _ in known):
        return
    refuse(name, value, " or ".join(dict.fromkeys(expected for _, expected in known)))


def _kind(annotation: str) -> tuple[Callable[[Any], bool], str] | None:
    """The check of one alternative of an annotation and what it expects; None where it is not known."""
    if annotation.startswith(("Mapping[", "Callable[")):
        return _KINDS[annotation.partition("[")[0]]
    if annotation in _RESULTS:
        return lambda value: annotation in [kind.__name__ for kind in type(value).__mro__], _RESULTS[annotation]
    return _KINDS.get(annotation)


def _is_size(value: Any) -> bool:
    return is_number(value) and value > 0


def _are(valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a value is a sequence, not a text, of valid ones."""

    def check(value: Any) -> bool:
        listed = hasattr(value, "__len__") and hasattr(value, "__iter__") and not isinstance(value, str | Mapping)
        return listed and all(map(valid, value.tolist() if isinstance(value, np.ndarray) else value))

    return check


def _is_table(value: Any) -> bool:
    return any(kind.__name__ == "DataFrame" for kind in type(value).__mro__)  # pandas need not be imported


_NAMES = "several names such as ['params', 'examples']"
_NUMBERS = "several numbers > 0"
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "None": (lambda value: value is None, "None"),
    "str": (lambda value: isinstance(value, str), "a name"),
    "bool": (is_flag, "True or False"),
    "int": (is_count, "a whole number, 0 or more"),
    "float": (_is_size, "a number > 0"),
    "pd.DataFrame": (_is_table, "a DataFrame"),
    "Mapping": (lambda value: isinstance(value, Mapping), "a mapping by name"),
    "Sequence[str]": (_are(lambda value: isinstance(value, str)), _NAMES),
    "Sequence[float]": (_are(_is_size), _NUMBERS),
    "tuple[float, ...]": (_are(_is_size), _NUMBERS),
    "tuple[str, ...]": (_are(lambda value: isinstance(value, str)), "several texts"),
    "tuple[Any, Any]": (lambda value: isinstance(value, tuple | list) and len(value) == 2, "two values"),
    "Path": (lambda value: isinstance(value, Path), "a path"),
    "Callable": (callable, "a function"),
}
_RESULTS = {
    "LawFit": "a law from fit_law, fit_power_law or fit_surface",
    "SurfaceFit": "a surface from fit_surface",
    "Forms": "the result of fit_forms",
    "IsoflopFit": "the result of fit_isoflop",
    "LearningRates": "the result of best_learning_rates",
    "Validation": "the result of validate",
    "Fitted": "fits that exist already, as analysis.checks.agreement.Fitted",
    "Price": "a Price, as from fit_price",
    "Chart": "a Chart, as from describe_law",
}
