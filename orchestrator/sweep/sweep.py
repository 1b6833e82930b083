"""The sections and keys of a sweep file. A list is an axis, axes multiply; `cells:` are added to the grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, create_model
from pydantic_core import core_schema

from orchestrator.sweep.yaml_source import Location, Source
from trainer.errors import UserError
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


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _distinct(values: list[T]) -> list[T]:
    if twice := [v for i, v in enumerate(values) if v in values[:i]]:
        raise ValueError(f"{twice[0]!r} is given twice in this list")
    return values


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value  # 1e4 examples


Whole = Annotated[int, Field(ge=1), BeforeValidator(_whole)]  # in this order the JSON Schema has the bound, too
Count = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, le=1)]
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


class _OneOrMany:
    """In the JSON Schema an axis is a value or a list of values."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        several = handler(schema)
        return {"anyOf": [several["items"], several]}


Axis = Annotated[list[T], BeforeValidator(_as_list), Field(min_length=1), AfterValidator(_distinct), _OneOrMany()]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The keys that `_keys_of_run_spec` adds."""


_KINDS: dict[str, Any] = {
    "whole": Whole,
    "count": Count,
    "positive": Positive,
    "non-negative": NonNegative,
    "share": Share,
    "part": Part,
    "text": Word,
}
"""The type of a value in a sweep file, by the kind of the field of RunSpec (trainer.fields)."""


def _value(kind: Kind) -> Any:
    if kind.registry is not None:
        return Annotated[str, EntryOf(kind.registry)]
    return Literal[kind.choices] if kind.choices else _KINDS[kind.name]


def _keys_of_run_spec(section: str) -> Callable[[type[S]], type[S]]:
    """Decorate a section with a key for every field of RunSpec that belongs there."""
    axis: Any = Axis
    keys: dict[str, Any] = {}
    for name, field in SETTINGS.items():
        if field.section == section:
            values = axis[_value(field.kind)] if field.axis else _value(field.kind)
            keys[field.key or name] = (values | None, Field(None, description=field.description))

    def decorate(model: type[S]) -> type[S]:
        return create_model(model.__name__, __base__=model, __doc__=model.__doc__, __module__=__name__, **keys)

    return decorate


@_keys_of_run_spec("data")
class DataSection(_Section):
    """The data set, by name (`isoflop data list`), or with a `path`: class folders, an archive, or an .npz file."""


@_keys_of_run_spec("model")
class ModelSection(_Section):
    """The models: by `name` (B-6/Wi-256), or by family, depth and width."""

    name: Axis[str] | None = Field(default=None, description="the paper's names, e.g. B-6/Wi-256, S-6/Wi-1024")


@_keys_of_run_spec("train")
class TrainSection(_Section):
    """The recipe, by the name of a preset or key by key; other keys override the preset."""

    preset: Preset | None = Field(
        default=None, description="a recipe of the paper; also sets data.augment and mixup"
    )


@_keys_of_run_spec("budget")
class BudgetSection(_Section):
    """How long every run trains: one of three."""


class Limits(_Section):
    """What the whole sweep may spend; runs beyond it are blocked."""

    total_flops: Positive | None = Field(
        default=None, description="training FLOPs, those of lost attempts included"
    )
    gpu_hours: Positive | None = Field(default=None, description="hours of whole GPUs")
    hours: Positive | None = Field(default=None, description="hours in which any of its runs was training")


class Parameter(_Section):
    """What a search may try for one hyper-parameter: `values`, or the range from `min` to `max`."""

    values: list[Any] | None = Field(None, min_length=1, description="what is tried")
    min: float | None = Field(None, allow_inf_nan=False, description="the smallest value")
    max: float | None = Field(None, allow_inf_nan=False, description="the largest value")
    distribution: Distribution | None = Field(
        None, description="default: categorical for values, int_uniform for whole numbers, else uniform"
    )
    points: Whole | None = Field(None, description="grid only: number of values from min to max")


class SearchSection(_Section):
    """A search of hyper-parameters by Optuna's samplers and pruners, or by a scheduler of Ray Tune."""

    method: Method = Field("tpe", description="how trials are proposed; grid tries every combination")
    metric: Metric = Field("val_error", description="the metric to minimise, on the validation split")
    trials: Whole | None = Field(None, description="per cell; default 20, or the whole grid")
    batch: Whole = Field(8, description="trials proposed at once, which can train as one stack")
    seed: Count = Field(0, description="of the draws of trials")
    pruner: Pruner = Field("none", description="what stops unpromising trials")
    scheduler: TuneScheduler | None = Field(None, description="a scheduler of Ray Tune, which then runs the trials")
    parameters: dict[str, Parameter] = Field({}, description="by key; `lr: {search: {...}}` is the same")


class CellSections(_Section):
    """One explicit cell: sections as above with one value a key; what it leaves out is taken from the top."""

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
    search: SearchSection | None = Field(None, description="what `isoflop search` varies in every cell")
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


class SweepError(UserError, ValueError):
    """All mistakes of a sweep file, one per line: `file:line: what was found, what would be right`."""

    def __init__(self, source: Source, complaints: list[tuple[Location, str]]) -> None:
        ordered = sorted({(source.line(where), message) for where, message in complaints})
        self.complaints = [f"{source.name}:{line}: {message}" for line, message in ordered]
        super().__init__("\n".join(self.complaints))
