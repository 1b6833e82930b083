"""The live page over HTTP: who gets an answer, and what is told when."""

from __future__ import annotations

import re
import shutil
import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.live.server import Server
from orchestrator.store.table import Table
from tests.orchestrator.live.served import answer, events, part, served
from trainer.errors import UserError

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def store(tmp_path, planned, result_of):
    """Two of four runs done, one running."""
    path, made = tmp_path / "t.db", planned(more="limits: {total_flops: 1e9}")
    with Table(path, writable=True) as table:
        table.queue.enqueue(made)
        tokens = table.queue.claim([run.run_id for run in made.runs[:3]])
        done = {run.run_id: tokens[run.run_id] for run in made.runs[:2]}
        table.queue.finish([result_of(run) for run in made.runs[:2]], done)
    return path


@pytest.fixture
def server(store):
    with served(store) as opened:
        yield opened


def test_the_page_is_answered_and_allows_nothing_from_elsewhere(server):
    status, headers, body = answer(server, f"/{server.token}/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert (headers["Cache-Control"], headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    assert headers["X-Content-Type-Options"] == "nosniff"
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', body.decode())
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    markup = re.sub(r"<script>.*?</script>", "", body.decode(), flags=re.DOTALL)
    assert not re.search(r"<[^>]* (src|href|action)=", markup)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]:{port}"]
)
def test_a_name_that_points_at_this_machine_gets_no_answer(server, host):
    """DNS rebinding: the browser of a foreign page asks us under that page's name."""
    status, _, body = answer(server, f"/{server.token}/", host=host.format(port=server.port))
    assert (status, body) == (421, b"")


def test_localhost_is_a_name_of_this_machine(server):
    assert answer(server, f"/{server.token}/", host=f"LocalHost:{server.port}")[0] == 200


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_no_other_path_says_anything(server, path):
    for asked in (f"/{path}", f"/{server.token}{path}", f"/{server.token}/{path}", f"/{server.token}/../{path}"):
        if asked.partition("?")[0] not in (f"/{server.token}/", f"/{server.token}/events"):
            status, _, body = answer(server, asked)
            assert (status, body) == (404, b""), asked


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_the_page_can_only_be_read(server, method):
    assert answer(server, f"/{server.token}/", method=method)[0] == 501


def test_a_second_server_has_another_token(server, store):
    with served(store) as other:
        assert other.token != server.token
        assert answer(other, f"/{server.token}/")[0] == 404


def test_a_port_in_use_is_named(server, store):
    with pytest.raises(UserError, match=rf"--port {server.port}: Address already in use; choose another"):
        Server(str(store), server.port)


def test_all_parts_come_first_and_later_those_that_changed(server, store, result_of):
    with events(server) as told:
        first = [next(told) for _ in range(6)]
        assert {one["name"] for one in first} == {"state", "sweeps", "training", "curves", "runs", "devices"}
        html = {one["name"]: one["html"] for one in first}
        assert "2 of 4 ended: 1 queued, 1 running, 2 done" in html["sweeps"]
        assert re.search(r"<dt>budget</dt><dd>[\d.e]+ of 1e9 FLOPs</dd>", html["sweeps"])
        assert html["runs"].count("<tr ") == 4
        with Table(store, writable=True) as table:
            table.queue.move([run.run_id for run in table.queued("small")], "cancelled", of=["queued"])
        assert "1 cancelled" in part(told, "sweeps", "cancelled")["html"]
        assert 'data-state="cancelled"' in part(told, "runs")["html"]


def test_runs_of_a_process_that_ended_are_said_to_be_left(server):
    """Nobody holds the lock of the table."""
    with events(server) as told:
        assert "it left 1 run." in part(told, "state")["html"]
        assert "process ended" in part(told, "training")["html"]


def test_runs_that_somebody_trains_are_in_training(server, store):
    with Table(store, writable=True), events(server) as told:
        assert "1 in training" in part(told, "state")["html"]


def test_a_table_may_come_later_and_be_replaced(tmp_path, store):
    later = tmp_path / "later.db"
    with served(later) as server, events(server) as told:
        assert "waiting: no results table at" in part(told, "state")["html"]
        later.write_text("no table")
        assert "is not a results table" in part(told, "state", "is not")["html"]
        shutil.copy(store, later)
        assert "of 4 ended" in part(told, "sweeps")["html"]


def test_a_locked_table_is_read_as_soon_as_it_is_free(store):
    with sqlite3.connect(store) as writer:
        writer.execute("PRAGMA journal_mode=DELETE")
        writer.execute("BEGIN EXCLUSIVE")
        with served(store) as server, events(server) as told:
            writer.rollback()
            assert "of 4 ended" in part(told, "sweeps")["html"]


def test_names_are_text(tmp_path, store):
    with sqlite3.connect(store) as writer:
        writer.execute("UPDATE runs SET model = ?, reason = ?, device = ?", (HOSTILE, HOSTILE, HOSTILE))
        writer.execute("UPDATE sweeps SET message = ?, paused = ?", (HOSTILE, HOSTILE))
    with served(store) as server, events(server) as told:
        html = [next(told)["html"] for _ in range(6)]
        assert not [text for text in html if "<img" in text]
        assert sum(text.count("&lt;img") for text in html) >= 4


def test_the_table_is_not_written(server, store):
    before = store.read_bytes()
    with events(server) as told:
        part(told, "runs")
    assert store.read_bytes() == before
    assert not store.with_name("t.db.requests").exists()


def test_nothing_is_read_while_nobody_watches(server, monkeypatch):
    looks = []
    monkeypatch.setattr("orchestrator.live.view.progress", lambda table: looks.append(1) or ({}, []))
    answer(server, f"/{server.token}/")
    assert looks == []
