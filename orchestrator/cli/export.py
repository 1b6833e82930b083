"""The verb `export`: writes the runs of a table to TensorBoard, MLflow or Weights & Biases."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator import text
from orchestrator.cli.options import STORE, Store, Where, Which, frame_of, say, sweep_name


def export(
    which: Which = None,
    *,
    to: Annotated[
        list[str],
        typer.Option(
            metavar="TOOL[:WHERE]",
            help="tensorboard[:DIR], mlflow[:URI] or wandb[:PROJECT]; may be repeated.",
            show_default=False,
        ),
    ],
    store: Store = STORE,
    where: Where = "",
) -> None:
    """Export runs to TensorBoard, MLflow or Weights & Biases.

    Their curves, settings and results are written; a run that was exported there before is replaced.
    `isoflop run --log` does the same while a sweep trains; `isoflop results --format` writes tables to files.
    """
    from orchestrator.exporters.export import export
    from orchestrator.exporters.exporter import exporter_of
    from orchestrator.store.export import filtered

    for target in to:
        exporter_of(target)
    frame = filtered(frame_of(store, which, several=True), where)
    for target in to:
        count = export(store, target, sweep_name(which), only=set(frame["run_id"]))
        say(f"{text.count(count, 'run')} written to {target}")
