from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.paths import SHARED
from trainer.data.cache import load_decoded
from trainer.data.cache_entries import cache_root
from trainer.spec import SpecError

CIFAR = SHARED / "cifar10.tar.gz"
SPLITS = {"train": 6, "test": 2}
CLASSES = ("cat", "dog", "owl")


def _draw(where, side=6, mode="RGB", seed=0):
    where.parent.mkdir(parents=True, exist_ok=True)
    dims = (side, side, 3) if mode == "RGB" else (side, side)
    drawn = np.random.default_rng(seed).integers(0, 256, dims, dtype=np.uint8)
    Image.fromarray(drawn).save(where)
    return drawn


def _tree(root, splits=SPLITS, mode="RGB", side=6):
    """Class folders of small images; what was drawn, by path."""
    drawn = {}
    for split, each in splits.items():
        for label in CLASSES:
            for i in range(each):
                name = Path(split) / label / f"{i:02d}.png"
                drawn[name] = _draw(root / name, side, mode, seed=len(drawn))
    return drawn


def _tar(root, target):
    with tarfile.open(target, "w:gz" if target.suffix == ".gz" else "w") as tar:
        for item in sorted(root.iterdir(), reverse=True):  # an order of its own
            tar.add(item, arcname=item.name)
    return target


def _entries(cache):
    return sorted((cache / "datasets").iterdir())


