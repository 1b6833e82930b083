"""The sweep file that `isoflop new` writes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TEXT = """\
# The verb plan says what this file costs, run trains it, report writes a page about it
sweep: {name}
data: {{dataset: digits, dataset_size: [360, 1437]}}    # zipf, mnist, cifar10, ... or a name and a path of your own
model: {{family: b-mlp, depth: 1, width: [16, 32, 64]}} # a list is an axis; axes multiply
train: {{optimizer: adamw, lr: 2e-3, batch_size: 32, schedule: cosine}}
budget: {{epochs: [2, 6, 20]}}                          # or flops: [1e9, 1e10], or examples: [...]
seeds: 3
# limits: {{total_flops: 1e13, hours: 2}}               # what the whole sweep may spend
"""


def template(file: Path) -> str:
    """The text of a sweep file, whose sweep is named like the file."""
    name = re.sub(r"[^a-z0-9-]+", "-", file.stem.lower()).strip("-") or "sweep"
    return _TEXT.format(name=name)
