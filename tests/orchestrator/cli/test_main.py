"""The command as a user types it: what it prints, where, and its exit code. Runs in this process, without Ray."""

import json
import pathlib
import subprocess
import sys

import jsonschema
import numpy as np
import pandas as pd
import pytest

from orchestrator.host import speed
from orchestrator.host.speed import Speed
from orchestrator.store.table import Table
from orchestrator.sweep.planner import plan
from orchestrator.sweep.reader import load_sweep
from orchestrator.sweep.yaml_source import parse
from tests.paths import ROOT
from trainer import cost

SHIPPED = sorted((ROOT / "sweeps").glob("*.yaml"))


@pytest.fixture
def no_speed(monkeypatch):
    monkeypatch.setattr(speed, "known_speed", lambda: None)


@pytest.fixture
def stored(result_of, tmp_path):
    """Writes a table with the runs of a plan, done without training, their errors from a function of the run."""

    def write(name, planned, error):
        with Table(tmp_path / name, writable=True) as table:
            table.queue.enqueue(planned)
            claimed = table.queue.claim([run.run_id for run in planned.runs])
            table.queue.finish([result_of(run, error=error(run)) for run in planned.runs], claimed)

    return write


@pytest.fixture
def trained(isoflop, sweep):
    """A store with one sweep done: 3 widths x 2 sizes x 2 seeds."""
    file = sweep(width="[16, 32, 48]", dataset_size="[180, 360]")
    ended = isoflop("run", file, "--executor", "inline", "--device", "cpu")
    assert ended.code == 0, ended.err
    return ended


# plan


def test_a_plan_is_a_table_with_totals(isoflop, sweep, no_speed):
    ended = isoflop("plan", sweep())
    header, *cells, _, total, last, varies = ended.out.splitlines()
    assert header.split()[:4] == ["model", "dataset", "dataset_size", "lr"]
    assert [line.split()[0] for line in cells] == ["B-1/Wi-16", "B-1/Wi-32"]
    assert total.startswith("2 cells")
    assert last.startswith("small: 4 runs, ")
    assert varies == "varies: width 16, 32"
    assert ended.err == "times are unknown until `isoflop doctor` has measured this machine, once\n"
    assert ended.code == 0


def test_a_plan_for_machines_says_the_same(isoflop, sweep, monkeypatch):
    monkeypatch.setattr(speed, "known_speed", lambda: Speed("cpu", 1e-4, 1e-9, 1e-9, 1e-10, 0.1))
    said = json.loads(isoflop("plan", sweep(), "--json").out)
    assert said["total"]["runs"] == 4
    assert said["total"]["flops"] == sum(cell["flops"] * cell["runs"] for cell in said["cells"])
    assert said["total"]["seconds"] > 0


WIDE = {"width": "[16, 32, 64, 96, 128]", "epochs": "[1, 4, 16, 64]", "seeds": "3"}


def test_a_plan_says_what_it_can_show(isoflop, sweep, no_speed):
    ended = isoflop("plan", sweep(**WIDE))
    block = ended.out[ended.out.index("what this design can show") :].splitlines()
    assert all(len(line) <= 80 for line in block)
    assert "2 % noise a run" in " ".join(ended.out.split())
    design = json.loads(isoflop("plan", sweep(**WIDE), "--json").out)["design"]
    assert [law["quantity"] for law in design["laws"]] == ["params", "examples", "FLOPs"]
    assert [e["quantity"] for e in design["surface"]] == ["alpha", "beta", "params exponent"]
    assert all(0 < e["half"] < 0.2 for e in design["surface"])
    assert design["optimum"] is None
    assert json.loads(isoflop("plan", sweep(), "--json").out)["design"] is None


