"""Checkpoints behind a URL, at a real FTP server: the guarantees of those in a folder, and a net that fails."""

from __future__ import annotations

import math
import os
import signal
import threading
from dataclasses import replace

import pytest

from orchestrator.workers.worker import Files
from tests.polling import until
from tests.servers.ftp import Ftp
from tests.trainer.reference import let_look, numbers, running
from trainer import RunSpec, train
from trainer.checkpoints.bucket import Bucket
from trainer.checkpoints.checkpoints import kept_parameters
from trainer.host.urls import Remote
from trainer.result import Resumed
from trainer.training.loop import training

LOOK, STEPS = 8, 60
RUN = RunSpec(width=16, batch_size=32, examples=32 * STEPS, weight_decay=0.01, lr=3e-3)
STACK = [replace(RUN, seed=seed) for seed in range(3)]


@pytest.fixture(autouse=True, scope="module")
def _look_often():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.training.loop.LOOK", LOOK)
        patch.setattr("trainer.training.loop.SOON", math.inf)
        patch.setattr("trainer.host.urls.PAUSES", (0.0, 0.0))
        patch.setattr("trainer.host.urls.PATIENT", (0.0, 0.0, 1.0))
        yield


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    server = Ftp(tmp_path_factory.mktemp("far") / "ftp")
    yield server
    server.stop()


@pytest.fixture
def server(served):
    yield served
    served.stop()
    served.start()


@pytest.fixture
def place(request):
    """A folder of the server's, by the test's name."""
    return request.node.name.replace("[", "-").rstrip("]")


@pytest.fixture(scope="module")
def undisturbed():
    return [numbers(result) for result in train(STACK, device="cpu", evaluations=4)]


def go(specs, url, **options):
    return train(specs, device="cpu", evaluations=4, checkpoints=url, **options)


def stop_after(looks, upload=lambda: None):
    """A `should_stop` that says so at the given look; `upload` is called before each."""
    asked = iter(range(looks + 1))

    def stop():
        upload()
        return next(asked, looks) >= looks

    return stop


def uploaded(server, place, n):
    """Wait until the server has so many checkpoints."""
    until(lambda: len(server.names(place)) >= n)


def steps_of(server, place):
    return sorted(int(name.split(".")[1]) for name in server.names(place))


@pytest.fixture
def stopped(server, place):
    """The id of a run that was stopped and lies there at two steps, and the URL."""
    url = server.url(place)
    Remote(url).check()
    result = go(RUN, url, should_stop=stop_after(1), every=0)
    assert steps_of(server, place) == [LOOK, 2 * LOOK]
    return result.run_id, url


# stopped and resumed


def test_runs_go_on_in_any_company_as_if_never_stopped_and_leave_nothing(server, place, undisturbed):
    url = server.url(place)
    Remote(url).check()
    cut = go(STACK, url, should_stop=stop_after(3))
    assert {result.state for result in cut} == {"cancelled"}
    assert steps_of(server, place) == [4 * LOOK] * 3
    assert Files(url).begun() == {result.run_id: 4 * LOOK for result in cut}
    alone, others = go(STACK[1], url), go([STACK[2], STACK[0]], url)
    assert [numbers(result) for result in (others[1], alone, others[0])] == undisturbed
    assert server.names(place) == []


def test_the_checkpoint_before_stays_and_older_ones_go(server, place, undisturbed, monkeypatch):
    monkeypatch.setattr(Bucket, "busy", False)  # or what is due would be left out while the one before is under way
    url = server.url(place)
    Remote(url).check()
    go(RUN, url, should_stop=stop_after(5), every=0)
    assert len(server.names(place)) == 2
    assert steps_of(server, place)[-1] == 6 * LOOK
    assert (
        len({line.split()[1] for line in server.heard("STOR") if f"/{place}/" in line and "probe" not in line}) > 2
    )
    assert numbers(go(RUN, url)) == undisturbed[0]


