"""Initial parameters taken from another run that was kept, or from an official checkpoint.

The chain of the paper is pretrain, then a linear probe (`trains: head`) or fine-tuning, then test-time augmentation
(a run on 0 examples). The head is taken over if it belongs to the same classes: from a kept run if that was trained
on the same data set, from a file if the number of classes agrees. Otherwise it starts from the run's seed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from trainer import cost
from trainer.data import datasets
from trainer.data.download import local_copy
from trainer.families import family_of
from trainer.model.official import load_official
from trainer.spec import RunSpec, SpecError
from trainer.training.optimise import head_gain

if TYPE_CHECKING:
    import torch

    from trainer.checkpoints.folder import Storage


def start_row(run: RunSpec, storage: Storage | None) -> torch.Tensor:
    """Parameters [n] with which a resolved run begins, fp32, on the CPU; `storage` holds the checkpoints.

    Raises SpecError if its parent's are missing, damaged, or of another shape.
    """
    shape = cost.shape_of(run)
    family = family_of(shape.family)
    slots = family.slots(shape)
    row = family.initial_row(shape, run.seed, head_gain(run))
    if not run.parent:
        return row
    weights, keeps_head = _of_file(run) if run.start else _of_run(run, storage)
    anew = set() if keeps_head else {slot.name for slot in slots if slot.group == "head"}
    wanted = {slot.name: slot.shape for slot in slots if slot.name not in anew}
    given = {name: tuple(weight.shape) for name, weight in weights.items() if name not in anew}
    if strange := [name for name in (*wanted, *given) if wanted.get(name) != given.get(name)]:
        name = strange[0]
        theirs, ours = given.get(name, "absent"), wanted.get(name, "absent")
        raise SpecError(
            "start" if run.start else "parent",
            f"{name} is {theirs} there and {ours} in this run; model and resolution must be the parent's",
        )
    for slot in slots:
        if slot.name in wanted:
            row[slot.start : slot.start + math.prod(slot.shape)] = weights[slot.name].flatten()
    return row


def _of_run(run: RunSpec, storage: Storage | None) -> tuple[dict[str, torch.Tensor], bool]:
    if storage is None:
        raise SpecError(
            "parent", "a run with a parent needs the folder of checkpoints in which it was kept, or its URL"
        )
    try:
        parent, weights = storage.kept(run.parent)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise SpecError(
            "parent", f"the parameters of run {run.parent[:8]} in {storage} can't be read: {error}"
        ) from error
    return weights, parent["spec"]["fingerprint"] == run.fingerprint


def _of_file(run: RunSpec) -> tuple[dict[str, torch.Tensor], bool]:
    assert run.start is not None
    image = datasets.describe(run).image
    try:
        shape, weights = load_official(local_copy(run.start, "start"), channels=image[2] if image else 1)
    except ValueError as error:
        raise SpecError("start", str(error)) from error
    return weights, shape.classes == run.classes
