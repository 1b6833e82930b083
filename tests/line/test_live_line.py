"""The live page in a real browser, while a sweep trains and its coordinator is killed."""

from __future__ import annotations

import re

import pytest

from tests import paced
from tests.analysis.report.browser import CHROMIUM, Browser
from tests.commands import Started
from tests.polling import until

SWEEP = f"""\
sweep: live
data: {{dataset: digits, dataset_size: 180}}
model: {{depth: 1, width: [16, 32]}}
train: {{optimizer: "{paced.ADAMW}", batch_size: 32, lr: 1e-3}}
budget: {{epochs: 200}}
seeds: 2
"""
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "live.yaml").write_text(SWEEP)
    paced.write_optimizer(tmp_path)
    paced.slow_down(tmp_path, seconds=0.05)
    return tmp_path


@pytest.fixture
def browser(tmp_path):
    opened = Browser(tmp_path / "profile")
    yield opened
    opened.close()


def text(browser, part):
    return browser.evaluate(f"document.getElementById('{part}').textContent")


def shown(browser):
    return browser.evaluate("document.querySelectorAll('#runs tbody tr:not(.hidden)').length")


def test_a_page_shows_a_sweep_from_before_its_beginning_to_its_coordinators_death(folder, browser):
    with Started("serve", "--store", "live.db", folder=folder) as server:
        said = [""]
        until(lambda: said.append(said.pop() + server.stdout.read()) or "\n" in said[0], server)
        (url,) = re.findall(r"http://127\.0\.0\.1:\d+/\S+/", said[0])
        browser.open(url)
        assert "waiting: no results table" in text(browser, "state")
        with Started(*["run", "live.yaml", "--store", "live.db", "--executor", "inline"], folder=folder) as run:
            browser.wait("document.querySelectorAll('#training tbody tr').length > 0", 120)
            browser.wait("/in training/.test(document.getElementById('state').textContent)", 120)
            browser.wait("document.querySelectorAll('#curves-0 .points path').length > 0", 120)
            assert "4 queued" not in text(browser, "sweeps")
            assert "4 ended" in text(browser, "sweeps")
            assert shown(browser) == 4
            browser.evaluate(
                "const words = document.getElementById('words'); words.value = 'wi-32 running';"
                "words.dispatchEvent(new Event('input'))"
            )
            assert shown(browser) <= 2
            run.kill()
        browser.wait("/has ended or does not answer/.test(document.getElementById('state').textContent)", 120)
        assert "process ended" in text(browser, "training")
        assert browser.evaluate("document.getElementById('words').value") == "wi-32 running"
        asked = [p["request"]["url"] for m, p in browser.events if m == "Network.requestWillBeSent"]
        assert [one for one in asked if not one.startswith((url, "data:", "blob:"))] == []
        thrown = [p for m, p in browser.events if m == "Runtime.exceptionThrown"]
        thrown += [p for m, p in browser.events if m == "Log.entryAdded" and p["entry"]["level"] == "error"]
        assert thrown == []
        server.interrupt()
        server.ended(60)
        assert server.returncode == 0
        browser.wait("document.body.classList.contains('lost')", 60)
