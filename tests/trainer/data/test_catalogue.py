"""Data sets by name, on small copies of the layouts in which they are distributed."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
import struct
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.paths import SHARED
from trainer import RunSpec, SpecError, train
from trainer.data import catalogue, entries
from trainer.data.datasets import UNSEEN, describe, load, resolve
from trainer.registry import Registry

RNG = np.random.default_rng(0)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root of its own."""
    monkeypatch.setenv("ISOFLOP_DATA", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def small(monkeypatch, name, train, test, classes):
    """Let a copy of so many examples pass for the set."""
    entry = replace(catalogue.CATALOGUE[name], train=train, test=test, classes=classes, md5=())
    copies = Registry("data set", "isoflop.datasets", entries.check, {name: entry})
    monkeypatch.setattr(catalogue, "DATASETS", copies)


def pictures(n, side, channels=3):
    return RNG.integers(0, 256, (n, side, side, channels), dtype=np.uint8)


def cifar(folder, images, labels, names, key):
    folder.mkdir(parents=True)
    for name, x, y in zip(
        names, np.array_split(images, len(names)), np.array_split(labels, len(names)), strict=True
    ):
        data = np.ascontiguousarray(x.transpose(0, 3, 1, 2).reshape(len(x), -1))
        (folder / name).write_bytes(pickle.dumps({b"data": data, key: [int(v) for v in y]}, protocol=2))


def idx(values, dims):
    return b"\0\0\x08" + bytes([len(dims)]) + struct.pack(f">{len(dims)}I", *dims) + values.tobytes()


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def tarred(folder, path):
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, folder.name)
    shutil.rmtree(folder)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_as_it_is_distributed(root, monkeypatch, name, packed):
    images, labels = pictures(60, 32), np.arange(60) % 4
    if name == "cifar10":
        folder, names = root / "cifar-10-batches-py", [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
        cifar(folder, images, labels, names, b"labels")
        small(monkeypatch, name, 50, 10, 4)
    else:
        folder = root / "cifar-100-python"
        cifar(folder, images, labels, ["train", "test"], b"fine_labels")
        (folder / "meta").write_bytes(b"")
        small(monkeypatch, name, 30, 30, 4)
    if packed:
        tarred(folder, root / f"{name.replace('cifar', 'cifar-')}-python.tar.gz")
    arrays = load(RunSpec(dataset=name, epochs=1))
    assert np.array_equal(arrays.inputs.reshape(images.shape), images)
    assert np.array_equal(arrays.labels, labels)
    assert arrays.train == (50 if name == "cifar10" else 30)


def test_a_pickle_that_runs_code_is_refused(root):
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    with pytest.raises(SpecError, match=r"asks for (os|posix).system"):
        load(RunSpec(dataset="cifar10", epochs=1))


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_is_read_as_it_is_distributed(root, monkeypatch, zipped):
    x, y = pictures(50, 28, 1)[..., 0], (np.arange(50) % 10).astype(np.uint8)
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, rows in (("train", slice(40)), ("t10k", slice(40, 50))):
        for name, values in ((f"{split}-images-idx3-ubyte", x[rows]), (f"{split}-labels-idx1-ubyte", y[rows])):
            content = idx(values, values.shape)
            (raw / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    small(monkeypatch, "mnist", 40, 10, 10)
    arrays = load(RunSpec(dataset="mnist", epochs=1))
    assert np.array_equal(arrays.inputs.reshape(x.shape), x)
    assert np.array_equal(arrays.labels, y)


def test_stl10_is_read_as_it_is_distributed(root, monkeypatch):
    images, labels = pictures(20, 96), (np.arange(20) % 5).astype(np.uint8)
    (root / "stl10_binary").mkdir()
    for split, rows in (("train", slice(12)), ("test", slice(12, 20))):
        (root / "stl10_binary" / f"{split}_X.bin").write_bytes(images[rows].transpose(0, 3, 2, 1).tobytes())
        (root / "stl10_binary" / f"{split}_y.bin").write_bytes((labels[rows] + 1).tobytes())
    small(monkeypatch, "stl10", 12, 8, 5)
    arrays = load(RunSpec(dataset="stl10", epochs=1))
    assert np.array_equal(arrays.inputs.reshape(images.shape), images)
    assert np.array_equal(arrays.labels, labels)
    half = load(RunSpec(dataset="stl10", resolution=48, epochs=1))
    assert half.info.image == (48, 48, 3)


@pytest.mark.parametrize("zipped", [False, True])
def test_tiny_imagenet_is_read_as_it_is_distributed(root, monkeypatch, zipped):
    top, images = root / "tiny-imagenet-200", pictures(9, 64)
    for i, label in enumerate(["n02", "n01", "n02", "n01", "n01"]):
        save(top / "train" / label / "images" / f"{label}_{i}.png", images[i])
    for i in range(3):
        save(top / "val" / "images" / f"val_{i}.png", images[5 + i])
    save(top / "test" / "images" / "test_0.png", images[8])
    listed = "".join(f"val_{i}.png\t{label}\t0\t0\t1\t1\n" for i, label in enumerate(["n01", "n02", "n01"]))
    (top / "val" / "val_annotations.txt").write_text(listed)
    if zipped:
        with zipfile.ZipFile(root / "tiny-imagenet-200.zip", "w") as archive:
            for file in sorted(top.rglob("*")):
                archive.write(file, file.relative_to(root))
        shutil.rmtree(top)
    small(monkeypatch, "tinyimagenet", 5, 3, 2)
    arrays = load(RunSpec(dataset="tinyimagenet", epochs=1))
    assert arrays.labels.tolist() == [0, 0, 0, 1, 1, 0, 1, 0]
    assert np.array_equal(np.asarray(arrays.inputs)[5].reshape(64, 64, 3), images[5])


def test_imagenet_comes_with_its_real_labels(root, monkeypatch):
    top, count = root / "imagenet", 0
    for label in ("n01", "n02"):
        for _ in range(4):
            save(top / "train" / label / f"{label}_{count}.JPEG", pictures(1, 70 + count)[0])
            count += 1
    for number, label in ((1, "n02"), (2, "n01"), (3, "n01")):
        save(top / "val" / label / f"ILSVRC2012_val_{number:08}.JPEG", pictures(1, 80)[0])
    (top / "real.json").write_text(json.dumps([[1, 0], [], [0]]))
    small(monkeypatch, "imagenet1k", 8, 3, 2)
    arrays = load(RunSpec(dataset="imagenet1k", epochs=1))
    assert arrays.info.image == (64, 64, 3)
    assert arrays.labels[8:].tolist() == [0, 0, 1]
    assert arrays.real is not None
    assert arrays.real[8:].tolist() == [[-1, -1], [0, -1], [1, 0]]
    assert (arrays.real[:8] == -1).all()
    result = train(RunSpec(dataset="imagenet1k", width=16, batch_size=4, epochs=2), device="cpu")
    assert 0 <= result.real_error <= 1


def test_imagenet21k_is_found_in_its_folders(root, monkeypatch):
    for split in ("train", "val"):
        for i, label in enumerate(("n01", "n02")):
            save(root / "imagenet21k_resized" / f"imagenet21k_{split}" / label / "0.JPEG", pictures(1, 64 + i)[0])
    small(monkeypatch, "imagenet21k", 2, None, 2)
    assert load(RunSpec(dataset="imagenet21k", epochs=1)).train == 2


def test_another_set_of_the_same_name_is_refused(root):
    np.savez(
        root / "cifar10.npz", x_train=pictures(4, 32), y_train=[0, 1, 0, 1], x_test=pictures(2, 32), y_test=[0, 1]
    )
    with pytest.raises(SpecError, match=r"holds 4 \+ 2 examples of 2 classes; cifar10 has 50,000 \+ 10,000 of 10"):
        load(RunSpec(dataset="cifar10", epochs=1))


def test_an_official_archive_with_another_content_is_refused(root):
    (root / "cifar-10-python.tar.gz").write_bytes(b"not it")
    with pytest.raises(SpecError, match=r"md5 checksum .* expected c58f30108f718f92721af3b95e74349a"):
        load(RunSpec(dataset="cifar10", epochs=1))


@pytest.mark.parametrize("name", catalogue.CATALOGUE)
def test_a_set_that_is_not_here_says_where_it_is_to_be_had(root, name):
    with pytest.raises(SpecError, match=f"{name} not found; looked in .*get it from .*expected: "):
        load(RunSpec(dataset=name, epochs=1))


def test_a_plan_needs_no_files_of_a_set_that_the_catalogue_knows(root):
    spec = RunSpec(dataset="imagenet21k", epochs=1, family="b-mlp", depth=12, width=1024, batch_size=16384)
    known = resolve(spec, describe(spec, decode=False))
    assert (known.inputs, known.classes, known.dataset_size) == (12288, 11230, 11_801_680)
    assert known.fingerprint == UNSEEN


def test_a_registered_set_is_found_by_its_name(root, tmp_path):
    np.savez(tmp_path / "x.npz", x_train=pictures(4, 8), y_train=[0, 1, 0, 1], x_test=pictures(2, 8), y_test=[0, 1])
    with pytest.raises(SpecError, match="unknown data set 'mine'; valid: "):
        describe(RunSpec(dataset="mine", epochs=1))
    catalogue.register("mine", str(tmp_path / "x.npz"))
    assert describe(RunSpec(dataset="mine", epochs=1)).image == (8, 8, 3)
    with pytest.raises(SpecError, match="did you mean 'mine'"):
        describe(RunSpec(dataset="mines", epochs=1))


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_mnist_is_found_where_it_really_lies(monkeypatch):
    monkeypatch.setenv("ISOFLOP_DATA", str(SHARED))
    assert load(RunSpec(dataset="mnist", epochs=1)).info.image == (28, 28, 1)
