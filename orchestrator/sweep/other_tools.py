"""Sweep files of other tools: W&B, Hydra and Optuna are recognised, and read as plain axes and ranges.

Names are those of their documentation: W&B's `parameters` with `values`, `min`, `max` and `distribution`; Hydra's
`hydra.sweeper.params` with `choice(...)`, `range(...)`, `interval(...)`, `tag(log, ...)` and values between commas;
and Optuna's distributions, by `type`, `low`, `high`, `log`, `step` and `choices`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

WANDB, HYDRA, OPTUNA = "a W&B sweep file", "a Hydra config", "an Optuna search space"


@dataclass(frozen=True)
class Axis:
    """What another tool varies: the name there, and values, or a range."""

    name: str
    values: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    note: str = ""


@dataclass(frozen=True)
class ForeignSweep:
    """A file of another tool: what it varies, how it searches, and what has no place with us."""

    kind: str
    axes: list[Axis]
    name: str = ""
    method: str = "grid"
    metric: str = ""
    trials: int | None = None
    pruner: str = ""
    left_out: list[str] = field(default_factory=list)


def kind_of(values: Any) -> str:
    """Which tool's file the values are of; empty for none that is known."""
    if not isinstance(values, dict) or "sweep" in values:
        return ""
    if isinstance(values.get("parameters"), dict) and {"method", "program", "metric", "command"} & values.keys():
        return WANDB
    sweeper = values.get("hydra", {}).get("sweeper") if isinstance(values.get("hydra"), dict) else None
    if isinstance(sweeper, dict) or "hydra.sweeper.params" in values:
        return HYDRA
    spaces = [value for value in values.values() if isinstance(value, dict) and _is_distribution(value)]
    return OPTUNA if spaces and len(spaces) == len(values) else ""


def foreign_sweep(values: dict[str, Any]) -> ForeignSweep:
    """The sweep of a file of which `kind_of` knows the tool."""
    read = {WANDB: _wandb, HYDRA: _hydra, OPTUNA: _optuna}
    return read[kind_of(values)](values)


# W&B


def _wandb(values: dict[str, Any]) -> ForeignSweep:
    method, metric = str(values.get("method", "grid")), values.get("metric")
    stops = values.get("early_terminate")
    return ForeignSweep(
        WANDB,
        list(_wandb_axes(values["parameters"], "")),
        str(values.get("name") or ""),
        {"bayes": "tpe"}.get(method, method),
        str(metric.get("name", "")) if isinstance(metric, dict) else "",
        values["run_cap"] if isinstance(values.get("run_cap"), int) else None,
        "hyperband" if isinstance(stops, dict) and stops.get("type") == "hyperband" else "",
        [
            f"{key}: {_short(value)}"
            for key, value in values.items()
            if key not in ("method", "metric", "parameters", "name", "run_cap", "early_terminate")
        ],
    )


def _wandb_axes(parameters: dict[str, Any], prefix: str) -> list[Axis]:
    axes = []
    for name, given in parameters.items():
        if isinstance(given, dict) and isinstance(given.get("parameters"), dict):
            axes += _wandb_axes(given["parameters"], f"{prefix}{name}.")
        else:
            axes.append(_wandb_axis(f"{prefix}{name}", given if isinstance(given, dict) else {"value": given}))
    return axes


def _wandb_axis(name: str, given: dict[str, Any]) -> Axis:
    if isinstance(given.get("values"), list):
        weighed = "the probabilities are left out" if "probabilities" in given else ""
        return Axis(name, tuple(given["values"]), note=weighed)
    if "value" in given:
        return Axis(name, (given["value"],))
    distribution = str(given.get("distribution", "uniform"))
    low, high = _number(given.get("min")), _number(given.get("max"))
    if low is None or high is None or "normal" in distribution or "inv" in distribution or "beta" in distribution:
        return Axis(name, note=f"{_short(given)} has no counterpart")
    if distribution in ("log_uniform", "q_log_uniform"):  # theirs are bounds of the natural logarithm
        if max(low, high) > math.log(1e38):
            return Axis(name, note=f"{_short(given)} is beyond every number here")
        low, high = (float(f"{math.exp(end):.6g}") for end in (low, high))
    quantum = _number(given.get("q"))
    note = f"the quantum {quantum:g} is left out" if quantum not in (None, 1) else ""
    return Axis(name, low=low, high=high, log="log" in distribution, note=note)


# Hydra


