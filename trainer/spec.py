"""What a run is: every choice that can change its result, and the identity that follows from them."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import astuple, dataclass, fields
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, get_args

from trainer.errors import UserError
from trainer.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from collections.abc import Callable

Family = Literal["s-mlp", "b-mlp"]
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

NUMERICS = 1
"""Version of the trainer's arithmetic. It rises when the same spec would give other numbers; part of `run_id`."""

_MODEL_NAME = r"^(?P<family>[SB])[-_](?P<depth>\d+)[/_-]Wi[-_](?P<width>\d+)(?:[-_]X[-_](?P<expansion>\d+))?$"


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
    dataset: str = "digits"
    path: str | None = None  # where the data lies; the fingerprint, not the place, is what the run depends on
    resolution: int | None = None  # side in pixels; None: the data set's own
    dataset_size: int | None = None  # distinct training examples; None: all
    validation: float = 0.0  # share of the training split held out, on which records then are; the test comes last
    loader: Loader = "auto"  # whole set on the device, or read from its file as needed: the same numbers
    order: Ordering = "random"  # quasi-random reads neighbours together, for sets larger than memory
    augment: Augment = "none"
    crop_scale: float = 0.08  # resized-crop only: the least share of the image's area
    mixup: float = 0.0  # a of Beta(a, a), from which the share of the first of two mixed images is drawn; 0: none
    mixup_per: MixupPer = "batch"  # one draw a batch, as in the paper, or one an example
    zipf_alpha: float | None = None  # dataset zipf: p_k ~ k^-(1 + alpha)
    zipf_tokens: int | None = None  # dataset zipf: number of tokens
    # model
    family: Family = "b-mlp"
    depth: int = 2  # b-mlp: blocks; s-mlp: linear layers before the head
    width: int = 64
    expansion: int = 4  # b-mlp only: the block's hidden layer is expansion x width
    activation: Activation = "gelu"
    dropout: float = 0.0  # share of the hidden activations set to 0 in training
    parent: str = ""  # run_id of the run whose final parameters it begins with; `start`: a hash of that file
    parent_cell: str = ""  # the parent's cell_id: cells of children are of cells of parents
    start: str | None = None  # an official checkpoint to begin with; the run depends on the content, not the place
    # training
    trains: Trains = "all"  # head: a linear probe, everything below it stays as it is
    optimizer: str = "adamw"  # of trainer.optimizers.OPTIMIZERS, or module:name
    lr: float = 1e-3
    lr_embed: float = 1.0  # the embedding's learning rate in units of lr; lr_body and lr_head likewise
    lr_body: float = 1.0
    lr_head: float = 1.0
    param: Param = "standard"  # mup: learning rates and the head's start scale with width / base_width
    base_width: int = 64  # mup only: the width at which mup is the standard parametrisation
    weight_decay: float = 0.0
    momentum: float = 0.9  # of optimizers that use it, such as sgd
    beta1: float | None = None  # of optimizers that use it; None: the optimizer's default
    beta2: float | None = None  # likewise
    clip: float | None = None  # largest norm of a run's whole gradient; None: none
    accumulate: int = 1  # equal parts in which a batch is processed: less memory, the same mathematics
    precision: Precision = "fp32"  # of training; evaluation is always fp32
    batch_size: int = 64
    schedule: Schedule = "constant"
    warmup: float = 0.0  # share of the steps in which lr rises linearly from 0
    cooldown: float = 0.2  # wsd only: share of the steps in which lr falls linearly to 0
    label_smoothing: float = 0.0
    # testing
    tta: int = 0  # augmented copies of each test image whose outputs are averaged at the end; 0: the image itself
    tta_average: Average = "logits"  # as the paper's text says; its code averages probabilities
    seed: int = 0
    stage: str = "train"  # its name in a chain of runs (`then:` of a sweep file); changes nothing
    # length: one of three
    budget: float | None = None
    epochs: float | None = None
    examples: int | None = None
    # what `resolve` fills in
    fingerprint: str = ""
    inputs: int | None = None
    classes: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        for field, message in _complaints(self):
            raise SpecError(field, message)

    @cached_property
    def cell_id(self) -> str:
        """32 hex digits: the cell (everything but the seed, the parent's too). Needs a resolved spec."""
        return _digest(
            {**self._identity(), "seed": None, **({"parent": self.parent_cell} if self.parent_cell else {})}
        )

    @cached_property
    def run_id(self) -> str:
        """32 hex digits, 128 bits of SHA-256 over canonical JSON of whatever changes the result.

        Two specs that ask for the same training in other words (10 epochs of 100 examples, or 1000
        examples) have one id. Raises ValueError where the spec is not resolved.
        """
        return _digest(self._identity())

    @cached_property
    def trunk_id(self) -> str:
        """32 hex digits: the run without its length (trainer.trunk). Needs a resolved spec."""
        return _digest({**self._identity(), "steps": None})

    def _identity(self) -> dict[str, Any]:
        if self.steps is None:
            raise ValueError("a run's identity needs its data set: call trainer.resolve(spec) first")
        left_out = {
            "path",
            "loader",
            "accumulate",
            "start",
            "stage",
            "parent_cell",
            "budget",
            "epochs",
            "examples",
            *_ignored(self),
        }
        said = {name: getattr(self, name) for name in _NAMES if name not in left_out}
        said |= {name: float(said[name]) for name in _REAL if said.get(name) is not None}  # 1 and 1.0 are one lr
        if (origin := OPTIMIZERS.origin(self.optimizer)) is not None:
            said["optimizer_origin"] = astuple(origin)
        return {**said, "numerics": NUMERICS}


