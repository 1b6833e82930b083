"""A model family from outside the packages: two linear layers and nothing between them."""

from __future__ import annotations

from trainer.cost import Layer
from trainer.model.layered import LayeredFamily


def layers(shape):
    return [Layer("embed", shape.inputs, shape.width), Layer("head", shape.width, shape.classes)]


def compute(weights, x, shape, act):
    from trainer.model.operations import linear

    return linear(weights, "head", linear(weights, "embed", x))


FAMILY = LayeredFamily(letter="L", layers=layers, compute=compute, settings=frozenset())
