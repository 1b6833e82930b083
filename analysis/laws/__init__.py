"""Laws: formula, derivatives, starting points and parameter names, one law per file.

Read `base.py` first: it says what a law must have. `surfaces/` has the laws of params and examples, `curves/` those
that `fit_laws` extrapolates with. To add a law, write a subclass of `Law`, then name it
`module:name` where a law is asked for, register it with `analysis.register_law(name, law)`, or offer it to others
as an entry point of the group `isoflop.laws`. The laws of this package are listed below.
"""

from __future__ import annotations

from analysis.laws.base import Law, check_law
from analysis.registry import Registry

LAWS: Registry[type[Law]] = Registry(
    "law",
    "isoflop.laws",
    check_law,
    {
        "power": "analysis.laws.power:Power",
        "power-floor": "analysis.laws.power:PowerFloor",
        "power-shift": "analysis.laws.power:PowerShift",
        "power-floor-shift": "analysis.laws.power:PowerFloorShift",
        "sigmoid": "analysis.laws.sigmoid:Sigmoid",
        "broken-1": "analysis.laws.broken:Broken",
        "broken-2": "analysis.laws.broken:TwiceBroken",
        "broken-3": "analysis.laws.broken:ThriceBroken",
        "curve-power": "analysis.laws.curves.power:PowerCurve",
        "curve-floor": "analysis.laws.curves.floor:FloorCurve",
        "curve-broken": "analysis.laws.curves.broken:BrokenCurve",
        "curve-saturating": "analysis.laws.curves.saturating:SaturatingCurve",
        "curve-tail": "analysis.laws.curves.tail:TailCurve",
        "growth": "analysis.laws.product:Growth",
        "product": "analysis.laws.product:Product",
        "chinchilla": "analysis.laws.surfaces.chinchilla:Chinchilla",
        "coupled": "analysis.laws.surfaces.coupled:Coupled",
        "bounded": "analysis.laws.surfaces.bounded:Bounded",
        "overfitted": "analysis.laws.surfaces.bounded:Overfitted",
        "kaplan": "analysis.laws.surfaces.kaplan:Kaplan",
        "repeated": "analysis.laws.surfaces.repeated:Repeated",
        "repeated-examples": "analysis.laws.surfaces.repeated:RepeatedExamples",
    },
)
register_law = LAWS.add

__all__ = ["LAWS", "Law", "register_law"]
