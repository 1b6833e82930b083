"""A live page in this process, and what it says."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading

from orchestrator.live.server import Server


@contextlib.contextmanager
def served(store):
    """The server of a table while the block runs."""
    with Server(str(store)) as server:
        threading.Thread(target=server.serve, daemon=True).start()
        yield server


def answer(server, path, host=None, method="GET"):
    """The status, the headers and the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, headers={"Host": host or f"127.0.0.1:{server.port}"})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()


@contextlib.contextmanager
def events(server):
    """What the page is told, as an iterator of its parts."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    with contextlib.closing(connection):
        connection.request("GET", f"/{server.token}/events")
        response = connection.getresponse()
        assert (response.status, response.getheader("Content-Type")) == (200, "text/event-stream")
        yield (json.loads(line[6:]) for line in iter(response.readline, b"") if line.startswith(b"data: "))


def part(told, name, holding=""):
    """The next part of that name which holds a text."""
    return next(one for one in told if one["name"] == name and holding in one["html"])
