"""What a sweep file can say. A list is an axis, axes multiply; `cells:` stand beside the grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr
from pydantic_core import core_schema

from orchestrator.sweep.yaml_source import Location, Source
from trainer.errors import UserError
from trainer.optimizers import OPTIMIZERS
from trainer.presets import Preset
from trainer.spec import (
    Activation,
    Augment,
    Average,
    Family,
    Loader,
    MixupPer,
    Ordering,
    Param,
    Precision,
    Schedule,
    Trains,
)

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

    from trainer.registry import Registry

T = TypeVar("T")
Method = Literal["tpe", "random", "grid", "gp", "cmaes"]
Metric = Literal["val_error", "val_loss"]
Distribution = Literal["uniform", "log_uniform", "int_uniform", "int_log_uniform", "categorical"]
Pruner = Literal["none", "median", "successive_halving", "hyperband"]
TuneScheduler = Literal["asha", "hyperband", "pbt", "bohb"]
FIRST_STAGE = "train"
"""The stage of the runs that `then:` follows."""


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _distinct(values: list[T]) -> list[T]:
    if twice := [v for i, v in enumerate(values) if v in values[:i]]:
        raise ValueError(f"{twice[0]!r} stands twice in this list")
    return values


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value  # 1e4 examples


Whole = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Count = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Area = Annotated[float, Field(gt=0, le=1)]


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
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DataSection(_Section):
    """The data set, by name (`isoflop data list`), or with a `path`: class folders, an archive, or an .npz file."""

    dataset: str | None = Field(
        None, min_length=1, description="a name that `isoflop data list` knows, or one of your own with a path"
    )
    path: str | None = Field(
        None,
        min_length=1,
        description="looked up beside the file, in $ISOFLOP_DATA, in ./data; or a URL (s3://...)",
    )
    resolution: Axis[Whole] | None = Field(None, description="side in pixels that images are scaled to")
    dataset_size: Axis[Whole] | None = Field(None, description="distinct training examples; default all")
    validation: Axis[Share] | None = Field(
        None, description="share of the training split held out; records are of it, the test split comes last"
    )
    loader: Loader | None = Field(
        None, description="resident, mmap, ffcv: from .beton files as they are; auto: one of the first two"
    )
    order: Axis[Ordering] | None = Field(None, description="quasi-random: neighbours together")
    augment: Axis[Augment] | None = None
    crop_scale: Axis[Area] | None = Field(None, description="resized-crop only: least share of the image's area")
    mixup: Axis[NonNegative] | None = Field(None, description="a of Beta(a, a); 0: none")
    mixup_per: Axis[MixupPer] | None = None
    zipf_alpha: Axis[Positive] | None = Field(None, description="zipf: p_k ~ k^-(1 + alpha)")
    zipf_tokens: Axis[Whole] | None = None


class ModelSection(_Section):
    """The models: by `name` (B-6/Wi-256), or by family, depth and width."""

    name: Axis[str] | None = Field(None, description="the paper's names, e.g. B-6/Wi-256, S-6/Wi-1024")
    start: str | None = Field(
        None, min_length=1, description="an official checkpoint of this model to begin with, or its URL"
    )
    family: Axis[Family] | None = None
    depth: Axis[Whole] | None = Field(None, description="b-mlp: blocks; s-mlp: linear layers before the head")
    width: Axis[Whole] | None = None
    expansion: Axis[Whole] | None = None
    activation: Axis[Activation] | None = None
    dropout: Axis[Share] | None = Field(None, description="share of the hidden activations set to 0 in training")


class TrainSection(_Section):
    """The recipe, by a preset's name or piece by piece; what is said beside a preset overrides it."""

    preset: Preset | None = Field(None, description="a recipe of the paper: sets data.augment and mixup as well")
    trains: Axis[Trains] | None = Field(None, description="head: a linear probe")
    optimizer: Axis[Annotated[str, EntryOf(OPTIMIZERS)]] | None = None
    lr: Axis[Positive] | None = None
    lr_embed: Axis[Positive] | None = Field(None, description="in units of lr")
    lr_body: Axis[Positive] | None = Field(None, description="in units of lr")
    lr_head: Axis[Positive] | None = Field(None, description="in units of lr")
    param: Axis[Param] | None = Field(None, description="mup: rates and the head's start scale with the width")
    base_width: Axis[Whole] | None = Field(None, description="mup only: the width where it is standard")
    weight_decay: Axis[NonNegative] | None = None
    momentum: Axis[Share] | None = Field(None, description="of sgd and others that use it")
    beta1: Axis[Share] | None = Field(None, description="of adamw, lion and others that use it")
    beta2: Axis[Share] | None = Field(None, description="of adamw, lion and others that use it")
    clip: Axis[Positive] | None = Field(None, description="largest norm of the gradient")
    accumulate: Axis[Whole] | None = Field(None, description="equal parts in which a batch is processed")
    precision: Axis[Precision] | None = None
    batch_size: Axis[Whole] | None = None
    schedule: Axis[Schedule] | None = None
    warmup: Axis[Share] | None = Field(None, description="share of the steps")
    cooldown: Axis[Share] | None = Field(None, description="wsd only: share of the steps")
    label_smoothing: Axis[Share] | None = None
    tta: Axis[Count] | None = Field(None, description="augmented copies averaged in the final test; 0: none")
    tta_average: Axis[Average] | None = None


