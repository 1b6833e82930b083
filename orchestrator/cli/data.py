"""`isoflop data`: list data sets, register your own, convert to .beton files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.options import AsJson
from orchestrator.text import number

app = typer.Typer(help="List data sets and register your own.", no_args_is_help=True)


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="Show this data set in full.", show_default=False)] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the data sets: which are here, sizes, statistics."""
    from orchestrator import text
    from trainer.data import catalogue

    names = dict.fromkeys([*catalogue.DATASETS.names(), *catalogue.registered_sets()])
    if name is not None and name not in names and ":" not in name:
        raise catalogue.missing(name)
    cards = [_card(one) for one in ([name] if name else names)]
    if as_json:
        print(json.dumps(cards, indent=1))
    elif name:
        width = max(map(len, cards[0]))
        print("\n".join(f"{key:<{width}}  {value}" for key, value in cards[0].items() if value is not None))
    else:
        print(text.table([_readable(card) for card in cards]))


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Its name in sweep files.")],
    path: Annotated[str, typer.Argument(help="A folder, an archive or an .npz file, or a URL (s3://...).")],
    *,
    resolution: Annotated[int | None, typer.Option(min=1, help="Scale images to this side, in pixels.")] = None,
) -> None:
    """Register a data set under a name, after decoding it."""
    from trainer.data import catalogue
    from trainer.data.datasets import describe
    from trainer.host.urls import is_url, local
    from trainer.spec import RunSpec, SpecError

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise SpecError("name", f"{name!r} must consist of letters, digits, '.', '_' and '-'")
    if not catalogue.in_files(name):
        raise SpecError("name", f"{name} is made by code; choose another name")
    place = path if is_url(path) else str(local(path).absolute())
    describe(RunSpec(dataset=name, path=place, resolution=resolution, epochs=1))
    catalogue.register(name, place)
    list_(name)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A folder, an archive or an .npz file, or a URL.")],
    folder: Annotated[Path, typer.Argument(help="The folder for train.beton and test.beton.")],
    *,
    mode: Annotated[str, typer.Option(help="raw, jpg, or smart: only large images as jpg.")] = "raw",
    resolution: Annotated[int | None, typer.Option(min=1, help="Scale images to this side, in pixels.")] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Quality of jpg.")] = 90,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Write a data set as FFCV's .beton files."""
    from trainer.data.cache import load_decoded
    from trainer.data.download import local_copy
    from trainer.data.formats.ffcv import write_betons
    from trainer.host.limits import cores
    from trainer.spec import SpecError

    if mode not in ("raw", "jpg", "smart"):
        raise SpecError("mode", f"{mode!r} is unknown; it is one of raw, jpg, smart")
    if not force and (there := sorted(folder.glob("*.beton"))):
        raise SpecError("folder", f"{there[0]} exists already; --force overwrites it")
    decoded = load_decoded(str(local_copy(source)), resolution)
    if decoded.image is None:
        raise SpecError("source", f"{source} holds no images")
    images = decoded.inputs[:].reshape(-1, *decoded.image)
    for path in write_betons(images, decoded.labels, decoded.train, folder, mode, quality, workers or cores()):  # type: ignore[arg-type]
        print(path)


def _card(name: str) -> dict[str, Any]:
    """Return what is known of a data set without decoding it."""
    from trainer.data import catalogue
    from trainer.data.datasets import describe, is_ready, load, resolve, split
    from trainer.host.urls import shown
    from trainer.spec import RunSpec, SpecError

    spec = RunSpec(dataset=name, batch_size=1, epochs=1)
    try:
        files, place, code = catalogue.files_of(name), catalogue.find(name), not catalogue.in_files(name)
    except SpecError as error:
        return {"dataset": name, "here": False, "path": None, "error": error.message}
    card: dict[str, Any] = {"dataset": name, "here": code or place is not None, "path": place and shown(place)}
    if code and (origin := catalogue.DATASETS.origin(name)) is not None:
        card["module"] = origin.module
    if is_ready(spec):
        info, arrays = describe(spec), load(spec)
        test = split(arrays, resolve(spec, info)).test
        card |= {"train": info.train_examples, "test": len(test), "classes": info.classes}
        card |= {"shape": list(info.image or (info.inputs,)), "bytes": arrays.inputs.nbytes}
        card |= {key: [round(float(v), 3) for v in getattr(arrays, key)] for key in ("mean", "std")}
        card["fingerprint"] = info.fingerprint
    elif files:
        card |= {"train": files.train, "test": files.test, "classes": files.classes}
        card["shape"] = [files.side, files.side, files.channels]
    if files:
        card |= {"from": files.home, "expected": files.expects}
        card["md5"] = ", ".join(f"{file} {md5}" for file, md5 in files.md5) or None
    return card


def _readable(card: dict[str, Any]) -> dict[str, Any]:
    from orchestrator import text

    return {
        "dataset": card["dataset"],
        "here": ("yes" if "fingerprint" in card else "not decoded yet") if card["here"] else "no",
        "train": card.get("train", ""),
        "test": card.get("test") or "",
        "classes": card.get("classes", ""),
        "shape": " x ".join(map(str, card.get("shape", []))),
        "size": text.size(card["bytes"]) if "bytes" in card else "",
        "mean": " ".join(number(v, 4) for v in card.get("mean", [])),
        "std": " ".join(number(v, 4) for v in card.get("std", [])),
    }
