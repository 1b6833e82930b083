"""Laws from tables: power laws with intervals that can be defended, from any DataFrame with named columns.

Imports numpy, pandas and scipy.special; matplotlib only when a figure is drawn.
"""

from analysis.agreement import Agreement, agree
from analysis.allocate import allocate
from analysis.allocation import Allocation
from analysis.chart import Chart, Line
from analysis.check_figure import describe_coverage, describe_held_out, describe_residuals
from analysis.closure import Closure, closure
from analysis.compare import Comparison, compare
from analysis.curve_law import fit_law
from analysis.design import DesignBias, design_bias
from analysis.fit import LawFit
from analysis.frontier import fit_frontier, frontier
from analysis.isoflop import fit_isoflop
from analysis.isoflop_law import IsoflopFit
from analysis.law import PowerLawFit
from analysis.law_figure import describe_law
from analysis.law_set import LawSet
from analysis.laws import fit_laws
from analysis.learning_rate import LearningRates, best_learning_rates
from analysis.optimum import Optimum, Price, fit_price, optimum
from analysis.optimum_figure import describe_isoflop, describe_learning_rates, describe_optima
from analysis.plots import draw, save
from analysis.power_law import fit_power_law
from analysis.profile import Profile, profile
from analysis.runs_figure import describe_families, describe_runs
from analysis.seeds import average_seeds
from analysis.sensitivity import Sensitivity, sensitivity
from analysis.solver import FitError
from analysis.suggest import suggest
from analysis.suggestion import Suggestion
from analysis.surface import SurfaceFit, fit_surface
from analysis.tables import fits_table, runs_table, to_latex, to_markdown
from analysis.validate import Validation, validate
from analysis.verdict import Claim, Verdict, verdict

__all__ = [
    "Agreement",
    "Allocation",
    "Chart",
    "Claim",
    "Closure",
    "Comparison",
    "DesignBias",
    "FitError",
    "IsoflopFit",
    "LawFit",
    "LawSet",
    "LearningRates",
    "Line",
    "Optimum",
    "PowerLawFit",
    "Price",
    "Profile",
    "Sensitivity",
    "Suggestion",
    "SurfaceFit",
    "Validation",
    "Verdict",
    "agree",
    "allocate",
    "average_seeds",
    "best_learning_rates",
    "closure",
    "compare",
    "describe_coverage",
    "describe_families",
    "describe_held_out",
    "describe_isoflop",
    "describe_law",
    "describe_learning_rates",
    "describe_optima",
    "describe_residuals",
    "describe_runs",
    "design_bias",
    "draw",
    "fit_frontier",
    "fit_isoflop",
    "fit_law",
    "fit_laws",
    "fit_power_law",
    "fit_price",
    "fit_surface",
    "fits_table",
    "frontier",
    "optimum",
    "profile",
    "runs_table",
    "save",
    "sensitivity",
    "suggest",
    "to_latex",
    "to_markdown",
    "validate",
    "verdict",
]
