"""The verbs that read a table: what they print, what they write, and their exit codes. Nothing is trained."""

import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from analysis.figures import registry
from analysis.figures.registry import FIGURES, Figure, FigureError
from orchestrator import load_sweep, plan, read_sweep
from orchestrator.cli import main as cli
from orchestrator.reporting.figures import Findings, figure
from orchestrator.reporting.model_grid import model_grid
from orchestrator.store.table import Table
from tests.paths import ROOT
from trainer import cost
from trainer.spec import model_name

GRID = """\
# what is asked
sweep: grid
data: {dataset: digits}
model: {depth: 1, width: [4, 8, 16, 32, 64, 128]}
train: {batch_size: 32, lr: [1e-3, 3e-3, 1e-2]}
budget: {flops: [1e9, 3e9, 1e10, 3e10]}
seeds: 2
"""
QUICK = ("--resamples", "100")
UNKNOWN = "unknown figure 'error-vs-flop'; did you mean 'error-vs-flops'?"


def planted(run, rng):
    """error = (40 N^-0.5 + 40 D^-0.5) (1 + log(lr / 3e-3)^2 / 10), scaled to lie in (0, 1), with 1 % noise."""
    n, d = cost.params(cost.shape_of(run)).total, run.steps * run.batch_size
    bowl = 1 + 0.1 * math.log(run.lr / 3e-3) ** 2
    return 0.3 * (40 * n**-0.5 + 40 * d**-0.5) * bowl * math.exp(0.01 * rng.normal())


def fill(path, made, end):
    """A store with a plan whose runs ended as `end(run)` says."""
    with Table(path, writable=True) as table:
        table.queue.enqueue(made)
        tokens = table.queue.claim([run.run_id for run in made.runs])
        table.queue.finish([end(run) for run in made.runs], tokens)


@pytest.fixture(scope="module")
def stored(tmp_path_factory, result_of):
    """A store with the planted sweep, done."""
    path = tmp_path_factory.mktemp("stored") / "grid.db"
    rng = np.random.default_rng(0)
    fill(path, plan(read_sweep(GRID)), lambda run: result_of(run, error=planted(run, rng)))
    return path


@pytest.fixture(scope="module")
def findings(stored):
    with Table(stored) as table:
        return Findings(table.frame("runs"), table.frame("history"), resamples=100, judged=50)


