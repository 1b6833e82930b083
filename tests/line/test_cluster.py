"""A Ray cluster of several machines on this one: the same command with --address, machines that come and go."""

import os
import secrets
import subprocess
import sys

import pytest

from orchestrator.table import Table
from tests.line.test_line import NUMBERS, command, finish, rows, wait_for_the_middle

SWEEP = """\
sweep: line
data: {dataset: digits}
model: {family: b-mlp, depth: 1, width: [16, 24, 33, 40]}
train: {lr: 2e-3, batch_size: 32, schedule: cosine}
budget: {epochs: 60}
seeds: 3
"""
SERVER = """\
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "remove":
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    if line.strip() == "add":
        nodes.append(cluster.add_node(num_cpus=1))
    print("ok", flush=True)
"""


class Server:
    """The cluster, in a process of its own."""

    def __init__(self, env):
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
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
def server(env):
    made = Server(env)
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "line.yaml").write_text(SWEEP)
    return tmp_path


def start(folder, store, env, *options):
    arguments = command(folder, "run", "line.yaml", "--store", store, *options)
    return subprocess.Popen(
        arguments, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.mark.slow
def test_a_machine_that_leaves_and_one_that_comes_lose_no_finished_run_and_change_no_number(folder, server, env):
    process = start(folder, "cluster.db", env, "--address", server.address, "--checkpoint-every", "0.2")
    wait_for_the_middle(folder, "cluster.db", process)
    with Table(folder / "cluster.db") as table:
        before = table.frame()
    server.ask("remove")
    server.ask("add")
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    after = rows(folder, "cluster.db")
    assert (after["state"] == "done").all()
    done = before[before["state"] == "done"]["run_id"]
    assert (after.loc[done, "attempt"] == 1).all()
    with Table(folder / "cluster.db") as table:
        attempts = table.frame("attempts")
    assert "lost" in set(attempts["outcome"])
    assert attempts["pid"].nunique() > 2
    assert finish(folder, "here.db", "--executor", "inline").returncode == 0
    here = rows(folder, "here.db")
    assert after[NUMBERS].equals(here[NUMBERS])


@pytest.mark.slow
def test_what_the_machines_do_not_share_is_refused_in_a_line(folder, server, env):
    stranger = {**env, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    process = start(folder, "stranger.db", stranger, "--address", server.address)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert f"--address {server.address}: no Ray cluster to join there" in said
    text = f"import orchestrator.ray_executor as r; r.RayExecutor(address={server.address!r}, data=['/gone/x.npz'])"
    ended = subprocess.run([sys.executable, "-c", text], env=env, text=True, capture_output=True, check=False)
    assert "does not see /gone/x.npz; put it where all nodes see it" in ended.stderr
    for options, why in [
        (["--address", server.address, "--executor", "inline"], "a cluster is for --executor ray"),
        (["--address", server.address, "--checkpoints", "gs://bucket/x"], "gs:// needs gcsfs, which is missing"),
    ]:
        process = start(folder, "stranger.db", env, *options)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 2
        assert why in said
