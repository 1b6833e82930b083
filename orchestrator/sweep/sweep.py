"""The sections and keys of a sweep file. A list is an axis, axes multiply; `cells:` are added to the grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    create_model,
    model_validator,
)
from pydantic_core import core_schema

from orchestrator.sweep import formula as formulas
from orchestrator.sweep import ranges
from orchestrator.sweep.yaml_source import Location, Source
from trainer.errors import UserError
from trainer.fields import LARGEST
from trainer.presets import Preset
from trainer.spec import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

    from trainer.fields import Kind
    from trainer.registry import Registry

T = TypeVar("T")
S = TypeVar("S", bound=BaseModel)
Method = Literal["tpe", "random", "grid", "gp", "cmaes"]
Metric = Literal["val_error", "val_loss"]
Distribution = Literal["uniform", "log_uniform", "int_uniform", "int_log_uniform", "categorical"]
Pruner = Literal["none", "median", "successive_halving", "hyperband"]
FIRST_STAGE = "train"
"""The stage of the runs that `then:` follows."""


def _not_bohb(value: Any) -> Any:
    if value == "bohb":
        raise ValueError(
            "bohb was removed; use method: tpe with pruner: hyperband or successive_halving (which is ASHA), "
            "or scheduler: hyperband or asha"
        )
    return value


TuneScheduler = Annotated[Literal["asha", "hyperband", "pbt"], BeforeValidator(_not_bohb)]


def _distinct(values: list[T]) -> list[T]:
    seen = set[T]()
    for value in values:
        if value in seen:
            raise ValueError(f"{value!r} is given twice in this list")
        seen.add(value)
    return values


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value  # 1e4 examples


def _a_whole(least: int, most: float) -> Any:
    return Annotated[int, Field(ge=least, le=int(most)), BeforeValidator(_whole)]


Points = Annotated[int, Field(ge=1, le=ranges.MOST_VALUES), BeforeValidator(_whole)]
Trials = Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(_whole)]
Batch = Annotated[int, Field(ge=1, le=10_000), BeforeValidator(_whole)]
Seed = Annotated[int, Field(ge=0, le=LARGEST), BeforeValidator(_whole)]
Positive = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]
Word = Annotated[str, Field(min_length=1)]


class EntryOf:
    """A name of a registry's entry; the JSON Schema offers those that are known and takes any `module:name`."""

    def __init__(self, registry: Registry[Any]) -> None:
        self._registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._valid, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        plain = handler(schema)
        return {"anyOf": [{**plain, "enum": self._registry.names()}, {**plain, "pattern": ":"}]}

    def _valid(self, name: str) -> str:
        try:
            self._registry.get(name)
        except (LookupError, TypeError) as error:
            raise ValueError(str(error)) from error
        return name


class _OrFormula:
    """A number, or a formula of other settings."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._valid, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        formula = {
            "type": "string",
            "title": "Formula",
            "pattern": formulas.PATTERN,
            "description": "a formula of other settings, such as 1e-3 * 64 / width",
        }
        return {"anyOf": [handler(schema["schema"]), formula]}

    @staticmethod
    def _valid(value: Any, number: Callable[[Any], Any]) -> Any:
        return formulas.parse(value) if isinstance(value, str) and formulas.is_formula(value) else number(value)


class _OneOrMany:
    """An axis is a value, a list of values or, of numbers, a range; as its schema says."""

    def __init__(self, number: type) -> None:
        self._number = number

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._values, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        several = handler(schema["schema"])
        return {"anyOf": [several["items"], several, *([] if self._number is str else [ranges.SCHEMA])]}

    def _values(self, value: Any) -> Any:
        if self._number is not str and ranges.is_range(value):
            return ranges.values_of(value, whole=self._number is int)
        return value if isinstance(value, list) else [value]


def _axis(value: Any, number: type) -> Any:
    """The type of an axis whose values are of a type."""
    axis: Any = list
    return Annotated[axis[value], Field(min_length=1), AfterValidator(_distinct), _OneOrMany(number)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The keys that `_keys_of_run_spec` adds."""