@pytest.fixture
def isoflop(monkeypatch, capsys, tmp_path, stored):
    """Types a command about that store: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISOFLOP_STORE", str(stored))

    def typed(*arguments):
        monkeypatch.setattr(sys, "argv", ["isoflop", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return typed


# fit


def test_fits_are_printed_or_refused_by_axis(isoflop):
    code, said, _ = isoflop("fit", *QUICK)
    assert code == 0
    for axis in ("params", "examples", "flops"):
        assert (
            f"error against {axis}: exponent not identified" in said
            or f"error against {axis}: no fit" in said
            or f"{axis}^-" in said
        )
    as_json = json.loads(isoflop("fit", "--json", *QUICK)[1])
    assert [law["x"] for law in as_json["laws"]] == ["params", "examples", "flops"]
    assert as_json["calibration"] is None


def test_the_other_approaches_are_asked_for_by_number(isoflop):
    code, said, _ = isoflop("fit", "--approach", "2", "--json", *QUICK)
    assert code == 0
    assert json.loads(said)["n_exponent"]["value"] > 0
    surface = json.loads(isoflop("fit", "--surface", "--json", *QUICK)[1])
    assert set(surface["estimates"]) >= {"alpha", "beta", "floor"}
    assert surface == json.loads(isoflop("fit", "--approach", "3", "--json", *QUICK)[1])


def test_another_law_is_fitted_by_name_or_address(isoflop, tmp_path):
    (tmp_path / "straight.py").write_text(
        "from analysis.laws.power import Power\n\n\nclass Straight(Power):\n    pass\n"
    )
    mine, power = (isoflop("fit", "--law", name, "--json", *QUICK)[1] for name in ("straight:Straight", "power"))
    fits = [law["fit"] for law in json.loads(power)["laws"]]
    assert {fit["law"] for fit in fits if fit} == {"power"}
    assert mine.replace("straight:Straight", "power") == power
    kaplan = json.loads(isoflop("fit", "--surface", "--law", "kaplan", "--json", *QUICK)[1])
    assert kaplan["law"] == "kaplan"
    assert "Nc" in kaplan["estimates"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--law", "powr"), "unknown law 'powr'; did you mean 'power'?"),
        (("--law", "no_such_file:Law"), "No module named 'no_such_file'"),
        (("--law", "json:dumps"), "expected a subclass of analysis.Law"),
        (("--law", "kaplan"), "has the inputs N, D; fit it with --approach 3"),
        (("--law", "power", "--surface"), "has the inputs x; fit it with --approach 1"),
        (("--law", "power", "--shift"), "cannot be combined"),
        (("--law", "power", "--approach", "2"), "cannot be combined"),
    ],
)
def test_a_law_that_cannot_be_fitted_is_refused_before_any_fit(isoflop, options, message):
    code, said, told = isoflop("fit", *options, *QUICK)
    assert (code, said) == (2, "")
    assert message in told


def test_what_is_known_of_a_law_is_given_by_name(isoflop):
    fixed = json.loads(isoflop("fit", "--fix", "floor=0", "--json", *QUICK)[1])
    assert {law["fit"]["floor"] for law in fixed["laws"] if law["fit"]} == {0.0}
    surface = ("fit", "--surface", "--json", *QUICK)
    tied = json.loads(isoflop(*surface, "--tie", "alpha=beta", "--bounds", "floor=:0.01")[1])["estimates"]
    assert tied["alpha"] == tied["beta"]
    assert tied["floor"] <= 0.01
    bound = json.loads(isoflop(*surface, "--bounds", "alpha=0.2:0.3", "--fix", "beta=0.5")[1])
    assert bound["intervals"]["beta"] == [0.5, 0.5]
    assert 0.2 <= bound["intervals"]["alpha"][0] <= bound["intervals"]["alpha"][1] <= 0.3


def test_laws_of_either_sign_are_fitted_by_name(isoflop):
    grown = json.loads(isoflop("fit", "--law", "growth", "--json", *QUICK)[1])
    assert all(law["fit"]["exponent"] < 0 for law in grown["laws"] if law["fit"])
    product = json.loads(isoflop("fit", "--surface", "--law", "product", "--json", *QUICK)[1])
    assert set(product["estimates"]) == {"a", "b", "coefficient"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fix", "floor"), "--fix 'floor' has no name and value; expected such as floor=1.6"),
        (("--fix", "floor=low"), "--fix 'floor=low' has no number 'low'; expected such as floor=1.6"),
        (("--fix", "floor=nan"), "--fix 'floor=nan' has no number 'nan'; expected such as floor=1.6"),
        (("--fix", "flor=1"), "--fix flor=1: the law has no parameter 'flor'; did you mean 'floor'?"),
        (("--fix", "floor=-1"), "--fix floor=-1: 'floor' cannot be -1; expected"),
        (("--tie", "floor=floor"), "--tie floor=floor names one parameter; expected such as alpha=beta"),
        (
            ("--tie", "exponent=coefficient"),
            "--tie exponent=coefficient: 'exponent' and 'coefficient' are not of one",
        ),
        (("--bounds", "exponent=20:30"), "--bounds exponent=20:30: 'exponent' cannot be 20; expected"),
        (
            ("--tie", "alpha=beta", "--fix", "alpha=0.3", "--fix", "beta=0.2", "--surface"),
            "--fix alpha=0.3, --fix beta",
        ),
        (("--fix", "floor=1", "--bounds", "floor=0:2"), "floor is in --fix and in --bounds; give one of them"),
        (("--tie", "alpha"), "--tie 'alpha' has no name and value; expected such as alpha=beta"),
        (("--bounds", "alpha=0.2"), "--bounds 'alpha=0.2' has no range; expected such as alpha=0.2:0.6"),
        (
            ("--bounds", "alpha=0.6:0.2", "--surface"),
            "--bounds 'alpha=0.6:0.2' does not rise from 0.6 to 0.2; expected",
        ),
        (("--fix", "floor=1", "--fix", "floor=2"), "--fix floor is given 2 times; give it once"),
        (("--bounds", "floor=1:2", "--bounds", "floor=2:"), "--bounds floor is given 2 times; give it once"),
        (("--fix", "floor=1", "--approach", "2"), "cannot be combined with --approach 2"),
    ],
)
def test_a_constraint_that_cannot_be_read_is_one_line_and_exit_code_2(isoflop, options, message):
    code, said, told = isoflop("fit", *options, *QUICK)
    assert (code, said, len(told.splitlines())) == (2, "", 1)
    assert message in told
    assert told.count(message) == 1
    assert not set("{}()") & set(told)


def test_fits_leave_as_tables(isoflop):
    assert isoflop("fit", "--table", "markdown", *QUICK)[1].startswith(
        "| fit | quantity | estimate | points | note |"
    )
    assert isoflop("fit", "--approach", "2", "--table", "latex", *QUICK)[1].startswith(r"\begin{tabular}{")
    code, said, complaint = isoflop("fit", "--table", "word")
    assert (code, said, complaint) == (2, "", "--table 'word' is unknown; it is markdown or latex\n")


# plot


def test_every_figure_that_the_table_carries_is_drawn(isoflop, tmp_path):
    code, said, _ = isoflop("plot", "--format", "svg", *QUICK)
    drawn = [tmp_path / line for line in said.splitlines()]
    assert code == 0
    assert {path.stem for path in drawn} == {
        f"grid-{name}" for name in set(registry.names()) - {"families", "batch-size"}
    }
    assert all(path.read_bytes().startswith(b"<?xml") for path in drawn)


def test_one_figure_in_several_formats(isoflop, tmp_path):
    code, said, _ = isoflop("plot", "--figure", "runs", "--format", "svg,pdf,png", "--out", "f", *QUICK)
    starts = {path.name: path.read_bytes()[:4] for path in (tmp_path / "f").iterdir()}
    assert starts == {"grid-runs.svg": b"<?xm", "grid-runs.pdf": b"%PDF", "grid-runs.png": b"\x89PNG"}
    assert (code, len(said.splitlines())) == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["--figure", "error-vs-flop"],
            f"--figure: {UNKNOWN} valid: {', '.join(FIGURES.names())}, or module:name\n",
        ),
        (["--format", "gif"], "--format 'gif' is unknown; it is one of png, svg, pdf\n"),
        (["--figure", "families"], "no figure families: 1 families (b-mlp); the figure is of 2\n"),
    ],
)
def test_a_figure_that_cannot_be_had_is_one_line_and_exit_code_2(isoflop, tmp_path, arguments, complaint):
    assert isoflop("plot", *arguments) == (2, "", complaint)
    assert not list(tmp_path.iterdir())


PLUGIN = """\
from analysis.figures import chart
from analysis.figures.registry import Figure


