"""The registry of data sets: sizes of each, where it is searched, where to get it. No torch.

A set is found in a data root ($ISOFLOP_DATA, then ./data) under any of its names, as a folder, an archive or an
.npz file, read by `trainer.data.formats`. `isoflop data add` registers others.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.data.cache_entries import cache_root
from trainer.data.entries import Files
from trainer.data.entries import check as check_entry
from trainer.data.formats.archives import ARCHIVES
from trainer.host import installation
from trainer.registry import Registry
from trainer.spec import SpecError

if TYPE_CHECKING:
    from trainer.data.entries import Entry


_FOLDERS = "train/<class>/<image> and val/<class>/<image>"
CATALOGUE: dict[str, Files] = {
    "mnist": Files(
        *(60_000, 10_000, 10, 28, 1),
        names=("mnist", "MNIST", "MNIST/raw"),
        home="yann.lecun.com/exdb/mnist (LeCun, Cortes, Burges)",
        expects="train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-..., each as it is or .gz; or an .npz",
        md5=(
            ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
            ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
            ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
    ),
    "cifar10": Files(
        *(50_000, 10_000, 10, 32, 3),
        names=("cifar10", "cifar-10-batches-py", "cifar-10-python"),
        home="www.cs.toronto.edu/~kriz/cifar.html (python version)",
        expects="cifar-10-python.tar.gz or cifar-10-batches-py/; or train/<class>/<image> and test/<class>/<image>",
        md5=(("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),),
    ),
    "cifar100": Files(
        *(50_000, 10_000, 100, 32, 3),
        names=("cifar100", "cifar-100-python"),
        home="www.cs.toronto.edu/~kriz/cifar.html (python version)",
        expects="cifar-100-python.tar.gz or cifar-100-python/; or train/<class>/<image> and test/<class>/<image>",
        md5=(("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),),
    ),
    "stl10": Files(
        *(5_000, 8_000, 10, 96, 3),
        names=("stl10", "stl10_binary"),
        home="cs.stanford.edu/~acoates/stl10",
        expects="stl10_binary.tar.gz or stl10_binary/ with train_X.bin, train_y.bin, test_X.bin, test_y.bin",
        md5=(("stl10_binary.tar.gz", "91f7769df0f17e558f3565bffb0c7dfb"),),
    ),
    "tinyimagenet": Files(
        *(100_000, 10_000, 200, 64, 3),
        names=("tinyimagenet", "tiny-imagenet-200"),
        home="cs231n.stanford.edu (tiny-imagenet-200.zip)",
        expects="tiny-imagenet-200.zip or tiny-imagenet-200/ with train/, val/images/ and val/val_annotations.txt",
        md5=(("tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"),),
    ),
    "imagenet1k": Files(
        *(1_281_167, 50_000, 1000, 64, 3),
        names=("imagenet1k", "imagenet", "ILSVRC2012"),
        home="image-net.org (ILSVRC 2012, after registration)",
        expects=f"a folder of {_FOLDERS}; for ReaL labels real.json beside them (google-research)",
        resolution=64,
    ),
    "imagenet21k": Files(
        *(11_801_680, None, 11_230, 64, 3),
        names=("imagenet21k", "imagenet21k_resized"),
        home="image-net.org (winter21, cleaned as by Ridnik et al. 2021)",
        expects="a folder of imagenet21k_train/<class>/<image> and imagenet21k_val/<class>/<image>",
        resolution=64,
    ),
}


DATASETS: Registry[Entry] = Registry(
    "data set",
    "isoflop.datasets",
    check_entry,
    {"digits": "trainer.data.sets.digits:DIGITS", "zipf": "trainer.data.sets.zipf:ZIPF", **CATALOGUE},
)
"""Every data set that has a name for all; those of `isoflop data add` are in `registered_sets`."""


def entry_of(name: str) -> Entry | None:
    """The entry behind a name; None if it is the user's own name for a path. SpecError if it cannot be imported."""
    if ":" not in name and name not in DATASETS.names():
        return None
    try:
        return DATASETS.get(name)
    except (LookupError, TypeError) as error:
        raise SpecError("dataset", str(error)) from error


