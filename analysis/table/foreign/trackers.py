"""What trackers write: stores of MLflow, event files of TensorBoard, charts of W&B with one column per run."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from analysis.table.foreign.text import ReadError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OF_A_RUN = re.compile(r"(?P<run>.+) - (?P<metric>.+?)(?P<end>__MIN|__MAX)?", re.DOTALL)
_SETTING = re.compile(r"([A-Za-z_]\w*)=([^\s,;=]+)")
_PREFIX = re.compile(r"(?:metrics|params|config|summary)[./](.+)", re.DOTALL)
_EVENTS = "*tfevents*"


def kind(path: Path) -> str:
    """The tracker whose store a folder is: mlflow, tensorboard, or empty."""
    if any(path.glob("*/meta.yaml")) or (path / "mlflow.db").is_file():
        return "mlflow"
    return "tensorboard" if next(path.rglob(_EVENTS), None) else ""


def runs(path: Path) -> pd.DataFrame:
    """The runs of a store of MLflow, one row each; or the records of TensorBoard's, one row per run and step.

    Raises:
        ReadError: the tracker's package is not installed, or it is another database.
    """
    if path.is_dir() and kind(path) == "tensorboard":
        return _tensorboard(path)
    store = path / "mlflow.db" if (path / "mlflow.db").is_file() else path
    if store.is_file():
        try:
            with closing(sqlite3.connect(f"file:{quote(str(store))}?mode=ro", uri=True)) as database:
                tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        except sqlite3.DatabaseError as error:
            raise ReadError(f"it is no valid database ({error})") from error
        if not {"experiments", "latest_metrics"} <= tables:
            what = "a table of isoflop's: --store reads it" if "attempts" in tables else "another database"
            raise ReadError(f"it is {what}; expected a database of MLflow's")
    return _mlflow(store)


def long(frame: pd.DataFrame) -> pd.DataFrame:
    """A chart of W&B (columns `run - metric`) as one row per record, with `run` and what its name sets (lr=0.1)."""
    matches = {name: match for name in frame.columns if (match := _OF_A_RUN.fullmatch(str(name)))}
    others = [name for name in frame.columns if name not in matches]
    curves = {name: match for name, match in matches.items() if not match["end"]}
    if not curves or len(others) != 1 or any(not pd.api.types.is_numeric_dtype(frame[name]) for name in curves):
        return frame
    metrics = list(dict.fromkeys(match["metric"] for match in curves.values() if match["metric"] not in others))
    parts = []
    for run in dict.fromkeys(match["run"] for match in curves.values()):
        mine = {match["metric"]: frame[name] for name, match in curves.items() if match["run"] == run}
        records = pd.DataFrame({others[0]: frame[others[0]], **{metric: mine.get(metric) for metric in metrics}})
        parts.append(records.dropna(subset=metrics, how="all").assign(run=run, **dict(_SETTING.findall(run))))
    whole = pd.concat(parts)
    for name in dict.fromkeys(key for run in whole["run"].unique() for key, _ in _SETTING.findall(run)):
        numeric = pd.to_numeric(whole[name], errors="coerce")
        whole[name] = numeric if numeric.notna().all() else whole[name]
    whole.attrs = frame.attrs
    return whole


def unprefixed(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame without the prefixes `metrics.`, `params.`, `config.` where the names stay distinct."""
    short = {name: match[1] if (match := _PREFIX.fullmatch(str(name))) else name for name in frame.columns}
    count = Counter(short.values())
    return frame.rename(columns={name: new for name, new in short.items() if count[new] == 1})


def _mlflow(store: Path) -> pd.DataFrame:
    try:
        from mlflow import MlflowClient
        from mlflow.entities import ViewType
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise ReadError("a store of MLflow needs mlflow: pip install mlflow; or export its runs as CSV") from error
    uri = f"sqlite:///{store.resolve()}" if store.is_file() else store.resolve().as_uri()
    rows: list[dict[str, Any]] = []
    try:
        client = MlflowClient(tracking_uri=uri)
        experiments = {one.experiment_id: one.name for one in client.search_experiments(ViewType.ALL)}
        token: str | None = ""
        while token is not None:
            page = client.search_runs([*experiments], max_results=1000, page_token=token or None)
            for run in page:
                head = {"run_id": run.info.run_id, "run_name": run.info.run_name, "status": run.info.status}
                settings = {f"params.{name}": value for name, value in run.data.params.items()}
                metrics = {f"metrics.{name}": value for name, value in run.data.metrics.items()}
                rows.append(head | {"experiment": experiments[run.info.experiment_id]} | settings | metrics)
            token = page.token or None
    except (ImportError, MlflowException, OSError) as error:
        raise ReadError(f"mlflow cannot read this store ({str(error).splitlines()[0]})") from error
    return pd.DataFrame(rows)


def _tensorboard(path: Path) -> pd.DataFrame:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError as error:
        raise ReadError("event files need tensorboard: pip install tensorboard") from error
    rows: list[dict[str, Any]] = []
    for folder in sorted({file.parent for file in path.rglob(_EVENTS)}):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        head = {"run": str(folder.relative_to(path)), **_settings(events)}
        records: dict[int, dict[str, float]] = {}
        for tag, step, value in _scalars(events):
            records.setdefault(step, {})[tag] = value
        rows += [{**head, "step": step, **values} for step, values in sorted(records.items())]
    if not rows:
        raise ReadError("its event files hold no scalars")
    return pd.DataFrame(rows)


def _scalars(events: Any) -> Iterator[tuple[str, int, float]]:
    """Tag, step and value of every scalar, as PyTorch and as TensorFlow write them."""
    from tensorboard.util.tensor_util import make_ndarray

    for tag in events.Tags()["scalars"]:
        yield from ((tag, event.step, event.value) for event in events.Scalars(tag))
    for tag in events.Tags()["tensors"]:
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            yield from ((tag, event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(tag))


def _settings(events: Any) -> dict[str, Any]:
    """The hyper-parameters of a run, as `add_hparams` writes them."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    try:
        contents = events.PluginTagToContent("hparams").values()
    except KeyError:
        return {}
    settings: dict[str, Any] = {}
    for content in contents:
        for name, value in HParamsPluginData.FromString(content).session_start_info.hparams.items():
            settings[name] = getattr(value, value.WhichOneof("kind"))
    return settings
