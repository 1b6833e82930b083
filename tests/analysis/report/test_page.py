"""The page: what it says, what hostile names can do to it, and what a click does in a real browser."""

from __future__ import annotations

import html
import json
import re
import sys
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import describe_law, fit_frontier, fit_isoflop, fit_power_law
from analysis.figures.optima import describe_isoflop
from analysis.figures.plotly import to_plotly
from analysis.figures.runs import describe_runs
from analysis.report.document import ReportError
from analysis.report.html import json_block, script, tag
from analysis.report.page import Page, cost, render
from analysis.report.parts import Answer
from tests.analysis.planted import law, sweep
from tests.analysis.report.browser import CHROMIUM, Browser

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>\"'&amp;{{7*7}}%{x}<b>"


def runs():
    """36 runs of three models at two dataset sizes and two lengths, three seeds, one of them failed."""
    rng = np.random.default_rng(0)
    rows = [
        {"model": m, "params": 10.0**k, "dataset_size": n, "epochs": e, "seed": s, "cell_id": f"{m}{n}{e}"}
        for k, m in enumerate(("B-1/Wi-16", "B-1/Wi-32", "B-1/Wi-64"), start=3)
        for n in (500, 1000)
        for e in (2, 6)
        for s in range(3)
    ]
    frame = pd.DataFrame(rows)
    frame["flops"] = 6 * frame["params"] * frame["dataset_size"] * frame["epochs"]
    frame["error"] = frame["flops"] ** -0.1 * np.exp(0.01 * rng.normal(size=len(frame)))
    frame = frame.assign(run_id=[f"{k:08x}" * 4 for k in range(len(frame))], state="done", seconds=1.5)
    frame.loc[0, "state"] = "failed"
    frame.loc[0, "error"] = np.nan
    return frame


def hostile_runs():
    frame = runs().rename(columns={"epochs": HOSTILE + "1"})
    return frame.assign(
        model=frame["model"] + HOSTILE, sweep=HOSTILE, reason=HOSTILE, run_id=HOSTILE + frame["run_id"]
    )


def page_of(frame, **said):
    fit = fit_frontier(frame, floor=False, resamples=100)
    charts = {"Runs": describe_runs(frame, line=None), "Law": describe_law(frame, fit, x="flops", colour="params")}
    return Page("a sweep", fits={"error against FLOPs": fit}, charts=charts, **said)


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.found, self.text, self._inside = [], "", ""
        self.feed(page)

    def handle_starttag(self, name, attributes):
        self.found.append((name, dict(attributes)))
        self._inside = name

    def handle_endtag(self, name):
        self._inside = ""

    def handle_data(self, text):
        self.text += "" if self._inside in ("script", "style") else text


@pytest.fixture(scope="module")
def page():
    frame = runs()
    answers = (Answer("This table supports no floor.", caveats=("few seeds",)),)
    said: dict[str, Any] = {"question": "How does it fall?", "answer": "It falls."}
    said |= {"declared": "sweep: x\n# why <not>"}
    said |= {"answers": answers, "provenance": {"python": "3.11"}}
    return render(frame, page_of(frame, **said))


def test_the_page_asks_and_answers_first_then_shows(page):
    text = Elements(page).text
    order = ["How does it fall?", "It falls.", "36 runs, 35 done", "exponent, 95 % interval"]
    order += ["This table supports no floor.", "few seeds", "Figures", "Runs", "Cost", "# why <not>", "python"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_an_exponent_stands_with_its_interval_and_a_refusal_with_its_reason():
    weak = fit_power_law(law(n=8, high=5e9, noise=0.3, seed=3), resamples=100)
    strong = fit_frontier(sweep(), floor=False, resamples=100)
    curves = fit_isoflop(sweep(widths=(4, 16, 64, 256, 512), budgets=4), resamples=100)
    text = Elements(render(sweep(), Page("s", fits={"weak": weak, "strong": strong, "curves": curves}))).text
    assert weak.refusal() in text
    assert weak.reasons[0] in text
    large = re.findall(r'<div class="value">([^<]*)', render(sweep(), Page("s", fits={"weak": weak})))
    assert large == []  # what is not identified is not large
    assert strong.quoted("exponent") in text
    assert text.count("95 % interval") == 4  # three exponents and the refusal
    assert all(str(exponent) in text for exponent in (curves.n_exponent, curves.d_exponent))


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (Answer("<it>", held_out=0.1), '<li class="held">&lt;it&gt;</li>'),
        (Answer("<it>", held_out=0.234), "<li><strong>off by 23 % on held-out runs: </strong>&lt;it&gt;</li>"),
        (Answer("<it>"), "<li>&lt;it&gt;</li>"),
        (Answer("<it>", supported=False, held_out=0.01), '<li class="refused">&lt;it&gt;</li>'),
    ],
    ids=["predicted", "not predicted", "not tested", "refused"],
)
def test_only_what_predicted_held_out_runs_is_ticked(answer, shown):
    assert f'<ul class="plain">{shown}</ul>' in render(runs(), Page("s", answers=[answer]))


