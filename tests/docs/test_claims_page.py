"""The page on what is claimed lists every rule and every claim of the code, and no others."""

import re
from dataclasses import fields

from analysis.checks.verdict import Verdict
from analysis.fits.diagnosis import cautions, floors, identification
from analysis.fits.diagnosis.rejection import REJECTING
from tests.paths import ROOT

TEXT = (ROOT / "docs/explanation/what-is-claimed.md").read_text(encoding="utf-8")


def listed(heading):
    """The first cells of the tables below a heading."""
    section = TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_every_rule_of_a_fit_is_listed_once():
    rules = (*REJECTING, *identification.BLOCKING, *floors.FLOOR, *cautions.CAUTIONS)
    assert sorted(listed("A law fitted to a table")) == sorted(rule.__name__.lstrip("_") for rule in rules)


def test_every_claim_of_a_verdict_is_listed_once():
    claims = [field.name for field in fields(Verdict) if field.type == "Claim"]
    assert claims
    assert sorted(listed("A verdict")) == sorted(claims)