def test_earlier_runs_of_the_data_set_tell_the_noise_and_the_law(isoflop, sweep, no_speed, stored):
    """Errors planted with 5 % noise: the plan says so, and not where the runs are of another family."""
    file = sweep(**WIDE)
    planned = plan(load_sweep(file))
    rng = np.random.default_rng(0)

    def error(run):
        n, d = cost.params(cost.shape_of(run)).total, run.steps * run.batch_size
        return float((0.02 + 3 * n**-0.4 + 9 * d**-0.5) * np.exp(0.05 * rng.normal()))

    stored("isoflop.db", planned, error)
    design = json.loads(isoflop("plan", file, "--json").out)["design"]
    assert design["assumed"]["noise_from"] == "60 earlier runs in isoflop.db"
    assert design["assumed"]["sigma"] == pytest.approx(0.05, rel=0.2)
    assert design["assumed"]["alpha"] == pytest.approx(0.4, abs=0.2)
    assert design["assumed"]["beta"] == pytest.approx(0.5, abs=0.2)
    text = pathlib.Path(file).read_text().replace("b-mlp", "s-mlp")
    other = pathlib.Path("other.yaml")
    other.write_text(text)
    assert json.loads(isoflop("plan", other, "--json").out)["design"]["assumed"]["sigma"] == 0.02


def test_a_table_that_cannot_be_read_does_not_stop_a_plan(isoflop, sweep, no_speed):
    pathlib.Path("isoflop.db").write_text("not a table")
    ended = isoflop("plan", sweep(**WIDE))
    assert ended.code == 0
    assert "no earlier runs: " in ended.err
    assert "2 % noise a run" in " ".join(ended.out.split())


def test_a_long_plan_is_cut_and_says_so(isoflop, sweep, no_speed):
    lr = str([round(1e-3 * (1 + i / 100), 6) for i in range(70)])
    out = isoflop("plan", sweep(lr=lr, width="16")).out
    assert "(10 more cells; --json prints all)" in out
    assert "small: 140 runs" in out


