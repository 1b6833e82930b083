"""Timing of inference: what is reported hangs together; that it is fast is the benchmarks' business."""

import pytest

from trainer.cost import Shape, macs
from trainer.spec import SpecError
from trainer.training.inference import measure_inference

SHAPE = Shape("b-mlp", 2, 32, 48, 10)


def test_every_batch_size_is_timed():
    timings = measure_inference(SHAPE, [1, 64], device="cpu", seconds=0.05)
    assert [timing.batch_size for timing in timings] == [1, 64]
    for timing in timings:
        assert timing.n >= 5
        assert 0 < timing.low <= timing.latency <= timing.high
        assert timing.examples_per_second == pytest.approx(timing.batch_size / timing.latency)
        assert timing.flops_per_second == pytest.approx(2 * macs(SHAPE) * timing.examples_per_second)


def test_passes_are_counted_to_a_thousand_at_most():
    [timing] = measure_inference(Shape("s-mlp", 1, 16, 16, 2), [1], device="cpu", seconds=60)
    assert timing.n == 1000


def test_a_precision_that_the_device_lacks_is_refused():
    with pytest.raises(SpecError, match="tf32 needs a CUDA device"):
        measure_inference(SHAPE, [1], device="cpu", precision="tf32")
