from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.trainer.reference import PICTURES, numbers, resolved
from trainer import RunSpec, train
from trainer.data.arrays import Arrays, Split
from trainer.data.augment.draws import BLOCK
from trainer.data.batches import PAGE, WINDOW, Batches, Mapped, Order, Resident, loader_of, on_device
from trainer.data.datasets import normalised_width
from trainer.training.gradients import Gradients, precision
from trainer.training.stack import Stack

QUICK = settings(deadline=None, max_examples=60)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (1200, 48), dtype=np.uint8), rng.integers(0, 10, 1200)
    means = np.array([100, 120, 140], np.float32), np.array([50, 60, 70], np.float32)
    return Arrays(PICTURES, pixels, labels, 1000, *means)


def _split(rows):
    return Split(rows, np.arange(1000, 1200), np.ones(200))


@QUICK
@given(size=st.integers(1, 50), batch=st.integers(1, 20), seed=st.integers(0, 99))
def test_every_epoch_is_a_permutation_and_no_example_is_dropped(size, batch, seed):
    rows = np.arange(size) * 3
    order = Order(replace(resolved(seed=seed), batch_size=batch), rows)
    seen = order.block(0, 3 * size).reshape(-1)  # 3 x batch epochs
    for epoch in seen.reshape(-1, size):
        assert sorted(epoch) == rows.tolist()


@QUICK
@given(size=st.integers(1, 50), batch=st.integers(1, 20), at=st.integers(0, 200), more=st.integers(1, 20))
def test_the_rows_of_a_step_do_not_depend_on_how_they_were_asked_for(size, batch, at, more):
    spec, rows = replace(resolved(), batch_size=batch), np.arange(size)
    block = Order(spec, rows).block(at, more)
    assert block.shape == (more, batch)
    one_by_one = Order(spec, rows)
    backwards = [one_by_one.block(at + j, 1)[0] for j in reversed(range(more))]
    assert np.array_equal(block, backwards[::-1])


def test_a_batch_may_span_epochs():
    (first, second) = Order(resolved(batch_size=6), np.arange(10)).block(0, 2)
    assert set(first) | set(second[:4]) == set(range(10))
    assert set(second[4:]) <= set(range(10))


def test_epochs_and_seeds_are_in_different_orders():
    orders = [Order(resolved(batch_size=50, seed=seed), np.arange(50)).block(0, 2) for seed in (0, 1)]
    rows = {tuple(step) for order in orders for step in order}
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("order", "rows"),
    [
        ("random", [[165, 196, 278, 289, 230, 161, 150, 115], [249, 125, 190, 145, 133, 183, 248, 174]]),
        ("quasi-random", [[207, 186, 155, 273, 262, 121, 190, 249], [203, 167, 113, 115, 187, 121, 204, 185]]),
    ],
)
def test_a_seeds_batches_are_the_same_in_every_version(order, rows):
    spec = resolved(batch_size=8, seed=5, order=order)
    assert Order(spec, np.arange(300, 100, -1)).block(24, 2).tolist() == rows


@pytest.mark.parametrize(("loader", "kind"), [("resident", Resident), ("mmap", Mapped), ("ffcv", Mapped)])
def test_a_loader_is_of_its_kind(arrays, loader, kind):
    assert type(on_device(arrays, CPU, loader)) is kind


def test_examples_are_read_normalised_channel_by_channel(arrays):
    rows = np.array([[3, 1], [7, 7]])
    x, y = Resident(arrays, CPU).read(torch.from_numpy(rows))
    pixels = arrays.inputs[rows].reshape(2, 2, 4, 4, 3).astype(float)
    expected = ((pixels - [100, 120, 140]) / [50, 60, 70]).reshape(2, 2, 48)
    torch.testing.assert_close(x, torch.from_numpy(expected).float())
    assert y.tolist() == arrays.labels[rows].tolist()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_whole_set_holds_what_is_read_of_it(arrays, kind):
    data, rows = Resident(arrays, CPU), torch.tensor([[3, 1, 900], [7, 7, 0]])
    assert torch.equal(data.whole(kind)[rows], data.read(rows)[0].to(kind))
    assert data.whole(kind) is data.whole(kind)


