"""When a run is recorded and evaluated, and what evaluation costs. No torch.

Records are made at log-spaced steps and at the last one. Their errors are of the whole validation or test split,
and not of a part: a part of 1,000 images has a binomial error of 1.6 points at an error of one half, where seeds
differ by 0.03 to 0.35. Instead, evaluations that would take too long are left out. These are the first of a run:
it is evaluated once it has trained on enough examples to pay for that, and from then on at nearly every record.
What a learning curve loses is its beginning, which no power law fits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trainer import cost

if TYPE_CHECKING:
    from trainer.spec import RunSpec

RECORDS = 12
"""Records in every factor of 300 of a run's steps."""

SHARE = 0.1
"""Largest share of a run's time, in FLOPs, that its evaluations take, the one at its end not counted."""


def record_steps(steps: int, records: int = RECORDS) -> list[int]:
    """Log-spaced steps, about `records` in every factor of 300, and the last step.

    One grid for all lengths: what runs share (trainer.trunk), they have recorded at the same steps.
    """
    if not steps:
        return []
    ratio = 300 ** (1 / max(1, records - 1))
    grid = {round(ratio**i) for i in range(math.ceil(math.log(steps) / math.log(ratio)) + 1)}
    return sorted({step for step in grid if step < steps} | {steps})


def evaluation_steps(run: RunSpec, examples: int) -> list[int]:
    """The steps at which a run is evaluated on `examples`: the `record_steps` that it can afford, and the last.

    Whether it can afford one depends on the steps before alone, so that all lengths of a recipe agree.
    """
    assert run.steps is not None
    shape, evaluated = cost.shape_of(run), list[int]()
    step_flops = run.batch_size * cost.flops_per_example(shape)
    each = examples * 2 * cost.macs(shape)
    for step in record_steps(run.steps):
        if step == run.steps or (1 - SHARE) * (len(evaluated) + 1) * each <= SHARE * step * step_flops:
            evaluated.append(step)
    return evaluated


def evaluated_examples(run: RunSpec) -> int:
    """Examples of all forward passes that evaluate a resolved run, the final test and its copies included.

    Where the number of test examples is not known before the data set is decoded, a fifth of the training examples.
    """
    assert run.dataset_size is not None
    test = run.test_examples or run.dataset_size // 5
    watched = run.validation_examples or test
    after = test * max(1, run.tta) if run.validation_examples or run.tta or not run.steps else 0
    return watched * len(evaluation_steps(run, watched)) + after


def evaluation_flops(run: RunSpec) -> int:
    """FLOPs of all evaluations of a resolved run: 2 a multiply-add of the forward pass, in fp32."""
    return evaluated_examples(run) * 2 * cost.macs(cost.shape_of(run))
