"""Verbs answer for each population of a sweep: by the recipe that varies, by columns asked for, or pooled."""

import dataclasses
import json
import re

import numpy as np
import pytest

from orchestrator import plan, read_sweep
from orchestrator.reporting.figures import Findings
from orchestrator.reporting.laws import CATEGORIES, categories
from orchestrator.store.table import Table
from tests.orchestrator.cli.test_analysis import GRID, QUICK, fill, planted

FAMILIES = (
    GRID.replace("sweep: grid", "sweep: two")
    .replace("depth: 1,", "family: [b-mlp, s-mlp], depth: 2,")
    .replace("[1e-3, 3e-3, 1e-2]", "3e-3")
    .replace("3e10]", "3e10, 1e11]")
)
BETTER = {"b-mlp": 0.4, "s-mlp": 1.0}


@pytest.fixture(scope="module")
def stored(tmp_path_factory, result_of):
    """A store with S-MLPs and B-MLPs whose errors differ; their losses are twice their errors."""
    path = tmp_path_factory.mktemp("two") / "two.db"
    rng = np.random.default_rng(0)

    def end(run):
        error = BETTER[run.family] * planted(run, rng)
        return dataclasses.replace(result_of(run, error=error), loss=2 * error)

    fill(path, plan(read_sweep(FAMILIES)), end)
    return path


@pytest.fixture(scope="module")
def runs(stored):
    with Table(stored) as table:
        return table.frame("runs")


@pytest.fixture
def two(isoflop, stored, monkeypatch):
    monkeypatch.setenv("ISOFLOP_STORE", str(stored))
    return isoflop


def test_the_recipe_and_the_data_set_name_populations(runs):
    assert {"family", "schedule", "optimizer", "augment", "activation", "dataset", "zipf_alpha"} <= set(CATEGORIES)
    assert not {"width", "lr", "seed", "loader", "model", "stage", "device", "dataset_size"} & set(CATEGORIES)
    assert categories(runs) == ("family",)
    assert categories(runs[runs["family"] == "b-mlp"]) == ()


@pytest.mark.parametrize(
    "verb", [("fit",), ("fit", "--approach", "2"), ("fit", "--surface"), ("allocate", "--budget", "1e10")]
)
def test_a_verb_answers_for_each_family(two, verb):
    ended = two(*verb, *QUICK)
    assert ended.code == 0
    assert [line for line in ended.out.splitlines() if line.startswith("family ")] == [
        "family b-mlp",
        "family s-mlp",
    ]
    assert "do not share" not in ended.out
    entries = json.loads(two(*verb, "--json", *QUICK).out)["groups"]
    assert [entry["group"] for entry in entries] == [{"family": "b-mlp"}, {"family": "s-mlp"}]


def test_each_family_has_its_own_law(two):
    entries = json.loads(two("fit", "--surface", "--json", *QUICK).out)["groups"]
    a = {entry["group"]["family"]: entry["estimates"]["A"] for entry in entries}
    assert a["b-mlp"] < 0.7 * a["s-mlp"]
    assert {entry["n"] for entry in entries} == {len(entries[0]["points"])}


def test_pooled_families_are_fitted_with_the_test_as_a_caution(two):
    ended = two("fit", "--surface", "--pool", *QUICK)
    assert ended.code == 0
    assert "family b-mlp\n" not in ended.out
    assert "populations are fitted together, by family (b-mlp, s-mlp): their laws differ" in ended.out


def test_groups_by_another_column_leave_the_families_pooled_and_say_so(two):
    ended = two("fit", "--surface", "--by", "seed", *QUICK)
    assert [line for line in ended.out.splitlines() if line.startswith("seed ")] == ["seed 0", "seed 1"]
    assert ended.out.count("populations that do not share the law, by family (b-mlp, s-mlp)") == 2