def test_only_small_sets_whose_pixels_are_read_as_they_are_lie_normalised_on_a_gpu():
    plain = resolved()
    assert normalised_width(plain, 50_000 * 3072) == 4
    assert normalised_width(plain, 1_281_167 * 3072) == 0
    assert normalised_width(replace(plain, augment="flip+crop"), 50_000 * 3072) == 4
    assert normalised_width(replace(plain, augment="flip+resized-crop"), 50_000 * 3072) == 0
    bf16 = replace(plain, precision="bf16")
    assert normalised_width(bf16, 50_000 * 3072) == 2
    assert normalised_width(replace(bf16, mixup=0.5), 50_000 * 3072) == 2


RECIPES = [
    *({}, {"augment": "flip"}, {"augment": "flip+crop"}, {"augment": "resized-crop"}, {"mixup": 0.8}),
    *(
        {"augment": "flip+crop", "mixup": 0.4},
        {"augment": "flip+resized-crop", "mixup": 0.8, "mixup_per": "example"},
    ),
]
LOADERS = [Resident, Mapped]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_gpu_reads_what_a_cpu_reads(arrays, recipe, loader, precision):
    spec = resolved(batch_size=64, precision=precision, **recipe)
    ours, theirs = (
        Batches(loader(arrays, torch.device(d)), [spec], [_split(np.arange(500))]) for d in ("cuda", "cpu")
    )
    for step in (0, 1, 2, BLOCK, BLOCK + 1):
        there = theirs.read(theirs.inputs([step]))
        for one, other in zip(ours.read(ours.inputs([step])), there, strict=True):
            near = 0.02 if precision == "bf16" else 1e-4
            assert (one.cpu().float() - other.float()).abs().max() < near * (1 + other.abs().max())


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_batch_depends_on_its_inputs_only(arrays, recipe, loader):
    """As in a CUDA graph, which reads from the tensors of its first batch, and writes to none of them."""
    specs = [resolved(seed=seed, batch_size=32, **recipe) for seed in (1, 2)]
    eager, graph = (Batches(loader(arrays, CPU), specs, [_split(np.arange(500))] * 2) for _ in range(2))
    held = [part.clone() for part in graph.inputs([7, 7])]
    for step in (0, 5, 1, BLOCK - 1, BLOCK):
        expected = eager.read(eager.inputs([step] * 2))
        for static, part in zip(held, graph.inputs([step] * 2), strict=True):
            assert static.shape == part.shape
            static.copy_(part)
        before = [static.clone() for static in held]
        assert all(map(torch.equal, graph.read(held), expected))
        assert all(map(torch.equal, held, before))