def _value(kind: Kind) -> Any:
    """The type of a value in a sweep file, by the kind of the field of RunSpec."""
    if kind.registry is not None:
        return Annotated[str, EntryOf(kind.registry)]
    if kind.choices:
        return Literal[kind.choices]
    if kind.number is str:
        return Word
    numbers: dict[str, Any] = {
        "whole": _a_whole(1, kind.most),
        "count": _a_whole(0, kind.most),
        "positive": Annotated[float, Field(gt=0, le=kind.most, allow_inf_nan=False)],
        "non-negative": Annotated[float, Field(ge=0, le=kind.most, allow_inf_nan=False)],
        "share": Annotated[float, Field(ge=0, lt=1)],
        "part": Annotated[float, Field(gt=0, le=1)],
    }
    return Annotated[numbers[kind.name], _OrFormula()]


def _keys_of_run_spec(*sections: str) -> Callable[[type[S]], type[S]]:
    """Decorate a model with a key for every field of RunSpec that belongs to one of the sections."""
    keys: dict[str, Any] = {}
    for name, field in SETTINGS.items():
        if field.section in sections and (field.axis or len(sections) == 1):
            values = _axis(_value(field.kind), field.kind.number) if field.axis else _value(field.kind)
            keys[field.key or name] = (values | None, Field(None, description=field.description))

    def decorate(model: type[S]) -> type[S]:
        return create_model(model.__name__, __base__=model, __doc__=model.__doc__, __module__=__name__, **keys)

    return decorate


Names = Annotated[list[Word], Field(min_length=1), AfterValidator(_distinct), _OneOrMany(str)]
"""Names of models."""


@_keys_of_run_spec("data")
class DataSection(_Section):
    """The data set, by name (`data list`), or with a `path`: class folders, an archive, or an .npz file."""


@_keys_of_run_spec("model")
class ModelSection(_Section):
    """The models: by `name` (B-6/Wi-256), or by family, depth and width."""

    name: Names | None = Field(default=None, description="the paper's names, e.g. B-6/Wi-256, S-6/Wi-1024")


@_keys_of_run_spec("train")
class TrainSection(_Section):
    """The recipe, by the name of a preset or key by key; other keys override the preset."""

    preset: Preset | None = Field(
        default=None, description="a recipe of the paper; also sets data.augment and mixup"
    )


@_keys_of_run_spec("budget")
class BudgetSection(_Section):
    """How long every run trains: one of three."""


@_keys_of_run_spec("data", "model", "train", "budget")
class ZipGroup(_Section):
    """Settings whose values are paired in order: the first of each, the second of each, and so on."""

    name: Names | None = Field(default=None, description="the paper's names of models")


class Limits(_Section):
    """What the whole sweep may spend; runs beyond it are blocked."""

    total_flops: Positive | None = Field(
        default=None, description="training FLOPs, those of lost attempts included"
    )
    gpu_hours: Positive | None = Field(default=None, description="hours of whole GPUs")
    hours: Positive | None = Field(default=None, description="hours in which any of its runs was training")


def _parameter_schema(schema: dict[str, Any]) -> None:
    keys = schema["properties"]
    schema["properties"] = keys | {word: keys[key] for word, key in _RANGE_WORDS.items()}


_RANGE_WORDS = {"from": "min", "to": "max", "steps": "points"}