def test_the_reasons_against_a_finding_are_folded_below_it():
    page = render(runs(), Page("s", answers=[Answer("no law", supported=False, reasons=("few runs", "<noise>"))]))
    why = "<details><summary>why not</summary><ul><li>few runs</li><li>&lt;noise&gt;</li></ul></details>"
    assert f'<li class="refused">no law{why}</li>' in page


def test_caveats_are_said_once_and_the_many_after_a_click():
    answers = [Answer("x", caveats=tuple(f"caveat {k % 8}" for k in range(16)))]
    page = render(runs(), Page("s", answers=answers))
    assert page.count("<li>caveat ") == 8
    assert "<summary>2 more</summary>" in page


def test_runs_have_a_row_each_best_first_and_those_without_a_result_last(page):
    rows = re.findall(r'<tr data-group="([^"]*)"[^>]*>(.*?)</tr>', page)
    assert len(rows) == 36
    errors = [re.findall(r'data-value="([^"]*)"', cells) for _, cells in rows]
    frame = runs().sort_values("error")
    assert rows[0][0] == frame["model"].iloc[0]
    assert f"{frame['error'].min():.10g}" in errors[0]
    assert ">failed<" in rows[-1][1]


def test_more_runs_than_a_page_carries_are_the_best_of_all():
    many = pd.DataFrame({"error": np.linspace(0.9, 0.1, 1500)})
    page = render(many, Page("many"))
    assert page.count("<tr>") == 1001
    assert "of 1,500, the best by error" in Elements(page).text


def test_cost_is_summed_by_state():
    table = cost(runs()).set_index("state")
    assert table["runs"].to_dict() == {"done": 35, "failed": 1, "all": 36}
    assert table.loc["all", "seconds"] == 54.0
    assert table.loc["all", "flops"] == pytest.approx(runs()["flops"].sum())
    assert cost(pd.DataFrame({"error": [0.5]})).empty


def test_tables_stand_under_their_headings_and_hold_text():
    page = render(runs(), Page("s", tables={"A <heading>": pd.DataFrame({"<b>": ["<i>"], "n": [0.5]})}))
    assert "<h2>A &lt;heading&gt;</h2>" in page
    assert '<th>&lt;b&gt;</th><th class="number">n</th>' in page
    assert '<td>&lt;i&gt;</td><td class="number" data-value="0.5">0.5</td>' in page


def test_more_models_than_buttons_are_said():
    frame = pd.DataFrame({"model": [f"m{k}" for k in range(61)], "error": 0.5})
    chart = describe_runs(frame.assign(flops=1.0), marker=None, line=None, colour=None)
    page = render(frame, Page("s", charts={"Runs": chart}))
    assert "61 values of model: too many for buttons." in page
    assert "<button" not in page


def test_what_was_paid_for_may_be_more_than_what_is_shown():
    page = render(runs().head(3), Page("s"), paid=runs())
    assert "<td>all</td>" in page
    assert re.search(r"<td>all</td><td[^>]*>36</td>", page)