class OnDevice(TorchDispatchMode):
    """Fails where an operation has a tensor of another device than `meta`, whose tensors have no values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, torch.Tensor)]
        assert {tensor.device.type for tensor in tensors} <= {"meta"}, func
        return made


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_step_on_a_device_neither_waits_for_the_host_nor_has_shapes_that_depend_on_values(arrays, recipe):
    """No value exists on the device `meta`, so that none can be waited for."""
    device = torch.device("meta")
    specs = [resolved(seed=seed, batch_size=32, **recipe) for seed in (1, 2)]
    batches = Batches(Resident(arrays, device), specs, [_split(np.arange(500))] * 2)
    gradients = Gradients(Stack(specs, device), batches, specs, precision(specs[0], device))
    gradients([BLOCK - 1] * 2)  # brings the block to the device
    with OnDevice():
        losses = gradients([BLOCK] * 2)
        x, *_ = batches.read(batches.inputs([BLOCK + 1] * 2))
    assert losses.shape == (2,)
    assert x.shape == (2, 32, 48)


def test_a_data_set_is_put_on_a_device_once(arrays):
    assert on_device(arrays, CPU, "resident") is on_device(arrays, CPU, "resident")


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_run_reads_the_same_batches_in_any_company_and_block(arrays, recipe):
    data = Resident(arrays, CPU)
    specs = [
        resolved(seed=s, dataset_size=n, batch_size=32, examples=32, **recipe)
        for s, n in ((0, 1000), (1, 100), (2, 7))
    ]
    splits = [_split(np.arange(spec.dataset_size)) for spec in specs]
    together, begins = Batches(data, specs, splits), (0, 10, BLOCK - 1)
    alone = [Batches(data, [spec], [own]) for spec, own in zip(specs, splits, strict=True)]
    for done in (0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 5):
        stacked = together.read(together.inputs([begin + done for begin in begins]))
        assert stacked[0].shape == (3, 32, 48)
        for k, batches in enumerate(alone):
            own = batches.read(batches.inputs([begins[k] + done]))
            assert all(torch.equal(part[k], own_part[0]) for part, own_part in zip(stacked, own, strict=True))


def test_a_step_trains_on_the_rows_that_the_order_says(arrays):
    spec, rows = resolved(seed=5, batch_size=16), np.arange(300)
    batches, order = Batches(Resident(arrays, CPU), [spec], [_split(rows)]), Order(spec, rows)
    for step in (0, 20, BLOCK + 3):
        assert (
            batches.read(batches.inputs([step]))[1][0].tolist() == arrays.labels[order.block(step, 1)[0]].tolist()
        )


# read from the file as needed


def test_mapped_and_resident_runs_are_the_same_to_the_last_bit():
    spec = RunSpec(width=16, batch_size=64, examples=64 * 150, augment="flip+crop", seed=3)
    held, read = (train(replace(spec, loader=loader), device="cpu") for loader in ("resident", "mmap"))
    assert (held.loader, read.loader) == ("resident", "mmap")
    assert held.run_id == read.run_id
    assert numbers(replace(held, loader="")) == numbers(replace(read, loader=""))


def test_what_was_announced_is_what_is_read(arrays):
    data, held = Mapped(arrays, CPU), Resident(arrays, CPU)
    first, second = np.random.default_rng(0).integers(0, 1200, (2, 3, 8))
    data.gather(first, following=second)
    for rows in (first, second, first):  # of which one was announced
        read = data.read(torch.from_numpy(rows), gathered=data.gather(rows, following=second))
        assert all(map(torch.equal, read, held.read(torch.from_numpy(rows))))


def test_what_cannot_be_read_ahead_fails_where_it_is_needed(arrays):
    data, rows = Mapped(arrays, CPU), np.array([[0, 5000]])
    data.gather(np.array([[0, 1]]), following=rows)
    with pytest.raises(IndexError):
        data.gather(rows)


def test_auto_is_resident_where_the_set_fits(arrays, monkeypatch):
    spec = resolved()
    assert loader_of(spec, arrays, CPU) == "resident"
    monkeypatch.setattr("trainer.data.batches.SHARE", 1e-12)
    assert loader_of(spec, arrays, CPU) == "mmap"
    assert loader_of(replace(spec, loader="resident"), arrays, CPU) == "resident"


# quasi-random order


@QUICK
@given(size=st.integers(1, 400), batch=st.integers(1, 20), at=st.integers(0, 200), seed=st.integers(0, 9))
def test_a_quasi_random_epoch_is_a_permutation_that_any_step_is_reached_in(size, batch, at, seed):
    spec = replace(resolved(seed=seed), batch_size=batch, order="quasi-random")
    rows = np.random.default_rng(0).permutation(size) * 2
    whole = Order(spec, rows).block(0, size).reshape(-1)  # `batch` epochs
    for epoch in whole.reshape(-1, size):
        assert sorted(epoch) == sorted(rows)
    assert np.array_equal(Order(spec, rows).block(at, 1)[0], Order(spec, rows).block(0, at + 1)[at])


def test_quasi_random_reads_few_pages_at_a_time():
    size = PAGE * WINDOW * 4
    spec = replace(resolved(), batch_size=PAGE * WINDOW, order="quasi-random")
    steps = Order(spec, np.arange(size)).block(0, 8)
    assert [len(set(step // PAGE)) for step in steps] == [WINDOW] * 8
    assert len({tuple(sorted(set(step // PAGE))) for step in steps}) == 8
    assert not np.array_equal(np.diff(steps[0]) > 0, np.ones(len(steps[0]) - 1))
