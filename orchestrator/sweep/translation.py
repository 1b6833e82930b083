"""A sweep file of ours from one of W&B, Hydra or Optuna, with comments on what could not be translated."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from orchestrator.sweep.cells import SECTIONS
from orchestrator.sweep.other_tools import ForeignSweep, foreign_sweep, kind_of
from orchestrator.sweep.search_space import SEARCHED, WHOLE
from orchestrator.sweep.sweep import BudgetSection, DataSection, ModelSection, TrainSection
from orchestrator.sweep.yaml_source import YAMLError, parse
from trainer.errors import UserError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from orchestrator.sweep.other_tools import Axis

_MODELS: dict[str, type[BaseModel]] = {
    "data": DataSection,
    "model": ModelSection,
    "train": TrainSection,
    "budget": BudgetSection,
}
_KEYS = {key: section for section, model in _MODELS.items() for key in model.model_fields if key != "preset"}
_SYNONYMS = {
    "lr": ("learning_rate", "base_lr", "init_lr", "max_lr", "eta"),
    "width": ("hidden_size", "hidden_dim", "hidden", "n_hidden", "d_model", "units", "fc_layer_size", "n_units"),
    "depth": ("num_layers", "n_layers", "layers", "n_blocks", "num_blocks"),
    "batch_size": ("bs", "train_batch_size", "batchsize", "batch"),
    "epochs": ("num_epochs", "n_epochs", "max_epochs", "epoch", "num_train_epochs"),
    "weight_decay": ("wd", "l2"),
    "optimizer": ("optim", "opt", "optimizer_name"),
    "schedule": ("lr_scheduler", "scheduler", "lr_schedule"),
    "dropout": ("dropout_rate", "p_dropout", "drop_rate"),
    "clip": ("grad_clip", "max_grad_norm", "clip_grad_norm", "gradient_clip_val"),
    "warmup": ("warmup_ratio", "warmup_fraction"),
    "label_smoothing": ("smoothing",),
    "dataset": ("data", "dataset_name", "db"),
    "dataset_size": ("n_train", "train_size", "num_samples"),
    "seeds": ("seed", "random_seed", "random_state"),
}
_NAMES = {word: key for key, words in _SYNONYMS.items() for word in words} | {key: key for key in (*_KEYS, "seeds")}
_WORDS = {"optimizer": {"adam": "adamw"}, "schedule": {"none": "constant", "step": "constant"}}
_FILLED: dict[str, tuple[str, Any]] = {
    "dataset": ("data", "digits"),
    "width": ("model", 64),
    "epochs": ("budget", 10),
}
"""What a sweep needs, and the value of a file that does not give it."""


def translate(name: str, text: str, sweep: str) -> str:
    """The text of a sweep file like one of W&B, Hydra or Optuna. Raises UserError if it is of none of them.

    Args:
        name: of the file that is translated.
        text: its content.
        sweep: what to call the sweep if the file has no name.
    """
    try:
        values, _ = parse(name, text)
    except YAMLError as error:
        line, message = error.complaints[0]
        raise UserError(f"{name}:{line}: {message}") from error
    if not kind_of(values):
        raise UserError(f"{name}: it is no sweep file of W&B, Hydra or Optuna")
    return _Translation(foreign_sweep(values)).text(name, sweep)


class _Translation:
    """The parts of a sweep file, gathered axis by axis."""

    def __init__(self, source: ForeignSweep) -> None:
        self.source = source
        self.notes = [f"not translated: {text}" for text in source.left_out]
        self.sections: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
        self.parameters: dict[str, str] = {}
        self.seeds = "1"
        self._searches = source.method != "grid"
        for axis in source.axes:
            self._add(axis)
        self._fill()

    def text(self, name: str, sweep: str) -> str:
        """The file."""
        title = re.sub(r"[^A-Za-z0-9._-]+", "-", self.source.name).strip("-._")[:64] or sweep
        lines = [f"# translated from {name}, {self.source.kind}", *(f"# {note}" for note in self.notes)]
        lines.append(f"sweep: {title}")
        for section, keys in self.sections.items():
            if keys:
                lines.append(f"{section}: {{{', '.join(f'{key}: {value}' for key, value in keys.items())}}}")
        lines.append(f"seeds: {self.seeds}")
        if self.parameters:
            lines += ["search:", f"  method: {self._method()}", f"  metric: {self._metric()}"]
            lines += [f"  trials: {self.source.trials}"] if self.source.trials else []
            lines += [f"  pruner: {self.source.pruner}"] if self.source.pruner else []
            lines += ["  parameters:", *(f"    {key}: {value}" for key, value in self.parameters.items())]
        return "\n".join(lines) + "\n"

    def _method(self) -> str:
        return self.source.method if self.source.method in ("tpe", "random", "grid") else "tpe"

    def _metric(self) -> str:
        return "val_loss" if "loss" in self.source.metric.lower() else "val_error"

    def _add(self, axis: Axis) -> None:
        """Place an axis in a section or in the search, or say why it has no place."""
        key = _NAMES.get(re.split(r"[./]", axis.name)[-1].lower().replace("-", "_"))
        if axis.low is None and not axis.values:
            self._leave(axis, axis.note or "it has no values")
        elif key is None:
            self._leave(axis, "no setting of that name")
        elif key == "seeds":
            self._set_seeds(axis)
        elif axis.values:
            self._set_values(axis, key)
        else:
            self._set_range(axis, key)
        if axis.note and (axis.values or axis.low is not None):
            self.notes.append(f"{axis.name}: {axis.note}")

    def _leave(self, axis: Axis, why: str) -> None:
        self.notes.append(f"not translated: {axis.name}: {why}")

    def _set_seeds(self, axis: Axis) -> None:
        whole = [
            value for value in axis.values if isinstance(value, int) and not isinstance(value, bool) and value >= 0
        ]
        if whole and len(set(whole)) == len(axis.values):
            self.seeds = str(whole)
        else:
            self._leave(axis, "seeds are a list of whole numbers")

    def _set_values(self, axis: Axis, key: str) -> None:
        words = _WORDS.get(key, {})
        values = [
            words.get(value.lower(), value.lower()) if isinstance(value, str) else value for value in axis.values
        ]
        if values != list(axis.values):
            self.notes.append(f"{axis.name}: {list(axis.values)} became {values}")
        if why := _misfit(key, values):
            self._leave(axis, why)
            return
        listed = ", ".join(map(_yaml, values))
        if self._searches and len(values) > 1 and key in SEARCHED:
            self.parameters[key] = f"{{values: [{listed}]}}"
        elif len(values) > 1 and key == "dataset":
            self._leave(axis, "a sweep has one data set; write a file for each")
        else:
            self.sections[_KEYS[key]][key] = f"[{listed}]" if len(values) > 1 else listed

    def _set_range(self, axis: Axis, key: str) -> None:
        if key not in SEARCHED:
            self._leave(axis, f"a search does not vary {key}; write a list of values")
            return
        low, high = (round(end) if key in WHOLE else end for end in (axis.low, axis.high) if end is not None)
        if low >= high or (axis.log and low <= 0):
            self._leave(axis, f"its range is {low} to {high}")
        elif why := _misfit(key, [low, high]):
            self._leave(axis, why)
        else:
            log = ", log: true" if axis.log else ""
            self.parameters[key] = f"{{from: {_yaml(low)}, to: {_yaml(high)}{log}}}"

    def _fill(self) -> None:
        """Give what a sweep needs and the file does not."""
        if self.parameters and self.source.method == "grid":
            self.notes.append("a grid of ranges became a search by tpe")
            self.source = replace(self.source, method="tpe")
        if self.parameters and "validation" not in self.sections["data"]:
            self.sections["data"]["validation"] = "0.1"
            self.notes.append("chosen here: validation 0.1, by which trials are compared")
        given = {key for keys in self.sections.values() for key in keys} | set(self.parameters)
        for key, (section, value) in _FILLED.items():
            others = {"width": {"name"}, "epochs": {"flops", "examples"}}.get(key, set())
            if not given & {key, *others}:
                self.sections[section] = {key: str(value), **self.sections[section]}
                self.notes.append(f"chosen here: {key} {value}, which the file does not give")


def _misfit(key: str, values: list[Any]) -> str:
    """Why a key cannot have these values; empty if it can."""
    try:
        _MODELS[_KEYS[key]].model_validate({key: values if key != "dataset" else values[0]})
    except ValidationError as error:
        first = error.errors()[0]
        return f"{first['input']!r} does not fit {key}: {first['msg']}"[:200].replace("\n", " ")
    return ""


def _yaml(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w+.-]*", value) else repr(value)
