"""The verb that serves a live page of a table."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from orchestrator.cli.options import STORE, Store, say, stop


def serve(
    *,
    store: Store = STORE,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where it listens; 0: any free port.")] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Serve a live page of the table, for this machine alone. Ctrl-C ends it.

    Runs in training and their curves, laws so far, budget, time left. It only reads the table, which need not exist
    yet. The address holds a secret: whoever has it may read the page.
    """
    from analysis.report.document import ReportError
    from orchestrator.live.server import Server
    from orchestrator.store.engine import path_of

    path_of(store)  # raises TableError for what names no table
    try:
        server = Server(store, port)
    except ReportError as error:
        stop(str(error))
    with contextlib.suppress(KeyboardInterrupt), server:
        print(server.url, flush=True)
        say("Ctrl-C ends it")
        if open_:
            typer.launch(server.url)
        server.serve()