# mistakes: one line each, exit code 2, nothing written


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["plan", "gone.yaml"], "gone.yaml: No such file or directory"),
        (["run", "gone.yaml"], "gone.yaml: No such file or directory"),
        (
            ["run", "s.yaml", "--executor", "slurm"],
            "--executor 'slurm' is unknown; it is one of auto, processes, ray, inline",
        ),
        (["run", "s.yaml", "--device", "tpu"], "--device 'tpu' is unknown; it is one of auto, cpu, cuda, mps"),
        (["status"], "no results table at isoflop.db; `isoflop run FILE --store isoflop.db` makes one"),
        (["fit", "--store", "s.yaml"], "s.yaml is not a results table: file is not a database"),
        (
            ["results", "--format", "xls"],
            "--format 'xls' is unknown; it is one of table, csv, json, parquet, duckdb, datasette",
        ),
        (["plan", "bad.yaml"], "bad.yaml:3: unknown key 'widht'; did you mean 'width'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(isoflop, sweep, tmp_path, arguments, complaint):
    good = (tmp_path / sweep()).read_text()
    (tmp_path / "bad.yaml").write_text(good.replace("width: ", "widht: "))
    before = sorted(tmp_path.iterdir())
    ended = isoflop(*arguments)
    assert ended.err == complaint + "\n"
    assert ended.out == ""
    assert ended.code == 2
    assert sorted(tmp_path.iterdir()) == before


def test_a_sweep_that_is_not_there_names_those_that_are(isoflop, trained):
    ended = isoflop("fit", "smal")
    assert (ended.code, ended.err) == (2, "no sweep 'smal' in isoflop.db; it holds small\n")


def test_which_of_several_sweeps_must_be_said(isoflop, trained, sweep):
    isoflop("run", sweep("other.yaml", sweep="other", width="16"), "--executor", "inline")
    ended = isoflop("fit")
    assert (ended.code, ended.err) == (2, "isoflop.db holds several sweeps; name one of small, other\n")
    assert isoflop("results", "other.yaml").code == 0
    assert isoflop("fit", "other.yaml").err.startswith("no law: error against params: no fit: 1 distinct")


# run


def test_a_run_says_what_it_did(trained):
    assert trained.err.splitlines()[0] == "small: 12 of 12 runs to do, 12 new"
    first, *lines = trained.out.splitlines()
    assert first == "small: 12 done"
    assert [line.split()[0] for line in lines if line[0] != " "] == ["cost", "best", "laws", "results", "next"]
    assert len(lines) < 20
    assert all(len(line) <= 80 for line in lines)


def test_a_second_run_trains_nothing(isoflop, trained):
    before = isoflop("results", "--format", "csv").out
    again = isoflop("run", "s.yaml", "--executor", "inline", "--json")
    assert again.err == "small: 0 of 12 runs to do\n"
    assert json.loads(again.out)["done"] == 12
    assert isoflop("results", "--format", "csv").out == before


def test_a_wider_file_trains_what_is_new(isoflop, trained, sweep):
    wider = isoflop("run", sweep(width="[16, 32, 48, 64]", dataset_size="[180, 360]"), "--executor", "inline")
    assert wider.err.splitlines()[0] == "small: 4 of 16 runs to do, 4 new"


def test_failed_runs_are_rows_exit_code_1_and_are_tried_again_when_asked(isoflop, sweep, tmp_path, monkeypatch):
    from trainer.training import loop

    file = sweep(width="16", seeds="1")

    def broken(*_, **__):
        raise RuntimeError("the disk is on fire")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(loop, "training", broken)
        ended = isoflop("run", file, "--executor", "inline")
        assert ended.code == 1
        (line,) = [line for line in ended.out.splitlines() if line.startswith("failed ")]
        assert line.startswith("failed    1 run, as B-1/Wi-16 (")
        assert line.endswith(": RuntimeError: the disk is on fire")
        assert "--retry-failed" in ended.out
        assert isoflop("run", file, "--executor", "inline").err.startswith("small: 0 of 1 run to do\n")
    again = isoflop("run", file, "--executor", "inline", "--retry-failed")
    assert (again.code, again.err) == (0, "small: 1 of 1 run to do, 1 failed before\n")


def test_a_sweep_says_its_laws_and_what_stands_against_them(isoflop, sweep, stored, monkeypatch):
    """Planted laws at 5 % noise; the same fits as those of `fit`."""
    file = sweep(**WIDE)
    rng = np.random.default_rng(0)

    def error(run):
        n, d = cost.params(cost.shape_of(run)).total, run.steps * run.batch_size
        return float((0.02 + 3 * n**-0.4 + 9 * d**-0.5) * np.exp(0.05 * rng.normal()))

    stored("isoflop.db", plan(load_sweep(file)), error)
    monkeypatch.setenv("COLUMNS", "80")
    ended = isoflop("status", file)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert len(lines) <= 20
    assert all(len(line) <= 80 for line in lines)
    said = " ".join(ended.out.split())
    for paragraph in isoflop("fit", file).out.split("\n\n"):
        assert paragraph.splitlines()[0] in said
    assert isoflop("status", "smal").err == "no sweep 'smal' in isoflop.db; it holds small\n"


def test_laws_are_fitted_at_the_end_of_a_long_session_only(isoflop, sweep, monkeypatch):
    from orchestrator.cli import main
    from orchestrator.reporting import laws

    def fitted(*_, **__):
        raise AssertionError("fitted")

    file = sweep(width="16", seeds="1")
    with monkeypatch.context() as patch:
        patch.setattr(laws, "laws", fitted)
        assert "laws      `isoflop status small` fits them" in isoflop("run", file, "--executor", "inline").out
    monkeypatch.setattr(main, "WORTH_FITTING", 0.0)
    out = isoflop("run", file, "--executor", "inline").out
    assert "laws      error against params: no fit: 1 distinct value of params" in out


# reading


def test_status_counts_states(isoflop, trained):
    (row,) = json.loads(isoflop("status", "--json").out)
    assert (row["sweep"], row["runs"], row["done"], row["failed"]) == ("small", 12, 12, 0)
    assert row["flops"] == row["planned_flops"] > 0
    header, line = isoflop("status").out.splitlines()
    assert header.split()[0] == "sweep"
    assert line.split()[:2] == ["small", "12"]


def test_results_leave_in_any_format(isoflop, trained, tmp_path):
    isoflop("results", "--format", "csv", "--out", "t.csv")
    frame = pd.read_csv(tmp_path / "t.csv")
    assert len(frame) == 12
    chosen = json.loads(isoflop("results", "--format", "json", "--where", "width = 16 and seed = 1").out)
    assert {(row["width"], row["seed"]) for row in chosen} == {(16, 1)}
    assert len(isoflop("results").out.splitlines()) == 13
    history = json.loads(isoflop("results", "--history", "--format", "json").out)
    assert {row["run_id"] for row in history} == set(frame["run_id"])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_schema_accepts_the_sweeps_that_ship(isoflop, path):
    schema = json.loads(isoflop("schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(parse(path.name, path.read_text())[0], schema)


def test_the_schema_refuses_what_the_reader_refuses(isoflop):
    schema = json.loads(isoflop("schema").out)
    for wrong in {"modle": {}}, {"model": {"depth": 0}}, {"budget": {"examples": [-1]}}, {"train": {"tta": -1}}:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"sweep": "x", "data": {"dataset": "digits"}, **wrong}, schema)


# what must stay light


HEAVY = ("matplotlib", "optuna", "pandas", "ray", "rich", "scipy", "sklearn", "sqlalchemy", "torch")


@pytest.mark.parametrize(
    ("arguments", "light"),
    [
        (["--help"], ("analysis", "numpy", "pydantic", "trainer.spec", "yaml")),
        (["run", "--help"], ("analysis", "numpy", "trainer.spec", "yaml")),
        *((["plan", str(path)], ()) for path in SHIPPED if path.stem in ("quickstart", "zipf")),
    ],
)
def test_answers_at_once(arguments, light):
    """What costs time at the start is imports: these have no business on the path of a plan, or of help."""
    source = """
import json, sys
from orchestrator.cli.main import main
try: main()
except SystemExit as end: code = end.code or 0
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""
    ended = subprocess.run(
        [sys.executable, "-c", source, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    code, modules = json.loads(ended.stderr.splitlines()[-1])
    assert code == 0, ended.stderr
    assert ended.stdout
    assert not {*modules, *(name.partition(".")[0] for name in modules)} & {*HEAVY, *light}


def test_the_package_is_a_command(sweep):
    words = [sys.executable, "-m", "orchestrator", "--help"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Usage: ")


def test_every_verb_has_help_that_fits_its_line(isoflop):
    """The list of verbs is not cut off, and each verb and option says what it does."""
    lines = isoflop("--help").out.partition("Commands:")[2].strip().splitlines()
    assert len(lines) > 15
    assert not [line for line in lines if line.endswith("...")]
    for verb in [line.split()[0] for line in lines]:
        ended = isoflop(verb, "--help")
        assert ended.code == 0
        assert "..." not in ended.out.partition("Commands:")[2]


def test_a_neighbour_of_our_name_is_refused(isoflop, tmp_path, monkeypatch):
    from importlib.machinery import ModuleSpec

    from orchestrator.cli import main as command

    foreign = ModuleSpec("trainer", None, origin=str(tmp_path / "trainer/__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: foreign)
    monkeypatch.setattr(sys, "argv", ["isoflop", "status"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2


# many budgets from one run


def test_budgets_of_one_recipe_share_their_trunk_and_are_charged_once(isoflop, tmp_path):
    (tmp_path / "ladder.yaml").write_text(
        "sweep: ladder\ndata: {dataset: digits}\nmodel: {width: [16, 32], depth: 1}\n"
        "train: {schedule: wsd, batch_size: 32}\nbudget: {epochs: [1, 2, 4]}\nseeds: 2\n"
    )
    planned = isoflop("plan", "ladder.yaml", "--json")
    total = json.loads(planned.out)["total"]["flops"]
    ended = isoflop("run", "ladder.yaml", "--executor", "inline", "--device", "cpu")
    assert ended.code == 0, ended.err
    assert "the common steps of runs of one recipe are trained once" in ended.err
    frame = pd.DataFrame(json.loads(isoflop("results", "--format", "json").out))
    assert frame["state"].eq("done").all()
    assert frame["charged_flops"].sum() == total < frame["flops"].sum()
    assert (frame["flops"] == frame["planned_flops"]).all()
    again = isoflop("run", "ladder.yaml", "--executor", "inline")
    assert again.err.splitlines()[-1] == "ladder: 0 of 12 runs to do"


# data sets


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """No data set but the embedded ones, and a registry of its own."""
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ISOFLOP_DATA", str(tmp_path / "nothing"))


def test_data_sets_are_listed_with_what_is_here(isoflop, own_data):
    cards = {card["dataset"]: card for card in json.loads(isoflop("data", "list", "--json").out)}
    assert cards["digits"]["here"]
    assert not cards["imagenet21k"]["here"]
    assert (cards["digits"]["train"], cards["digits"]["test"]) == (1437, 360)
    assert "imagenet21k" in isoflop("data", "list").out
    assert "www.cs.toronto.edu" in isoflop("data", "list", "cifar10").out
    assert isoflop("data", "list", "cifra10").err.startswith(
        "dataset: unknown data set 'cifra10'; did you mean 'cifar10'?"
    )


def test_a_data_set_of_ones_own_is_used_by_its_name(isoflop, own_data, sweep, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (60, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x_train=x[:40], y_train=np.arange(40) % 3, x_test=x[40:], y_test=np.arange(20) % 3)
    assert isoflop("data", "add", "mine", "x.npz").code == 0
    file = tmp_path / sweep(dataset_size="40")
    file.write_text(file.read_text().replace("digits", "mine"))
    assert isoflop("run", file, "--executor", "inline").code == 0
    assert "mine" in isoflop("data", "list").out
    for arguments, said in [
        (("digits", "x.npz"), "digits is made by code"),
        (("a b", "x.npz"), "must consist of letters"),
    ]:
        ended = isoflop("data", "add", *arguments)
        assert (ended.code, said in ended.err) == (2, True)
    assert (
        isoflop("data", "add", "other", "gone.npz").err == "path: not found: " + str(tmp_path / "gone.npz") + "\n"
    )


def test_what_is_not_here_is_planned_and_not_run(isoflop, own_data, sweep, tmp_path):
    file = tmp_path / sweep(dataset_size="5000")
    file.write_text(file.read_text().replace("digits", "imagenet21k"))
    ended = isoflop("plan", file)
    assert ended.code == 0
    assert "imagenet21k not found; looked in" in ended.err
    ended = isoflop("run", file, "--executor", "inline")
    assert ended.code == 2
    assert ":2: dataset: imagenet21k not found; looked in" in ended.err
    assert not (tmp_path / "isoflop.db").exists()


@pytest.mark.parametrize(("file", "sweep"), [("mine.yaml", "mine"), ("My Sweep_2.yml", "my-sweep-2")])
def test_a_new_sweep_file_can_be_planned_as_it_is(isoflop, no_speed, file, sweep):
    assert isoflop("new", file).code == 0
    ended = isoflop("plan", file, "--json")
    assert ended.code == 0, ended.err
    assert (json.loads(ended.out)["sweep"], json.loads(ended.out)["total"]["runs"]) == (sweep, 54)


def test_a_new_sweep_file_replaces_none(isoflop, tmp_path):
    (tmp_path / "mine.yaml").write_text("sweep: mine\n")
    ended = isoflop("new", "mine.yaml")
    assert (ended.code, ended.err) == (2, "mine.yaml exists already; choose another name\n")
    assert (tmp_path / "mine.yaml").read_text() == "sweep: mine\n"
    assert isoflop("new", "mine.txt").code == isoflop("new", "nowhere/mine.yaml").code == 2


def test_a_file_of_wandb_is_translated_once(isoflop, tmp_path):
    theirs, ours = tmp_path / "wandb.yaml", tmp_path / "mine.yaml"
    theirs.write_text("method: grid\nprogram: a.py\nparameters: {lr: {values: [0.1, 0.2]}, bs: {value: 16}}\n")
    ended = isoflop("translate", theirs, "-o", ours)
    assert ended.code == 0
    assert ended.err.splitlines()[0] == "not translated: program: a.py"
    assert isoflop("plan", ours).code == 0
    again = isoflop("translate", theirs, "-o", ours)
    assert (again.code, again.err) == (2, f"{ours} exists already; choose another name\n")


def test_more_cells_than_usual_are_planned_where_they_are_allowed(isoflop, sweep):
    axes = {"width": "{from: 1, to: 20, step: 1}", "lr": "{from: 1, to: 1100, step: 1}", "seeds": 1}
    refused = isoflop("plan", file := sweep(**axes))
    assert refused.code == 2
    assert refused.err.endswith("at most 20,000 cells and 100,000 runs are planned without --cells 22000\n")
    assert isoflop("plan", file, "--cells", "10").err.endswith("planned without --cells 22000\n")