def describe(findings):
    done = findings.done
    return chart.Chart(**chart.axes("width", "error"), points=chart.points(done["width"], done["error"]))


by_width = Figure("Error against width", describe)
no_chart = Figure("Runs", lambda findings: findings.done)
no_heading = describe
"""


FEW = GRID.replace("[4, 8, 16, 32, 64, 128]", "[4, 8]").replace("[1e9, 3e9, 1e10, 3e10]", "1e9")
"""Runs that no law is fitted to."""


@pytest.fixture
def command(result_of, tmp_path):
    """Runs the command in a process of its own, beside a module `planted_figures`: exit code, stdout, stderr."""
    (tmp_path / "planted_figures.py").write_text(PLUGIN)
    stored, rng = tmp_path / "few.db", np.random.default_rng(0)
    fill(stored, plan(read_sweep(FEW)), lambda run: result_of(run, error=planted(run, rng)))

    def run(*arguments):
        code = "from orchestrator.cli.main import main; main()"
        environment = os.environ | {"ISOFLOP_STORE": str(stored), "PYTHONPATH": str(ROOT)}
        argv = [sys.executable, "-c", code, *arguments]
        ended = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout, ended.stderr

    return run


def test_a_figure_of_another_package_is_drawn_by_its_address(command, tmp_path):
    code, out, _ = command("plot", "--figure", "planted_figures:by_width", "--format", "png", *QUICK)
    assert (code, out) == (0, "figures/grid-by_width.png\n")
    assert (tmp_path / out.strip()).read_bytes().startswith(b"\x89PNG")


def test_a_figure_of_an_installed_package_is_on_the_page(command, tmp_path):
    folder = tmp_path / "planted_figures-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: planted_figures\nVersion: 1\n")
    points = "by-width = planted_figures:by_width\ngone = no_such_module:figure\n"
    (folder / "entry_points.txt").write_text(f"[isoflop.figures]\n{points}")
    assert command("report", *QUICK)[0] == 0
    assert "<h3>Error against width</h3>" in (tmp_path / "report.html").read_text()
    code, _, complaint = command("plot", "--figure", "gone")
    assert code == 2
    assert "figure 'gone': cannot import no_such_module:figure (ModuleNotFoundError" in complaint


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (
            "no_heading",
            "figure 'planted_figures:no_heading' lacks heading and describe; expected analysis.",
        ),
        ("no_chart", "figure 'planted_figures:no_chart': describe() returned DataFrame; expected analysis.Chart"),
        ("absent", "figure 'planted_figures:absent': cannot import planted_figures:absent (AttributeError"),
    ],
)
def test_a_figure_that_lacks_a_part_is_one_line_and_exit_code_2(command, name, complaint):
    code, out, error = command("plot", "--figure", f"planted_figures:{name}", *QUICK)
    assert (code, out, len(error.splitlines())) == (2, "", 1)
    assert complaint in error


def test_a_figure_that_lacks_a_part_cannot_be_registered():
    with pytest.raises(TypeError, match="figure 'mine' lacks describe"):
        FIGURES.add("mine", Figure("Mine", None))  # type: ignore[arg-type] # what the test is about
    assert "mine" not in registry.names()


@pytest.fixture
def two(tmp_path, result_of):
    """What is found of two families, one of which has half the errors, at two batch sizes."""
    text = GRID.replace("depth: 1,", "family: [b-mlp, s-mlp], depth: 2,").replace("[1e-3, 3e-3, 1e-2]", "3e-3")
    text = text.replace("batch_size: 32", "batch_size: [32, 64]").replace("3e10]", "3e10, 1e11]")
    made, rng = plan(read_sweep(text)), np.random.default_rng(0)
    better = {"b-mlp": 0.5, "s-mlp": 1.0}
    fill(tmp_path / "two.db", made, lambda run: result_of(run, error=better[run.family] * planted(run, rng)))
    with Table(tmp_path / "two.db") as table:
        return Findings(table.frame("runs"), resamples=100, judged=50)


def test_families_and_batch_sizes_are_drawn_where_they_vary(two):
    families = figure("families", two)
    assert families.shades == {1.0: "B-MLP", 2.0: "S-MLP"}
    assert any("needs" in line for line in families.annotation)
    batches = figure("batch-size", two)
    assert set(batches.points["x"]) == {32, 64}


@pytest.mark.slow  # the figure above says the same
def test_the_page_says_which_family_needs_more(two):
    from orchestrator.reporting.page import page_of

    said = [answer.sentence for answer in page_of("two", "", "", "two.db", two).answers]
    assert any(line.startswith("b-mlp needs ") for line in said)


def test_long_histories_are_thinned_to_what_a_figure_draws(stored, monkeypatch):
    from orchestrator import answers

    def history():
        found = answers.Asked(str(stored), None).findings(100, history=True).history
        assert found is not None
        return found

    whole = history()
    monkeypatch.setattr(answers, "MOST_RECORDS", len(whole) // 2)
    thin = history()
    assert len(thin) == len(whole) // 2
    assert set(thin["run_id"]) == set(whole["run_id"])
    ends = whole.groupby("run_id")["flops"].max()
    assert thin.groupby("run_id")["flops"].max().equals(ends)  # a run's last record is its result


def test_a_table_without_a_finished_run_has_no_figures(findings):
    waiting = Findings(findings.frame.assign(state="queued"), resamples=100)
    for name in registry.names():
        with pytest.raises(FigureError, match="no run is done yet"):
            figure(name, waiting)


# report


def test_the_page_holds_the_sweep_file_the_answers_and_no_password(isoflop, tmp_path):
    code, said, _ = isoflop("report", "--out", "deep/page.html", *QUICK)
    page = (tmp_path / "deep" / "page.html").read_text()
    assert (code, said) == (0, "deep/page.html\n")
    text = re.sub(r"<script.*?</script>|<style.*?</style>", "", page, flags=re.DOTALL)
    assert "# what is asked" in text
    assert "144 runs, 144 done" in text
    assert "isoflop report --out deep/page.html --resamples 100" in text
    assert "FLOPs are best spent on" in text
    assert "these runs do not support a floor of error" in text
    assert "the best learning rate lies inside its grid for" in text
    assert "The same exponents by every approach" in text
    for name in ("isoflop", "error-vs-flops", "learning-rate"):
        assert FIGURES.get(name).heading in text


def test_a_report_without_plotly_says_what_to_install(isoflop, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    code, out, error = isoflop("report", *QUICK)
    assert (code, out, error) == (2, "", "a report needs plotly, which is not installed; run: ./run add report\n")
    assert not list(tmp_path.iterdir())


def test_the_password_of_a_database_stays_out_of_the_page(findings, monkeypatch):
    from orchestrator.reporting.page import page_of

    address = "postgresql://me:secret@host/db"
    monkeypatch.setattr(sys, "argv", ["isoflop", "report", "--store", address])
    waiting = Findings(findings.frame.assign(state="queued"), resamples=100)
    page = page_of("grid", "", "today", address, waiting)
    assert "secret" not in str(page.provenance)
    assert page.provenance["table"] == "postgresql://me:***@host/db"


# verdict


def test_a_verdict_is_three_claims(isoflop):
    code, said, _ = isoflop("verdict", *QUICK)
    assert code == 0
    claims = re.findall(r"^this table (supports|does not support) an? (\w+)", said, flags=re.MULTILINE)
    assert [what for _, what in claims] == ["exponent", "extrapolation", "floor"]
    assert (claims[0][0], claims[2][0]) == ("supports", "does not support")


# allocate


def test_a_budget_is_allocated_to_models_that_can_be_built(isoflop):
    code, said, _ = isoflop("allocate", "--budget", "1e10", "--json", *QUICK)
    assert code == 0
    found = json.loads(said)
    low, high = found["params"]["low"], found["params"]["high"]
    assert low < found["params"]["value"] < high
    best = found["models"][0]
    shape = cost.Shape("b-mlp", 1, best["width"], 64, 10)
    assert best["params"] == cost.params(shape).total
    assert best["examples"] * cost.flops_per_example(shape) == pytest.approx(1e10)
    assert isoflop("allocate", "--budget", "1e10", "--approach", "2", *QUICK)[0] == 0


def test_a_budget_of_nothing_is_refused(isoflop):
    code, said, complaint = isoflop("allocate", "--budget", "-1", *QUICK)
    assert (code, said) == (2, "")
    assert complaint == "no allocation: budget is -1.0; expected a number > 0\n"


# compare


def test_two_values_of_a_column_are_compared(isoflop):
    code, said, _ = isoflop("compare", "--by", "width", "--pair", "16,64", "--json", *QUICK)
    found = json.loads(said)
    assert (code, found["by"], found["names"]) == (0, "width", ["16", "64"])
    told = [row["ratio"] for row in found["ratios"] if not row["refused"]]
    assert told
    assert min(told) > 1  # the small one pays more here


@pytest.mark.parametrize(
    "verb",
    [
        ("fit", "--by", "width", "--json"),
        ("fit", "--by", "width,lr"),
        ("compare", "--by", "width", "--pair", "16,17"),
        ("compare", "--by", "lr"),
        ("suggest", "--budget", "1e11", "--by", "depth", "--json"),
        ("plot", "--by", "width", "--figure", "residuals"),
    ],
)
def test_what_is_printed_names_no_type_of_a_library(isoflop, verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said, told = isoflop(*verb)
    assert code in {0, 2}
    assert not re.search(r"np\.|array\(|Timestamp|dtype|<NA>", said + told)
    if "--json" in verb and said:
        json.loads(said, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_two_sweeps_of_one_table_are_compared(isoflop, tmp_path, result_of):
    finer = GRID.replace("[4, 8, 16, 32, 64, 128]", "[16, 24, 32, 48, 64, 96, 128]")
    budgets = finer.replace("3e10]", "3e10, 1e11]").replace("[1e-3, 3e-3, 1e-2]", "3e-3")
    for name, worse, text in (
        ("one", 1, budgets),
        ("two", 2, budgets.replace("digits", "digits, dataset_size: 720")),
    ):
        rng = np.random.default_rng(0)
        made = plan(read_sweep(text.replace("sweep: grid", f"sweep: {name}")))
        fill(
            tmp_path / "both.db", made, lambda run, by=worse, rng=rng: result_of(run, error=by * planted(run, rng))
        )
    code, said, _ = isoflop("compare", "one", "two", "--store", tmp_path / "both.db", "--json", *QUICK)
    found = json.loads(said)
    assert (code, found["by"], found["names"]) == (0, "sweep", ["one", "two"])
    told = [row["ratio"] for row in found["ratios"] if not row["refused"]]
    assert told
    assert max(told) < 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--by", "familly"], "--by 'familly': no such column in the results table\n"),
        ([], "--by family: it holds b-mlp; name two of them, as --pair a,b\n"),
        (["--by", "width", "--pair", "16,17"], "--by width: it holds 128, 16, 32, 4, 64, 8; name two of them"),
        (["--by", "width", "--pair", "16,64", "--at", "low"], "--at 'low' must be numbers, as 0.2,0.1\n"),
        (["grid", "grid", "grid"], "3 given; compare takes one or two\n"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_exit_code_2(isoflop, arguments, complaint):
    code, said, found = isoflop("compare", *arguments)
    assert (code, said) == (2, "")
    assert found.startswith(complaint)


# suggest


def test_the_next_runs_rest_on_the_surface_that_the_other_verbs_print(isoflop, monkeypatch):
    monkeypatch.setattr("analysis.decisions.suggest.fit_surface", None)
    assert isoflop("suggest", "--budget", "1e11", "--most", "2")[0] == 0


def test_the_next_runs_can_be_built_and_stay_inside_the_budget(isoflop):
    code, said, _ = isoflop("suggest", "--budget", "1e11", "--target", "error@1e11", "--most", "6", "--json")
    found = json.loads(said)
    assert code == 0
    assert found["target"] == "lowest error at 1e11 flops"
    assert 0 < sum(row["flops"] * row["seeds"] for row in found["runs"]) <= 1e11
    assert sum(row["seeds"] for row in found["runs"]) <= 6
    for row in found["runs"]:
        shape = cost.Shape("b-mlp", 1, int(row["model"].rpartition("-")[2]), 64, 10)
        assert row["params"] == cost.params(shape).total
        assert row["flops"] == row["examples"] * cost.flops_per_example(shape)
    assert found["learning_rates"] == []


def test_the_next_runs_are_a_sweep_file_that_is_planned_unchanged(isoflop, tmp_path):
    file = tmp_path / "next.yaml"
    code, said, told = isoflop("suggest", "--budget", "1e11", "--out", file, "--json")
    assert code == 0, told
    found, planned = json.loads(said), plan(load_sweep(file))
    assert [(model_name(run), run.examples) for run in planned.runs] == [
        (row["model"], row["examples"]) for row in found["runs"]
    ]
    assert planned.flops <= 1e11
    assert {run.seed for run in planned.runs} == {2}
    assert told.startswith(f"wrote {file}: {len(planned.runs)} runs, ")
    assert {run.lr for run in planned.runs} <= {1e-3, 3e-3, 1e-2}
    code, _, told = isoflop("suggest", "--budget", "1e11", "--out", file)
    assert (code, told) == (2, f"{file} exists already; choose another name\n")


def test_the_next_runs_have_the_recipe_of_a_file_that_is_named(isoflop, tmp_path):
    like, file = tmp_path / "like.yaml", tmp_path / "next.yaml"
    like.write_text(GRID.replace("batch_size: 32, lr: [1e-3, 3e-3, 1e-2]", "batch_size: 16, lr: 5e-3"))
    assert isoflop("suggest", "--budget", "1e11", "--like", like, "-o", file)[0] == 0
    assert {(run.batch_size, run.lr) for run in plan(load_sweep(file)).runs} == {(16, 5e-3)}


def test_the_next_runs_of_another_lab_s_table_have_the_recipe_of_a_file(isoflop, tmp_path):
    rng = np.random.default_rng(0)
    n, d = (part.ravel() for part in np.meshgrid(np.geomspace(2e3, 2e5, 8), np.geomspace(3e3, 2e5, 8)))
    error = (0.02 + 3 * n**-0.4 + 5 * d**-0.4) * np.exp(0.01 * rng.normal(size=n.size))
    rows = [f"{a:.0f},{b:.0f},{c:.6f},{6 * a * b:.6g}" for a, b, c in zip(n, d, error, strict=True)]
    lab, like, file = (tmp_path / name for name in ("lab.csv", "like.yaml", "next.yaml"))
    lab.write_text("\n".join(["params,examples,error,flops", *rows]))
    like.write_text(GRID.replace("lr: [1e-3, 3e-3, 1e-2]", "lr: 5e-3"))
    code, _, told = isoflop("suggest", lab, "--budget", "1e11", "--out", file)
    assert code == 2
    assert "the table does not say how its models are built; name a sweep file: --like FILE" in told
    code, _, told = isoflop("suggest", lab, "--budget", "1e11", "--like", like, "--out", file)
    assert code == 0, told
    assert {(run.batch_size, run.lr, run.width % 8) for run in plan(load_sweep(file)).runs} == {(32, 5e-3, 0)}


def test_learning_rates_whose_best_is_at_an_edge_are_named(isoflop, tmp_path, result_of):
    other = tmp_path / "edge.db"
    made, rng = plan(read_sweep(GRID.replace("1e-3, 3e-3, 1e-2", "1e-4, 3e-4, 1e-3"))), np.random.default_rng(0)
    fill(other, made, lambda run: result_of(run, error=planted(run, rng)))
    code, said, _ = isoflop("suggest", "--budget", "1e11", "--store", other, "--json")
    lacking = json.loads(said)["learning_rates"]
    assert code == 0
    assert {row["model"] for row in lacking} == {f"B-1/Wi-{width}" for width in (4, 8, 16, 32, 64, 128)}
    assert [row["lr"] for row in lacking] == pytest.approx([1e-3 * 10**0.5] * len(lacking), rel=0.1)
    said = isoflop("suggest", "--budget", "1e11", "--store", other)[1]
    assert said.count("learning rate missing: ") == len(lacking)


def test_where_nothing_is_done_there_is_a_page_and_nothing_else(isoflop, tmp_path):
    with Table(tmp_path / "new.db", writable=True) as table:
        table.queue.enqueue(plan(read_sweep(GRID)))
    store = ("--store", tmp_path / "new.db")
    asked = [
        ("suggest", "--budget", "1e11"),
        ("allocate", "--budget", "1e11"),
        ("compare", "--by", "width"),
        ("plot",),
    ]
    for verb in asked:
        code, said, complaint = isoflop(*verb, *store)
        assert (code, said) == (2, "")
        assert complaint
    assert isoflop("report", *store)[0] == 0
    assert "144 runs, 0 done" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("target", ["exponents", "error", "exponent@1e9", "error@much", "error@1e9,2e9"])
def test_a_target_that_is_none_is_refused(isoflop, target):
    code, said, complaint = isoflop("suggest", "--budget", "1e9", "--target", target)
    assert (code, said, complaint.startswith("--target ")) == (2, "", True)


def test_candidates_are_priced_in_closed_form(findings):
    table = model_grid(findings.done)
    assert table["model"].is_unique
    assert (table["width"].min(), table["width"].max()) == (4, 1 << 15)
    row = table[table["model"] == "B-1/Wi-64"].iloc[0]
    assert row["params"] == findings.done.loc[findings.done["model"] == "B-1/Wi-64", "params"].iloc[0]
    assert np.all(np.diff(table["width"]) <= np.maximum(table["width"].to_numpy()[:-1] / 8, 1))


def test_the_verbs_are_documented():
    page = (ROOT / "docs" / "how-to" / "figures-and-report.md").read_text()
    for name in registry.names():
        assert f"`{name}`" in page