_NAMES = tuple(field.name for field in fields(RunSpec))
_OPTIONAL = tuple(field.name for field in fields(RunSpec) if field.default is None)


def _digest(said: dict[str, Any]) -> str:
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _ignored(spec: RunSpec) -> list[str]:
    """Fields that do nothing in this run, so that their value cannot make it another run."""
    idle = [name for name, owner in OWNERS.items() if not owner.uses(getattr(spec, owner.field))]
    return idle + [name for name, off in _OFF.items() if getattr(spec, name) == off]


@dataclass(frozen=True)
class Owner:
    """The field on which another depends: it is used where `uses(value)`, in words: `field` `value`."""

    field: str
    value: str
    uses: Callable[[Any], bool]


def _is(field: str, *values: str) -> Owner:
    return Owner(field, " or ".join(values), values.__contains__)


def _uses(hyperparameter: str, builtins: str) -> Owner:
    """The optimisers that use a hyper-parameter."""
    words = f"{builtins} or another that uses {hyperparameter}"
    return Owner("optimizer", words, lambda name: hyperparameter in OPTIMIZERS.get(name).hyperparameters)


OWNERS: dict[str, Owner] = {
    "expansion": _is("family", "b-mlp"),
    "momentum": _uses("momentum", "sgd"),
    "beta1": _uses("beta1", "adamw, lion"),
    "beta2": _uses("beta2", "adamw, lion"),
    "cooldown": _is("schedule", "wsd"),
    "base_width": _is("param", "mup"),
    "crop_scale": _is("augment", "resized-crop", "flip+resized-crop"),
    "tta_average": Owner("tta", "above 0", lambda tta: tta > 0),
    "mixup_per": Owner("mixup", "above 0", lambda mixup: mixup > 0),
    "zipf_alpha": _is("dataset", "zipf"),
    "zipf_tokens": _is("dataset", "zipf"),
}
"""Fields that only mean something where another field has a certain value."""

_OFF: dict[str, Any] = {
    "validation": 0,
    "order": "random",
    "parent": "",
    "trains": "all",
    "tta": 0,
    "mixup": 0,
    "dropout": 0,
    "clip": None,
    "param": "standard",
    "precision": "fp32",
    "lr_embed": 1,
    "lr_body": 1,
    "lr_head": 1,
    "beta1": None,
    "beta2": None,
}
"""Values with which a field does nothing; fields that came later leave the ids of older runs alone."""

_CHOICES = {
    "family": get_args(Family),
    "activation": get_args(Activation),
    "schedule": get_args(Schedule),
    "augment": get_args(Augment),
    "mixup_per": get_args(MixupPer),
    "param": get_args(Param),
    "precision": get_args(Precision),
    "trains": get_args(Trains),
    "loader": get_args(Loader),
    "order": get_args(Ordering),
    "tta_average": get_args(Average),
}
_WHOLE = (
    "depth",
    "width",
    "expansion",
    "batch_size",
    "resolution",
    "dataset_size",
    "zipf_tokens",
    "examples",
    "base_width",
    "accumulate",
)
_POSITIVE = ("lr", "lr_embed", "lr_body", "lr_head", "clip", "budget", "epochs", "zipf_alpha")
_SHARES = ("validation", "momentum", "beta1", "beta2", "warmup", "label_smoothing", "dropout")
_REAL = (
    *("lr", "lr_embed", "lr_body", "lr_head", "weight_decay", "momentum", "beta1", "beta2", "clip", "warmup"),
    *("cooldown", "label_smoothing", "dropout", "mixup", "crop_scale", "zipf_alpha", "validation"),
)


