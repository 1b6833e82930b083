from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import fit_surface
from analysis.laws import LAWS
from analysis.laws.surfaces.chinchilla import FORMS
from tests.analysis.laws.test_laws import placed
from tests.analysis.planted_forms import EXACT, table, truth

QUICK = settings(deadline=None, max_examples=8, derandomize=True)
THETA = np.array([[-1.1, -0.4, -0.9, 0.2, 0.3], [-0.2, 0.1, -1.6, -0.5, 0.0]])


def law_of(name):
    return LAWS.get(name)(placed("chinchilla").logs, placed("chinchilla").centre)


def test_the_additive_law_and_kaplans_are_coupled_exactly():
    coupled = law_of("coupled")
    additive = np.column_stack([THETA, np.zeros(2)])
    assert coupled.value(additive) == pytest.approx(law_of("chinchilla").value(THETA), rel=1e-13)
    kaplan = np.column_stack([THETA[:, :4], np.zeros(2), -THETA[:, 2]])
    assert coupled.value(kaplan) == pytest.approx(law_of("kaplan").value(THETA[:, :4]), rel=1e-12)
    assert coupled.low[5] == pytest.approx(-coupled.high[2])
    assert coupled.high[5] == pytest.approx(-coupled.low[2])


def test_for_large_q_the_larger_term_decides():
    coupled = law_of("coupled")
    most = np.column_stack([THETA, np.full(2, np.log(1000.0))])
    without = [np.where(np.arange(5) == term, -700.0, THETA) for term in (1, 3)]
    larger = np.maximum(*(law_of("chinchilla").value(theta) for theta in without))
    assert coupled.value(most) == pytest.approx(larger, abs=1e-3)


def test_without_ceiling_and_overfitting_the_law_is_additive_and_it_ends_at_its_ceiling():
    additive = law_of("chinchilla").value(THETA)
    unbounded = np.column_stack([THETA, np.full(2, 30.0)])
    assert law_of("bounded").value(unbounded) == pytest.approx(additive, abs=1e-11)
    fitting = np.column_stack([unbounded, np.tile([-30.0, 0.0, 0.0], (2, 1))])
    assert law_of("overfitted").value(fitting) == pytest.approx(additive, abs=1e-10)
    bounded = law_of("bounded").at(np.full((2, 1), -60.0))
    assert bounded.value(np.column_stack([THETA, np.full(2, 0.7)])) == pytest.approx(np.full((2, 1), 0.7), abs=1e-4)


@pytest.mark.parametrize("name", FORMS)
def test_rivals_of_a_form_are_all_others_at_the_same_points(name):
    law = law_of(name)
    rivals = law.rivals()
    assert set(rivals) == set(FORMS) - {name}
    assert all(rival.logs is law.logs for rival in rivals.values())


def test_laws_that_tell_repeated_examples_apart_have_no_rivals():
    assert placed("repeated").rivals() == {}


@pytest.mark.parametrize("form", EXACT)
@QUICK
@given(log_units=st.tuples(st.floats(-9, 9), st.floats(-9, 9), st.floats(-3, 3)))
def test_exact_form_is_recovered_in_any_unit(form, log_units):
    name = EXACT[form]
    units = 10.0 ** np.array(log_units)
    fit = fit_surface(table(form) * [*units], y="error", law=name, resamples=0)
    for quantity, value in truth(form).items():
        unit = units[2] if quantity in ("floor", "ceiling") else 1.0
        assert fit[quantity] == pytest.approx(value * unit, rel=1e-4, abs=1e-5 * units[2]), quantity


def test_overfitting_is_where_larger_models_do_worse():
    law = law_of("overfitted")
    rising = np.array([-1.0, -2.0, -1.0, -2.0, 0.1, 2.0, -1.0, 0.0, 0.0])
    assert law.overfits(rising) > 0.3
    slope = law.at(np.array([[1e-4], [0.0]]) + law.logs).value(rising[None]) - law.value(rising[None])
    assert law.overfits(rising) == pytest.approx(np.mean(slope > 0))
    assert law.overfits(np.array([-1.0, 0.0, -1.0, -2.0, 0.1, 2.0, -12.0, 0.0, 0.0])) == 0.0
