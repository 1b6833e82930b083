"""What tests of all packages share."""

import pytest

from tests.servers.ftp import Ftp
from trainer.data import download


@pytest.fixture
def ftp(tmp_path, monkeypatch):
    """A real FTP server with an empty folder; nobody pauses before trying again, and nothing has been asked yet."""
    monkeypatch.setattr("trainer.host.urls.PAUSES", (0.0, 0.0))
    download.newest_copy.cache_clear()
    made = Ftp(tmp_path / "ftp")
    yield made
    made.stop()
