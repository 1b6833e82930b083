"""Laws from tables: power laws with intervals that can be defended, from any DataFrame with named columns.

Imports numpy, pandas and scipy.special; matplotlib only when a figure is drawn.
"""

from analysis.chart import Chart, Line
from analysis.frontier import fit_frontier, frontier
from analysis.isoflop import fit_isoflop
from analysis.isoflop_law import IsoflopFit
from analysis.law import PowerLawFit
from analysis.law_figure import describe_law
from analysis.learning_rate import LearningRates, best_learning_rates
from analysis.plots import draw, save
from analysis.power_law import fit_power_law
from analysis.seeds import average_seeds
from analysis.solver import FitError
from analysis.surface import SurfaceFit, fit_surface

__all__ = [
    "Chart",
    "FitError",
    "IsoflopFit",
    "LearningRates",
    "Line",
    "PowerLawFit",
    "SurfaceFit",
    "average_seeds",
    "best_learning_rates",
    "describe_law",
    "draw",
    "fit_frontier",
    "fit_isoflop",
    "fit_power_law",
    "fit_surface",
    "frontier",
    "save",
]
