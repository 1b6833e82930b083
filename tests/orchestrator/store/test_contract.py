"""The contract of stores, over both of ours."""

import pytest

from tests.contracts.store import StoreContract


class TestSQLite(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return str(tmp_path / "t.db")


class TestPostgreSQL(StoreContract):
    @pytest.fixture
    def store(self, database):
        return database
