"""FFCV's files: what is written is read again, also as the paper's code writes them. Most tests need FFCV."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.trainer.reference import numbers
from trainer import RunSpec, SpecError, train
from trainer.data.cache import load_decoded
from trainer.data.datasets import describe, load
from trainer.data.formats.ffcv import open_betons, write_betons


@pytest.fixture(scope="module")
def made():
    """(images [60, 16, 16, 3], labels [60]), smooth enough for JPEG."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 120, 16)[:, None, None] + np.linspace(0, 60, 16)[None, :, None]
    return (ramp + rng.integers(0, 70, (60, 1, 1, 3))).astype(np.uint8), np.arange(60) % 3


@pytest.fixture
def ffcv():
    return pytest.importorskip("ffcv", reason="needs FFCV: ./run ffcv")


def as_npz(made, path):
    (x, y) = made
    np.savez(path, x_train=x[:45], y_train=y[:45], x_test=x[45:], y_test=y[45:])
    return path


@pytest.mark.parametrize(("mode", "tolerance"), [("raw", 0), ("smart", 0), ("jpg", 12)])
def test_what_was_written_is_read_again(ffcv, made, tmp_path, mode, tolerance):
    threads = torch.get_num_threads()
    paths = write_betons(made[0], made[1], 45, tmp_path / "set", mode, 95, 1)
    held = load_decoded(str(tmp_path / "set"), None)
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == sorted(p.name for p in paths)
    assert held.train == 45
    assert np.array_equal(held.labels, made[1])
    assert np.abs(held.inputs.reshape(made[0].shape).astype(int) - made[0]).max() <= tolerance
    assert torch.get_num_threads() == threads


def test_a_run_on_raw_betons_is_that_on_their_source(ffcv, made, tmp_path):
    write_betons(made[0], made[1], 45, tmp_path / "set", "raw", 90, 1)
    spec = RunSpec(dataset="own", path=str(as_npz(made, tmp_path / "own.npz")), width=16, batch_size=16, epochs=9)
    spec = replace(spec, augment="flip+resized-crop", mixup=0.8)
    source, beton = (train(s, device="cpu") for s in (spec, replace(spec, path=str(tmp_path / "set"))))
    assert numbers(source) == numbers(beton)


def on_betons(path, **said):
    return RunSpec(dataset="own", path=str(path), width=16, batch_size=16, epochs=9, **said)


@pytest.mark.parametrize("resolution", [None, 8])
def test_a_run_that_reads_its_betons_as_it_trains_is_the_run_on_the_decoded_set(ffcv, made, tmp_path, resolution):
    write_betons(made[0], made[1], 45, tmp_path / "set", "smart", 90, 1)
    spec = on_betons(tmp_path / "set", resolution=resolution, augment="flip+crop", order="quasi-random")
    streamed = train(replace(spec, loader="ffcv"), device="cpu")
    assert not list(tmp_path.glob("cache/datasets/*/inputs.npy"))
    decoded = train(spec, device="cpu")
    assert (streamed.loader, decoded.loader) == ("ffcv", "resident")
    assert streamed.run_id == decoded.run_id
    assert numbers(replace(streamed, loader="resident")) == numbers(decoded)


def test_a_stack_reads_its_betons_and_goes_on_in_the_middle_of_an_epoch(ffcv, made, tmp_path):
    write_betons(made[0], made[1], 45, tmp_path / "set", "jpg", 95, 1)
    stack = [on_betons(tmp_path / "set", loader="ffcv", seed=seed) for seed in range(3)]
    stack = [replace(run, epochs=None, examples=16 * 100) for run in stack]
    whole = train(stack, device="cpu")
    cut = train(stack, device="cpu", checkpoints=tmp_path / "c", should_stop=lambda: True)
    assert {run.state for run in cut} == {"cancelled"}
    assert all(0 < run.steps < 100 for run in cut)
    gone_on = train(stack, device="cpu", checkpoints=tmp_path / "c")
    assert [numbers(run) for run in gone_on] == [numbers(run) for run in whole]


def test_compiled_and_interpreted_decoding_agree(ffcv, made, tmp_path, monkeypatch):
    write_betons(made[0], made[1], 45, tmp_path / "set", "jpg", 95, 1)
    rows = np.array([59, 0, 44, 45, 3, 3])
    found = []
    for least in (0, 10**9):
        monkeypatch.setattr("trainer.data.formats.ffcv.WORTH_COMPILING", least)
        found += [open_betons(tmp_path / "set", ["train.beton", "test.beton"], side)[0] for side in (16, 12)]
    for one, other in zip(found[:2], found[2:], strict=True):
        assert np.array_equal(one[rows], other[rows])
        assert np.array_equal(one[rows], one[:][rows])


