"""Checkpoints and data at an S3 server: moto's, where there are that and s3fs (pip install s3fs 'moto[server]').

What all protocols have in common is in test_bucket.py and test_fetched.py.
"""

import importlib.util
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.workers.worker import Files
from tests.trainer.reference import numbers
from trainer import RunSpec, train
from trainer.data import datasets
from trainer.host.urls import Remote, RemoteError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("s3fs", "moto", "flask"))), reason="needs s3fs and moto[server]"
    ),
]
SERVER = """
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
import signal
signal.pause()
"""
LOOK = 8
STACK = [RunSpec(width=16, batch_size=32, examples=32 * 60, lr=3e-3, seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def bucket():
    """A file system of s3fs's at a server with an empty bucket."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], text=True, stdout=subprocess.PIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{process.stdout.readline().strip()}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "any")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setattr("trainer.training.loop.LOOK", LOOK)
        patch.setattr("trainer.training.loop.SOON", math.inf)
        import s3fs

        store = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        store.mkdir("bucket")
        yield store
    process.kill()
    process.wait()
    process.stdout.close()


def go(specs, url, **options):
    return train(specs, device="cpu", evaluations=4, checkpoints=url, **options)


def test_runs_go_on_and_begin_with_others_as_from_a_folder(bucket, tmp_path):
    url = "s3://bucket/of/mine"
    Remote(url).check()
    undisturbed = [numbers(result) for result in go(STACK, tmp_path, keep=True)]
    looks = iter(range(9))
    cut = go(STACK, url, every=0, should_stop=lambda: next(looks) >= 4)
    assert {result.state for result in cut} == {"cancelled"}
    assert set(Files(url).begun().values()) == {5 * LOOK}
    assert len(bucket.ls("bucket/of/mine")) == 6
    assert [numbers(result) for result in go(STACK, url, keep=True)] == undisturbed
    assert bucket.ls("bucket/of/mine") == ["bucket/of/mine/kept"]
    assert Files(url).kept() == {result.run_id for result in cut}
    probes = [replace(STACK[0], parent=result.run_id, trains="head") for result in cut]
    assert [numbers(r) for r in go(probes, url)] == [numbers(r) for r in go(probes, tmp_path)]
    Files(url).drop(Files(url).kept())
    assert len(bucket.ls("bucket/of/mine/kept")) == 3


def test_a_bucket_that_does_not_exist_is_not_made(bucket):
    for url in ("s3://typo", "s3://typo/of/mine"):
        with pytest.raises(RemoteError, match=f"{url}: there is no typo; make it first"):
            Remote(url).check()
    assert bucket.ls("") == ["bucket"]


def test_data_come_from_there(bucket, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (47, 6, 6, 3), dtype=np.uint8), np.arange(47) % 3
    np.savez(tmp_path / "p.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    bucket.put(str(tmp_path / "p.npz"), "bucket/sets/p.npz")
    far, here = (
        RunSpec(dataset="p", path=path, epochs=1, batch_size=8)
        for path in ("s3://bucket/sets/p.npz", str(tmp_path / "p.npz"))
    )
    ids = [datasets.resolve(spec, datasets.describe(spec)).run_id for spec in (far, here)]
    assert ids[0] == ids[1]
