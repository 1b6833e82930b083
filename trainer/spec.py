"""`RunSpec`: every choice that can change the result of a run, and the identity derived from them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import astuple, dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

from trainer.errors import UserError
from trainer.families import FAMILIES, family_of
from trainer.fields import (
    PART,
    RESOLVED,
    SHARE,
    TEXT,
    Owner,
    above_zero,
    count,
    non_negative,
    one_of,
    positive,
    registered,
    setting,
    settings_of,
    used_with,
    whole,
)
from trainer.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Activation = Literal["gelu", "relu"]
Schedule = Literal["constant", "linear", "cosine", "wsd"]
Augment = Literal["none", "flip", "crop", "flip+crop", "resized-crop", "flip+resized-crop"]
MixupPer = Literal["batch", "example"]
Param = Literal["standard", "mup"]
Precision = Literal["fp32", "tf32", "bf16"]
Trains = Literal["all", "head"]
Loader = Literal["auto", "resident", "mmap", "ffcv"]
Ordering = Literal["random", "quasi-random"]
Average = Literal["logits", "probabilities"]
Device = Literal["auto", "cpu", "cuda", "mps"]

NUMERICS = 2
"""Version of the trainer's arithmetic. It rises when the same spec would give other numbers; part of `run_id`."""

_MODEL_NAME = (
    r"^(?P<family>[SB])[-_](?P<depth>\d{1,9})[/_-]Wi[-_](?P<width>\d{1,9})(?:[-_]X[-_](?P<expansion>\d{1,9}))?$"
)
# Fields of one kind: what a sweep file's sections hold, which of them a stage takes from its parent, and so on.
_data, _train = partial(setting, section="data"), partial(setting, section="train")
_subset = partial(_data, inherited="data", searched=False)
_source = partial(_subset, content=True)
_model = partial(setting, section="model", inherited="run")
_start = partial(_train, inherited="run")
_free = partial(_train, stacked=True, mutable=True)
_rate = partial(_train, off=1, mutable=True)
_fixed = partial(_train, searched=False)
_length = partial(setting, section="budget", identity=False, stacked=True)
_link = partial(setting, stacked=True, axis=False, searched=False)

RESIZED = used_with("augment", "resized-crop", "flip+resized-crop")
ZIPF, WSD = used_with("dataset", "zipf"), used_with("schedule", "wsd")
MUP = used_with("param", "mup")


def _models_with(setting: str, builtins: str) -> Owner:
    """The model families that use a setting."""
    words = f"{builtins} or another that uses {setting}"
    return Owner("family", words, lambda name: setting in family_of(name).settings)


def _uses(hyperparameter: str, builtins: str) -> Owner:
    """The optimisers that use a hyper-parameter."""
    words = f"{builtins} or another that uses {hyperparameter}"
    return Owner("optimizer", words, lambda name: hyperparameter in OPTIMIZERS.get(name).hyperparameters)


EXPANSION, ACTS = _models_with("expansion", "b-mlp"), _models_with("activation", "b-mlp, s-mlp")
BETA1, BETA2 = _uses("beta1", "adamw, lion"), _uses("beta2", "adamw, lion")


