"""Every quantity has one value, whichever verb or part of the page shows it."""

import dataclasses
import json
import re

import numpy as np
import pytest

from analysis.report.tables import fits_table
from orchestrator import plan, read_sweep
from orchestrator.reporting.figures import Findings
from orchestrator.reporting.page import page_of
from orchestrator.store.table import Table
from tests.orchestrator.cli.test_analysis import GRID, QUICK, fill, planted
from trainer.data.sets import zipf

ONE_RATE = GRID.replace("[1e-3, 3e-3, 1e-2]", "3e-3").replace("3e10]", "3e10, 1e11]")
ZIPF = """\
sweep: zipf
data: {dataset: zipf, dataset_size: [200, 400, 800, 1600, 3200, 6400]}
model: {depth: 1, width: 16}
train: {batch_size: 32, lr: 1e-3}
budget: {epochs: 1}
seeds: 3
"""


def store_of(path, text, end):
    rng = np.random.default_rng(0)
    fill(path, plan(read_sweep(text)), lambda run: end(run, rng))
    return path


@pytest.fixture(scope="module")
def grid(tmp_path_factory, result_of):
    path = tmp_path_factory.mktemp("one") / "grid.db"
    return store_of(path, ONE_RATE, lambda run, rng: result_of(run, error=planted(run, rng)))


@pytest.fixture
def asked(isoflop, monkeypatch):
    """The JSON that a verb prints about a store."""

    def ask(store, *verb):
        monkeypatch.setenv("ISOFLOP_STORE", str(store))
        ended = isoflop(*verb, "--json", *QUICK)
        assert ended.code == 0, ended.err
        return json.loads(ended.out)

    return ask


@pytest.fixture(scope="module")
def found(grid):
    """What is found of the planted sweep; every fit is made once."""
    with Table(grid) as table:
        return Findings(table.frame("runs"), resamples=100, judged=100)


@pytest.fixture(scope="module")
def page(found):
    return page_of("grid", "", "", "grid.db", found)


def agreed(verdict, approach, quantity):
    rows = verdict["agreement"]["table"]
    return next(row for row in rows if (row["approach"], row["quantity"]) == (approach, quantity))


@pytest.mark.slow
def test_verbs_and_the_page_agree_on_every_quantity(grid, asked, found, page):
    laws = {law["x"]: law["fit"] for law in asked(grid, "fit")["laws"]}
    surface, minima = asked(grid, "fit", "--surface"), asked(grid, "fit", "--approach", "2")
    verdict = asked(grid, "verdict")
    # the law behind the verdict, its exponent, its floor
    assert {name: verdict["fit"][name] for name in surface} == surface
    low, high = surface["intervals"]["params_exponent"]
    numbers = [float(number) for number in re.findall(r"\d+\.\d+", verdict["exponent"]["statement"])]
    assert numbers == pytest.approx([surface["estimates"]["params_exponent"], low, high], abs=0.006)
    assert verdict["sensitivity"]["intervals"]["floor"] == surface["intervals"]["floor"]
    # the approaches
    frontier, akima = agreed(verdict, "frontier", "y"), agreed(verdict, "isoflop akima", "n")
    assert frontier["value"] == laws["flops"]["exponent"]
    assert [frontier["low"], frontier["high"]] == laws["flops"]["intervals"]["exponent"]
    assert minima["supported"] == (not akima["why_not"])
    assert not minima["supported"] or akima["value"] == minima["n_exponent"]["value"]
    # the page
    assert page.fits["surface in params and examples"].to_dict() == surface
    assert page.fits["isoFLOP minima"].to_dict() == minima
    cards = {x: page.fits[f"error against {x}"].to_dict() for x in laws if laws[x]}
    assert cards == {x: fit for x, fit in laws.items() if fit}
    assert any(verdict["exponent"]["statement"] in answer.sentence for answer in page.answers)


def test_a_verdict_and_its_approaches_take_the_fits_that_exist(found):
    assert found.verdict.fit is found.surface
    rows = found.verdict.agreement.table.set_index(["approach", "quantity"])
    ends = found.law("flops").intervals["exponent"]
    assert tuple(rows.loc[("frontier", "y"), ["low", "high"]]) == ends


