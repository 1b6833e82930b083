"""Tables of other labs, given to the command as they are."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import analysis
from tests.orchestrator.cli.foreign_files import EXPONENT, GOOD, MANGLED, SHAPES, SIZES, table

QUICK = ("--resamples", "100")
NEEDS = {"Parquet": "pyarrow", "Excel": "openpyxl"}


def laws_of(out):
    """The laws in the JSON of `fit`, whether of one group or of several."""
    whole = json.loads(out)
    return [law for group in whole.get("groups", [whole]) for law in group["laws"]]


@pytest.mark.parametrize("name", SHAPES)
def test_a_file_as_it_comes_gives_the_planted_exponent(isoflop, tmp_path, name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    write, x = SHAPES[name]
    words = write(tmp_path)
    ended = isoflop("fit", *words, "--json", *QUICK)
    assert ended.code == 0, ended.err
    assert ended.err.startswith(f"{words[0]}: ")
    laws = laws_of(ended.out)
    assert {law["x"] for law in laws} == {x}
    for law in laws:
        assert law["fit"]["supported"], law["fit"]["reasons"]
        assert abs(law["fit"]["exponent"] - EXPONENT) < 0.02


@pytest.mark.parametrize("name", MANGLED)
def test_a_file_that_cannot_be_fitted_is_one_line_and_exit_code_2(isoflop, tmp_path, name):
    content, options = MANGLED[name]
    (tmp_path / "lab.csv").write_bytes(content)
    ended = isoflop("fit", "lab.csv", *options, *QUICK)
    assert (ended.code, ended.out) == (2, ""), ended.err
    messages = [line for line in ended.err.splitlines() if not re.match(r"lab\.csv: \d+ rows", line)]
    assert len(messages) <= 1, ended.err
    assert ended.err.strip()
    assert "Traceback" not in ended.err


def written(folder, rows, name="lab.csv"):
    (folder / name).write_text(table(rows))
    return name


def test_what_the_columns_were_taken_for_is_said(isoflop, tmp_path):
    rows = [
        ("run", "non-embedding params (M)", "Acc@1 (%)"),
        *((f"r{k}", n / 1e6, 60.0) for k, n in enumerate(SIZES)),
    ]
    rows[3] = ("r2", "OOM", 61.0)
    rows[5:6] = [("r4", "-1", 62.0), ("r5", "5", "")]
    ended = isoflop("fit", written(tmp_path, rows), *QUICK)
    said = ended.err.splitlines()[0]
    assert "params = 'non-embedding params (M)' x 1e+06" in said
    assert "1 - 'Acc@1 (%)' / 100" in said
    assert "3 of 17 rows left out: 1 without a number in 'non-embedding params (M)' (line 4, 'OOM')" in said
    assert "1 not above 0 in 'non-embedding params (M)' (line 6)" in said
    assert "1 without a number in 'Acc@1 (%)' (line 7)" in said


def grid(noise=0.002):
    """params x tokens with their loss, 1.7 + 400 N^-0.34 + 2000 D^-0.37."""
    n, d = (a.ravel().round() for a in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5)))
    luck = np.random.default_rng(0).normal(size=n.size)
    loss = (1.7 + 400 * n**-0.34 + 2000 * d**-0.37) * np.exp(noise * luck)
    return [("N", "tokens", "Val Loss"), *zip(n, d, loss, strict=True)]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["verdict"], "supports an exponent of the best params"),
        (["allocate", "--budget", "1e21"], "1e21 FLOPs: params"),
        (["suggest", "--budget", "1e20"], "exponent of the best params in flops"),
        (["fit", "--surface"], "Val Loss = 1.7"),
        (["fit", "--table", "markdown"], "| Val Loss against params |"),
    ],
)
def test_the_other_verbs_take_a_table_too(isoflop, tmp_path, words, says):
    verb, *options = words
    quick = () if verb == "suggest" else QUICK
    ended = isoflop(verb, written(tmp_path, grid()), *options, *quick)
    assert (ended.code, says in ended.out) == (0, True), ended.err + ended.out
    assert "params = 'N', examples = 'tokens', flops = 6 params examples, 'Val Loss'" in ended.err


def test_figures_and_a_page_are_drawn_from_a_table(isoflop, tmp_path):
    pytest.importorskip("plotly")
    file = written(tmp_path, grid())
    drawn = isoflop("plot", file, "--figure", "error-vs-params,error-vs-flops", "--format", "png", *QUICK)
    assert (drawn.code, drawn.out.split()) == (
        0,
        ["figures/lab-error-vs-params.png", "figures/lab-error-vs-flops.png"],
    )
    page = isoflop("report", file, "--out", "page.html", *QUICK)
    assert page.code == 0, page.err
    text = (tmp_path / "page.html").read_text()
    assert "examples = &#x27;tokens&#x27;" in text
    assert "SHA-256" in text


def test_recipes_of_a_table_are_compared(isoflop, tmp_path):
    rows = [("recipe", *grid()[0])]
    rows += [("old", *row) for row in grid()[1:]] + [("new", n, d, 0.9 * y) for n, d, y in grid()[1:]]
    ended = isoflop("compare", written(tmp_path, rows), "--by", "recipe", *QUICK)
    assert ended.code == 0, ended.err
    one, two = (
        written(tmp_path, [grid()[0], *rows], f"{name}.csv")
        for name, rows in (("a", grid()[1:]), ("b", grid()[1:]))
    )
    assert isoflop("compare", one, two, *QUICK).code == 0


def test_a_condition_and_groups_have_the_names_of_the_file(isoflop, tmp_path):
    ended = isoflop(
        "fit", written(tmp_path, grid()), "--where", "tokens > 2e9", "--by", "tokens", "--x", "N", "--json", *QUICK
    )
    assert ended.code == 0, ended.err
    groups = json.loads(ended.out)["groups"]
    assert [set(group["group"]) for group in groups] == [{"examples"}] * 4


def test_a_sweep_is_not_taken_for_a_table_and_a_missing_file_is_named(isoflop, tmp_path):
    (tmp_path / "small").mkdir()
    assert "no table" not in isoflop("fit", "small").err
    assert isoflop("fit", "nothing.csv").err == "nothing.csv: No such file or directory\n"


def test_the_same_from_python(tmp_path):
    frame = analysis.read_table(tmp_path / written(tmp_path, grid()))
    assert frame.index.name == "line"
    known = analysis.recognise(frame)
    assert (known.inputs, known.y) == (("params", "examples", "flops"), "Val Loss")
    assert np.allclose(known.frame["flops"], 6 * frame["N"] * frame["tokens"])
    with pytest.raises(analysis.ReadError, match="no column 'depth'"):
        analysis.recognise(frame, "depth")


def test_our_own_export_is_a_table_like_any_other(tmp_path):
    frame = pd.DataFrame(
        {"params": SIZES, "examples": SIZES, "error": 0.5, "top5_error": 0.1, "loss": 1.0, "train_loss": 1}
    )
    assert analysis.recognise(frame).y == "error"


def test_the_good_table_is_good(isoflop, tmp_path):
    (tmp_path / "lab.csv").write_text(GOOD)
    assert isoflop("fit", "lab.csv", *QUICK).code == 0
