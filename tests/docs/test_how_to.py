"""The code of every how-to page, run in the order of the page in a folder of its own."""

import socket

import pytest

from tests.commands import isoflop
from tests.docs import runner
from tests.paths import ROOT

PAGES = sorted((ROOT / "docs/how-to").glob("[a-z]*.md"))
ELSEWHERE = {
    "figures-and-report",  # its block continues code of the reader's own
    "postgresql",  # needs a server, see below
    "second-machine",  # needs two machines; tests/line/test_cluster.py
}
LONG = {"numbers-for-a-paper", "reproduce-the-paper"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The folder of a cache with a measurement of this machine, as after `isoflop doctor`."""
    folder = tmp_path_factory.mktemp("cache")
    assert isoflop("doctor", folder=folder, ISOFLOP_CACHE=str(folder)).returncode in (0, 1)
    return folder


def check(page, text, folder, variables):
    """Run every block of a page, and compare the outputs that it shows, but for the times that a plan predicts."""
    blocks = runner.blocks_of(text)
    assert blocks, "a how-to page has code"
    for block in blocks:
        printed = runner.output_of(block, folder, variables)
        if "isoflop plan" not in block.code:
            runner.assert_as_shown(block, printed, page.relative_to(ROOT))


@pytest.mark.timeout(900)  # several processes, each of which may import torch
@pytest.mark.parametrize("page", [page for page in PAGES if page.stem not in ELSEWHERE], ids=lambda page: page.stem)
def test_code_of_the_page_runs(page, tmp_path, cache):
    variables = runner.environment(tmp_path) | {"ISOFLOP_CACHE": str(cache)}
    check(page, page.read_text(encoding="utf-8"), tmp_path, variables)


def test_database_of_the_page_is_made_and_used(tmp_path, cache):
    from tests.servers.postgres import running

    page = ROOT / "docs/how-to/postgresql.md"
    text, port = page.read_text(encoding="utf-8"), str(free_port())
    with running(port) as server:
        here = text.replace("db.example.org:5432", f"127.0.0.1:{port}").replace(
            "db.example.org", f"127.0.0.1:{port}"
        )
        variables = runner.environment(tmp_path) | {"ISOFLOP_CACHE": str(cache), "DATABASE_URL": server.url}
        check(page, here, tmp_path, variables)


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_every_page_is_in_the_table_of_extensions():
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    pages = [page for page in PAGES if page.stem.startswith("add-")]
    assert [page.name for page in pages if page.name not in table] == []
