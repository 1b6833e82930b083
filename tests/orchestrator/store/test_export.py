"""Conditions and formats of `isoflop results`."""

import json
from importlib.util import find_spec

import pandas as pd
import pytest
import sqlalchemy as sa

from orchestrator.store import export
from orchestrator.store.export import ExportError, filtered, write_metadata, written

FRAME = pd.DataFrame(
    {
        "sweep": ["a", "a", "b"],
        "width": [16, 32, 64],
        "error": [0.5, 0.25, float("nan")],
        "flops": [10**12 + 1, 2 * 10**15, 3],
        "state": ["done", "done", "failed"],
    },
    index=[5, 6, 7],
)


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("", [5, 6, 7]),
        ("width = 32", [6]),
        ("error < 0.3 and state = 'done'", [6]),
        ("error is null", [7]),
        ("flops = 1000000000001", [5]),
        ("width in (16, 64) -- a remark", [5, 7]),
        ("width > (select avg(width) from results)", [7]),
        ("width < 0", []),
        ("log10(flops) > 12 and lower(state) like 'd%'", [5, 6]),
    ],
)
def test_a_condition_keeps_rows_as_they_are(where, kept):
    pd.testing.assert_frame_equal(filtered(FRAME, where), FRAME.loc[kept])


SHARED = FRAME.assign(sweeps=pd.Series([["a"], ["a", "b"], []], FRAME.index, dtype=object))


def test_a_list_of_sweeps_is_text_in_a_condition_and_in_csv_and_a_list_in_json(tmp_path, capsys):
    pd.testing.assert_frame_equal(filtered(SHARED, "sweeps like '%b%'"), SHARED.loc[[6]])
    assert filtered(SHARED, "sweeps = 'a' or sweeps = ''").index.tolist() == [5, 7]
    written(SHARED, "csv", tmp_path / "t.csv")
    assert pd.read_csv(tmp_path / "t.csv", keep_default_na=False)["sweeps"].tolist() == ["a", "a, b", ""]
    written(SHARED, "json", None)
    assert [row["sweeps"] for row in json.loads(capsys.readouterr().out)] == [["a"], ["a", "b"], []]


@pytest.mark.parametrize(
    ("where", "complaint"),
    [
        ("widht = 32", "no such column: widht; columns are sweep, width"),
        ("width =", "syntax error"),
        ("state = 'done", "unrecognized token"),
        ("1); drop table results; --", "one statement at a time"),
        ("1) union select 99 where (1", "more than a condition"),
        ("width in (select load_extension('x'))", "columns are"),
        ("1) union select writefile('/tmp/x', 'y') where (1", "columns are"),
        ("width in (select name from sqlite_master)", "access to"),
        ("width in (select width from pragma_database_list)", "columns are"),
        ("length(zeroblob(1000000000)) > 0", "not authorized to use function: zeroblob"),
        ("length(replace(hex(state), '6', state)) > 0", "not authorized to use function"),
        ("state like '" + "%a" * 100 + "'", "LIKE or GLOB pattern too complex"),
        ("(" * 200 + "1" + ")" * 200, "columns are"),
        ("width = 1 or " * 2000 + "width = 2", "query string is too large"),
        ("1) union select 1 union select 2 where (1", "too many terms in compound SELECT"),
        (
            "width in (with recursive n(i) as (select 1 union all select i + 1 from n) select i from n)",
            "not authorized",
        ),
        ("fts3_tokenizer('simple') is null", "columns are"),
    ],
)
def test_what_is_no_condition_is_refused(where, complaint):
    with pytest.raises(ExportError) as caught:
        filtered(FRAME, where)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_condition_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(export, "LONGEST", 0.2)
    frame = pd.concat([FRAME] * 200)
    with pytest.raises(ExportError, match=r"it takes longer than 0.2 s"):
        filtered(
            frame, "(select count(*) from results a, results b, results c where a.width < b.width + c.width) > 0"
        )


def test_csv_and_json_are_read_back(tmp_path, capsys):
    written(FRAME, "csv", tmp_path / "t.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), FRAME.reset_index(drop=True))
    written(FRAME, "json", None)
    rows = json.loads(capsys.readouterr().out)
    assert [row["flops"] for row in rows] == FRAME["flops"].tolist()
    assert rows[2]["error"] is None


def test_parquet_is_read_back_or_says_what_is_missing(tmp_path):
    if find_spec("pyarrow") is None:
        with pytest.raises(ExportError, match=r"run: \./run add parquet"):
            written(FRAME, "parquet", tmp_path / "t.parquet")
    else:
        written(FRAME, "parquet", tmp_path / "t.parquet")
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), FRAME)
        written(SHARED, "parquet", tmp_path / "s.parquet")
        assert pd.read_parquet(tmp_path / "s.parquet")["sweeps"].map(list).tolist() == SHARED["sweeps"].tolist()
    with pytest.raises(ExportError, match="needs --out"):
        written(FRAME, "parquet", None)


def test_duckdb_holds_every_row_as_a_table_that_is_replaced(tmp_path):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is missing: ./run add duckdb")
    out = tmp_path / "r.duckdb"
    for frame in (
        FRAME.head(1),
        FRAME.assign(sweeps=pd.Series([["a"], ["a", "b"], ["b"]], FRAME.index, dtype=object)),
    ):
        written(frame, "duckdb", out, "runs")
    written(FRAME.head(2), "duckdb", out, "history")
    with duckdb.connect(str(out)) as database:
        assert database.sql("select sweep, width, flops, sweeps from runs order by width").fetchall() == [
            ("a", 16, 10**12 + 1, ["a"]),
            ("a", 32, 2 * 10**15, ["a", "b"]),
            ("b", 64, 3, ["b"]),
        ]
        assert database.sql("select count(*) from history").fetchall() == [(2,)]


def test_a_duckdb_file_that_is_none_is_refused(tmp_path):
    pytest.importorskip("duckdb", reason="duckdb is missing: ./run add duckdb")
    (tmp_path / "r.duckdb").write_text("no database " * 1000)
    with pytest.raises(ExportError, match=r"r\.duckdb"):
        written(FRAME, "duckdb", tmp_path / "r.duckdb")


def test_metadata_for_datasette_name_the_file_and_columns_that_it_has(table, tmp_path):
    out = tmp_path / "metadata.json"
    write_metadata(table.store, out)
    tables = json.loads(out.read_text())["databases"]["t"]["tables"]
    for name, said in tables.items():
        assert set(said["columns"]) <= {column["name"] for column in sa.inspect(table.engine).get_columns(name)}
    assert tables["runs"]["columns"]["loss"] == "test loss (nats)"
    assert tables["history"]["columns"]["flops"].endswith("(FLOPs)")


def test_metadata_for_datasette_need_a_file():
    with pytest.raises(ExportError, match="needs a SQLite file"):
        write_metadata("postgresql://me:secret@host/name", None)
