"""Fixtures shared by the tests of all packages."""

import os
import signal
import sys

import pytest

from tests.servers.ftp import Ftp
from trainer.data import download
from trainer.host import installation

os.environ["PATH"] = f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}"  # as where .venv is activated
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it starts in the background ignore it


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """No test writes what it decodes and learns of this machine into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOFLOP_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("ISOFLOP_STORE", "ISOFLOP_DATA"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def _in_the_clone(monkeypatch):
    """Messages name the script of the clone as at its root, wherever a test is."""
    monkeypatch.setattr(installation, "clone_script", lambda: "./run")


@pytest.fixture
def ftp(tmp_path, monkeypatch):
    """A real FTP server with an empty folder and no commands received; retries do not wait."""
    monkeypatch.setattr("trainer.host.urls.PAUSES", (0.0, 0.0))
    download.newest_copy.cache_clear()
    made = Ftp(tmp_path / "ftp")
    yield made
    made.stop()
