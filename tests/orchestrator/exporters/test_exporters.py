"""Exports to the real tools: complete, repeatable, also while a sweep trains, and harmless when they fail."""

import pytest

from orchestrator.exporters.export import TableExport, export, exporting
from orchestrator.exporters.exporter import EXPORTERS, Exporter, ExporterError, exporter_of
from orchestrator.store.table import Table
from tests.orchestrator.exporters.readers import READERS, reader_of
from tests.polling import until


class Noted(Exporter):
    """Keeps what it is told."""

    calls: list = []  # noqa: RUF012 - of the one exporter of a test

    def __init__(self, where):
        type(self).calls = self.calls = [("made", where)]

    def begin(self, run):
        self.calls.append(("begin", run.run_id))

    def record(self, run_id, records):
        self.calls += [("record", run_id, record.step) for record in records]

    def end(self, run_id, state, results):
        self.calls.append(("end", run_id, state))

    def close(self):
        self.calls.append(("close",))


class Broken(Noted):
    """Fails at the first record."""

    def record(self, run_id, records):
        raise OSError("the moon is full\nand more")


NOTED, BROKEN = f"{__name__}:Noted", f"{__name__}:Broken"


def of(run_id):
    return [call[0] if len(call) < 3 else (call[0], call[2]) for call in Noted.calls if run_id in call]


@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize("target", READERS)
def test_the_tool_reads_every_run_and_reads_it_once_after_a_second_export(trained, target, tmp_path, monkeypatch):
    read = reader_of(target)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    table, made = trained
    history = table.frame("history")
    for _ in range(2):
        assert export(table.store, target) == len(made.runs)
    runs, states = read(tmp_path, made.runs), table.states("small")
    for run in made.runs:
        points = history[history["run_id"] == run.run_id]
        assert runs[run.run_id].errors == list(zip(points["step"], points["error"].round(6), strict=True))
        assert float(runs[run.run_id].settings["width"]) == run.width
        assert runs[run.run_id].settings["model"].strip('"') == f"B-1/Wi-{run.width}"
        assert runs[run.run_id].state in ("", states[run.run_id])


def test_what_is_new_is_exported_once(table, planned, result_of):
    made = planned(width="16")
    table.queue.enqueue(made)
    first, second = made.runs
    live = TableExport(table, Noted(""))
    live.update()
    assert Noted.calls == [("made", "")]
    tokens = table.queue.claim([first.run_id])
    result = result_of(first)
    table.queue.record(result.history[:1], tokens)
    live.update()
    live.update()
    early, late = (record.step for record in result.history)
    assert of(first.run_id) == ["begin", ("record", early)]
    table.queue.finish([result], tokens)
    table.queue.claim([second.run_id])
    live.update()
    live.update()
    live.finish()
    assert of(first.run_id) == ["begin", ("record", early), ("record", late), ("end", "done")]
    assert of(second.run_id) == ["begin", ("end", "running")]
    assert Noted.calls[-1] == ("close",)


def test_a_run_that_is_queued_again_goes_on_where_it_was(table, planned, result_of):
    made = planned(width="16", seeds="1")
    table.queue.enqueue(made)
    (run,) = made.runs
    live, result = TableExport(table, Noted("")), result_of(run)
    tokens = table.queue.claim([run.run_id])
    table.queue.record(result.history[:1], tokens)
    live.update()
    table.queue.release(tokens, "lost", "its worker died")
    live.update()
    table.queue.finish([result], table.queue.claim([run.run_id]))
    live.update()
    assert of(run.run_id) == ["begin", *(("record", record.step) for record in result.history), ("end", "done")]


def test_a_live_export_leaves_out_what_had_ended_before(trained, planned, result_of):
    table, before = trained
    more = planned(sweep="more", width="8", seeds="1")
    said = []
    with exporting([NOTED], table.store, None, said.append):
        table.queue.enqueue(more)
        table.queue.finish([result_of(more.runs[0])], table.queue.claim([more.runs[0].run_id]))
    assert said == []
    assert of(more.runs[0].run_id)[-1] == ("end", "done")
    assert not any(of(run.run_id) for run in before.runs)


def test_a_live_export_waits_for_the_table(tmp_path, planned, result_of):
    made, store = planned(width="8", seeds="1"), str(tmp_path / "later.db")
    with exporting([NOTED], store, ["small"], pytest.fail), Table(store, writable=True) as table:
        table.queue.enqueue(made)
        table.queue.finish([result_of(made.runs[0])], table.queue.claim([made.runs[0].run_id]))
        until(lambda: ("close",) in Noted.calls or of(made.runs[0].run_id), seconds=20)
    assert of(made.runs[0].run_id)[-1] == ("end", "done")


def test_a_failing_exporter_is_one_line_and_the_sweep_goes_on(begin, table):
    scheduler, _, made = begin()
    said = []
    with exporting([BROKEN, NOTED], table.store, [made.sweep], said.append):
        end = scheduler.drain()
    assert end.done == len(made.runs)
    (line,) = said
    assert line.startswith(f"the export to {BROKEN} has ended: OSError: the moon is full; the sweep goes on")
    assert f"isoflop export small --store {table.store} --to {BROKEN}" in line


@pytest.mark.parametrize(
    ("target", "kind", "where"),
    [
        ("tensorboard", "TensorBoard", ""),
        ("tensorboard:/a/b:c", "TensorBoard", "/a/b:c"),
        (NOTED, "Noted", ""),
        (f"{NOTED}:sqlite:///x.db", "Noted", "sqlite:///x.db"),
    ],
)
def test_a_target_is_a_name_and_where(target, kind, where):
    exporter, found = exporter_of(target)
    assert (exporter.__name__, found) == (kind, where)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("tensorbord:x", "did you mean 'tensorboard'"),
        (f"{__name__}:of", "must be a subclass"),
        ("nowhere:Thing", "cannot import nowhere:Thing"),
    ],
)
def test_a_wrong_target_is_refused_before_anything_trains(target, words, isoflop, sweep):
    with pytest.raises(ExporterError, match=words):
        exporter_of(target)
    ended = isoflop("run", sweep(), "--log", target)
    assert ended.code == 2
    assert words in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("name", [name for name in EXPORTERS.names() if ":" not in name])
def test_a_missing_package_is_named_with_the_command_that_installs_it(name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(ExporterError, match=rf"{name} needs \w+, which is missing; run: ./run add {name}$"):
        exporter_of(name)


def test_the_command_exports_what_a_condition_selects(trained, isoflop, tmp_path):
    table, made = trained
    ended = isoflop("export", "small", "--store", table.store, "--to", NOTED, "--where", "width = 16")
    assert (ended.code, ended.err) == (0, f"2 runs written to {NOTED}\n")
    assert {run.run_id for run in made.runs if of(run.run_id)} == {
        run.run_id for run in made.runs if run.width == 16
    }
