"""Commands with a URL in place of a path, at a real FTP server: what they train, and what they refuse."""

import json

import numpy as np

import orchestrator
from orchestrator.store.table import Table
from tests.servers.ftp import ALL, READ

NUMBERS = ["error", "loss", "train_loss", "steps", "flops", "state", "stage"]
CHAIN = """
then:
  - stage: probe
    train: {trains: head, lr: [1e-3, 1e-2], batch_size: 64}
    budget: {epochs: 2}
"""


def rows(store):
    return orchestrator.results(store).sort_values("run_id").set_index("run_id")


HERE = ("--executor", "inline", "--device", "cpu")


def test_a_chain_goes_through_a_url_as_through_a_folder(isoflop, sweep, ftp, tmp_path):
    file = sweep(width="[16, 24]", more=CHAIN)
    far = ("--store", "far.db", "--checkpoints", ftp.url("ck/of/mine"))
    ended = isoflop("run", file, *HERE, *far)
    assert ended.code == 0, ended.err
    assert isoflop("run", file, *HERE, "--store", "here.db").code == 0
    assert rows("far.db")[NUMBERS].equals(rows("here.db")[NUMBERS])
    assert len(ftp.names("ck/of/mine/kept")) == 4
    assert ftp.names("ck/of/mine") == []
    assert not (tmp_path / "far.db.checkpoints").exists()
    for path in (ftp.folder / "data/ck/of/mine/kept").iterdir():
        path.unlink()
    file = sweep(width="[16, 24]", more=CHAIN.replace("1e-2", "1e-2, 3e-2"))
    ended = isoflop("run", file, *HERE, *far)
    assert ended.code == 0, ended.err
    with Table("far.db") as table:  # parents train again where others are to begin with them
        attempts = table.frame("attempts").groupby("run_id").size()
    assert attempts[rows("far.db").query("stage == 'train'").index].tolist() == [2] * 4
    assert rows("far.db").loc[rows("here.db").index, NUMBERS].equals(rows("here.db")[NUMBERS])


def test_what_is_wrong_with_a_url_for_checkpoints_is_a_line_before_anything_trains(isoflop, sweep, ftp):
    ftp.stop()
    for rights, where, why in [
        (READ, ftp.url("ck"), "550"),
        (ALL, ftp.url("ck").replace("/data/", "/none/"), "there is no /none; make it first"),
        (ALL, ftp.url("ck").replace("secret", "wrong"), "530"),
        (ALL, "ftp://127.0.0.1:1/ck", "Connection refused"),
        (ALL, "gs://bucket/ck", "gs:// needs gcsfs, which is missing; run: pip install gcsfs"),
        (ALL, "nonsense://x", "Protocol not known: nonsense"),
    ]:
        ftp.start(rights)
        ended = isoflop("run", sweep(), *HERE, "--checkpoints", where)
        ftp.stop()
        assert ended.code == 2
        last = ended.err.splitlines()[-1]
        assert last.startswith("checkpoints: ")
        assert why in last
        assert "secret" not in ended.err
        with Table("isoflop.db") as table:
            assert table.counts() == {"queued": 4}
            assert table.frame("attempts").empty
    ftp.start()


def test_a_set_behind_a_url_is_registered_listed_and_trained_on(isoflop, sweep, ftp, tmp_path, monkeypatch):
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path / "cache"))  # the name must not reach other tests
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 4, 4, 3), dtype=np.uint8), np.arange(60) % 3
    np.savez(ftp.folder / "data" / "p.npz", x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    ended = isoflop("data", "add", "pics", ftp.url("p.npz"))
    assert ended.code == 0, ended.err
    assert ftp.shown("p.npz") in ended.out
    assert json.loads(isoflop("data", "list", "pics", "--json").out)[0]["train"] == 50
    for name, data in (("a", "dataset: pics"), ("b", f"dataset: pics, path: '{ftp.url('p.npz')}'")):
        text = (tmp_path / sweep(f"{name}.yaml", sweep=name)).read_text()
        (tmp_path / f"{name}.yaml").write_text(text.replace("dataset: digits, dataset_size: 180", data))
        keep = ("--keep", "--checkpoints", ftp.url("ck")) if name == "a" else ()
        ended = isoflop("run", f"{name}.yaml", *HERE, "--store", f"{name}.db", *keep)
        assert ended.code == 0, ended.err
    assert rows("a.db")[NUMBERS].equals(rows("b.db")[NUMBERS])
    assert len([line for line in ftp.heard("RETR") if "p.npz" in line]) == 1
    ended = isoflop("model", "weights", rows("a.db").index[0][:8], "--checkpoints", ftp.url("ck"))
    assert ended.code == 0, ended.err
    ended = isoflop("model", "weights", "zzzz", "--checkpoints", ftp.url("ck"))
    assert (ended.code, ended.err) == (
        2,
        f"'zzzz': no kept parameters in {ftp.shown('ck')}; `run --keep` keeps them\n",
    )
