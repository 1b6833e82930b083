"""Fixtures shared by the tests of all packages."""

import pytest

from tests.servers.ftp import Ftp
from trainer.data import download
from trainer.host import installation


@pytest.fixture(autouse=True)
def _activated(monkeypatch):
    """Messages name commands as in a clone whose .venv is activated, whatever the tests were called with."""
    monkeypatch.setattr(installation, "on_path", lambda script: True)
    monkeypatch.setattr(installation, "clone_script", lambda: "./run")


@pytest.fixture
def ftp(tmp_path, monkeypatch):
    """A real FTP server with an empty folder and no commands received; retries do not wait."""
    monkeypatch.setattr("trainer.host.urls.PAUSES", (0.0, 0.0))
    download.newest_copy.cache_clear()
    made = Ftp(tmp_path / "ftp")
    yield made
    made.stop()
