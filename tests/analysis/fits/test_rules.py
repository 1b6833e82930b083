"""What each rule says of which evidence, and up to which value it is silent; nothing is fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.fits.diagnosis.cautions import CAUTIONS
from analysis.fits.diagnosis.evidence import Evidence
from analysis.fits.diagnosis.floors import FLOOR
from analysis.fits.diagnosis.identification import BLOCKING
from analysis.fits.diagnosis.rejection import REJECTING
from analysis.fits.diagnosis.scatter import Scatter
from analysis.laws.base import Constraints
from analysis.table.rows import Refusal
from tests.analysis.fits.made_evidence import RULES, end, evidence, few, said, surface


def test_every_name_of_the_evidence_made_by_hand_exists():
    assert set(vars(evidence())) - {"fit"} <= set(Evidence.__dataclass_fields__) | set(dir(Evidence))
    assert len(RULES) == sum(map(len, (REJECTING, BLOCKING, FLOOR, CAUTIONS)))


def test_nothing_is_said_of_a_law_with_nothing_against_it():
    assert said(evidence()) == {}
    assert said(surface()) == {}


CASES: dict[str, tuple[Any, str]] = {
    # the law does not describe the table
    "_saturated": (
        {"data__notes": ("a note", Refusal("error is 0 in half of the rows"), Refusal("another"))},
        "error is 0 in half of the rows",
    ),
    "_pooled": (
        {"populations": {"family (a, b)": 0.001}},
        (
            "the rows are of populations that do not share the law, by family (a, b), p = 0.001: fit each "
            "(analysis.fit_by, --by), or all together (pool=True, --pool)"
        ),
    ),
    "_ends": (
        {
            "ends": (
                end(chance=0.01),
                end(),
                end(rows=1),
                end(smallest=False, off=-0.2, others_hold=False, rows=7, at=3e12),
            )
        },
        (
            "the 3 rows with flops below 1e10 lie up to 11 % above the law of the others (a warm-up?); leave "
            'them out with --where "flops > 1e10"; the row with flops below '
            '1e10 lies 11 % above the law of the others (a warm-up?); leave it out with --where "flops > 1e10"'
            "; the 7 rows with flops above "
            "3e12 lie up to 18 % below the law of the others"
        ),
    ),
    "_scattered": (
        {"scatter": Scatter(0.404)},
        "the points scatter about the law by 40 % rms: it does not describe them",
    ),
    "_misfit": (
        {"scatter": Scatter(0.01, noise=0.62, spare=9, excess=2.14, unexplained=0.01)},
        "the points leave the law by 2.1 x what repeats explain (62 %): it is not the law of this table",
    ),
    "_bends": (
        {"scatter": Scatter(0.01, bent=0.01)},
        "the points bend about the law instead of scattering: it is not the law of this table",
    ),
    "_better_law": (
        {"rivals": {"shift": (0.312, 4.01), "break": (0.25, 9.0), "tail": (0.25, 4.0), "floor": (0.2, 9.0)}},
        (
            "a shift describes the points better (AICc 4.0 lower), with exponent 0.312; "
            "a break describes the points better (AICc 9.0 lower), with exponent 0.25"
        ),
    ),
    "_constraints_contradicted": (
        {
            "unconstrained": 4.0,
            "law__constraints": Constraints(fix={"floor": 0.01}, bounds={"exponent": (0.1, 0.9)}),
        },
        "the points contradict what was set for floor, exponent: the AICc of the law without it is 4.0 lower",
    ),
    # its exponents are not identified
    "too_few_x": ({"data__distinct": 4}, "4 distinct flops for 3 parameters; a claim needs 5"),
    "too_short": ({"span": 2.96}, "flops spans only a factor of 3; a claim needs 3, a good one 10"),
    "_exponent_at_bound": (
        {
            "fit__at_bounds": ("exponent", "shift"),
            "law__rates": ("shift",),
            "fit__intervals": {"exponent": (0.28, 0.32), "floor": (0.04, 0.06), "shift": (1.0, 2.0)},
        },
        "exponent reached the end of the search range",
    ),
    "_wide": (
        {"fit__intervals": {"exponent": (0.1, 0.401), "floor": (0.04, 0.06)}},
        "the interval of the exponent spans a factor of 4; a claim needs at most a factor of 4",
    ),
    "moves_with_range": (
        {"trimmed": {"smallest": 0.19, "largest": 0.46}},
        (
            "the exponent depends on the fitted range: without the smallest flops it is 0.19, without the largest "
            "flops it is 0.46, outside [0.28, 0.32]"
        ),
    ),
    "_few_decide": (
        {"few": {"exponent": few(0.5), "floor": few(0.1)}},
        "without 1 of 20 rows the exponent is 0.5, outside [0.28, 0.32] (the rows with flops 1e9, error 0.5)",
    ),
    "_not_converged": ({"solution__converged": False}, "the solver did not converge"),
    "_ill": (
        {"solution__condition": 1e5},
        "only combinations of log_exponent, log_term are determined (condition number 1e5)",
    ),
    # its floor is not identified
    "_no_floor": ({"fit__floor": 0.0}, "the fit has no floor"),
    "_floor_given": ({"law__constraints": Constraints(fix={"floor": 0.05})}, "the floor was set, not measured"),
    "_floor_reaches_zero": (
        {"fit__intervals": {"exponent": (0.28, 0.32), "floor": (0.0005, 0.06)}},
        "the interval of the floor reaches 0: [0.0005, 0.06]",
    ),
    "_bare_as_good": (
        {"rivals": {"floor": (0.2, -1.9)}},
        "a law without a floor describes the points as well (its AICc is 1.9 higher)",
    ),
    "_few_decide_floor": (
        {"few": {"floor": few(0.123, rows=2)}},
        (
            "without 2 of 20 rows the floor is 0.123, outside [0.04, 0.06] (the rows with flops 1e9, error 0.5; "
            "flops 2e9, error 0.5)"
        ),
    ),
    # cautions
    "_few_points": ({"data__distinct": 5}, "only 5 distinct flops for 3 parameters: intervals are rough"),
    "_under_a_decade": ({"span": 9.96}, "flops spans less than a decade (a factor of 10)"),
    "_shifts_with_range": (
        {"trimmed": {"smallest": 0.4, "largest": 0.3}},
        "the exponent depends on the fitted range: without the smallest flops it is 0.4, outside [0.28, 0.32]",
    ),
    "_floor_at_bound": (
        {"fit__at_bounds": ("floor",)},
        "the floor is at its bound 0: these points show none, which does not mean that there is none",
    ),
    "_at_given_bound": (
        {"fit__at_bounds": ("exponent",), "law__constraints": Constraints(bounds={"exponent": (0.1, 0.3)})},
        "exponent ended at its bound 0.3: the interval has one side only",
    ),
    "_other_bounds": ({"fit__at_bounds": ("shift",)}, "shift of the law reached the end of the search range"),
    "_not_needed": (
        {"rivals": {"floor": (0.213, -1.9), "shift": (0.3, 3.0)}},
        "a law without a floor describes the points as well (its AICc is 1.9 higher), with exponent 0.213",
    ),
    "_few_clusters": (
        {"data__clusters": 9},
        "only 9 independent units: intervals from fewer than ten are rough",
    ),
    "_replicates_failed": (
        {"solution__replicates_converged": np.arange(50) >= 3},
        "6 % of the bootstrap refits did not converge",
    ),
    "_dropped": ({"data__dropped": 2}, "2 rows without a finite error (failed or diverged) left out"),
    "_pooled_on_request": (
        {"populations": {"family (a, b)": 0.001}, "data__pool": True},
        "populations are fitted together, by family (a, b): their laws differ (p = 0.001)",
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_says_in_words_what_is_against_a_law(rule):
    changes, text = CASES[rule]
    assert said(evidence(**changes))[rule] == text


SILENT: dict[str, list[Any]] = {
    "_saturated": [{"data__notes": ("error is 0 in a row: left out",)}],
    "_pooled": [{"populations": {"family (a, b)": 0.01}}, {"populations": {"f": 1e-9}, "data__pool": True}],
    "_ends": [{"ends": (end(chance=0.01),)}],
    "_scattered": [{"scatter": Scatter(0.3)}],
    "_misfit": [{"scatter": Scatter(0.01, 0.01, 9, 2.0, 0.0101)}],
    "_bends": [
        {"scatter": Scatter(0.01, bent=0.0101, ordered=0.0101)},
        {"scatter": Scatter(0.01, 0.01, 9, 2.0, unexplained=0.001, bent=0.001)},
    ],
    "_better_law": [{"rivals": {"shift": (0.3, 4.0), "floor": (0.3, 40.0)}}],
    "_constraints_contradicted": [{"unconstrained": 3.99}],
    "too_few_x": [{"data__distinct": 5}],
    "too_short": [{"span": 3.0}],
    "_exponent_at_bound": [
        {"fit__at_bounds": ("floor",)},
        {"fit__at_bounds": ("exponent",), "law__constraints": Constraints(bounds={"exponent": (0.1, 0.3)})},
    ],
    "_wide": [
        {"fit__intervals": {"exponent": (0.1, 0.4), "floor": (0.04, 0.06)}},
        {
            "fit__intervals": {"exponent": (0.1, 0.5), "floor": (0.04, 0.06)},
            "solution__condition": 1e6,
            "law__theta_names": ("exponent", "log_term", "floor"),
        },
        {"fit__intervals": {"exponent": (np.nan, np.nan), "floor": (np.nan, np.nan)}},
    ],
    "moves_with_range": [
        {"trimmed": {"smallest": 0.21, "largest": 0.44}},
        {"trimmed": {"smallest": 0.1, "largest": 0.9}, "fit__resamples": 0},
    ],
    "_few_decide": [{"few": {"floor": few(0.2)}}],
    "_ill": [{"solution__condition": 0.99e5}],
    "_floor_given": [
        {"law__constraints": Constraints(bounds={"floor": (0.03, 1.0)})},
        {"law__constraints": Constraints(bounds={"floor": (0.0, 1.0)})},
    ],
    "_floor_reaches_zero": [
        {"fit__intervals": {"exponent": (0.28, 0.32), "floor": (0.00051, 0.06)}},
        {"fit__intervals": {"exponent": (0.28, 0.32), "floor": (0.0, 0.06)}, "fit__floor": 0.0},
    ],
    "_bare_as_good": [{"rivals": {"floor": (0.2, -2.0)}}, {"rivals": {"floor": (0.2, 5.0)}, "fit__floor": 0.0}],
    "_few_points": [{"data__distinct": 6}, {"data__distinct": 4}],
    "_under_a_decade": [{"span": 10.0}, {"span": 2.0}],
    "_shifts_with_range": [
        {"trimmed": {"smallest": 0.2745, "largest": 0.3263}},
        {"trimmed": {"smallest": 0.5, "largest": 0.3}},
    ],
    "_floor_at_bound": [
        {"fit__at_bounds": ("floor",), "law__constraints": Constraints(bounds={"floor": (0.05, 1.0)})}
    ],
    "_other_bounds": [
        {"fit__at_bounds": ("exponent", "floor")},
        {"fit__at_bounds": ("A",), "law__terms": {"A": 0}},
    ],
    "_not_needed": [
        {"rivals": {"floor": (0.2, -2.0)}},
        {"rivals": {"floor": (0.2, 1.0)}, "fit__estimates": {"exponent": 0.3, "floor": 0.0}},
    ],
    "_few_clusters": [
        {"data__clusters": 10},
        {"data__clusters": 4, "data__distinct": 4},
        {"data__clusters": 5, "data__distinct": 5},
    ],
    "_replicates_failed": [
        {"solution__replicates_converged": np.arange(100) >= 4},
        {"solution__replicates_converged": np.zeros(0, dtype=bool)},
    ],
    "_pooled_on_request": [{"populations": {"family (a, b)": 0.001}}],
}


@pytest.mark.parametrize(("rule", "k"), [(rule, k) for rule, cases in SILENT.items() for k in range(len(cases))])
def test_a_rule_is_silent_where_its_threshold_is_not_passed_or_another_rule_says_it(rule, k):
    assert rule not in said(evidence(**SILENT[rule][k]))