@pytest.mark.parametrize("held_out", ["test", "val"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_class_folders_become_rows_of_pixels_training_first(tmp_path, held_out, mode):
    drawn = _tree(tmp_path / "set", {"train": 6, held_out: 2}, mode)
    ready = load_decoded(str(tmp_path / "set"), None)
    assert (ready.train, ready.classes, len(ready.inputs)) == (18, 3, 24)
    assert ready.image == (6, 6, 3 if mode == "RGB" else 1)
    rows = zip(np.asarray(ready.inputs), ready.labels, strict=True)
    found = {(row.tobytes(), int(y), k < 18) for k, (row, y) in enumerate(rows)}
    assert found == {
        (pixels.tobytes(), CLASSES.index(name.parts[1]), name.parts[0] == "train") for name, pixels in drawn.items()
    }


def test_long_decoding_tells_how_far_it_is_up_to_the_end(tmp_path, monkeypatch, caplog):
    _tree(tmp_path / "set", {"train": 90, "test": 2}, side=2)
    monkeypatch.setattr("trainer.host.progress.LINES", 0.0)
    with caplog.at_level("INFO", "isoflop"):
        load_decoded(str(tmp_path / "set"), None)
    assert [message for message in caplog.messages if message.startswith("decoding:")] == [
        "decoding: 1 of 276 images (0 %)",
        "decoding: 257 of 276 images (93 %)",
        "decoding: 276 of 276 images (100 %)",
    ]


def test_classes_without_a_split_keep_every_fifth_image_of_each_for_testing(tmp_path):
    drawn = _tree(tmp_path, {"set": 10})
    ready = load_decoded(str(tmp_path / "set"), None)
    assert ready.train == 24
    assert np.bincount(ready.labels[24:]).tolist() == [2, 2, 2]
    tested = {row.tobytes() for row in ready.inputs[24:]}
    assert tested == {pixels.tobytes() for name, pixels in drawn.items() if int(name.stem) % 5 == 4}


def test_statistics_are_those_of_the_training_images_alone(tmp_path):
    drawn = _tree(tmp_path / "set")
    ready = load_decoded(str(tmp_path / "set"), None)
    pixels = np.concatenate([p.reshape(-1, 3) for name, p in drawn.items() if name.parts[0] == "train"])
    assert ready.mean == pytest.approx(pixels.mean(0), rel=1e-6)
    assert ready.std == pytest.approx(pixels.std(0), rel=1e-6)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_tar_is_the_folder_that_it_was_made_of(tmp_path, suffix):
    _tree(tmp_path / "set")
    folder = load_decoded(str(tmp_path / "set"), None)
    packed = load_decoded(str(_tar(tmp_path / "set", tmp_path / f"set{suffix}")), None)
    assert packed.fingerprint == folder.fingerprint
    assert np.array_equal(np.asarray(packed.inputs), np.asarray(folder.inputs))
    assert np.array_equal(packed.labels, folder.labels)


def test_a_set_is_decoded_once(tmp_path, cache):
    _tree(tmp_path / "set")
    load_decoded(str(tmp_path / "set"), None)
    (entry,) = _entries(cache)
    before = [(f.name, f.stat().st_ino, f.stat().st_mtime_ns) for f in sorted(entry.iterdir())]
    again = load_decoded(str(tmp_path / "set"), None)
    assert _entries(cache) == [entry]
    assert [(f.name, f.stat().st_ino, f.stat().st_mtime_ns) for f in sorted(entry.iterdir())] == before
    assert isinstance(again.inputs, np.memmap)


def test_a_changed_set_is_decoded_again_and_has_another_fingerprint(tmp_path, cache):
    _tree(tmp_path / "set")
    before = load_decoded(str(tmp_path / "set"), None)
    _draw(tmp_path / "set/train/cat/00.png", seed=99)
    after = load_decoded(str(tmp_path / "set"), None)
    assert after.fingerprint != before.fingerprint
    assert len(_entries(cache)) == 2


def test_a_label_is_part_of_the_fingerprint(tmp_path):
    _tree(tmp_path / "set")
    before = load_decoded(str(tmp_path / "set"), None)
    for old, new in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (tmp_path / "set/train" / old).rename(tmp_path / "set/train" / new)
    assert load_decoded(str(tmp_path / "set"), None).fingerprint != before.fingerprint


def test_a_moved_set_keeps_its_fingerprint(tmp_path):
    _tree(tmp_path / "set")
    before = load_decoded(str(tmp_path / "set"), None)
    shutil.move(tmp_path / "set", tmp_path / "moved")
    assert load_decoded(str(tmp_path / "moved"), None).fingerprint == before.fingerprint


def test_images_are_scaled_where_a_resolution_is_asked(tmp_path):
    _tree(tmp_path / "set", side=8)
    Image.new("RGB", (20, 10), (200, 100, 50)).save(tmp_path / "set/train/cat/00.png")
    ready = load_decoded(str(tmp_path / "set"), 4)
    assert ready.image == (4, 4, 3)
    assert (ready.inputs.reshape(-1, 16, 3) == [200, 100, 50]).all((1, 2)).sum() == 1


@pytest.mark.parametrize(
    ("dims", "kind", "image"),
    [
        ((6, 6), np.uint8, (6, 6, 1)),
        ((6, 6, 1), np.uint8, (6, 6, 1)),
        ((6, 6, 3), np.uint8, (6, 6, 3)),
        ((6, 6, 3), np.float64, (6, 6, 3)),
        ((9,), np.float32, None),
        ((9,), np.uint8, None),
    ],
)
def test_arrays_come_back_as_they_were_saved(tmp_path, dims, kind, image):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (30, *dims)).astype(kind), np.arange(30) % 3
    np.savez(tmp_path / "a.npz", x_train=x[:20], y_train=y[:20, None], x_test=x[20:], y_test=y[20:, None])
    ready = load_decoded(str(tmp_path / "a.npz"), None)
    assert np.array_equal(np.asarray(ready.inputs), x.reshape(30, -1))
    assert ready.inputs.dtype == (np.uint8 if kind == np.uint8 else np.float32)
    assert np.array_equal(ready.labels, y)
    assert (ready.train, ready.classes, ready.image) == (20, 3, image)
    over = (0, 1, 2) if image else None
    assert ready.mean == pytest.approx(x[:20].reshape(20, *(image or dims)).mean(over), rel=1e-5)
    assert ready.std == pytest.approx(x[:20].reshape(20, *(image or dims)).std(over), rel=1e-5)


def test_a_pixel_that_never_changes_is_not_divided_by_nothing(tmp_path):
    x, y = np.full((4, 2, 2), 7, np.uint8), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert load_decoded(str(tmp_path / "a.npz"), None).std.tolist() == [1.0]


X, Y = np.zeros((4, 3), np.float32), np.array([0, 1, 0, 1])
SAVED: dict[str, Any] = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}


@pytest.mark.parametrize(
    "wrong",
    [
        {"y_test": None},
        {"x_train": X[:3]},
        {"x_train": X[:0], "y_train": Y[:0]},
        {"y_train": Y / 2},
        {"y_train": Y - 1},
        {"x_train": np.full_like(X, np.nan)},
        {"x_test": np.zeros((4, 5), np.float32)},
        {"y_train": np.eye(4, dtype=int), "y_test": np.eye(4, dtype=int)},
        {"y_train": Y * 0, "y_test": Y * 0},
    ],
    ids=["missing", "lengths", "empty", "fractions", "negative", "nan", "widths", "one-hot", "one-class"],
)
def test_wrong_arrays_are_one_line_that_names_the_file(tmp_path, wrong):
    saved: dict[str, Any] = {name: value for name, value in {**SAVED, **wrong}.items() if value is not None}
    np.savez(tmp_path / "a.npz", **saved)
    _refused(tmp_path / "a.npz", "a.npz")