@pytest.mark.slow
def test_a_killed_worker_loses_the_time_since_its_last_upload_and_nothing_else(server, place, undisturbed):
    url = server.url(place)
    Remote(url).check()
    with running(RUN, url, LOOK) as process:
        let_look(process, lambda look: uploaded(server, place, look - 1))
        uploaded(server, place, 2)
        os.kill(process.pid, signal.SIGKILL)
    assert steps_of(server, place) == [LOOK, 2 * LOOK]
    assert numbers(go(RUN, url)) == undisturbed[0]


def test_a_worker_killed_in_the_middle_of_an_upload_leaves_the_one_before(
    stopped, server, place, caplog, undisturbed
):
    run_id, url = stopped
    server.stop()
    server.start(limit=2_000)  # an upload takes about half a minute
    with running(RUN, url, LOOK) as process:
        let_look(process, looks=2)
        uploaded(server, place, 3)
        os.kill(process.pid, signal.SIGKILL)
    torn = [name for name in server.names(place) if f".{3 * LOOK}." in name]
    assert len(torn) == 1
    assert Files(url).begun() == {run_id: 2 * LOOK}
    assert numbers(go(RUN, url)) == undisturbed[0]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{server.shown(place)}/{torn[0]} is refused: it was cut short; an earlier one is used")
    assert server.names(place) == []


# what lies there


def newest_step(url, caplog):
    caplog.clear()
    first = next(training([RUN], device="cpu", checkpoints=url))
    return (first.step if isinstance(first, Resumed) else 0), [r.getMessage() for r in caplog.records]


@pytest.mark.parametrize(("length", "why"), [(0, "cut short"), (1000, "cut short"), (None, "checksum is wrong")])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_used(stopped, server, place, caplog, length, why):
    path = server.folder / "data" / place / server.names(place)[0]
    assert f".{2 * LOOK}." in path.name
    whole = path.read_bytes()
    flipped = bytes([*whole[:5000], whole[5000] ^ 1, *whole[5001:]])
    path.write_bytes(flipped if length is None else whole[:length])
    step, said = newest_step(stopped[1], caplog)
    assert step == LOOK
    assert len(said) == 1
    assert why in said[0]
    assert "secret" not in said[0]


def test_a_foreign_checkpoint_is_refused_and_foreign_files_are_left_alone(
    stopped, server, place, caplog, undisturbed
):
    run_id, url = stopped
    other = train(replace(RUN, seed=7), device="cpu", checkpoints=url, should_stop=stop_after(0)).run_id
    folder = server.folder / "data" / place
    for path in list(folder.iterdir()):
        if path.name.startswith(run_id):
            path.unlink()
    (theirs,) = folder.iterdir()
    theirs.rename(folder / theirs.name.replace(other, run_id))
    (folder / "notes.txt").write_text("mine")
    step, said = newest_step(url, caplog)
    assert step == 0
    assert f"belongs to run {other}" in said[0]
    assert numbers(go(RUN, url)) == undisturbed[0]
    assert server.names(place) == ["notes.txt"]


def test_ten_thousand_runs_are_looked_at_by_one_listing(server, place):
    folder = server.folder / "data" / place
    for where, n in ((folder, 10_000), (folder / "kept", 1000)):
        where.mkdir()
        for i in range(n):
            (where / f"{i:032x}.{i}.0.{'0' * 16}").touch()
    before = len(server.heard("MLSD", "LIST", "SIZE", "RETR"))
    files = Files(server.url(place))
    assert files.begun() == {f"{i:032x}": i for i in range(10_000)}
    assert len(files.kept()) == 1000
    assert len(server.heard("MLSD", "LIST", "SIZE", "RETR")) - before == 2


def test_checkpoints_of_runs_that_will_not_go_on_are_dropped(stopped, server, place):
    run_id, url = stopped
    Files(url).drop([run_id, "f" * 32])
    until(lambda: not server.names(place))


