"""Data behind a URL, at a real FTP server: fetched once a machine, and no part of a run's identity."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from trainer import RunSpec, SpecError, train
from trainer.data import datasets, download
from trainer.data.download import copy_here, local_copy
from trainer.host.urls import Remote

RUN = RunSpec(dataset="pictures", width=8, batch_size=16, examples=64)


@pytest.fixture
def pictures(ftp):
    return write(ftp.folder / "data" / "p.npz")


def write(path, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 256, (47, 6, 6, 3), dtype=np.uint8), np.arange(47) % 3
    np.savez(path, x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    return path


def resolved(path):
    spec = replace(RUN, path=str(path))
    return datasets.resolve(spec, datasets.describe(spec))


def test_a_run_is_the_same_wherever_its_data_come_from(ftp, pictures):
    far, here = resolved(ftp.url("p.npz")), resolved(pictures)
    assert far.run_id == here.run_id
    assert far.path == ftp.url("p.npz")
    assert train(far, device="cpu").loss == train(here, device="cpu").loss


def test_what_is_here_is_not_fetched_again_by_any_process(ftp, pictures):
    text = f"from trainer.data.download import local_copy; print(local_copy({ftp.url('p.npz')!r}))"
    at_once = [subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    places = {process.communicate(timeout=60)[0].strip() for process in at_once}
    assert places == {str(local_copy(ftp.url("p.npz")))}
    assert len(ftp.heard("RETR")) == 1
    resolved(ftp.url("p.npz"))
    asked = len(ftp.heard("MLSD"))
    resolved(ftp.url("p.npz"))
    assert (len(ftp.heard("RETR")), len(ftp.heard("MLSD"))) == (1, asked)


def test_what_has_changed_is_fetched_anew_and_is_other_runs(ftp, pictures):
    before = resolved(ftp.url("p.npz"))
    write(pictures, seed=1)
    os.utime(pictures, (0, pictures.stat().st_mtime + 5))  # FTP tells times in seconds
    assert resolved(ftp.url("p.npz")).run_id == before.run_id  # a process asks once
    download.newest_copy.cache_clear()
    assert resolved(ftp.url("p.npz")).run_id != before.run_id


def test_a_copy_serves_while_the_server_is_gone_and_not_where_the_file_is(ftp, pictures, caplog):
    url = ftp.url("p.npz")
    before = resolved(url)
    ftp.stop()
    download.newest_copy.cache_clear()
    assert resolved(url).run_id == before.run_id
    assert caplog.records[-1].getMessage().endswith("; the existing copy is used")
    ftp.start()
    download.newest_copy.cache_clear()
    pictures.unlink()
    with pytest.raises(SpecError, match=r"^path: ftp://me:\*\*\*@127.0.0.1:\d+/data/p.npz: there is nothing$"):
        local_copy(url)


def test_a_transfer_that_was_cut_short_leaves_no_copy(ftp, pictures, cache, monkeypatch):
    url = ftp.url("p.npz")

    def cut_after_listing(self, real=Remote.tree):
        files = real(self)
        pictures.write_bytes(pictures.read_bytes()[:100])
        return files

    monkeypatch.setattr(Remote, "tree", cut_after_listing)
    with pytest.raises(SpecError, match="came with 100 bytes of "):
        local_copy(url)
    assert copy_here(url) is None
    assert not [path for path in (cache / "fetched").rglob("*") if path.is_file()]


def test_a_folder_comes_whole(ftp):
    folder = ftp.folder / "data" / "set"
    for split, n in (("train", 4), ("test", 2)):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for i in range(n):
                pixels = np.full((5, 5, 3), 40 * i + len(label), np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{i}.png")
    assert resolved(ftp.url("set")).run_id == resolved(folder).run_id
    assert len(ftp.heard("RETR")) == 12


def test_a_url_that_cannot_be_is_refused_in_a_line(ftp):
    for url, why in [
        ("gs://bucket/x.npz", "gs:// needs gcsfs, which is missing; run: pip install gcsfs"),
        ("nonsense://x", "Protocol not known: nonsense"),
        (ftp.url("none.npz"), "none.npz: there is nothing"),
    ]:
        with pytest.raises(SpecError) as caught:
            local_copy(url)
        assert why in str(caught.value)
        assert "\n" not in str(caught.value)