def in_files(name: str) -> bool:
    """Whether a data set lies in files; code makes the others."""
    entry = entry_of(name)
    return entry is None or isinstance(entry, Files)


def files_of(name: str) -> Files | None:
    """What is known of a data set in files without looking at them."""
    return entry if isinstance(entry := entry_of(name), Files) else None


def find(name: str, roots: list[Path] | None = None) -> str | None:
    """The path or URL of a data set in files, None if it is not found; looks in `roots`, then in `data_roots`."""
    if (registered := registered_sets().get(name)) is not None:
        return registered
    files = files_of(name)
    for root in [*(roots or []), *data_roots()]:
        for stem in files.names if files else ():
            for suffix in ("", *ARCHIVES, ".npz"):
                path = root / f"{stem}{suffix}"
                if path.exists() and (suffix or not _only_holds_another(path, files)):
                    return str(path.absolute())
    return None


def _only_holds_another(path: Path, files: Files | None) -> bool:
    """Whether a folder is torchvision's `MNIST` around `MNIST/raw`, which is the set itself."""
    inner = [Path(name).name for name in files.names if name.startswith(f"{path.name}/")] if files else []
    return any((path / name).is_dir() for name in inner)


def data_roots() -> list[Path]:
    """The folders in which data is looked for: those of $ISOFLOP_DATA, then ./data."""
    roots = os.environ.get("ISOFLOP_DATA", "").split(os.pathsep)
    return [*(Path(root) for root in roots if root), Path("data")]


def missing(name: str) -> SpecError:
    """The error for a set that is not here: what it would be, where to get it, where it was looked for."""
    roots = ", ".join(map(str, data_roots()))
    if (files := files_of(name)) is not None:
        message = f"{name} not found; looked in {roots}; get it from {files.home}; expected: {files.expects}"
        return SpecError("dataset", message)
    names = [*DATASETS.names(), *registered_sets()]
    near = difflib.get_close_matches(name, names, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return SpecError(
        "dataset",
        f"unknown data set {name!r}; {guess}valid: {', '.join(names)}, or module:name of a function that returns "
        f"arrays; looked in {roots}. Give a path, or register it: {installation.command('data add')}",
    )


def check(name: str, source: Path, train: int, test: int, classes: int) -> None:
    """SpecError if the sizes of a source are not those in the catalogue."""
    files = files_of(name)
    if files is None:
        return
    expected = (files.train, test if files.test is None else files.test, files.classes)
    if (train, test, classes) != expected:
        raise SpecError(
            "dataset",
            f"{source} holds {train:,} + {test:,} examples of {classes:,} classes; {name} has {expected[0]:,} + "
            f"{expected[1]:,} of {expected[2]:,}; give another set another name",
        )


def check_sums(name: str, source: Path) -> None:
    """SpecError if a file with an official name does not have the official content."""
    files = files_of(name)
    for file, md5 in files.md5 if files else ():
        path = source / file if source.is_dir() else source
        if path.name == file and path.is_file():
            with path.open("rb") as content:
                actual = hashlib.file_digest(content, "md5").hexdigest()
            if actual != md5:
                raise SpecError("path", f"{path} has the md5 checksum {actual}, expected {md5}; download it again")


def registered_sets() -> dict[str, str]:
    """The data sets that `isoflop data add` has registered: name -> path or URL."""
    try:
        places = json.loads(_registry().read_text())
    except (OSError, ValueError):
        return {}
    return places if isinstance(places, dict) else {}


def register(name: str, place: str) -> None:
    """Register the absolute path or URL of a data set under a name."""
    file = _registry()
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps({**registered_sets(), name: place}, indent=1))
    aside.replace(file)


def _registry() -> Path:
    return cache_root() / "data.json"
