"""A real PostgreSQL server in a temporary folder, made by its own programs."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.polling import until

psycopg = pytest.importorskip("psycopg", reason="psycopg is missing: ./run add postgres")


def program(name):
    """The path of initdb or postgres, which lie outside PATH on Debian."""
    paths = [shutil.which(name), *map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))]
    return next((path for path in reversed(paths) if path), None)


class Postgres:
    """A server that listens on a socket in its folder, and on a port of this machine if there is one."""

    def __init__(self, root, as_user, port=None):
        listen = ["-c", f"listen_addresses={'127.0.0.1' if port else ''}", *(["-p", str(port)] if port else [])]
        options = [*listen, "-c", f"unix_socket_directories={root}", "-c", "fsync=off"]
        self._command = [*as_user, program("postgres"), "-D", str(root / "data"), *options]
        self._root, self.url = (
            root,
            f"postgresql://isoflop@/postgres?host={root}" + (f"&port={port}" if port else ""),
        )
        self.start()

    def start(self):
        self._process = subprocess.Popen(self._command, cwd=self._root, stderr=subprocess.DEVNULL)
        until(self._answers, self._process, seconds=30)

    def _answers(self):
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url):
            return True
        return False

    def stop(self):
        """As an upgrade of the system does: all connections are closed."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)


@contextlib.contextmanager
def running(port=None):
    """A server while the block runs, whose port asks for passwords; skips the test where there is no PostgreSQL."""
    if program("initdb") is None:
        pytest.skip("PostgreSQL is missing: apt install postgresql")
    root = (
        Path("/tmp") / f"isoflop-postgres-{os.getpid()}-{port or ''}"
    )  # a socket's path is at most 107 bytes long
    root.mkdir(mode=0o700)
    as_user = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        shutil.chown(root, "postgres")
        root.chmod(0o755)
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    initdb = [
        program("initdb"),
        "-D",
        str(root / "data"),
        "-U",
        "isoflop",
        "--auth-local=trust",
        "--auth-host=scram-sha-256",
        "--no-sync",
        "-E",
        "UTF8",
    ]
    subprocess.run([*as_user, *initdb], check=True, stdout=subprocess.DEVNULL, cwd=root)
    server = Postgres(root, as_user, port)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(root)