class SpecError(UserError, ValueError):
    """A run that cannot be: the message says which field, what was found and what would be right."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field, self.message = field, message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run, flat, in the words of the results table.

    Exactly one of `budget` (training FLOPs, rule `exact`), `epochs` and `examples` says how long to train; a run
    that begins with the parameters of another may train on 0 examples, to be tested only.
    `resolve` adds what follows from the data set (inputs, classes, steps) and makes a `run_id` possible.

    Example:
        >>> RunSpec(dataset="digits", width=64, depth=2, budget=1e9).schedule
        'constant'
    """

    # data
    dataset: str = _source("digits", TEXT, "a known name, or your own with a path", axis=False)
    path: str | None = _source(
        None, TEXT, "looked for beside the file, in $ISOFLOP_DATA, in ./data; or a URL", axis=False, identity=False
    )
    resolution: int | None = _source(None, whole(4096), "side in pixels to which images are scaled; default theirs")
    dataset_size: int | None = _subset(None, whole(), "distinct training examples; default all", stacked=True)
    validation: float = _subset(0.0, SHARE, "share of the training split held out for records", off=0)
    loader: Loader = _subset(
        "auto", one_of(Loader), "ffcv: .beton files; auto: resident or mmap", axis=False, identity=False
    )
    order: Ordering = _data("random", one_of(Ordering), "quasi-random keeps neighbours together", off="random")
    augment: Augment = _data("none", one_of(Augment), "random flips and crops of training images")
    crop_scale: float = _data(0.08, PART, "least share of the image's area in a resized crop", owner=RESIZED)
    mixup: float = _data(
        0.0, non_negative(1000), "a of Beta(a, a), the law of MixUp's shares; 0: none", off=0, mutable=True
    )
    mixup_per: MixupPer = _data(
        "batch", one_of(MixupPer), "what MixUp draws a share for", owner=above_zero("mixup")
    )
    zipf_alpha: float | None = _source(None, positive(), "tokens of frequency p_k ~ k^-(1 + alpha)", owner=ZIPF)
    zipf_tokens: int | None = _source(None, whole(), "number of tokens", owner=ZIPF)
    # model
    family: str = _model("b-mlp", registered(FAMILIES), "the kind of model")
    depth: int = _model(2, whole(1000), "b-mlp: blocks; s-mlp: linear layers before the head")
    width: int = _model(64, whole(1 << 20), "features between the layers")
    expansion: int = _model(4, whole(1024), "width of a block's inside in units of width", owner=EXPANSION)
    activation: Activation = _model("gelu", one_of(Activation), "relu in the paper, gelu in its code", owner=ACTS)
    dropout: float = _model(0.0, SHARE, "share of hidden activations set to 0 in training", off=0, mutable=True)
    parent: str = _link("", TEXT, "run_id of the run with whose parameters it begins; `start`: its hash", off="")
    parent_cell: str = _link("", TEXT, "cell_id of the parent", identity=False)
    start: str | None = _link(None, TEXT, "an official checkpoint to begin with", section="model", identity=False)
    # training
    trains: Trains = _fixed("all", one_of(Trains), "what is trained; head: a linear probe", off="all")
    optimizer: str = _train("adamw", registered(OPTIMIZERS), "the update rule")
    lr: float = _free(1e-3, positive(), "learning rate")
    lr_embed: float = _rate(1.0, positive(), "learning rate of the first layer, in units of lr")
    lr_body: float = _rate(1.0, positive(), "learning rate of the layers between, in units of lr")
    lr_head: float = _rate(1.0, positive(), "learning rate of the last layer, in units of lr")
    param: Param = _start(
        "standard", one_of(Param), "mup scales lr and the head's initial values with width", off="standard"
    )
    base_width: int = _start(64, whole(1 << 20), "the width at which mup equals standard", owner=MUP)
    weight_decay: float = _free(0.0, non_negative(), "decay of all parameters, biases and norms included")
    momentum: float = _free(0.9, SHARE, "momentum", owner=_uses("momentum", "sgd"))
    beta1: float | None = _free(None, SHARE, "of the first moment; default 0.9", off=None, owner=BETA1)
    beta2: float | None = _free(
        None, SHARE, "of the second moment; default 0.999, lion 0.99", off=None, owner=BETA2
    )
    clip: float | None = _free(None, positive(), "largest norm of the gradient; default none", off=None)
    accumulate: int = _train(1, whole(), "equal parts in which a batch is processed to save memory", identity=False)
    precision: Precision = _start("fp32", one_of(Precision), "of training; tests are always fp32", off="fp32")
    batch_size: int = _train(64, whole(), "examples in a step")
    schedule: Schedule = _train("constant", one_of(Schedule), "how the learning rate changes", stacked=True)
    warmup: float = _train(0.0, SHARE, "share of the steps in which lr rises linearly from 0", stacked=True)
    cooldown: float = _train(0.2, PART, "share of the steps at the end in which lr falls", stacked=True, owner=WSD)
    label_smoothing: float = _free(0.0, SHARE, "share of the target that is spread over all classes")
    # testing
    tta: int = _fixed(0, count(10_000), "augmented copies averaged in the final test; 0: none", off=0)
    tta_average: Average = _fixed(
        "logits", one_of(Average), "what is averaged over copies", owner=above_zero("tta")
    )
    seed: int = setting(0, count(), "of every random draw", stacked=True, inherited="run")
    stage: str = _link("train", TEXT, "its name in a chain of runs (`then:` of a sweep file)", identity=False)
    # length: one of three
    budget: float | None = _length(None, positive(9e18), "training FLOPs that a run may spend", key="flops")
    epochs: float | None = _length(None, positive(9e18), "passes over the training examples", planned=False)
    examples: int | None = _length(
        None, count(9 * 10**18), "repeats counted; 0 in a stage that only tests", planned=False
    )
    # what `resolve` fills in
    fingerprint: str = setting("", TEXT, "hash of the data set's content")
    inputs: int | None = setting(None, RESOLVED, "length of one flattened example")
    classes: int | None = setting(None, RESOLVED, "number of classes")
    test_examples: int | None = setting(None, RESOLVED, "in the test split", identity=False, stacked=True)
    validation_examples: int | None = setting(None, RESOLVED, "held out of training", identity=False, stacked=True)
    steps: int | None = setting(None, RESOLVED, "updates of the parameters", stacked=True, planned=False)

    def __post_init__(self) -> None:
        for field, message in _refusals(self, _CHECKS):
            raise SpecError(field, message)

    def changed(self, **values: Any) -> RunSpec:
        """The same run with other values; only these are checked, so that large sweeps are planned soon."""
        fields = self.__dict__
        run = object.__new__(RunSpec)
        vars(run).update({name: fields[name] for name in SETTINGS})
        vars(run).update(values)
        for field, message in _refusals(run, [check for check in _CHECKS if check[0] in values]):
            raise SpecError(field, message)
        return run

    @cached_property
    def cell_id(self) -> str:
        """32 hex digits: the cell (everything but the seed, the parent's too). Needs a resolved spec."""
        parent = {"parent": self.parent_cell} if self.parent_cell else {}
        return _digest({**self._identity(), "seed": None, **parent})

    @cached_property
    def run_id(self) -> str:
        """32 hex digits, 128 bits of SHA-256 over canonical JSON of whatever changes the result.

        Two specs that ask for the same training in other words (10 epochs of 100 examples, or 1000
        examples) have one id. Raises ValueError if the spec is not resolved.
        """
        return _digest(self._identity())

    @cached_property
    def trunk_id(self) -> str:
        """32 hex digits: the run without its length (trainer.trunk). Needs a resolved spec."""
        return _digest({**self._identity(), "steps": None})

    def seeded(self, seeds: Iterable[int]) -> list[RunSpec]:
        """This resolved run with each of some seeds: runs of one cell, of which only the seed is checked anew."""
        fields, identity = {name: getattr(self, name) for name in SETTINGS}, self._identity()
        fields["cell_id"] = self.cell_id
        runs = list[RunSpec]()
        for seed in seeds:
            if (message := SETTINGS["seed"].kind.refusal(seed)) is not None:
                raise SpecError("seed", message)
            runs.append(run := object.__new__(RunSpec))
            vars(run).update(fields, seed=seed, run_id=_digest({**identity, "seed": seed}))
        return runs

    def _identity(self) -> dict[str, Any]:
        if self.steps is None:
            raise ValueError("a run's identity needs its data set: call trainer.resolve(spec) first")
        fields, values = self.__dict__, dict[str, Any]()
        for name, off, owner, real in _IDENTITY:
            value = fields[name]
            if value != off and (owner is None or owner.uses(fields[owner.field])):
                values[name] = float(value) if real and value is not None else value  # 1 and 1.0 are one lr
        for name, registry in _REGISTRIES.items():
            if (origin := registry.origin(getattr(self, name))) is not None:
                values[f"{name}_origin"] = astuple(origin)
        return {**values, "numerics": NUMERICS}


