"""The live page over HTTP, for this machine's user alone.

The server listens on loopback, and answers only requests whose path begins with a secret token and whose Host is
its own address, so that neither other users nor other pages of the browser (DNS rebinding) can read the table. It
has two paths, and none of them names a file.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import TYPE_CHECKING, Any, Self

from analysis.report.document import document, plotly_code, source
from analysis.report.html import tag
from orchestrator.live.watcher import Watcher
from orchestrator.store.engine import name_of
from trainer.errors import UserError

if TYPE_CHECKING:
    from analysis.report.html import Html

HOST = "127.0.0.1"
BEAT = 10.0
"""Seconds after which a silent stream is tested, so that those who left are noticed."""
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Server:
    """A live page of a table, at `url`, until it is closed.

    Args:
        store: the table, which need not exist yet. It is only read.
        port: of the server; 0 for any that is free.

    Raises:
        ReportError: plotly is not installed.
        UserError: the port cannot be used.
    """

    def __init__(self, store: str, port: int = 0) -> None:
        page = page_of(store)
        self.token, self._serving = secrets.token_urlsafe(24), False
        try:
            self._http = ThreadingHTTPServer((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise UserError(f"--port {port}: {why}; choose another, or 0 for any that is free") from error
        self._http.daemon_threads = True
        self._watcher = Watcher(store)
        self._http.site = _Site(page, self.token, self.port, self._watcher)  # type: ignore[attr-defined]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """The address of the page, with the token: whoever knows it may read the table."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def serve(self) -> None:
        """Answer requests until `close`, or KeyboardInterrupt."""
        self._serving = True
        self._http.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        """Stop, and end what fits laws."""
        self._watcher.close()
        if self._serving:
            self._http.shutdown()
        self._http.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Site:
    """What the handlers of one server share."""

    def __init__(self, page: str, token: str, port: int, watcher: Watcher) -> None:
        self.page, self.token, self.watcher = page.encode(), token.encode(), watcher
        self.hosts = {f"{name}:{port}" for name in (HOST, "localhost")}


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        site: _Site = self.server.site  # type: ignore[attr-defined]
        if self.headers.get("Host", "").lower() not in site.hosts:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
            return
        _, token, *rest = [*self.path.partition("?")[0].split("/"), ""]
        if not hmac.compare_digest(token.encode(), site.token):
            self._refuse(HTTPStatus.NOT_FOUND)
        elif rest == ["", ""]:
            self._answer(site.page, "text/html; charset=utf-8")
        elif rest == ["events", ""]:
            self._stream(site.watcher)
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the token is part of the path."""

    def _refuse(self, status: HTTPStatus) -> None:
        self._begin(status, "text/plain", length=0)

    def _answer(self, body: bytes, kind: str) -> None:
        self._begin(HTTPStatus.OK, kind, length=len(body))
        self.wfile.write(body)

    def _stream(self, watcher: Watcher) -> None:
        """Send each part when it changes, as server-sent events."""
        self.close_connection = True
        self._begin(HTTPStatus.OK, "text/event-stream")
        seen = 0
        with contextlib.suppress(ConnectionError, TimeoutError):
            while not watcher.ended:
                seen, changed = watcher.changes(seen, BEAT)
                beat = "" if changed else ":\n\n"
                self.wfile.write("".join([beat, *(f"data: {data}\n\n" for data in changed)]).encode())
                self.wfile.flush()

    def _begin(self, status: HTTPStatus, kind: str, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()


def page_of(store: str) -> str:
    """The page before its first event: an empty frame for each part."""
    title = name_of(store)
    body = tag("main", tag("h1", title), *map(_frame, ("state", "sweeps", "training", "curves")))
    rest = tag(
        "main",
        tag("div", id="laws"),
        tag("h2", "Runs"),
        _filters(),
        *map(_frame, ("runs", "devices")),
        tag("footer", "isoflop serve. This page reads the table and changes nothing.", id="connection"),
    )
    live = resources.files("orchestrator.live").joinpath("live.js").read_text(encoding="utf-8")
    scripts = (plotly_code(), source("charts.js"), live)
    return document(title, [body, rest], scripts, connect="'self'")


def _frame(name: str) -> Html:
    return tag("div", id=name, aria_live="polite" if name == "state" else None)


def _filters() -> Html:
    words = tag("input", id="words", type="search", placeholder="words, e.g. B-1 lr", aria_label="filter runs")
    choices = [
        tag("label", f"{name} ", tag("select", tag("option", "all", value=""), id=f"only-{name}"))
        for name in ("sweep", "state")
    ]
    return tag("nav", *choices, words, class_="filter")
