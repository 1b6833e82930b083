"""`isoflop fit` and `isoflop plot`: what a table of results says, in words and in figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.options import STORE, AsJson, Store, Which, frame_of, say, stop

if TYPE_CHECKING:
    import pandas as pd

Stage = Annotated[str | None, typer.Option("--stage", help="of a chain (`then:`); default: its first")]


def fit(
    which: Which = None,
    *,
    store: Store = STORE,
    shift: Annotated[bool, typer.Option("--shift", help="fit a shift of x as well")] = False,
    stage: Stage = None,
    resamples: Annotated[int, typer.Option(min=100, help="bootstrap resamples")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Power laws of error against params, examples and FLOPs, with intervals and what stands against them."""
    from orchestrator.laws import calibration, laws

    frame = _at_stage(frame_of(store, which), stage)
    found = laws(frame, resamples=resamples, shift=shift)
    known = calibration(frame, found)
    if as_json:
        from dataclasses import asdict

        said = {"laws": [law.to_dict() for law in found], "calibration": asdict(known) if known else None}
        print(json.dumps(said, indent=1))
        return
    print(
        "\n\n".join(
            law.fit.summary() if law.fit else f"error against {law.x}: no fit: {law.why_not}" for law in found
        )
    )
    if known:
        print(f"\n{known}")


def plot(
    which: Which = None,
    *,
    store: Store = STORE,
    out: Annotated[Path, typer.Option(help="folder for the figures")] = Path("figures"),
    stage: Stage = None,
) -> None:
    """Error against FLOPs, params and examples, each with its fit and band, as PNG and SVG."""
    from analysis import describe_law, save
    from orchestrator.laws import laws

    frame = _at_stage(frame_of(store, which), stage)
    records = frame_of(store, which, "history")
    done = frame[frame["state"] == "done"]
    name = "-".join(sorted(set(done["sweep"].dropna())))
    out.mkdir(parents=True, exist_ok=True)
    for law in laws(frame):
        if law.fit is None:
            say(f"no law of error against {law.x}: {law.why_not}")
            if done[law.x].nunique() < 2:
                continue
        colour = "width" if len(done["width"].unique()) > 1 else None
        described = describe_law(
            done, law.fit, x=law.x, colour=colour, history=records if law.x == "flops" else None
        )
        for path in save(described, out / f"{name}-error-vs-{law.x}"):
            print(path)


def _at_stage(frame: pd.DataFrame, stage: str | None) -> pd.DataFrame:
    """The runs of one stage; a word where what is left mixes schedules, which no law should do unseen."""
    from orchestrator.laws import at_stage

    known = list(dict.fromkeys(frame["stage"].dropna()))
    if stage is not None and stage not in known:
        stop(f"--stage {stage!r} is unknown; it is one of {', '.join(known)}")
    if known:
        frame = at_stage(frame, stage or known[0])
    schedules = sorted(frame["schedule"].dropna().unique())
    if len(schedules) > 1:
        say(f"schedules are mixed here ({', '.join(schedules)}): a difference between them looks like a law")
    return frame