def test_a_floor_is_judged_by_the_interval_that_is_printed(found):
    surface = found.surface
    low, high = surface.compatible["floor"]
    assert f"[{low:.1g}" in surface.quoted("floor") or low < 1e-3
    assert high >= surface.intervals["floor"][1]
    assert surface.floor_reasons or low > 0.01 * surface["floor"]


def test_the_exponent_of_a_zipf_sweep_is_the_same_in_fit_verdict_and_calibration(tmp_path, asked, result_of):
    def end(run, rng):
        exact = zipf.expected_error(np.array([run.dataset_size]), zipf.DEFAULT_ALPHA, zipf.DEFAULT_TOKENS)[0]
        return result_of(run, error=float(exact * np.exp(0.01 * rng.normal())))

    store = store_of(tmp_path / "zipf.db", ZIPF, end)
    answer, verdict = asked(store, "fit"), asked(store, "verdict")
    (law,) = (law["fit"] for law in answer["laws"])
    assert verdict["fit"]["intervals"] == law["intervals"]
    assert answer["calibration"]["interval"] == law["intervals"]["exponent"]
    assert verdict["sensitivity"]["intervals"]["exponent"] == law["intervals"]["exponent"]
    assert law["floor"] == 0  # known on this task, in the verdict too
    assert not verdict["floor"]["supported"]
    assert "has none" in verdict["floor"]["reasons"][0]


def test_exponents_of_the_surface_and_of_the_optimum_have_names_of_their_own(page):
    names = {str(name): set(table["quantity"]) for name, table in fits_table(page.fits).groupby("fit")}
    surface, minima = names["surface in params and examples"], names["isoFLOP minima"]
    approaches = set(page.tables["The same exponents by every approach"].columns)
    assert not surface & (minima | approaches)


# a metric of 0


def zeroed(result_of, budget):
    """Runs whose error is 0 from a budget on, and whose loss never is."""

    def end(run, rng):
        error = planted(run, rng)
        return dataclasses.replace(result_of(run, error=0.0 if run.budget >= budget else error), loss=error)

    return end


@pytest.mark.parametrize("approach", ["1", "3"])
def test_a_run_without_errors_costs_a_note_and_no_law(tmp_path, isoflop, approach, result_of):
    count = iter(range(1000))

    def end(run, rng):
        return result_of(run, error=0.0 if next(count) == 30 else planted(run, rng))

    store = store_of(tmp_path / "zero.db", ONE_RATE, end)
    ended = isoflop("fit", "--approach", approach, "--store", store, *QUICK)
    assert ended.code == 0
    assert "error is 0 in 1 of" in ended.out
    assert "--y loss" in ended.out
    assert "^-" in ended.out


@pytest.mark.parametrize("approach", ["1", "2", "3"])
def test_a_metric_that_has_saturated_supports_no_claim(tmp_path, isoflop, approach, result_of):
    store = store_of(tmp_path / "zeros.db", ONE_RATE, zeroed(result_of, 3e10))
    ended = isoflop("fit", "--approach", approach, "--store", store, "--json", *QUICK)
    assert ended.code == 0
    answer = json.loads(ended.out)
    fits = [law["fit"] for law in answer["laws"] if law["fit"]] if approach == "1" else [answer]
    assert fits
    for fit in fits:
        assert not fit["supported"]
        assert "it has saturated" in fit["reasons"][0]
    other = isoflop("fit", "--surface", "--y", "loss", "--store", store, *QUICK)
    assert other.code == 0
    assert "saturated" not in other.out


@pytest.mark.parametrize("verb", [("fit",), ("fit", "--surface"), ("verdict",)])
def test_only_zeros_are_one_line_and_exit_code_2(tmp_path, isoflop, verb, result_of):
    store = store_of(tmp_path / "all.db", ONE_RATE, zeroed(result_of, 1e9))
    ended = isoflop(*verb, "--store", store, *QUICK)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1)
    assert "0 has no logarithm" in ended.err
