"""B-MLP and S-MLP once more, as plain modules written from the paper's words; and what else several tests share."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace

import torch
from hypothesis import strategies as st
from torch import nn

from trainer.cost import Shape
from trainer.data.arrays import DatasetInfo
from trainer.data.datasets import resolve
from trainer.families import family_of
from trainer.spec import RunSpec

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}
PICTURES = DatasetInfo("pictures", 1000, 48, 10, (4, 4, 3), "0123456789abcdef")


class Block(nn.Module):
    """`z + W_c act(W_e LN(z))`."""

    def __init__(self, width, hidden, activation):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand, self.contract = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.act = ACTIVATIONS[activation]()

    def forward(self, z):
        return z + self.contract(self.act(self.expand(self.norm(z))))


class Layer(nn.Module):
    """`Linear(act(LN(z)))`."""

    def __init__(self, width, activation):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, width)
        self.act = ACTIVATIONS[activation]()

    def forward(self, z):
        return self.linear(self.act(self.norm(z)))


class Reference(nn.Module):
    def __init__(self, shape, activation="gelu"):
        super().__init__()
        m = shape.width
        self.embed, self.head = nn.Linear(shape.inputs, m), nn.Linear(m, shape.classes)
        if shape.family == "b-mlp":
            self.body = nn.ModuleList(Block(m, shape.expansion * m, activation) for _ in range(shape.depth))
        else:
            self.body = nn.ModuleList(Layer(m, activation) for _ in range(shape.depth - 1))

    def forward(self, x):
        z = self.embed(x)
        for block in self.body:
            z = block(z)
        return self.head(z)


def numel(module):
    return sum(p.numel() for p in module.parameters())


def as_weights(models):
    """The parameters of reference models as `forward` takes them: one stack, by slot name."""
    rows = []
    for model in models:
        row = {}
        for name, value in model.named_parameters():
            layer, kind = name.removeprefix("body.").rsplit(".", 1)
            layer = f"block{layer}" if layer[0].isdigit() else layer
            if layer.endswith(".norm"):
                row[f"{layer}.{'gain' if kind == 'weight' else 'bias'}"] = value
            else:
                row[f"{layer}.{kind}"] = value.T if kind == "weight" else value
        rows.append(row)
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def slots(shape):
    return family_of(shape.family).slots(shape)


def initial_row(shape, seed, head_gain=1.0):
    return family_of(shape.family).initial_row(shape, seed, head_gain)


def forward(weights, x, shape, activation="gelu"):
    return family_of(shape.family).forward(weights, x, replace(shape, activation=activation))


def shapes(most=24):
    return st.builds(
        Shape,
        family=st.sampled_from(["b-mlp", "s-mlp"]),
        depth=st.integers(1, 4),
        width=st.integers(1, most),
        inputs=st.integers(1, 2 * most),
        classes=st.integers(2, most),
        expansion=st.integers(1, 5),
    )


def resolved(info=PICTURES, **fields):
    """A resolved spec on a data set that exists in name only."""
    if not {"budget", "epochs", "examples"} & set(fields):
        fields["epochs"] = 2
    return resolve(RunSpec(**{"dataset": info.name, **fields}), info)


def numbers(result):
    """All that a result holds but time and company, to the last bit."""
    history = tuple(replace(record, seconds=0.0) for record in result.history)
    return repr(replace(result, seconds=0.0, eval_seconds=0.0, stack=0, history=history))


def running(run, place, steps):
    """Train in a process that looks every so many steps: it prints a line and waits for one."""
    text = f"""
import math, torch, trainer, trainer.training.loop
torch.set_num_threads(1)
trainer.training.loop.LOOK, trainer.training.loop.SOON = {steps}, math.inf
def look():
    print(flush=True)
    input()
run = trainer.RunSpec(**{asdict(run)!r})
trainer.train(run, device="cpu", evaluations=4, checkpoints={place!r}, every=0, should_stop=look)
"""
    return subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def let_look(process, between=lambda look: None, looks=3):
    """Wait until the process looks for the last of so many times, where it stays; call `between` at each before."""
    for look in range(1, looks + 1):
        process.stdout.readline()
        if look < looks:
            between(look)
            process.stdin.write(b"\n")
            process.stdin.flush()
