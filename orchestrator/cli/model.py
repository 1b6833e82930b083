"""`isoflop model`: inference speed of a model, and its first-layer weights as pictures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import STORE, AsJson, Device, Store
from orchestrator.text import count, number

if TYPE_CHECKING:
    import torch

app = typer.Typer(help="Measure models and draw their first-layer weights.", no_args_is_help=True)


@app.command()
def speed(
    model: Annotated[str, typer.Argument(help="B-L/Wi-m or S-L/Wi-m, as in the paper.")],
    *,
    resolution: Annotated[int, typer.Option(min=1, help="Side of the images in pixels, of three channels.")] = 64,
    classes: Annotated[int, typer.Option(min=2)] = 1000,
    batch_sizes: Annotated[str, typer.Option(help="Batch sizes, separated by commas.")] = "1,16,64,256,1024",
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="fp32, tf32 or bf16.")] = "fp32",
    seconds: Annotated[float, typer.Option(min=0.01, help="Seconds of measuring per batch size, about.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Measure latency and throughput of inference.

    For each batch size, as in the paper's appendix.
    """
    from orchestrator import text
    from trainer import cost
    from trainer.spec import SpecError, parse_model_name
    from trainer.training.inference import measure_inference

    sizes = batch_sizes.split(",")
    if not all(size.strip().isdigit() and int(size) for size in sizes):
        raise SpecError("batch-sizes", f"{batch_sizes!r} must be whole numbers of at least 1, as 1,64,1024")
    for name, value, choices in (
        ("device", device, ("auto", "cpu", "cuda", "mps")),
        ("precision", precision, ("fp32", "tf32", "bf16")),
    ):
        if value not in choices:
            raise SpecError(name, f"{value!r} is unknown; it is one of {', '.join(choices)}")
    shape = cost.Shape(**parse_model_name(model), inputs=3 * resolution**2, classes=classes)
    timings = measure_inference(
        shape,
        [int(size) for size in sizes],
        device=device,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        seconds=seconds,
    )
    if as_json:
        print(json.dumps([asdict(timing) for timing in timings], indent=1))
        return
    rows = [
        {
            "batch_size": t.batch_size,
            "latency ms": number(1e3 * t.latency),
            "5 % to 95 %": f"{number(1e3 * t.low)} to {number(1e3 * t.high)}",
            "images/s": number(t.examples_per_second),
            "GFLOP/s": number(t.flops_per_second / 1e9),
            "n": t.n,
        }
        for t in timings
    ]
    print(text.table(rows))
    first = timings[0]
    print(
        f"{model}: {text.number(cost.params(shape).total)} params, {first.device}, "
        f"{count(first.threads, 'thread')}, {precision}"
    )


@app.command()
def weights(
    which: Annotated[
        str, typer.Argument(metavar="RUN", help="The id of a kept run or its beginning, or a .pt file or its URL.")
    ],
    *,
    store: Store = STORE,
    checkpoints: Annotated[str | None, typer.Option(help="Where runs are kept; default: beside the table.")] = None,
    most: Annotated[int, typer.Option(min=1, help="The most units to draw, by their norm.")] = 100,
    out: Annotated[Path, typer.Option(help="A folder for the figures.")] = Path("figures"),
) -> None:
    """Draw first-layer weights as pictures.

    Of a run trained with `run --keep`, or of one of the paper's checkpoints.
    """
    from analysis.figures.plots import save
    from analysis.figures.weights import describe_weights, draw_weights

    if which.endswith((".pt", ".pth", ".bin")):
        name, image, first = _of_file(which)
    else:
        name, image, first = _of_run(which, checkpoints, store)
    figure = describe_weights(first.numpy(), image, most=most, title=name)
    for path in save(figure, out / f"weights-{name.replace('/', '-').replace(' ', '-')}", draw=draw_weights):
        print(path)


def _of_file(place: str) -> tuple[str, tuple[int, int, int], torch.Tensor]:
    import math

    from trainer.data.download import local_copy
    from trainer.model.official import load_official
    from trainer.spec import SpecError

    path = local_copy(place, "checkpoint")
    try:
        shape, weights = load_official(path)
    except ValueError as error:
        raise SpecError("checkpoint", str(error)) from error
    side = math.isqrt(shape.inputs // 3)
    return path.stem, (side, side, 3), weights["embed.weight"]


def _of_run(which: str, checkpoints: str | None, store: str) -> tuple[str, tuple[int, int, int], Any]:
    from orchestrator.store.engine import TableError, checkpoints_of
    from trainer.checkpoints.checkpoints import kept_parameters, storage_of
    from trainer.data.datasets import describe
    from trainer.host.urls import shown
    from trainer.spec import RunSpec, SpecError, model_name

    where = checkpoints or checkpoints_of(store)
    run_ids = [] if where is None else [name for name in storage_of(where).all_kept() if name.startswith(which)]
    if where is None or len(run_ids) != 1:
        absent = f"no kept parameters in {shown(str(where))}; `run --keep` keeps them"
        why = f"{len(run_ids)} kept runs begin with it" if run_ids else absent
        raise TableError(f"{which!r}: {why}")
    try:
        fields, weights = kept_parameters(where, run_ids[0])
    except ValueError as error:
        raise TableError(str(error)) from error
    spec = RunSpec(**fields)
    image = describe(spec).image
    if image is None:
        raise SpecError("dataset", f"{spec.dataset} holds no images; its first-layer weights are not pictures")
    return f"{model_name(spec)} {spec.run_id[:8]}", image, weights["embed.weight"]