def test_where_selects_the_rows_of_every_verb(two):
    for verb in (("fit", "--surface"), ("allocate", "--budget", "1e10"), ("suggest", "--budget", "1e11")):
        few = QUICK if verb[0] != "suggest" else ()
        chosen = two(*verb, "--where", "family = 's-mlp'", "--json", *few)
        assert chosen.code == 0
        assert "groups" not in json.loads(chosen.out)
    ended = two("fit", "--where", "familly = 's-mlp'", *QUICK)
    assert (ended.code, ended.out) == (2, "")
    assert "no such column: familly" in ended.err
    assert two("fit", "--where", "width > 5000").err == "--where 'width > 5000': no row satisfies it\n"


def test_another_measured_column_is_fitted_everywhere(two):
    error, loss = (
        json.loads(two("fit", "--surface", "--y", y, "--where", "family = 's-mlp'", "--json", *QUICK).out)
        for y in ("error", "loss")
    )
    assert loss["y"] == "loss"
    assert loss["estimates"]["A"] == pytest.approx(2 * error["estimates"]["A"], rel=1e-3)
    assert loss["estimates"]["alpha"] == pytest.approx(error["estimates"]["alpha"], rel=1e-3)
    ended = two("fit", "--y", "los", *QUICK)
    assert (ended.code, ended.err) == (2, "--y 'los': no such column in the results table\n")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--by", "familly"), "--by 'familly': no column 'familly'; did you mean 'family'?\n"),
        (("--by", "family", "--pool"), "--by and --pool exclude each other\n"),
        (
            ("--y", "val_error"),
            "--y 'val_error': not one of 120 finished runs has a value; choose another column\n",
        ),
    ],
)
def test_groups_that_cannot_be_are_one_line_and_exit_code_2(two, options, complaint):
    ended = two("fit", *options, *QUICK)
    assert (ended.code, ended.out, ended.err) == (2, "", complaint)


def test_figures_are_of_each_group_or_of_all_side_by_side(two, tmp_path):
    names = "runs,error-vs-flops,isoflop"
    ended = two("plot", "--figure", names, "--format", "svg", *QUICK)
    drawn = {line.removeprefix("figures/two-").removesuffix(".svg") for line in ended.out.splitlines()}
    assert ended.code == 0
    assert drawn == {"runs", "error-vs-flops", "family-b-mlp-isoflop", "family-s-mlp-isoflop"}
    one = two("plot", "--figure", "isoflop", "--where", "family = 's-mlp'", "--format", "svg", *QUICK)
    assert one.out == "figures/two-isoflop.svg\n"


@pytest.mark.slow
def test_a_verdict_is_of_each_family_and_of_what_was_measured(two):
    said = two("verdict", "--y", "loss", *QUICK).out
    assert "family s-mlp\n" in said
    assert said.count("a floor of loss") == 2


@pytest.mark.slow
def test_the_page_has_the_laws_of_each_group(two, tmp_path):
    assert two("report", *QUICK).code == 0
    page = re.sub(
        r"<script.*?</script>|<style.*?</style>", "", (tmp_path / "report.html").read_text(), flags=re.DOTALL
    )
    for family in ("b-mlp", "s-mlp"):
        assert f"<h2>family {family}</h2>" in page
    assert "do not share" not in page
    assert "needs" in page  # the comparison of the two


def test_a_list_of_sweeps_names_groups(two):
    groups = json.loads(two("fit", "--by", "sweeps", "--json", *QUICK).out)["groups"]
    assert [entry["group"] for entry in groups] == [{"sweeps": "two"}]


def test_groups_of_findings_partition_the_runs(runs):
    groups = Findings(runs).groups()
    assert [group.label for group in groups] == ["family b-mlp", "family s-mlp"]
    assert sum(len(group.frame) for group in groups) == len(runs)
    assert [group.label for group in Findings(runs, pool=True).groups()] == [""]


def test_families_are_compared_by_the_laws_of_their_groups(runs):
    findings = Findings(runs, resamples=100)
    groups, comparison = findings.groups(), findings.comparison
    assert comparison.names == ("b-mlp", "s-mlp")
    for group, fit in zip(groups, comparison.fits, strict=True):
        assert fit is group.law("flops")