class BudgetSection(_Section):
    """How long every run trains: one of three."""

    flops: Axis[Positive] | None = Field(None, description="training FLOPs a run may spend")
    epochs: Axis[Positive] | None = None
    examples: Axis[Count] | None = Field(None, description="0: of a stage that only tests")


class Limits(_Section):
    """What the whole sweep may spend; runs beyond it are blocked."""

    total_flops: Positive | None = Field(None, description="training FLOPs, those of lost attempts included")
    gpu_hours: Positive | None = Field(None, description="hours of whole GPUs")
    hours: Positive | None = Field(None, description="hours in which any of its runs was in training")


class Parameter(_Section):
    """What a search may try of one hyper-parameter: `values`, or all from `min` to `max`."""

    values: list[Any] | None = Field(None, min_length=1)
    min: float | None = Field(None, allow_inf_nan=False)
    max: float | None = Field(None, allow_inf_nan=False)
    distribution: Distribution | None = Field(
        None, description="default: categorical for values, int_uniform for whole numbers, else uniform"
    )
    points: Whole | None = Field(None, description="grid only: how many between min and max, both included")


class SearchSection(_Section):
    """Hyper-parameters by trial: Optuna's samplers and pruners, or a scheduler of Ray Tune."""

    method: Method = Field("tpe", description="grid tries every combination")
    metric: Metric = Field("val_error", description="what the best trial has least of, on the validation split")
    trials: Whole | None = Field(None, description="a cell; default 20, of a grid all")
    batch: Whole = Field(8, description="trials proposed at once, which can train as one stack")
    seed: Count = 0
    pruner: Pruner = Field("none", description="who stops trials that promise little")
    scheduler: TuneScheduler | None = Field(
        None, description="of Ray Tune, which then runs the trials; bohb proposes them, too"
    )
    parameters: dict[str, Parameter] = Field({}, description="by key; `lr: {search: {...}}` says the same")


class CellSections(_Section):
    """One explicit cell: sections as above with one value a key; what it leaves out is taken from the top."""

    data: DataSection = DataSection()  # type: ignore[call-arg]
    model: ModelSection = ModelSection()  # type: ignore[call-arg]
    train: TrainSection = TrainSection()  # type: ignore[call-arg]
    budget: BudgetSection = BudgetSection()  # type: ignore[call-arg]


_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Stage(_Section):
    """Runs that begin with the parameters of others: one for each run of the stage that they follow.

    The model and the seed are the parent's; the data set too, unless `data` names another.
    """

    stage: str = Field(pattern=_NAME, description="its name, in the column `stage`")
    after: str | None = Field(None, description="the stage that it follows; default: the one above, first `train`")
    data: DataSection = DataSection()  # type: ignore[call-arg]
    train: TrainSection = TrainSection()  # type: ignore[call-arg]
    budget: BudgetSection = BudgetSection()  # type: ignore[call-arg]


class Sweep(CellSections):
    """A declared experiment."""

    sweep: str = Field(pattern=_NAME, description="its name in the results table")
    seeds: Annotated[int, Field(le=10_000)] | list[int] = Field(
        1, description="how many seeds, from 0, or a list of them"
    )
    limits: Limits = Limits()  # type: ignore[call-arg]
    search: SearchSection | None = Field(None, description="what `isoflop search` varies in every cell")
    cells: list[CellSections] = Field([], description="cells beside the grid")
    then: list[Stage] = Field([], description="what is trained on from every run")

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
    """Everything that is wrong with a sweep file, a line each: `file:line: what was found, what would be right`."""

    def __init__(self, source: Source, complaints: list[tuple[Location, str]]) -> None:
        ordered = sorted({(source.line(where), message) for where, message in complaints})
        self.complaints = [f"{source.name}:{line}: {message}" for line, message in ordered]
        super().__init__("\n".join(self.complaints))
