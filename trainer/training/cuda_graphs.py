"""CUDA graphs: all kernels of a forward and backward pass in one launch, used if measured to be faster.

A small model's kernels are shorter than their launches, so that a GPU waits for Python; on paper an H200 at batch
512 needs 41 runs of width 64 in a stack to be busy eagerly, and 16 by graphs. A wide model gains nothing.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Literal, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    Batch = tuple[torch.Tensor, ...]
    Compute = Callable[[Batch], torch.Tensor]
    Found = TypeVar("Found")

Engine = Literal["eager", "graph"]

PASSES = 10
"""Passes that are timed of each."""
WORTH = 0.97
"""Share of the eager time below which a graph is worth the memory that it holds."""

log = logging.getLogger("isoflop")


def faster(
    eager: Compute,
    batch: Batch,
    capture: Callable[[Compute, Batch], Compute] | None = None,
    seconds: Callable[[Compute, Batch], float] | None = None,
) -> tuple[Engine, Compute]:
    """The faster of a computation and its CUDA graph, by the time of a few passes over one batch.

    What cannot be captured stays eager, with a line in the log. `capture` and `seconds` are for tests.
    """
    clock = seconds or timed
    try:
        graph = (capture or warmed)(eager, batch)
        gain = clock(graph, batch) / clock(eager, batch)
    except RuntimeError as error:
        log.warning("no CUDA graph, going on without: %s", str(error).splitlines()[0])
        return "eager", eager
    return ("graph", graph) if gain < WORTH else ("eager", eager)


def warmed(eager: Compute, batch: Batch) -> Compute:
    """The CUDA graph of a computation that has not run yet: its lazy initialisation must not be captured."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            eager(batch)
    torch.cuda.current_stream().wait_stream(aside)
    return captured(eager, batch)


def captured(eager: Callable[[Batch], Found], batch: Batch) -> Callable[[Batch], Found]:
    """The CUDA graph of a computation whose kernels depend on the sizes of its batch alone. It is not run yet."""
    inputs = tuple(part.clone() for part in batch)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = eager(inputs)

    def replay(batch: Batch) -> Found:
        for held, part in zip(inputs, batch, strict=True):
            held.copy_(part)
        graph.replay()
        return found

    return replay


def timed(compute: Compute, batch: Batch) -> float:
    """Seconds of a pass."""
    compute(batch)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(PASSES):
        compute(batch)
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / PASSES
