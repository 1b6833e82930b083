"""Model families from outside the packages, each a function or a class that makes a module."""

from __future__ import annotations

import torch
from torch import nn


def mlp(inputs, classes, depth, width, activation="relu"):
    act = {"relu": nn.ReLU, "gelu": nn.GELU}[activation]
    body = [layer for _ in range(depth - 1) for layer in (nn.Linear(width, width), nn.LayerNorm(width), act())]
    return nn.Sequential(nn.Linear(inputs, width), act(), *body, nn.Linear(width, classes))


class Convolutional(nn.Module):
    """Reads square images; its head is registered before its body."""

    def __init__(self, inputs, classes, depth, width):
        super().__init__()
        self.side = round(inputs**0.5)
        self.embed = nn.Conv2d(1, width, 3, padding=1)
        self.head = nn.Linear(width, classes)
        self.body = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth - 1))

    def forward(self, x):
        z = self.embed(x.view(-1, 1, self.side, self.side))
        for layer in self.body:
            z = z + layer(z.relu())
        return self.head(z.mean((2, 3)))


class Choosy(nn.Module):
    """Looks at its numbers to decide what to do, which torch.func cannot batch."""

    def __init__(self, inputs, classes, depth, width):
        super().__init__()
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, classes)

    def forward(self, x):
        z = self.first(x)
        if not z.is_meta and z.sum() > 1e9:
            z = -z
        return self.last(z.relu())


def cheap(inputs, classes, depth, width):
    return mlp(inputs, classes, depth, width)


cheap.flops = lambda inputs, classes, depth, width: 1000 * width  # type: ignore[attr-defined]


def dropping(inputs, classes, depth, width):
    return nn.Sequential(nn.Linear(inputs, width), nn.Dropout(0.1), nn.Linear(width, classes))


def normalising(inputs, classes, depth, width):
    return nn.Sequential(nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.Linear(width, classes))


class Projecting(nn.Module):
    """Has a buffer that is drawn at random."""

    def __init__(self, inputs, classes, depth, width):
        super().__init__()
        self.register_buffer("projection", torch.randn(inputs, width))
        self.first, self.last = nn.Linear(width, width), nn.Linear(width, classes)

    def forward(self, x):
        return self.last(self.first(x @ self.projection).relu())


def frozen(inputs, classes, depth, width):
    return mlp(inputs, classes, depth, width).requires_grad_(requires_grad=False)


def flat(inputs, classes, depth, width):
    return nn.Linear(inputs, classes + 1)


def nothing(inputs, classes, depth, width):
    return None


def shallow(inputs, classes, width):
    return nn.Linear(inputs, classes)
