"""Laws from tables: power laws with intervals that can be defended, from any DataFrame with named columns.

Each name is imported when it is first used: `isoflop plan` needs numpy alone. The fits import numpy, pandas and
scipy.special; matplotlib only when a figure is drawn.
"""

from __future__ import annotations

import importlib
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.approaches.forms import fit_forms
    from analysis.approaches.frontier import fit_frontier, frontier
    from analysis.approaches.isoflop import fit_isoflop
    from analysis.approaches.isoflop_fit import IsoflopFit
    from analysis.approaches.learning_rate import LearningRates, best_learning_rates
    from analysis.approaches.optimum import Optimum, Price, fit_price, optimum
    from analysis.approaches.surface import SurfaceFit, fit_surface
    from analysis.checks.agreement import Agreement, agree
    from analysis.checks.claims import Claim
    from analysis.checks.closure import Closure, closure
    from analysis.checks.compare import Comparison, compare
    from analysis.checks.design_bias import DesignBias, design_bias
    from analysis.checks.sensitivity import Sensitivity, sensitivity
    from analysis.checks.validate import Validation, validate
    from analysis.checks.verdict import Verdict, verdict
    from analysis.decisions.allocate import Allocation, allocate
    from analysis.decisions.design import Design, expect
    from analysis.decisions.suggest import Suggestion, suggest
    from analysis.figures.chart import Chart, Line
    from analysis.figures.law import describe_families, describe_law
    from analysis.figures.optima import describe_isoflop, describe_learning_rates, describe_optima
    from analysis.figures.plots import draw, save
    from analysis.figures.residuals import describe_coverage, describe_held_out, describe_residuals
    from analysis.figures.runs import describe_runs
    from analysis.fits.fit_by import GroupFits, fit_by
    from analysis.fits.forms import Forms
    from analysis.fits.law import fit_law, fit_power_law
    from analysis.fits.law_set import LawSet, fit_laws
    from analysis.fits.profile import Profile, profile
    from analysis.fits.result import LawFit
    from analysis.laws import Law, register_law
    from analysis.laws.curves.base import Curve
    from analysis.report.tables import fits_table, runs_table, to_latex, to_markdown
    from analysis.solver.fitting import FitError
    from analysis.table.foreign.read import read_table
    from analysis.table.foreign.roles import Recognised, recognise
    from analysis.table.foreign.text import ReadError
    from analysis.table.seeds import average_seeds

__all__ = [
    "Agreement",
    "Allocation",
    "Chart",
    "Claim",
    "Closure",
    "Comparison",
    "Curve",
    "Design",
    "DesignBias",
    "FitError",
    "Forms",
    "GroupFits",
    "IsoflopFit",
    "Law",
    "LawFit",
    "LawSet",
    "LearningRates",
    "Line",
    "Optimum",
    "Price",
    "Profile",
    "ReadError",
    "Recognised",
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
    "expect",
    "fit_by",
    "fit_forms",
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
    "read_table",
    "recognise",
    "register_law",
    "runs_table",
    "save",
    "sensitivity",
    "suggest",
    "to_latex",
    "to_markdown",
    "validate",
    "verdict",
]

_MODULES = {
    "analysis.approaches.forms": ("fit_forms",),
    "analysis.approaches.frontier": ("fit_frontier", "frontier"),
    "analysis.approaches.isoflop": ("fit_isoflop",),
    "analysis.approaches.isoflop_fit": ("IsoflopFit",),
    "analysis.approaches.learning_rate": ("LearningRates", "best_learning_rates"),
    "analysis.approaches.optimum": ("Optimum", "Price", "fit_price", "optimum"),
    "analysis.approaches.surface": ("SurfaceFit", "fit_surface"),
    "analysis.checks.agreement": ("Agreement", "agree"),
    "analysis.checks.closure": ("Closure", "closure"),
    "analysis.checks.compare": ("Comparison", "compare"),
    "analysis.checks.design_bias": ("DesignBias", "design_bias"),
    "analysis.checks.sensitivity": ("Sensitivity", "sensitivity"),
    "analysis.checks.validate": ("Validation", "validate"),
    "analysis.checks.claims": ("Claim",),
    "analysis.checks.verdict": ("Verdict", "verdict"),
    "analysis.decisions.allocate": ("Allocation", "allocate"),
    "analysis.decisions.design": ("Design", "expect"),
    "analysis.decisions.suggest": ("Suggestion", "suggest"),
    "analysis.figures.chart": ("Chart", "Line"),
    "analysis.figures.law": ("describe_families", "describe_law"),
    "analysis.figures.optima": ("describe_isoflop", "describe_learning_rates", "describe_optima"),
    "analysis.figures.plots": ("draw", "save"),
    "analysis.figures.residuals": ("describe_coverage", "describe_held_out", "describe_residuals"),
    "analysis.figures.runs": ("describe_runs",),
    "analysis.fits.fit_by": ("GroupFits", "fit_by"),
    "analysis.fits.forms": ("Forms",),
    "analysis.fits.law": ("fit_law", "fit_power_law"),
    "analysis.fits.law_set": ("LawSet", "fit_laws"),
    "analysis.fits.profile": ("Profile", "profile"),
    "analysis.fits.result": ("LawFit",),
    "analysis.laws": ("Law", "register_law"),
    "analysis.laws.curves.base": ("Curve",),
    "analysis.report.tables": ("fits_table", "runs_table", "to_latex", "to_markdown"),
    "analysis.solver.fitting": ("FitError",),
    "analysis.table.foreign.read": ("read_table",),
    "analysis.table.foreign.roles": ("Recognised", "recognise"),
    "analysis.table.foreign.text": ("ReadError",),
    "analysis.table.seeds": ("average_seeds",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    if isinstance(value, FunctionType):
        from analysis.table.arguments import checked

        value = checked(value)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