SETTINGS = settings_of(RunSpec)
"""What is known of every field of RunSpec, by name (trainer.fields)."""

OWNERS = {name: field.owner for name, field in SETTINGS.items() if field.owner is not None}
"""Fields that only mean something where another field has a certain value."""

LENGTHS = [name for name, field in SETTINGS.items() if field.section == "budget"]
"""Fields of which one says how long to train."""

_IDENTITY = [
    (name, field.off, field.owner, field.kind.number is float) for name, field in SETTINGS.items() if field.identity
]
STACKED = [name for name, field in SETTINGS.items() if field.stacked and field.section and field.axis]
"""What the runs of a stack may differ in, in the words of a sweep file."""

_SHARED = [name for name, field in SETTINGS.items() if not field.stacked]
_REGISTRIES = {name: field.kind.registry for name, field in SETTINGS.items() if field.kind.registry is not None}
_CHECKS = [
    (name, field.kind.refusal, getattr(RunSpec, name))
    for name, field in SETTINGS.items()
    if field.kind not in (TEXT, RESOLVED)
]
"""The fields whose values are checked, how, and their defaults."""

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(_encode(values).encode()).hexdigest()[:32]


def _refusals(spec: RunSpec, checks: Sequence[tuple[str, Any, Any]]) -> Iterator[tuple[str, str]]:
    """Fields that cannot be as they are, and why; those that contradict others only if each is valid by itself."""
    valid = True
    values = spec.__dict__
    for name, refusal, default in checks:
        value = values[name]
        if value is not default and (message := refusal(value)) is not None:
            valid = False
            yield name, message
    if valid:
        yield from _contradictions(spec)


