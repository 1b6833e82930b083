"""A law of your own: written, registered, recovered from a planted table. `python examples/own_law.py`, a second.

The steps are explained in docs/how-to/add-a-law.md.
"""

# %% the law: how many parameters, how they are bounded, its logarithm, and where the search starts
import numpy as np
import pandas as pd

import analysis


class Root(analysis.Law):
    """y = floor + coefficient x^-0.5, the error of an average."""

    formula = "{floor} + {coefficient} {x}^-0.5"
    theta_names = ("coefficient", "floor")
    terms = {"coefficient": 0}  # noqa: RUF012 - a table of the class
    low, high = np.array([-30.0, 0.0]), np.array([30.0, np.inf])
    limit = np.array([3.0, np.inf])

    def value(self, theta):
        """Logarithm of the law, [B, n], for theta [B, 2]: the log of the coefficient, and the floor."""
        return np.log(theta[:, 1, None] + np.exp(theta[:, 0, None] - 0.5 * self.logs[0]))

    def parameters(self, theta, centre_y):
        """The parameters in the units of the data."""
        coefficient = np.exp(theta[:, 0] + centre_y + 0.5 * self.centre[0])
        return {"coefficient": coefficient, "floor": theta[:, 1] * np.exp(centre_y)}

    def candidates(self, problem):
        """Starting points [B, 3, 2]: three floors, and the coefficient that belongs to each."""
        y = np.exp(problem.log_y)
        floors = y.min(axis=1)[:, None] * np.array([0.0, 0.5, 0.9])
        rest = np.maximum(y[:, None, :] - floors[:, :, None], 1e-9)
        return np.stack([np.mean(np.log(rest) + 0.5 * self.logs[0], axis=2), floors], axis=-1)


analysis.register_law("root", Root)

# %% a table with the law planted: floor 0.05, coefficient 3, one per cent of noise
rng = np.random.default_rng(0)
x = np.geomspace(1e2, 1e6, 20)
table = pd.DataFrame({"examples": x, "error": (0.05 + 3 * x**-0.5) * np.exp(0.01 * rng.normal(size=20))})

# %% fitted, resampled and drawn like the built-in laws
fit = analysis.fit_law(table, x="examples", law="root")
print(fit)

# %% against the power law, whose exponent is free
print(analysis.fit_power_law(table, x="examples"))
