from __future__ import annotations

import inspect
from pathlib import Path
from types import FunctionType
from typing import Any

import pandas as pd
import pytest

import analysis
from analysis.table.arguments import checked
from tests.analysis import planted

FUNCTIONS: dict[str, FunctionType] = {
    name: value for name in analysis.__all__ if isinstance(value := getattr(analysis, name), FunctionType)
}
UNCHECKED = {"Kind", "Method", "Target", "Any", "Axes"}
"""Alternatives of annotations that the functions check themselves, or that anything fits."""
WRONG: dict[str, list[Any]] = {
    "bool": ["no", 1.6, None],
    "int": [-1, 2.5, True, "10"],
    "float": [0, -1.0, float("nan"), "1e18", True],
    "str": [3, ["error"], None],
    "Sequence[str]": [3, [1, 2]],
    "Sequence[float]": [3.0, [0.0], "1e18"],
    "pd.DataFrame": ["runs.csv", 3],
    "SurfaceFit": [pd.DataFrame({"a": [1]}), "chinchilla"],
    "LawFit": [pd.DataFrame({"a": [1]}), "power"],
    "IsoflopFit": [pd.DataFrame({"a": [1]})],
    "LearningRates": [None],
    "Validation": [None],
    "Price": [6.0],
    "Chart": [None],
}


def parameters():
    for name, function in FUNCTIONS.items():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is not parameter.VAR_KEYWORD:
                yield name, parameter


def stand_in(annotation):
    """A value of the right kind that is never used."""
    kind = annotation.partition(" | ")[0]
    known = {"pd.DataFrame": pd.DataFrame({"a": [1.0]}), "str": "a", "float": 1.0, "Path": Path("a")}
    if kind.startswith(("Mapping", "Callable")):
        return {} if kind.startswith("Mapping") else len
    return known[kind] if kind in known else type(kind, (), {})()


@pytest.mark.parametrize(("name", "parameter"), [pytest.param(*p, id=f"{p[0]}-{p[1].name}") for p in parameters()])
def test_every_argument_of_every_public_function_is_checked(name, parameter):
    kinds = str(parameter.annotation).split(" | ")
    if UNCHECKED & set(kinds):
        return
    wrong = [value for kind in kinds for value in WRONG.get(kind, [])] or [3]
    right: dict[str, tuple[type, ...]] = {
        "None": (type(None),),
        "str": (str,),
        "Sequence[str]": (list,),
        "float": (float,),
    }
    allowed = tuple(kind for name in kinds[1:] for kind in right.get(name, ()))
    for value in wrong:
        if kinds[1:] and isinstance(value, allowed):
            continue
        given = {
            other.name: stand_in(str(other.annotation))
            for other in inspect.signature(FUNCTIONS[name]).parameters.values()
            if other.default is other.empty and other.kind is not other.VAR_KEYWORD
        }
        with pytest.raises(ValueError, match=rf"^{parameter.name} is .*; expected ") as refusal:
            FUNCTIONS[name](**given | {parameter.name: value})
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "fit_by"])  # takes those of the fit
def test_an_unknown_argument_of_every_public_function_is_named_with_the_nearest(name):
    nearest = next(iter(inspect.signature(FUNCTIONS[name]).parameters))
    if any(str(part.annotation) == "Any" for part in inspect.signature(FUNCTIONS[name]).parameters.values()):
        return  # it passes them on
    if inspect.signature(FUNCTIONS[name]).parameters[nearest].kind is inspect.Parameter.KEYWORD_ONLY:
        nearest = "alpha"
    with pytest.raises(TypeError, match=rf"unknown option '{nearest}_' of {name}; did you mean '{nearest}'"):
        FUNCTIONS[name](**{f"{nearest}_": 1})


def test_a_misspelt_flag_of_a_power_law_is_not_taken_for_an_option():
    with pytest.raises(TypeError, match="unknown option 'flor' of fit_power_law; did you mean 'floor'"):
        analysis.fit_power_law(planted.law(), flor=False)  # type: ignore[call-arg]


def test_right_arguments_pass_and_the_function_keeps_its_name_and_help():
    table = planted.surface()
    fit = analysis.fit_surface(table, "params", "examples", "loss", resamples=0)
    assert analysis.optimum(fit, 1e18).n.value > 0
    assert analysis.fit_surface.__name__ == "fit_surface"
    assert "resamples" not in inspect.signature(analysis.fit_surface).parameters
    assert analysis.fit_surface is analysis.fit_surface


def test_a_long_value_is_told_by_its_type():
    with pytest.raises(ValueError, match=r"^y is a list; expected a name$"):
        checked(analysis.average_seeds)(planted.law(), y=["error"] * 40)  # type: ignore[arg-type]