def _complaints(spec: RunSpec) -> list[tuple[str, str]]:
    found = [
        (name, f"{getattr(spec, name)!r} is none of {', '.join(allowed)}")
        for name, allowed in _CHOICES.items()
        if getattr(spec, name) not in allowed
    ]
    try:
        OPTIMIZERS.get(spec.optimizer)
    except (LookupError, TypeError) as error:
        found.append(("optimizer", str(error)))
    given = vars(spec)
    absent = {name for name in _OPTIONAL if given[name] is None}
    if given["examples"] == 0 and _real(given["examples"]) and (spec.parent or spec.start):
        absent.add("examples")  # to be tested only
    whole, positive, shares = ([n for n in names if n not in absent] for names in (_WHOLE, _POSITIVE, _SHARES))
    found += [(n, f"{given[n]!r} is not a whole number of at least 1") for n in whole if not _whole(given[n])]
    found += [
        (n, f"{given[n]!r} is not a whole number of at least 0")
        for n in ("seed", "tta")
        if not (_whole(given[n]) or (given[n] == 0 and _real(given[n])))
    ]
    found += [(n, f"{given[n]!r} is not a finite number above 0") for n in positive if not _positive(given[n])]
    found += [(n, f"{given[n]!r} is not in [0, 1)") for n in shares if not (_real(given[n]) and 0 <= given[n] < 1)]
    found += [
        (n, f"{given[n]!r} is not a finite number of at least 0")
        for n in ("weight_decay", "mixup")
        if not (_real(given[n]) and 0 <= given[n] < math.inf)
    ]
    if not (_real(spec.crop_scale) and 0 < spec.crop_scale <= 1):
        found.append(("crop_scale", f"{spec.crop_scale!r} is not in (0, 1]"))
    if found:
        return found
    if spec.batch_size % spec.accumulate:
        found.append(("accumulate", f"{spec.accumulate} parts don't divide a batch of {spec.batch_size}"))
    room = 1 - spec.warmup if spec.schedule == "wsd" else 1
    if not (_real(spec.cooldown) and 0 < spec.cooldown <= room):
        found.append(("cooldown", f"{spec.cooldown!r} is not in (0, 1 - warmup]"))
    if spec.tta and spec.augment == "none":
        found.append(
            ("tta", "averages over augmented copies of an image, and augment is none; write flip+resized-crop")
        )
    asked = [n for n in ("budget", "epochs", "examples") if given[n] is not None]
    if spec.steps is None and len(asked) != 1:
        said = " and ".join(asked) or "none of them"
        found.append(("budget", f"one of budget (FLOPs), epochs, examples must be given; found {said}"))
    return found


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _real(value: Any) -> bool:
    kind = type(value)  # asking the abstract class of ten thousand runs takes a second
    return kind is float or kind is int or (isinstance(value, Real) and kind is not bool)


def _positive(value: Any) -> bool:
    return _real(value) and 0 < value < math.inf


_FREE_IN_A_STACK = {
    *("seed", "lr", "weight_decay", "momentum", "beta1", "beta2", "clip", "label_smoothing", "dataset_size"),
    *("schedule", "warmup", "cooldown", "parent", "parent_cell", "start", "stage"),
    *("budget", "epochs", "examples", "steps"),  # runs of one length train at a time (trainer.trunk)
}


def stack_key(spec: RunSpec) -> tuple[Any, ...]:
    """What runs must have in common to share a stack: all but what may differ from row to row.

    Needs a resolved spec.
    """
    return tuple(getattr(spec, name) for name in _NAMES if name not in _FREE_IN_A_STACK)


def model_name(spec: RunSpec) -> str:
    """The paper's spelling: `B-12/Wi-1024`, with `-X-k` where the expansion is not 4.

    Example:
        >>> model_name(RunSpec(family="b-mlp", depth=12, width=1024, epochs=1))
        'B-12/Wi-1024'
    """
    other = f"-X-{spec.expansion}" if spec.family == "b-mlp" and spec.expansion != 4 else ""
    return f"{spec.family[0].upper()}-{spec.depth}/Wi-{spec.width}{other}"


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
        raise SpecError("model", f"{name!r} is no model name; write it like B-12/Wi-1024 or S-6/Wi-2048")
    parsed: dict[str, Any] = {
        "family": f"{match['family'].lower()}-mlp",
        "depth": int(match["depth"]),
        "width": int(match["width"]),
    }
    if match["expansion"] is not None:
        parsed["expansion"] = int(match["expansion"])
    return parsed
