"""The public names of `orchestrator`, used as in a script or a notebook. Trains in this process, without Ray."""

import code
import inspect
import threading

import pytest

import orchestrator
from orchestrator.settings import Options
from orchestrator.store.table import Table

HERE: Options = {"executor": "inline", "device": "cpu"}
NUMBERS = ["error", "loss", "train_loss", "steps", "flops", "state"]


def rows(store):
    return orchestrator.results(store).sort_values("run_id").set_index("run_id")[NUMBERS]


@pytest.fixture
def file(tmp_path, sweep, monkeypatch):
    """A small sweep file, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return sweep()


# the names


def test_public_names_are_sorted_and_each_has_a_docstring():
    assert orchestrator.__all__ == sorted(orchestrator.__all__)
    assert dir(orchestrator) == orchestrator.__all__
    for name in orchestrator.__all__:
        entry = getattr(orchestrator, name)
        assert inspect.getdoc(entry), name
        assert inspect.getdoc(entry) != inspect.getdoc(Exception), name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        orchestrator.rum  # noqa: B018 - that it raises is the point


def test_every_error_of_the_users_has_one_base():
    for error in ("OptionError", "SweepError", "TableBusyError", "TableError"):
        assert issubclass(getattr(orchestrator, error), orchestrator.UserError)


# run


def planned_of(file):
    return orchestrator.plan(orchestrator.load_sweep(file))


@pytest.mark.parametrize("form", [str, orchestrator.load_sweep, planned_of])
def test_a_file_a_sweep_and_a_plan_run_alike(file, form):
    done = orchestrator.run(form(file), "a.db", **HERE)
    assert (done.sweep, done.runs, done.done, done.ended) == ("small", 4, 4, 4)
    assert done.best_error == orchestrator.results("a.db")["error"].min()


def test_a_second_call_trains_nothing_and_a_second_table_gets_the_same_numbers(file):
    orchestrator.run(file, "a.db", **HERE)
    before = rows("a.db")
    assert orchestrator.run(file, "a.db", **HERE).done == 4
    orchestrator.run(file, "b.db", **HERE)
    assert rows("a.db").equals(before)
    assert rows("b.db").equals(before)


def test_nothing_is_printed_where_nobody_looks(file, capfd):
    orchestrator.run(file, **HERE)
    assert capfd.readouterr() == ("", "")


def test_progress_comes_as_values_that_stay_as_they_were(file):
    seen: list[orchestrator.Progress] = []
    orchestrator.run(file, on_progress=seen.append, **HERE)
    messages = list(dict.fromkeys(progress.message for progress in seen))
    assert messages[0] == "small: 4 of 4 runs to do, 4 new"
    spent = [progress.spent for progress in seen if progress.runs]
    assert spent == sorted(spent)
    assert spent[0] == 0 < spent[-1] == seen[-1].flops


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"executor": "slurm"}, "executor 'slurm' is unknown; it is one of auto, processes, ray, inline"),
        ({"device": "tpu"}, "device 'tpu' is unknown; it is one of auto, cpu, cuda, mps"),
        (
            {**HERE, "address": "auto"},
            "address needs the executor ray; inline trains on this machine",
        ),
    ],
)
def test_a_wrong_option_is_an_error_before_there_is_a_table(file, tmp_path, options, complaint):
    for verb in (lambda: orchestrator.run(file, **options), lambda: orchestrator.work(**options)):
        with pytest.raises(orchestrator.OptionError) as caught:
            verb()
        assert str(caught.value) == complaint
    assert not (tmp_path / "isoflop.db").exists()


def test_an_unknown_option_is_a_type_error(file):
    with pytest.raises(TypeError, match="exectuor"):
        orchestrator.run(file, exectuor="inline")  # type: ignore[call-arg]


def test_a_sweep_with_a_search_is_for_search_and_one_without_is_not(file, sweep):
    half = "180, validation: 0.2"
    searched = sweep("s.yaml", lr="{search: {values: [1e-3, 3e-3]}}", width="16", seeds="1", dataset_size=half)
    with pytest.raises(orchestrator.UserError, match=r"s\.yaml declares a search"):
        orchestrator.run(searched, **HERE)
    with pytest.raises(orchestrator.UserError, match="declares no search"):
        orchestrator.search(sweep("plain.yaml"), **HERE)
    result = orchestrator.search(searched, **HERE)
    assert result.progress.done == 2
    assert [one.trials for one in result.best] == [2]
    assert result._repr_html_().startswith("<table>")


# interrupts


class Stop:
    """Interrupts from within, as Ctrl-C does, as soon as a run is done."""

    def __call__(self, progress):
        if progress.done:
            raise KeyboardInterrupt


def test_an_interrupted_call_loses_nothing_and_the_next_one_resumes(file):
    with pytest.raises(KeyboardInterrupt):
        orchestrator.run(file, "cut.db", on_progress=Stop(), **HERE)
    halted = orchestrator.progress("cut.db")
    assert halted.done
    assert halted.ended < halted.runs
    assert halted.running == 0
    orchestrator.run(file, "cut.db", **HERE)
    orchestrator.run(file, "whole.db", **HERE)
    assert rows("cut.db").equals(rows("whole.db"))


def test_a_thread_runs_and_is_interrupted_like_the_main_one(file):
    caught = []

    def call():
        try:
            orchestrator.run(file, "t.db", on_progress=Stop(), **HERE)
        except KeyboardInterrupt as error:
            caught.append(error)
        orchestrator.run(file, "t.db", **HERE)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert len(caught) == 1
    assert orchestrator.progress("t.db").done == 4


# the queue


def test_work_trains_what_is_queued_of_the_sweeps_that_are_named(file, sweep):
    with Table("isoflop.db", writable=True) as table:
        for name in (file, sweep("other.yaml", sweep="other", width="16")):
            table.queue.enqueue(planned_of(name))
    with pytest.raises(orchestrator.TableError, match=r"no sweep 'othr' in isoflop\.db; it holds small, other"):
        orchestrator.work(sweeps=["othr"], **HERE)
    assert orchestrator.work(sweeps=["other"], **HERE).done == 2
    assert [row["done"] for row in orchestrator.status()] == [2, 2]  # of small: the runs that it shares
    assert orchestrator.work(**HERE).sweep == "small, other"
    assert orchestrator.progress().ended == 6


def test_follow_returns_when_nothing_is_left_or_nobody_trains(file):
    with Table("isoflop.db", writable=True) as table:
        table.queue.enqueue(planned_of(file))
    seen: list[orchestrator.Progress] = []
    assert orchestrator.follow("small", on_progress=seen.append).ended == 0  # nobody trains
    orchestrator.run(file, **HERE)
    assert orchestrator.follow("small", on_progress=seen.append).ended == 4
    assert [progress.ended for progress in seen] == [0, 4]
    with pytest.raises(orchestrator.TableError, match="no sweep 'smal'"):
        orchestrator.follow("smal")


# notebooks


def test_a_plan_and_a_progress_show_themselves_in_a_notebook(file):
    page = planned_of(file)._repr_html_()
    assert page.startswith("<b>small</b><table>")
    assert page.count("<tr>") == 1 + 2 + 1  # head, cells, total
    assert "B-1/Wi-16" in page
    orchestrator.run(file, **HERE)
    assert "4/4 runs" in orchestrator.progress()._repr_html_()


def test_a_cell_that_was_interrupted_is_run_again(file):
    """As a kernel executes cells: one namespace, an exception ends a cell and not the session."""
    ended = []

    class Kernel(code.InteractiveInterpreter):
        def showtraceback(self):
            ended.append("interrupted")

    def stop(progress):
        if progress.done and not ended:
            raise KeyboardInterrupt

    kernel = Kernel({"stop": stop, "file": file})
    cell = "progress = orchestrator.run(file, executor='inline', device='cpu', on_progress=stop)"
    for source in ("import orchestrator", cell, cell, "frame = orchestrator.results()"):
        kernel.runcode(compile(source, "<cell>", "exec"))
    assert ended == ["interrupted"]
    assert kernel.locals["progress"].done == 4
    assert len(kernel.locals["frame"]) == 4


# the queue, and answers


def test_the_queue_is_changed_as_by_the_command(file):
    assert orchestrator.add(file, "q.db") == "small: 4 runs, 4 new"
    ids = list(orchestrator.results("q.db")["run_id"])
    assert orchestrator.cancel(ids[:1], "q.db") == "1 of 1 run now cancelled"
    assert orchestrator.retry(ids[0], "q.db") == "1 of 1 run now queued"
    assert orchestrator.prioritise(file, "q.db", priority=3) == "priority 3 for 4 runs"
    assert orchestrator.pause(store="q.db") == "paused: small"
    assert orchestrator.resume("small", "q.db") == "resumed: small"
    assert orchestrator.work("q.db", **HERE).done == 4
    with pytest.raises(orchestrator.TableError, match="no sweep 'large'"):
        orchestrator.pause("large", "q.db")


def test_findings_show_themselves_and_take_any_table(file, tmp_path):
    sizes = [10**k for k in range(3, 9)]
    (tmp_path / "lab.csv").write_text("N;loss\n" + "".join(f"{n};{0.1 + 4 * n**-0.3:.5f}\n" for n in sizes))
    laws = orchestrator.findings("lab.csv", resamples=100).answer
    assert laws.laws[0].fit.exponent == pytest.approx(0.3, abs=0.01)
    assert "loss = 0.1" in laws._repr_html_()
    orchestrator.run(file, "a.db", **HERE)
    few = orchestrator.findings(store="a.db", resamples=100)
    assert set(few.frame["sweep"]) == {"small"}
    with pytest.raises(orchestrator.UserError, match="no sweep 'large'"):
        orchestrator.findings("large", "a.db")
    with pytest.raises(orchestrator.UserError, match="--where"):
        orchestrator.findings("lab.csv", where="loss > 99")


def test_the_page_of_a_table_is_written(tmp_path, monkeypatch):
    pytest.importorskip("plotly")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab.csv").write_text(
        "N,loss\n" + "".join(f"{10**k},{4 * 10 ** (-0.3 * k):.5f}\n" for k in range(3, 9))
    )
    assert (
        orchestrator.report("lab.csv", out="pages/lab.html", resamples=100)
        .read_text()
        .startswith("<!doctype html>")
    )