def test_other_files_are_not_read_through_ffcv(made, tmp_path):
    with pytest.raises(SpecError, match=r"ffcv reads .beton files, .*own.npz has none"):
        load(RunSpec(dataset="own", path=str(as_npz(made, tmp_path / "own.npz")), epochs=1, loader="ffcv"))
    with pytest.raises(SpecError, match=r"digits is made by code and has no .beton files"):
        describe(RunSpec(dataset="digits", epochs=1, loader="ffcv"))


def test_a_disk_too_small_for_the_decoded_set_is_said_beforehand(ffcv, made, tmp_path, monkeypatch):
    write_betons(made[0], made[1], 45, tmp_path / "set", "raw", 90, 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(SpecError, match=r"take 4.61e-05 GB, .* has 1e-06 GB free; write `loader: ffcv` to read"):
        load(on_betons(tmp_path / "set"))


def test_images_are_scaled_and_files_of_several_sizes_are_told_apart(ffcv, made, tmp_path):
    write_betons(made[0], made[1], 45, tmp_path / "a", "raw", 90, 1)
    for name in ("train", "test"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "a" / f"{name}.beton").rename(tmp_path / "set" / name / f"{name}_16.beton")
    assert load_decoded(str(tmp_path / "set"), 8).image == (8, 8, 3)
    write_betons(made[0][:, ::2, ::2], made[1], 45, tmp_path / "b", "raw", 90, 1)
    for name in ("train", "test"):
        (tmp_path / "b" / f"{name}.beton").rename(tmp_path / "set" / name / f"{name}_8.beton")
    assert np.array_equal(load_decoded(str(tmp_path / "set"), 8).inputs.reshape(60, 8, 8, 3), made[0][:, ::2, ::2])
    with pytest.raises(SpecError, match="found 2: "):
        load_decoded(str(tmp_path / "set"), None)


def test_grey_images_are_written_in_three_channels(ffcv, made, tmp_path):
    write_betons(made[0][..., :1], made[1], 45, tmp_path / "set", "raw", 90, 1)
    assert np.array_equal(
        load_decoded(str(tmp_path / "set"), None).inputs.reshape(made[0].shape)[..., 2], made[0][..., 0]
    )


def test_files_with_other_fields_and_another_order_are_read(ffcv, made, tmp_path):
    from ffcv.fields import FloatField, IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    (tmp_path / "set").mkdir()
    for name, rows in (("train_64", range(45)), ("val_64", range(45, 60))):
        fields = {"y": IntField(), "weight": FloatField(), "x": RGBImageField(write_mode="raw")}
        writer = DatasetWriter(str(tmp_path / "set" / f"{name}.beton"), fields, num_workers=1)
        writer.from_indexed_dataset([(int(made[1][i]), 0.5, made[0][i]) for i in rows])
    held = load_decoded(str(tmp_path / "set"), None)
    assert np.array_equal(held.inputs.reshape(made[0].shape), made[0])
    assert np.array_equal(held.labels, made[1])


def test_a_damaged_file_is_refused(ffcv, made, tmp_path):
    paths = write_betons(made[0], made[1], 45, tmp_path / "set", "raw", 90, 1)
    paths[0].write_bytes(paths[0].read_bytes()[:40])
    with pytest.raises(SpecError, match=r"train.beton is not a .beton file, or is truncated"):
        load_decoded(str(tmp_path / "set"), None)


def test_a_set_without_a_test_file_is_refused(ffcv, made, tmp_path):
    write_betons(made[0], made[1], 45, tmp_path / "set", "raw", 90, 1)[1].unlink()
    with pytest.raises(SpecError, match=r"one .beton file with val or test in its name; found none"):
        load_decoded(str(tmp_path / "set"), None)


def test_without_ffcv_the_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ffcv", None)
    for name in ("train", "test"):
        (tmp_path / f"{name}.beton").write_bytes(b"")
    with pytest.raises(SpecError, match=r"need FFCV, which is not installed .*; run: ./run ffcv"):
        load(RunSpec(dataset="own", path=str(tmp_path), epochs=1))


def test_what_is_no_image_is_not_written(tmp_path):
    with pytest.raises(SpecError, match="hold uint8 images"):
        write_betons(np.zeros((4, 8), np.float32), np.arange(4), 2, tmp_path, "raw", 90, 1)
