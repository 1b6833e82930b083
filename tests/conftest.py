"""What tests of all packages share."""

import pytest

from tests.ftp import Ftp
from trainer import fetched


@pytest.fixture
def ftp(tmp_path, monkeypatch):
    """A real FTP server with an empty folder; nobody pauses before trying again, and nothing has been asked yet."""
    monkeypatch.setattr("trainer.remote.PAUSES", (0.0, 0.0))
    fetched._copy.cache_clear()
    made = Ftp(tmp_path / "ftp")
    yield made
    made.stop()
