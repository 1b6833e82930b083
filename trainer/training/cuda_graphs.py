"""CUDA graphs: all kernels of a forward and backward pass in one launch, used if measured to be faster.

The kernels of a small model take less time than their launches, so the GPU waits for Python. By calculation, an
H200 at batch size 512 is busy with a stack of 41 runs of width 64 in eager mode, and of 16 with graphs. Wide models
gain nothing.
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
    Output = TypeVar("Output")

Engine = Literal["eager", "graph"]

PASSES = 10
"""Number of timed passes of each engine."""
WORTH = 0.97
"""A graph is used if it takes less than this share of the eager time, because it occupies memory."""

log = logging.getLogger("isoflop")


def faster(
    eager: Compute,
    batch: Batch,
    capture: Callable[[Compute, Batch], Compute] | None = None,
    seconds: Callable[[Compute, Batch], float] | None = None,
) -> tuple[Engine, Compute]:
    """Return the faster of a computation and its CUDA graph, timed over a few passes of one batch.

    A computation that cannot be captured stays eager, with a warning in the log. Tests replace `capture` and
    `seconds`.
    """
    clock = seconds or timed
    try:
        graph = (capture or warmed)(eager, batch)
        gain = clock(graph, batch) / clock(eager, batch)
    except RuntimeError as error:
        log.warning("CUDA graph capture failed, training continues in eager mode: %s", str(error).splitlines()[0])
        return "eager", eager
    return ("graph", graph) if gain < WORTH else ("eager", eager)


def warmed(eager: Compute, batch: Batch) -> Compute:
    """Return the CUDA graph of a computation that has run before, so that lazy initialisation is not captured."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            eager(batch)
    torch.cuda.current_stream().wait_stream(aside)
    return captured(eager, batch)


def captured(eager: Callable[[Batch], Output], batch: Batch) -> Callable[[Batch], Output]:
    """Return the CUDA graph of a computation whose kernels depend on the sizes of its batch only; it is not run."""
    inputs = tuple(part.clone() for part in batch)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = eager(inputs)

    def replay(batch: Batch) -> Output:
        for static, part in zip(inputs, batch, strict=True):
            static.copy_(part)
        graph.replay()
        return output

    return replay


def timed(compute: Compute, batch: Batch) -> float:
    """Return the mean seconds of a pass, after one untimed pass."""
    compute(batch)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(PASSES):
        compute(batch)
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / PASSES
