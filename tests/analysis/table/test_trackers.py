"""Stores of trackers, written by the trackers' own libraries; skipped without them."""

import sqlite3
import sys

import numpy as np
import pytest

from analysis import ReadError, fit_power_law, read_table, recognise

SIZES = np.geomspace(1e4, 1e8, 12).round()


def loss(n):
    return 0.05 + 4 * n**-0.3


@pytest.fixture
def mlflow():
    return pytest.importorskip("mlflow")


@pytest.fixture
def tensorboard():
    pytest.importorskip("tensorboard")
    return pytest.importorskip("torch.utils.tensorboard")


@pytest.mark.filterwarnings("ignore")  # of the libraries
def test_a_store_of_mlflow_is_one_row_a_run(mlflow, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("sizes")
    for n in SIZES:
        run = client.create_run(experiment, run_name=f"n{n:g}").info.run_id
        client.log_param(run, "n_params", int(n))
        for step in (1, 2):
            client.log_metric(run, "val_loss", loss(n) * (3 - step), step=step)
        client.set_terminated(run)
    failed = client.create_run(experiment).info.run_id
    client.log_param(failed, "n_params", 5)
    client.set_terminated(failed, status="FAILED")
    frame = read_table(tmp_path / "mlruns")
    assert len(frame) == len(SIZES) + 1
    known = recognise(frame)
    assert (known.inputs, known.y) == (("params",), "val_loss")
    assert "1 of 13 rows left out: without a number in 'val_loss'" in str(known)
    fit = fit_power_law(known.frame, x="params", y=known.y, resamples=0)
    assert fit.exponent == pytest.approx(0.3, abs=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_event_files_of_tensorboard_are_the_records_of_their_runs(tensorboard, tmp_path):
    for n in SIZES:
        with tensorboard.SummaryWriter(tmp_path / "runs" / f"n{n:g}") as writer:
            for step in (10, 20, 30):
                writer.add_scalar("loss/test", loss(n) * (40 - step) / 10, step)
            writer.add_hparams({"n_params": n, "optimizer": "adam"}, {}, run_name=".")
    frame = read_table(tmp_path / "runs")
    assert len(frame) == 3 * len(SIZES)
    known = recognise(frame)
    assert (known.inputs, known.y, len(known.frame)) == (("params",), "loss/test", len(SIZES))
    fit = fit_power_law(known.frame, x="params", y=known.y, resamples=0)
    assert fit.exponent == pytest.approx(0.3, abs=1e-3)


@pytest.mark.parametrize(
    ("package", "file"), [("mlflow", "mlruns/0/meta.yaml"), ("tensorboard", "run/events.out.tfevents.1.host")]
)
def test_a_package_that_is_missing_is_named(monkeypatch, tmp_path, package, file):
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / "store" / file
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(ReadError, match=rf"pip install {package}"):
        read_table(tmp_path / "store" / file.split("/")[0])


def test_a_database_that_is_not_mlflows_is_said_to_be_one(tmp_path):
    for name, table in (("isoflop.db", "attempts"), ("other.db", "things")):
        with sqlite3.connect(tmp_path / name) as database:
            database.execute(f"CREATE TABLE {table} (x)")
        database.close()
    with pytest.raises(ReadError, match="--store reads it"):
        read_table(tmp_path / "isoflop.db")
    with pytest.raises(ReadError, match="another database"):
        read_table(tmp_path / "other.db")


@pytest.mark.filterwarnings("ignore")
def test_scalars_of_tensorflow_are_read_as_those_of_pytorch(tensorboard, tmp_path):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(tmp_path / "runs"))
    for step in (1, 2, 3):
        writer.add_event(Event(step=step, summary=scalar_pb("loss", 1 / step)))
    writer.close()
    frame = read_table(tmp_path / "runs")
    assert frame["loss"].tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert frame["step"].tolist() == [1, 2, 3]