def _contradictions(spec: RunSpec) -> Iterator[tuple[str, str]]:
    if spec.examples == 0 and not (spec.parent or spec.start):
        yield "examples", "0 is not a whole number of at least 1; only a run with a parent can be tested untrained"
    if spec.batch_size % spec.accumulate:
        yield "accumulate", f"{spec.accumulate} parts don't divide a batch of {spec.batch_size}"
    if spec.schedule == "wsd" and spec.cooldown > 1 - spec.warmup:
        yield "cooldown", f"{spec.cooldown!r} is not in (0, 1 - warmup]"
    if spec.dropout and "dropout" not in family_of(spec.family).settings:
        yield "dropout", f"{spec.family} has none; leave it out"
    if spec.tta and spec.augment == "none":
        yield "tta", "averages over augmented copies of an image, and augment is none; write flip+resized-crop"
    lengths = [name for name in LENGTHS if getattr(spec, name) is not None]
    if spec.steps is None and len(lengths) != 1:
        given = " and ".join(lengths) or "none of them"
        yield "budget", f"one of budget (FLOPs), epochs, examples must be given; found {given}"


def stack_key(spec: RunSpec) -> tuple[Any, ...]:
    """What runs must have in common to share a stack. Needs a resolved spec."""
    return tuple(getattr(spec, name) for name in _SHARED)


def model_name(spec: RunSpec) -> str:
    """The paper's spelling: `B-12/Wi-1024`, with `-X-k` where the expansion is not 4.

    Example:
        >>> model_name(RunSpec(family="b-mlp", depth=12, width=1024, epochs=1))
        'B-12/Wi-1024'
    """
    family = family_of(spec.family)
    other = f"-X-{spec.expansion}" if "expansion" in family.settings and spec.expansion != 4 else ""
    return f"{family.letter}-{spec.depth}/Wi-{spec.width}{other}"


def parse_model_name(name: str) -> dict[str, Any]:
    """Fields of RunSpec from any of the three spellings in circulation.

    `B-12/Wi-1024` (the paper), `B_12-Wi_1024` (its checkpoints), `B-12_Wi-1024` (its README), each with an
    optional expansion (`-X_4`). Raises SpecError for anything else.

    Example:
        >>> parse_model_name("B_12-Wi_1024-X_2")
        {'family': 'b-mlp', 'depth': 12, 'width': 1024, 'expansion': 2}
    """
    match = re.match(_MODEL_NAME, name.strip(), re.IGNORECASE)
    if match is None:
        shown = name if len(name) <= 40 else f"{name[:14]}..."
        raise SpecError("model", f"{shown!r} is no model name; write it like B-12/Wi-1024 or S-6/Wi-2048")
    parsed: dict[str, Any] = {
        "family": f"{match['family'].lower()}-mlp",
        "depth": int(match["depth"]),
        "width": int(match["width"]),
    }
    if match["expansion"] is not None:
        parsed["expansion"] = int(match["expansion"])
    return parsed
