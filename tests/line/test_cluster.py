"""A Ray cluster of several nodes on this machine: the command with --address, nodes that join and leave."""

import json
import os
import secrets
import subprocess
import sys

import numpy as np
import pytest

from orchestrator.store.table import Table
from tests import paced
from tests.commands import LIMIT, command
from tests.line.test_line import NUMBERS, finish, rows
from tests.line.test_tune_line import SWEEP as TUNED
from tests.line.test_tune_line import check
from tests.polling import table_shows, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SWEEP = f"""\
sweep: line
data: {{dataset: digits}}
model: {{family: b-mlp, depth: 1, width: [16, 24, 33, 40]}}
train: {{optimizer: "{paced.ADAMW}", lr: 2e-3, batch_size: 32, schedule: cosine}}
budget: {{epochs: 12}}
seeds: 3
"""
WIDE = 10_000
"""Parameters that models of width 33 and 40 have."""

SERVER = """\
import itertools, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
numbers = itertools.count()
def add():  # a node has a home of its own
    home = f"{sys.argv[1]}/{next(numbers)}"
    return cluster.add_node(num_cpus=1, env_vars={"HOME": home, "ISOFLOP_CACHE": f"{home}/cache"})
nodes = [add() for _ in range(2)]
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "remove":
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    if line.strip() == "add":
        nodes.append(add())
    print("ok", flush=True)
"""


class Server:
    """The cluster, in its own process."""

    def __init__(self, env, homes):
        self.homes = homes
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(homes)],
            env=env,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.address = self._process.stdout.readline().strip()

    def ask(self, what):
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline().strip() == "ok"

    def close(self):
        self._process.stdin.close()
        self._process.wait(60)


@pytest.fixture(scope="module")
def env():
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    switches = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # all of it on 127.0.0.1
    return {**os.environ, **token, **switches, "RAY_health_check_failure_threshold": "2"}


