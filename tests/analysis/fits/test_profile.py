from __future__ import annotations

import numpy as np
import pytest

from analysis import fit_law, fit_surface, profile
from tests.analysis.planted import law, records, surface


def test_profile_of_a_straight_line_is_students_interval():
    table = law(n=12, floor=0, noise=0.05)
    fit = fit_law(table, x="flops", law="power", loss="squares", resamples=0)
    x, y = np.log(table["flops"]), np.log(table["error"])
    slope, residuals = np.polyfit(x, y, 1), y - np.polyval(np.polyfit(x, y, 1), x)
    error = np.sqrt(np.sum(residuals**2) / 10 / np.sum((x - x.mean()) ** 2))
    found = profile(fit, "exponent")
    assert found.value == pytest.approx(-slope[0], rel=1e-6)
    assert [found.low, found.high] == pytest.approx(
        [-slope[0] - 2.228 * error, -slope[0] + 2.228 * error], rel=2e-3
    )


@pytest.mark.parametrize("options", [{"loss": "squares"}, {}])
def test_profile_and_bootstrap_agree_under_equal_gaussian_noise(options):
    fit = fit_surface(surface(n=60, noise=0.02), resamples=400, **options)
    for name in fit.estimates:
        found = profile(fit, name)
        assert found.low < found.value < found.high
        assert found.value == pytest.approx(fit[name], rel=1e-9)
        ends = np.log([found.low, found.high]), np.log(fit.intervals[name])
        assert np.abs(ends[0] - ends[1]).max() < 0.35 * np.ptp(ends[1])


def test_profile_of_a_prediction_holds_the_law():
    fit = fit_surface(surface(n=60, noise=0.02), resamples=0)
    found = profile(fit, at=(1e8, 1e8))
    planted = 0.2 + 2 * 1e4**-0.35 + 3 * 1e3**-0.4
    assert found.low < planted < found.high
    assert found.value == pytest.approx(float(fit.predict(1e8, 1e8)["y"].iloc[0]), rel=1e-9)


def test_floor_at_its_bound_has_a_profile_from_zero():
    found = profile(fit_surface(surface(n=60, noise=0.02, floor=0.0), resamples=0), "floor")
    assert found.low == 0 == found.value
    assert 0 < found.high < 0.1


def test_profile_refuses_what_it_cannot_answer():
    fit = fit_law(records(), x="flops", law="power", resamples=0)
    with pytest.raises(ValueError, match="96 rows are 12 runs"):
        profile(fit, "exponent")
    fit = fit_law(law(), x="flops", resamples=0)
    with pytest.raises(ValueError, match="one of them"):
        profile(fit)
    with pytest.raises(KeyError, match="has no 'alpha'; it has exponent"):
        profile(fit, "alpha")
