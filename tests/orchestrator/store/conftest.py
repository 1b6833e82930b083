"""A PostgreSQL server for all tests of the store, and a database of its own for each."""

import itertools

import pytest
import sqlalchemy as sa

_number = itertools.count()


@pytest.fixture(scope="package")
def postgres():
    """The server."""
    from tests.servers.postgres import running

    with running() as server:
        yield server


@pytest.fixture(scope="package")
def server(postgres):
    """Its URL."""
    return postgres.url


@pytest.fixture
def database(server):
    """The URL of an empty database."""
    name = f"t{next(_number)}"
    engine = sa.create_engine(server.replace("postgresql", "postgresql+psycopg", 1), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")