def _hydra(values: dict[str, Any]) -> ForeignSweep:
    sweeper = values.get("hydra", {}).get("sweeper", {}) if isinstance(values.get("hydra"), dict) else {}
    params = sweeper.get("params") or values.get("hydra.sweeper.params") or {}
    old = sweeper.get("search_space")
    axes = (
        [_override(name.lstrip("+"), given) for name, given in params.items()] if isinstance(params, dict) else []
    )
    if isinstance(old, dict):
        axes += [_distribution(name, given) for name, given in old.items() if isinstance(given, dict)]
    ranges = any(axis.low is not None for axis in axes)
    known = ("params", "search_space", "n_trials", "_target_", "study_name")
    return ForeignSweep(
        HYDRA,
        axes,
        str(sweeper.get("study_name") or ""),
        "tpe" if ranges else "grid",
        "",
        sweeper["n_trials"] if isinstance(sweeper.get("n_trials"), int) else None,
        "",
        [f"hydra.sweeper.{key}: {_short(value)}" for key, value in sweeper.items() if key not in known]
        + [
            f"{key}: {_short(value)}"
            for key, value in values.items()
            if key not in ("hydra", "hydra.sweeper.params")
        ],
    )


def _override(name: str, given: Any) -> Axis:
    """A sweep as Hydra's command line writes it: `1,2`, `choice(1,2)`, `range(1,9)`, `tag(log, interval(1,9))`."""
    if isinstance(given, list):
        return Axis(name, tuple(given))
    if not isinstance(given, str):
        return Axis(name, (given,))
    text, log, whole = given.strip(), False, False
    while call := re.fullmatch(r"(tag|int|float|shuffle|sort)\((.*)\)", text, re.DOTALL):
        parts = _split(call[2])
        log, whole = log or "log" in parts[:-1], whole or call[1] == "int"
        text = parts[-1] if call[1] == "tag" else parts[0]
    if call := re.fullmatch(r"(choice|range|interval|glob)\((.*)\)", text, re.DOTALL):
        return _call(name, call[1], _split(call[2]), log=log)
    return Axis(name, tuple(_scalar(part) for part in _split(text)))


def _call(name: str, function: str, parts: list[str], *, log: bool) -> Axis:
    if function == "choice":
        return Axis(name, tuple(map(_scalar, parts)))
    numbers = [_number(_scalar(part.rpartition("=")[2])) for part in parts]
    ends = [number for number in numbers if number is not None]
    if function == "glob" or len(ends) != len(parts) or not 1 <= len(ends) <= 3:
        return Axis(name, note=f"{function}({', '.join(parts)}) has no counterpart")
    if function == "interval" and len(ends) > 1:
        return Axis(name, low=ends[0], high=ends[1], log=log)
    low, high = (0.0, ends[0]) if len(ends) == 1 else (ends[0], ends[1])
    step = ends[2] if len(ends) == 3 else 1.0
    count = math.ceil((high - low) / step - 1e-9) if step > 0 else 0
    if not 1 <= count <= 10_000:
        return Axis(name, note=f"range({', '.join(parts)}) has {count} values")
    return Axis(name, tuple(_whole(low + step * i) for i in range(count)))


def _split(text: str) -> list[str]:
    """The parts between the commas that are outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote or character in "'\"":
            quote = "" if character == quote else quote or character
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


# Optuna


def _is_distribution(given: dict[str, Any]) -> bool:
    return bool({"low", "high"} <= given.keys() or "choices" in given or _attributes(given))


def _attributes(given: dict[str, Any]) -> dict[str, Any]:
    """Those of `distribution_to_json`: {"name": "FloatDistribution", "attributes": {...}}."""
    inner = given.get("attributes")
    return inner if isinstance(inner, dict) and ({"low", "high"} <= inner.keys() or "choices" in inner) else {}


def _optuna(values: dict[str, Any]) -> ForeignSweep:
    axes = [_distribution(name, _attributes(given) or given) for name, given in values.items()]
    return ForeignSweep(OPTUNA, axes, method="tpe")


def _distribution(name: str, given: dict[str, Any]) -> Axis:
    if isinstance(given.get("choices"), list):
        return Axis(name, tuple(given["choices"]))
    low, high, step = _number(given.get("low")), _number(given.get("high")), _number(given.get("step"))
    if low is None or high is None:
        return Axis(name, note=f"{_short(given)} has no counterpart")
    note = f"the step {step:g} is left out" if step not in (None, 1) else ""
    return Axis(name, low=low, high=high, log=given.get("log") is True, note=note)


def _number(value: Any) -> float | None:
    """A finite number, also where YAML 1.1 reads `1e-3` as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return _whole(number) if math.isfinite(number) else None


def _whole(number: float) -> float:
    rounded = float(f"{number:.12g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _scalar(text: str) -> Any:
    number = _number(text)
    words = {"true": True, "false": False, "null": None}
    return number if number is not None else words.get(text.lower(), text.strip("'\""))


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
