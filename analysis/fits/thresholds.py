"""Thresholds of a claim: how many points, how wide a range, how narrow an interval."""

from __future__ import annotations

MAX_FACTOR = 4.0
"""An interval of an exponent wider than this factor from end to end identifies nothing."""
MAX_WIDTH = 1.0
"""An interval of an exponent of either sign wider than this from end to end identifies nothing."""
FAR = 1.5
"""Exponents that differ by this factor are different claims."""
AS_GOOD, BETTER = 2.0, 4.0
"""AICc differences below which laws are equally good, above which one is better (Burnham, Anderson 2002)."""
RULED_OUT = 6.0
"""AICc above that of the best form of a surface from which a form is ruled out; the true one seldom is."""
WIDER = 1.1
"""Factor on the width of an interval above which the forms that are not ruled out are worth a caution."""
MIN_SPAN = 3.0
"""A local slope over less than this factor of x is no law."""
SPARE_X = 2
"""Distinct x beyond the parameters of a law of one input that a claim needs."""
ILL = 1e5
"""Condition number beyond which only combinations of the parameters are determined."""
ALIGNED = 0.98
"""Correlation of the logarithms of two inputs beyond which only the law tells their exponents apart."""
LEAST_SIZES, LEAST_BUDGETS = 4, 3
"""Sizes that the minimum of an isoFLOP curve needs, and minima that their growth with compute needs."""
SURE = 0.8
"""Share of resamples in which a minimum must be interior for its budget to count."""
LEAST_VALUES = 3
"""Distinct values that each input of a surface needs, and a law of one input."""
CHANCE = 0.01
"""Probability below which chance does not explain a misfit."""
SUSPECT = 0.1
"""Probability below which an end of the range may leave the law: intervals hold the values without it."""
MOST_SCATTER = 0.3
"""Residuals of log y (rms) beyond which a law does not describe its points, whatever their noise."""
LEAST_FLOOR = 0.01
"""Share of the estimated floor below which an interval reaches 0."""
FEW_REPEATS = 5
"""Degrees of freedom below which the scatter of repeats does not tell the noise of a run."""
LEAST_HELD = 5
"""Held-out runs below which luck alone makes their error half of the true one in more than 6 % of tables."""