# a net that fails, or is slow


def test_a_server_that_is_gone_costs_a_warning_and_no_number(stopped, server, place, caplog, undisturbed):
    _, url = stopped
    began = iter([True])

    def gone():
        if next(began, None):
            server.stop()

    result = go(RUN, url, every=0, should_stop=stop_after(2, gone))
    assert (result.state, result.steps) == ("cancelled", 5 * LOOK)
    said = [record.getMessage() for record in caplog.records]
    assert said
    assert all(line.startswith(f"no checkpoint: {server.shown(place)}: ") for line in said)
    assert all(line.endswith("; training goes on") and "\n" not in line for line in said)
    server.start()
    assert steps_of(server, place) == [LOOK, 2 * LOOK]
    assert numbers(go(RUN, url)) == undisturbed[0]


def test_an_upload_that_failed_is_made_up_for_by_the_next(stopped, server, place, caplog, undisturbed):
    _, url = stopped
    looks = iter(range(9))

    def away():
        look = next(looks)
        if look == 0:
            server.stop()
        if look == 2:
            until(lambda: caplog.records)  # of the upload that failed
            server.start()

    result = go(RUN, url, every=0, should_stop=stop_after(4, away))
    assert result.steps == 7 * LOOK
    assert steps_of(server, place)[-1] == 7 * LOOK
    assert numbers(go(RUN, url)) == undisturbed[0]


def test_where_checkpoints_cannot_be_seen_a_run_begins_again_and_says_so(
    stopped, server, place, caplog, undisturbed
):
    _, url = stopped
    server.stop()
    assert numbers(go(RUN, url)) == undisturbed[0]
    assert "runs start again from step 0" in caplog.records[0].getMessage()
    server.start()
    assert steps_of(server, place) == [LOOK, 2 * LOOK]


def test_training_does_not_wait_for_an_upload(stopped, server, place, undisturbed):
    _, url = stopped
    server.stop()
    server.start(limit=30_000)  # an upload takes about two seconds, all of the run a third of one
    before = len(set(server.heard("STOR")))
    assert numbers(go(RUN, url, every=0)) == undisturbed[0]
    assert 1 <= len(set(server.heard("STOR"))) - before < 5  # all five that were due, had it waited
    assert server.names(place) == []


# kept parameters


def test_parameters_are_kept_where_the_server_is_away_for_a_moment(server, place, caplog, monkeypatch):
    monkeypatch.setattr("trainer.host.urls.PATIENT", (0.0, 0.0, *[0.5] * 400))
    url = server.url(place)
    Remote(url).check()
    server.stop()
    back = threading.Timer(0.3, server.start)
    back.start()
    parent = go(RUN, url, keep=True)
    back.join()
    assert Files(url).kept() == {parent.run_id}
    assert not [r for r in caplog.records if "cannot be kept" in r.getMessage()]


def test_a_run_begins_with_parameters_that_were_kept_there(server, place, tmp_path, caplog):
    url = server.url(place)
    Remote(url).check()
    parents = go(STACK, url, keep=True)
    assert go(STACK, tmp_path, keep=True)[0].loss == parents[0].loss
    assert Files(url).kept() == {parent.run_id for parent in parents}
    probes = [replace(RUN, parent=parent.run_id, trains="head", lr=1e-2) for parent in parents]
    far, here = go(probes, url), go(probes, tmp_path)
    assert [numbers(result) for result in far] == [numbers(result) for result in here]
    said, weights = kept_parameters(url, parents[0].run_id)
    assert said["seed"] == 0
    assert all(
        (weights[name] == value).all() for name, value in kept_parameters(tmp_path, parents[0].run_id)[1].items()
    )
    assert not caplog.records
    with pytest.raises(OSError, match="holds none that is whole"):
        kept_parameters(url, "f" * 32)
    kept = server.folder / "data" / place / "kept"
    for path in kept.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert Files(url).kept() == set()