def test_the_policy_names_every_script_by_its_hash_and_nothing_else(page):
    elements = Elements(page).found
    (policy,) = [
        a["content"] for n, a in elements if n == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    sources = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert len(sources) == 3
    assert all(script(source)[1] in policy for source in sources)
    assert "default-src 'none'" in policy
    script_source = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert script_source.count("'") == 6  # three hashes, no 'unsafe-inline', no host
    assert not [a for n, a in elements if any(key in a for key in ("src", "href", "srcdoc", "action"))]


def test_hostile_names_are_text_everywhere():
    frame = hostile_runs()
    fit = fit_frontier(frame, floor=False, resamples=100)
    charts = {HOSTILE: describe_law(frame, fit, x="flops"), "runs": describe_runs(frame, line=None)}
    page = Page(
        HOSTILE,
        fits={HOSTILE: fit},
        charts=charts,
        captions={HOSTILE: HOSTILE},
        question=HOSTILE,
        answers=(Answer(HOSTILE, caveats=(HOSTILE,)),),
        provenance={HOSTILE: HOSTILE},
    )
    found = Elements(render(frame, page)).found
    assert [name for name, _ in found if name in ("img", "b", "iframe", "object")] == []
    assert len([1 for name, _ in found if name == "script"]) == 4
    assert not [a for _, a in found if any(key.startswith("on") for key in a)]
    for chart in charts.values():
        made = to_plotly(chart)
        texts = json.dumps(
            [{**trace, "meta": ""} for trace in made["data"]] + [made["layout"]]
        )  # meta is not shown
        assert "<img" not in texts
        assert "&lt;img" in texts


def test_a_page_without_plotly_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ReportError, match="a report needs plotly, which is not installed"):
        render(runs(), Page("s"))


def test_the_same_table_makes_the_same_page():
    frame = runs()
    assert render(frame, page_of(frame)) == render(frame, page_of(frame))


def test_300_runs_and_100_curves_stay_under_six_megabytes():
    frame = pd.concat([runs()] * 9, ignore_index=True)
    frame = frame.assign(run_id=[f"{k:032x}" for k in range(len(frame))])
    history = pd.concat([frame.head(100).assign(step=k, flops=frame["flops"] * k / 20) for k in range(1, 21)])
    fit = fit_frontier(frame, floor=False, resamples=100)
    charts = {str(k): describe_law(frame, fit, x="flops", colour="params", history=history) for k in range(4)}
    assert len(render(frame, Page("s", charts=charts)).encode()) < 6e6


def test_tags_escape_what_is_not_markup_and_blocks_hold_their_data():
    assert tag("p", "<", [tag("b", "&"), None, False], title='"') == '<p title="&quot;">&lt;<b>&amp;</b></p>'
    block = json_block("x", {"a": HOSTILE + "\u2028"})
    inner = re.fullmatch(r'<script type="application/json" id="x">(.*)</script>', block).group(1)
    assert "<" not in inner
    assert json.loads(inner) == {"a": HOSTILE + "\u2028"}
    with pytest.raises(ValueError, match="would close it"):
        script("'</script>'")


MANY = sweep(budgets=14, seeds=1)


@pytest.mark.parametrize(
    "figure",
    [
        describe_runs(runs()),
        describe_isoflop(fit_isoflop(sweep(), resamples=100)),
        describe_law(
            MANY, fit_frontier(MANY, floor=False, resamples=100), x="flops", colour="flops"
        ),  # a colour bar
    ],
    ids=["runs", "isoflop", "law"],
)
def test_plotly_accepts_a_chart_and_shows_its_points(figure):
    from plotly.graph_objects import Figure

    made = to_plotly(figure)
    Figure(made)
    shown = [
        (x, y) for t in made["data"] if "text" in t and "marker" in t for x, y in zip(t["x"], t["y"], strict=True)
    ]
    expected = [(float(f"{x:.6g}"), float(f"{y:.6g}")) for x, y in figure.points[["x", "y"]].to_numpy()]
    assert sorted(shown) == sorted(expected)
    kind = {True: "log", False: "linear"}
    assert made["layout"]["xaxis"]["type"] == kind[figure.x_log]
    assert made["layout"]["yaxis"]["type"] == kind[figure.y_log]


# in a real browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def visible(browser, chart=0):
    """Names of the groups whose points are shown in a chart."""
    return browser.evaluate(
        f"document.getElementById('chart-{chart}').data.filter(t => t.marker && t.meta && t.visible !== false)"
        ".map(t => t.meta).sort()"
    )


