"""The choice between eager passes and a CUDA graph; that both compute the same needs a GPU."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from trainer import RunSpec, train
from trainer.training.cuda_graphs import captured, faster

BATCH = (torch.arange(6.0),)


def total(batch):
    return batch[0].sum()


@pytest.mark.parametrize(("gain", "engine"), [(0.5, "graph"), (0.96, "graph"), (0.98, "eager"), (1.5, "eager")])
def test_the_faster_one_is_taken(gain, engine):
    def graph(batch):
        return 1 + total(batch)

    times = {graph: gain, total: 1.0}
    chosen = faster(total, BATCH, capture=lambda *_: graph, seconds=lambda compute, _: times[compute])
    assert chosen == (engine, graph if engine == "graph" else total)


def test_what_cannot_be_captured_stays_eager_and_says_so(caplog):
    def refused(*_):
        raise RuntimeError("operation not permitted when stream is capturing\nand a stack of C++")

    with caplog.at_level(logging.WARNING, "isoflop"):
        assert faster(total, BATCH, capture=refused, seconds=lambda *_: 1.0) == ("eager", total)
    assert "CUDA graph capture failed" in caplog.text
    assert "eager mode: operation not permitted when stream is capturing" in caplog.text
    assert "C++" not in caplog.text


def test_on_a_cpu_passes_are_eager():
    assert train(RunSpec(width=8, examples=64, batch_size=32), device="cpu").engine == "eager"


@pytest.mark.gpu
def test_a_graph_computes_what_it_captured():
    inputs = (torch.randn(8, 8, device="cuda"), torch.randn(8, 8, device="cuda"))
    graph = captured(lambda batch: (batch[0] @ batch[1]).sum(), inputs)
    for _ in range(3):
        fresh = tuple(torch.randn_like(part) for part in inputs)
        torch.testing.assert_close(graph(fresh), (fresh[0] @ fresh[1]).sum())


@pytest.mark.gpu
@pytest.mark.parametrize(
    "recipe",
    [
        *({}, {"mixup": 0.8}, {"accumulate": 2}, {"precision": "bf16"}, {"precision": "tf32"}, {"augment": "flip"}),
        *({"optimizer": "lion", "weight_decay": 0.1}, {"optimizer": "sgd", "clip": 0.1}, {"loader": "mmap"}),
        *({"schedule": "cosine", "warmup": 0.2}, {"param": "mup", "lr_head": 0.5}, {"dataset": "zipf"}),
    ],
    ids=str,
)
def test_runs_by_graph_and_eager_agree(recipe, monkeypatch):
    made = [RunSpec(width=32, batch_size=64, examples=64 * 30, seed=seed, **recipe) for seed in range(4)]
    stack = [replace(run, lr=1e-3 if run.seed < 2 else 3e-3) for run in made]
    monkeypatch.setattr("trainer.training.cuda_graphs.WORTH", 0.0)
    eager = train(stack, device="cuda")
    monkeypatch.setattr("trainer.training.cuda_graphs.WORTH", 1e9)
    graphed = train([replace(run) for run in stack], device="cuda")
    assert {run.engine for run in eager} == {"eager"}
    assert {run.engine for run in graphed} == {"graph"}
    for one, other in zip(eager, graphed, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-3)
