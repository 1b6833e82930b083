"""The paper's recipes by name: fields of RunSpec, each of which can be overridden.

The length of training is set separately. Source: Bachmann et al. 2023, appendix, and the defaults of its code.
Where the two differ, `scratch` has the batch size of the code (4096), and the activation is GELU. Differences from
their training: batches are full (the rest of an epoch is not dropped), MixUp shares are drawn for our own batches,
and crops are bilinear, as FFCV's. The paper does not give the batch size of `probe` or the crops of `tta`; both are
those of `finetune`. Images of a probe are not augmented. `probe`, `finetune` and `tta` need a parent
(trainer.training.initial).

Example:
    >>> from trainer import RunSpec
    >>> RunSpec(**{**PRESETS["scratch"], "dataset": "digits", "epochs": 100, "batch_size": 512}).optimizer
    'lion'
"""

from __future__ import annotations

from typing import Any, Literal

Preset = Literal["scratch", "pretrain", "scaling", "probe", "finetune", "tta"]

_LION = {
    "optimizer": "lion",
    "schedule": "constant",
    "lr": 5e-5,
    "weight_decay": 0.0,
    "label_smoothing": 0.3,
    "augment": "flip+resized-crop",
    "crop_scale": 0.08,
    "mixup": 0.8,
    "mixup_per": "batch",
}
PRESETS: dict[Preset, dict[str, Any]] = {
    "scratch": {**_LION, "batch_size": 4096},
    "pretrain": {**_LION, "batch_size": 16384},
    "scaling": {**_LION, "batch_size": 16384, "lr": 1e-5, "weight_decay": 1e-3},
    "probe": {"optimizer": "lion", "trains": "head", "lr": 1e-5, "weight_decay": 0.0, "batch_size": 2048},
    "finetune": {
        "optimizer": "sgd",
        "momentum": 0.9,
        "lr": 0.01,
        "lr_embed": 0.1,
        "lr_body": 0.1,
        "weight_decay": 1e-4,
        "clip": 1.0,
        "batch_size": 2048,
        "label_smoothing": 0.3,
        "augment": "flip+resized-crop",
        "crop_scale": 0.4,
    },
    "tta": {"examples": 0, "tta": 100, "augment": "flip+resized-crop", "crop_scale": 0.4},
}