def test_a_click_on_a_model_shows_it_alone_in_figures_and_table(browser, page, tmp_path):
    (tmp_path / "report.html").write_text(page)
    browser.open(f"file://{tmp_path}/report.html")
    every = ["B-1/Wi-16", "B-1/Wi-32", "B-1/Wi-64"]
    assert visible(browser) == visible(browser, 1) == every
    browser.click('button[data-group="B-1/Wi-32"]')
    browser.wait("document.getElementById('counted').textContent === '12'")
    assert visible(browser) == visible(browser, 1) == ["B-1/Wi-32"]
    assert browser.evaluate("document.querySelectorAll('tr[data-group]:not(.hidden)').length") == 12
    browser.click("#all")
    browser.wait("document.getElementById('counted').textContent === '36'")
    assert visible(browser) == every


def test_a_click_on_a_heading_sorts(browser, page, tmp_path):
    (tmp_path / "report.html").write_text(page)
    browser.open(f"file://{tmp_path}/report.html")
    heads = browser.evaluate("[...document.querySelectorAll('table.sortable th')].map(h => h.textContent)")
    k = heads.index("flops") + 1
    browser.click(f"table.sortable th:nth-child({k})")
    shown = browser.evaluate(
        f"[...document.querySelectorAll('table.sortable td:nth-child({k})')].map(c => Number(c.dataset.value))"
    )
    assert shown == sorted(runs()["flops"].tolist())


def test_a_phone_scrolls_tables_alone_and_says_so(browser, page, tmp_path):
    (tmp_path / "report.html").write_text(page)
    with browser.screen(390, 800):
        browser.open(f"file://{tmp_path}/report.html")
        assert browser.evaluate("document.documentElement.scrollWidth") == 390
        hint = "getComputedStyle(document.querySelector('.scroll:has(.sortable) + .hint')).display"
        browser.wait(f"{hint} === 'block'")
        browser.evaluate("document.querySelector('.scroll:has(.sortable)').scrollLeft = 1e6")
        browser.wait(f"{hint} === 'none'")


def test_axes_of_the_page_are_those_of_the_paper_whatever_the_band():
    from matplotlib.figure import Figure

    from analysis import draw

    few = law(n=8, high=5e9, noise=0.05, seed=1)
    chart = describe_law(few, fit_power_law(few, floor=False, resamples=100), x="flops")
    axes = draw(chart, Figure().add_subplot())
    layout = to_plotly(chart)["layout"]
    assert layout["yaxis"]["range"] == pytest.approx(np.log10(axes.get_ylim()), abs=1e-4)
    assert layout["xaxis"]["range"] == pytest.approx(np.log10(axes.get_xlim()), abs=1e-4)
    (line,) = chart.of("law")
    assert np.log10(line.high).max() > layout["yaxis"]["range"][1]  # the band reaches farther


def test_hostile_names_stay_inert_and_nothing_is_asked_of_a_network(browser, tmp_path):
    frame = hostile_runs()
    fit = fit_frontier(frame, floor=False, resamples=100)
    charts = {HOSTILE: describe_runs(frame, line=None), "law": describe_law(frame, fit, x="flops", colour="params")}
    page = Page(HOSTILE, question=HOSTILE, fits={HOSTILE: fit}, charts=charts, provenance={"name": HOSTILE})
    (tmp_path / "hostile.html").write_text(render(frame, page))
    browser.events.clear()
    browser.open(f"file://{tmp_path}/hostile.html")
    place = browser.middle("#chart-0 .points path")
    browser.hover(place[0] - 3, place[1])
    browser.hover(*place)
    browser.wait("document.querySelector('#chart-0 .hovertext')")
    hover = browser.evaluate("document.querySelector('#chart-0 .hovertext').textContent")
    assert "<img src=x onerror='window.hacked=1'>" in hover
    assert "run" in hover
    assert browser.evaluate("typeof window.hacked") == "undefined"
    assert browser.evaluate("document.title") == html.unescape(html.escape(HOSTILE))
    asked = [p["request"]["url"] for m, p in browser.events if m == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    complaints = [p for m, p in browser.events if m in ("Runtime.exceptionThrown", "Page.javascriptDialogOpening")]
    complaints += [p for m, p in browser.events if m == "Log.entryAdded" and p["entry"]["level"] == "error"]
    assert complaints == []
