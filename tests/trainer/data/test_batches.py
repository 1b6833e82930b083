from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.reference import PICTURES, numbers, resolved
from trainer import RunSpec, train
from trainer.data.arrays import Arrays, Split
from trainer.data.batches import BLOCK, PAGE, WINDOW, Batches, Mapped, Order, Resident, loader_of, on_device
from trainer.data.datasets import normalised_width

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


def test_only_small_sets_that_are_read_as_they_are_lie_normalised_on_a_gpu():
    plain = resolved()
    assert normalised_width(plain, 50_000 * 3072) == 4
    assert normalised_width(plain, 1_281_167 * 3072) == 0
    assert normalised_width(replace(plain, augment="flip"), 50_000 * 3072) == 0
    bf16 = replace(plain, precision="bf16")
    assert normalised_width(bf16, 50_000 * 3072) == 2
    assert normalised_width(replace(bf16, mixup=0.5), 50_000 * 3072) == 4  # mixed in fp32


@pytest.mark.gpu
@pytest.mark.parametrize("said", [{}, {"precision": "bf16"}, {"augment": "flip+crop"}, {"loader": "mmap"}])
def test_a_gpu_reads_what_a_cpu_reads(arrays, said):
    spec = resolved(batch_size=64, **said)
    kind = Mapped if said.get("loader") == "mmap" else Resident
    ours, theirs = (
        Batches(kind(arrays, torch.device(d)), [spec], [_split(np.arange(500))]) for d in ("cuda", "cpu")
    )
    for step in (0, 1, 2, BLOCK, BLOCK + 1):
        (x, y), (x_there, y_there) = ours.at([step]), theirs.at([step])
        torch.testing.assert_close(x.cpu(), x_there.to(x.dtype))
        assert torch.equal(y.cpu(), y_there)


def test_a_data_set_is_put_on_a_device_once(arrays):
    assert on_device(arrays, CPU, "resident") is on_device(arrays, CPU, "resident")


@pytest.mark.parametrize("augment", ["none", "flip+crop"])
def test_a_run_reads_the_same_batches_in_any_company(arrays, augment):
    data = Resident(arrays, CPU)
    specs = [
        resolved(seed=s, dataset_size=n, batch_size=32, examples=32, augment=augment)
        for s, n in ((0, 1000), (1, 100), (2, 7))
    ]
    splits = [_split(np.arange(spec.dataset_size)) for spec in specs]
    together = Batches(data, specs, splits)
    alone = [Batches(data, [spec], [own]) for spec, own in zip(specs, splits, strict=True)]
    for step in (0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 5):
        x, y = together.at([step] * 3)
        assert x.shape == (3, 32, 48)
        for k, batches in enumerate(alone):
            x_own, y_own = batches.at([step])
            assert torch.equal(x[k], x_own[0])
            assert torch.equal(y[k], y_own[0])


def test_a_step_trains_on_the_rows_that_the_order_says(arrays):
    spec, rows = resolved(seed=5, batch_size=16), np.arange(300)
    batches, order = Batches(Resident(arrays, CPU), [spec], [_split(rows)]), Order(spec, rows)
    for step in (0, 20, BLOCK + 3):
        assert batches.at([step])[1][0].tolist() == arrays.labels[order.block(step, 1)[0]].tolist()


# read from the file as needed


def test_mapped_and_resident_runs_are_the_same_to_the_last_bit():
    spec = RunSpec(width=16, batch_size=64, examples=64 * 150, augment="flip+crop", seed=3)
    held, read = (train(replace(spec, loader=loader), device="cpu") for loader in ("resident", "mmap"))
    assert (held.loader, read.loader) == ("resident", "mmap")
    assert held.run_id == read.run_id
    assert numbers(replace(held, loader="")) == numbers(replace(read, loader=""))


def test_what_was_expected_is_what_is_read(arrays):
    data, held = Mapped(arrays, CPU), Resident(arrays, CPU)
    first, second = torch.randint(0, 1200, (2, 3, 8)).unbind()
    data.expect(first)
    for rows in (second, first, second):  # asked for something else meanwhile
        assert all(map(torch.equal, data.read(rows), held.read(rows)))


def test_what_cannot_be_read_ahead_fails_where_it_is_needed(arrays):
    data, rows = Mapped(arrays, CPU), torch.tensor([[0, 5000]])
    data.expect(rows)
    with pytest.raises(IndexError):
        data.read(rows)


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