@pytest.fixture(scope="module")
def server(env, tmp_path_factory):
    cluster = Server(env, tmp_path_factory.mktemp("homes"))
    yield cluster
    cluster.close()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "line.yaml").write_text(SWEEP)
    paced.write_optimizer(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def both_train(table):
    """Whether each of the two machines trains a slow stack, and others are done."""
    training = {run["model"]: run["pid"] for run in table.running() if run["pid"]}
    return table.counts().get("done", 0) and set(training) == {"B-1/Wi-33", "B-1/Wi-40"}


def start(folder, store, env, *options):
    arguments = command("run", "line.yaml", "--store", store, *options)
    return subprocess.Popen(
        arguments, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def test_a_machine_that_leaves_and_one_that_comes_lose_no_finished_run_and_change_no_number(folder, server, env):
    paced.slow_down(folder, parameters=WIDE)
    process = start(folder, "cluster.db", env, "--address", server.address, "--checkpoint-every", "0.2")
    table_shows(folder / "cluster.db", both_train, process)
    with Table(folder / "cluster.db") as table:
        before = table.frame()
    server.ask("remove")
    server.ask("add")
    paced.speed_up(folder)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, output
    after = rows(folder, "cluster.db")
    assert (after["state"] == "done").all()
    done = before[before["state"] == "done"]["run_id"]
    assert (after.loc[done, "attempt"] == 1).all()
    with Table(folder / "cluster.db") as table:
        attempts = table.frame("attempts")
    assert "lost" in set(attempts["outcome"])
    assert attempts["pid"].nunique() > 2
    finish(folder, "here.db")
    here = rows(folder, "here.db")
    assert after[NUMBERS].equals(here[NUMBERS])


FAR = """\
sweep: far
data: {{dataset: pictures, path: "{path}"}}
model: {{family: b-mlp, depth: 1, width: [24, 33]}}
train: {{optimizer: "{optimizer}", lr: 2e-3, batch_size: 32, schedule: cosine}}
budget: {{epochs: 15}}
seeds: 2
then:
  - {{stage: probe, train: {{preset: probe, batch_size: 64, lr: 1e-3}}, budget: {{epochs: 2}}}}
"""


@pytest.fixture
def pictures(ftp):
    """A data set of five classes on the server."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 150, (1500, 8, 8, 3), dtype=np.uint8), rng.integers(0, 5, 1500)
    x[np.arange(1500), y] += 30  # a brighter row
    path = ftp.folder / "data" / "p.npz"
    np.savez(path, x_train=x[:1200], y_train=y[:1200], x_test=x[1200:], y_test=y[1200:])
    return path


def test_machines_that_share_no_folder_go_on_from_each_others_checkpoints(
    folder, server, env, ftp, pictures, monkeypatch
):
    monkeypatch.setenv("ISOFLOP_CACHE", str(folder / "cache"))
    (folder / "line.yaml").write_text(FAR.format(path=ftp.url("p.npz"), optimizer=paced.ADAMW))
    options = ("--checkpoints", ftp.url("ck"), "--checkpoint-every", "0.2")
    paced.slow_down(folder)
    process = start(
        folder, "far.db", {**env, "ISOFLOP_CACHE": str(folder / "cache")}, "--address", server.address, *options
    )
    until(lambda: len({name.split(".")[0] for name in ftp.names("ck")}) == 4, process)
    server.ask("remove")
    paced.speed_up(folder)
    output, _ = process.communicate(timeout=LIMIT)
    server.ask("add")
    assert process.returncode == 0, output
    far = rows(folder, "far.db")
    with Table(folder / "far.db") as table:
        attempts = table.frame("attempts")
    lost = attempts[attempts["outcome"] == "lost"]["run_id"]
    assert len(lost)
    on = attempts[attempts["run_id"].isin(lost) & (attempts["outcome"] == "done")]
    assert (on["resumed_step"] > 0).all()
    assert ftp.names("ck") == []
    assert len(ftp.names("ck/kept")) == 4
    assert sum(len(list(home.glob("cache/fetched/*/*/p.npz"))) == 1 for home in server.homes.iterdir()) >= 2
    assert len(ftp.heard("RETR")) >= len(on) + 4
    (folder / "line.yaml").write_text(FAR.format(path=pictures, optimizer=paced.ADAMW))
    finish(folder, "here.db")
    assert far[NUMBERS].equals(rows(folder, "here.db")[NUMBERS])


def test_a_machine_that_does_not_reach_the_url_is_named_in_a_line(folder, server, env, ftp):
    text = "from orchestrator.workers import ray_executor as r, worker as w; r.RayExecutor(address={!r}, {})"
    for argument, why in [
        (f"data=[{ftp.url('gone.npz')!r}]", f"does not reach {ftp.shown('gone.npz')}: there is nothing"),
        ("data=['gs://bucket/x.npz']", "gs:// needs gcsfs, which is missing; run: "),
        (f"files=w.Files({ftp.url('x').replace('secret', 'wrong')!r})", f"does not reach {ftp.shown('x')}: 530"),
    ]:
        arguments = [sys.executable, "-c", text.format(server.address, argument)]
        ended = subprocess.run(arguments, env=env, text=True, capture_output=True, check=False)
        last = ended.stderr.strip().splitlines()[-1]
        assert "ClusterError: node " in last
        assert why in last


def test_what_the_machines_do_not_share_is_refused_in_a_line(folder, server, env):
    stranger = {**env, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    process = start(folder, "stranger.db", stranger, "--address", server.address)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 2, output
    assert f"--address {server.address}: no Ray cluster to join there" in output
    text = "from orchestrator.workers.ray_executor import RayExecutor; "
    text += f"RayExecutor(address={server.address!r}, data=['/gone/x.npz'])"
    ended = subprocess.run([sys.executable, "-c", text], env=env, text=True, capture_output=True, check=False)
    assert "does not see /gone/x.npz; put it where all nodes see it" in ended.stderr
    for options, why in [
        (["--address", server.address, "--executor", "inline"], "needs the executor ray"),
        (["--address", server.address, "--checkpoints", "gs://bucket/x"], "gs:// needs gcsfs, which is missing"),
    ]:
        process = start(folder, "stranger.db", env, *options)
        output, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 2
        assert why in output


def test_a_scheduler_of_ray_tune_uses_the_machines_and_outlives_one_that_leaves(folder, server, env):
    (folder / "tuned.yaml").write_text(TUNED.replace("asha", "hyperband"))
    paced.slow_down(folder, seconds=0.02)
    options = ["--store", "tuned.db", "--address", server.address, "--checkpoint-every", "0.2"]
    process = subprocess.Popen(
        command("search", "tuned.yaml", *options, "--json"),
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    table_shows(folder / "tuned.db", lambda table: table.frame("attempts")["pid"].nunique() == 2, process)
    server.ask("remove")
    server.ask("add")
    paced.speed_up(folder)
    output, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    check(json.loads(output)["best"][0], rows(folder, "tuned.db").reset_index())
    with Table(folder / "tuned.db") as table:
        attempts = table.frame("attempts")
    assert "lost" in set(attempts["outcome"])
    assert attempts["pid"].nunique() > 2
    assert not list((folder / "tuned.db.checkpoints").glob(".tune-*"))
    refused = subprocess.run(
        command("search", "tuned.yaml", *options, "--checkpoints", "none"),
        cwd=folder,
        env=env,
        text=True,
        capture_output=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "must be a folder that all nodes share" in refused.stderr