def test_vectors_are_not_rescaled(tmp_path):
    np.savez(tmp_path / "a.npz", **SAVED)
    _refused(tmp_path / "a.npz", "rescaled", field="resolution", resolution=8)


def _refused(source, about, field="path", resolution=None):
    with pytest.raises(SpecError) as caught:
        load_decoded(str(source), resolution)
    assert caught.value.field == field
    assert about in str(caught.value)
    assert "\n" not in str(caught.value)
    kept = cache_root() / "datasets"
    assert not kept.exists() or not list(kept.iterdir())


def test_nothing_there_is_refused(tmp_path):
    _refused(tmp_path / "nowhere", "nowhere")


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/notes.txt").write_text("soon")
    _refused(tmp_path / "set", "no images")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "set.csv").write_text("a,b\n1,2\n")
    _refused(tmp_path / "set.csv", "set.csv")


def test_an_npz_that_is_none_is_refused(tmp_path):
    (tmp_path / "set.npz").write_text("a,b\n1,2\n")
    _refused(tmp_path / "set.npz", "set.npz")


def test_images_outside_class_folders_are_refused(tmp_path):
    _draw(tmp_path / "set/00.png")
    _refused(tmp_path / "set", "00.png")


def test_one_class_is_refused(tmp_path):
    for split in SPLITS:
        _draw(tmp_path / "set" / split / "cat/00.png")
    _refused(tmp_path / "set", "cat")


def test_training_images_alone_are_refused(tmp_path):
    _tree(tmp_path / "set", {"train": 2})
    _refused(tmp_path / "set", "test")


@pytest.mark.parametrize("size", [(7, 7), (6, 8)])
def test_images_of_two_sizes_are_refused_where_no_resolution_is_asked(tmp_path, size):
    _tree(tmp_path / "set")
    Image.new("RGB", size).save(tmp_path / "set/train/owl/03.png")
    _refused(tmp_path / "set", "owl/03.png", field="resolution")


@pytest.mark.parametrize("keep", [0, 4, 60])
def test_a_broken_image_is_named(tmp_path, keep):
    _tree(tmp_path / "set")
    broken = tmp_path / "set/train/dog/02.png"
    broken.write_bytes(broken.read_bytes()[:keep])
    _refused(tmp_path / "set", "dog/02.png")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_tar_cut_short_is_refused(tmp_path, suffix):
    _tree(tmp_path / "set")
    packed = _tar(tmp_path / "set", tmp_path / f"set{suffix}")
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2 + 100])
    _refused(packed, packed.name)


def test_the_cache_stands_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_root() == tmp_path / "a"
    monkeypatch.delenv("ISOFLOP_CACHE")
    assert cache_root() == tmp_path / "b/isoflop"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert cache_root() == tmp_path / "c/.cache/isoflop"


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR.exists(), reason="needs ../shared/data/cifar10.tar.gz")
def test_cifar_10_comes_in_by_the_same_door():
    ready = load_decoded(str(CIFAR), None)
    assert (ready.train, len(ready.labels) - ready.train, ready.classes) == (50_000, 10_000, 10)
    assert ready.image == (32, 32, 3)
    assert np.bincount(ready.labels[:50_000]).tolist() == [5000] * 10
    assert ready.mean / 255 == pytest.approx([0.4913, 0.4821, 0.4465], abs=1e-4)


def test_processes_that_need_a_set_at_once_decode_it_once(tmp_path):
    _tree(tmp_path / "set", {"train": 150, "test": 50}, side=64)
    text = f"""
import logging
logging.basicConfig(level=logging.INFO)
from trainer.data.cache import load_decoded
from tests.paths import SHARED
print(load_decoded({str(tmp_path / "set")!r}, None).fingerprint)
"""
    command = [sys.executable, "-c", text]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [process.communicate(timeout=60) for process in both]
    assert len({out for out, _ in ended}) == 1
    assert sum(err.count("decoding ") for _, err in ended) == 1