class Parameter(_Section):
    """What a search may try for one hyper-parameter: `values`, or a range from `min` to `max`.

    A range may be written like an axis: `{from: 1e-4, to: 1e-1, log: true}`.
    """

    model_config = ConfigDict(json_schema_extra=_parameter_schema)

    values: list[Any] | None = Field(None, min_length=1, description="what is tried")
    min: float | None = Field(None, allow_inf_nan=False, description="the smallest value")
    max: float | None = Field(None, allow_inf_nan=False, description="the largest value")
    distribution: Distribution | None = Field(
        None, description="default: categorical for values, int_uniform for whole numbers, else uniform"
    )
    log: bool | None = Field(None, description="true: a log distribution")
    points: Points | None = Field(None, description="grid only: number of values from min to max")

    @model_validator(mode="before")
    @classmethod
    def _range_words(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for word, key in _RANGE_WORDS.items():
            if word in given and key in given:
                raise ValueError(f"{word} and {key} say the same; leave one out")
        return {_RANGE_WORDS.get(key, key): value for key, value in given.items()}


class SearchSection(_Section):
    """A search of hyper-parameters by Optuna's samplers and pruners, or by a scheduler of Ray Tune."""

    method: Method = Field("tpe", description="how trials are proposed; grid tries every combination")
    metric: Metric = Field("val_error", description="the metric to minimise, on the validation split")
    trials: Trials | None = Field(None, description="per cell; default 20, or the whole grid")
    batch: Batch = Field(8, description="trials proposed at once, which can train as one stack")
    seed: Seed = Field(0, description="of the draws of trials")
    pruner: Pruner = Field("none", description="what stops unpromising trials")
    scheduler: TuneScheduler | None = Field(None, description="a scheduler of Ray Tune, which then runs the trials")
    parameters: dict[str, Parameter] = Field({}, description="by key; `lr: {search: {...}}` is the same")


class _Groups:
    """One group, or a list of them."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        as_list = lambda value: [value] if isinstance(value, dict) else value  # noqa: E731
        return core_schema.no_info_before_validator_function(as_list, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        several = handler(schema["schema"])
        return {"anyOf": [several["items"], several]}


class CellSections(_Section):
    """More cells: sections as above, whose lists multiply; what they leave out is taken from the top."""

    data: DataSection = Field(DataSection(), description="the data set")
    model: ModelSection = Field(ModelSection(), description="the models")
    train: TrainSection = Field(TrainSection(), description="the recipe")
    budget: BudgetSection = Field(BudgetSection(), description="how long to train")


_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Stage(_Section):
    """Runs that begin with the parameters of others: one for each run of the stage that they follow.

    The model and the seed are the parent's; the data set too, unless `data` names another.
    """

    stage: str = Field(pattern=_NAME, description="its name, in the column `stage`")
    after: str | None = Field(None, description="the stage that it follows; default: the one above, first `train`")
    data: DataSection = Field(DataSection(), description="another data set, or other augmentation")
    train: TrainSection = Field(TrainSection(), description="the recipe")
    budget: BudgetSection = Field(BudgetSection(), description="how long to train on")


class Sweep(CellSections):
    """A declared experiment."""

    sweep: str = Field(pattern=_NAME, description="its name in the results table")
    seeds: Annotated[int, Field(le=10_000)] | list[int] = Field(
        1, description="how many seeds, from 0, or a list of them"
    )
    limits: Limits = Field(Limits(), description="what the whole sweep may spend")
    search: SearchSection | None = Field(None, description="what a search varies in every cell")
    zip: Annotated[list[ZipGroup], _Groups()] = Field(
        [], description="groups of settings whose values are paired; groups multiply with the axes and each other"
    )
    cells: list[CellSections] = Field([], description="cells beside the grid")
    then: list[Stage] = Field([], description="stages trained on from every run")

    _source: Source = PrivateAttr(default_factory=Source)

    @property
    def seed_list(self) -> list[int]:
        """The seeds of every cell."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def source(self) -> Source:
        """The file it was read from, with its line numbers; empty for a sweep made in Python."""
        return self._source


def _shortened(message: str) -> str:
    """A message of one line, without most of a value of thousands of characters."""
    line = " ".join(message.split("\n"))
    return line if len(line) <= 800 else f"{line[:400]} ... {line[-395:]}"


class SweepError(UserError, ValueError):
    """All mistakes of a sweep file, one per line: `file:line: what was found, what would be right`."""

    def __init__(self, source: Source, complaints: list[tuple[Location, str]]) -> None:
        ordered = sorted({(source.line(where), message) for where, message in complaints})
        self.complaints = [f"{source.name}:{line}: {_shortened(message)}" for line, message in ordered]
        super().__init__("\n".join(self.complaints))
