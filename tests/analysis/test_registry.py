from __future__ import annotations

from analysis import fit_law
from analysis.laws import LAWS
from tests.analysis.planted_laws import stretched
from tests.paths import ROOT


def test_the_two_registries_are_one_text():
    """The packages may not import one another, so the class stands twice; its behaviour is tested in trainer."""
    texts = [(ROOT / package / "registry.py").read_text() for package in ("analysis", "trainer")]
    assert texts[0] == texts[1]


def test_a_law_used_by_its_address_does_not_enter_the_list_of_names():
    before = LAWS.names()
    fit_law(stretched(), law="tests.analysis.planted_laws:NumericalStretched", resamples=0)
    assert LAWS.names() == before
