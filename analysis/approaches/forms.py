"""Fit every form of a surface to one table, and rule out those that the points contradict."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

import numpy as np
import pandas as pd

from analysis.approaches.surface import SurfaceFit, fit_placed, place, read_surface
from analysis.fits.forms import Forms, compare
from analysis.fits.law import law_entry
from analysis.fits.thresholds import RULED_OUT
from analysis.laws.constrained import has_parameters
from analysis.laws.surfaces.chinchilla import FORMS
from analysis.table.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.fits.forms import Scored
    from analysis.fits.result import LawFit
    from analysis.table.options import OptionNames

REPEATED = "repeated-examples"
"""The form that is compared too where examples are repeated."""
_RESAMPLES = 400
"""Most resamples of a form that the caller did not ask for."""


def fit_forms(
    frame: pd.DataFrame | Mapping[str, object],
    n: str = "params",
    d: str = "examples",
    y: str = "loss",
    *,
    u: str = "dataset_size",
    forms: Sequence[str] | None = None,
    **options: Unpack[OptionNames],
) -> Forms:
    """Fit every form of a surface, rule out those that the points contradict, and take the union of the others.

    All forms are compared under one Huber loss by AICc; a form is ruled out from a difference of 6 to the best. On
    planted tables of every form `benchmarks/bench_forms.py` counts how often the true one is ruled out.

    Args:
        frame: one row a point; any table with the columns. Rows without a finite `y` are left out.
        n: positive column of the trainable parameters N.
        d: positive column of the training examples (tokens) D, repeats counted.
        y: positive column that was measured.
        u: positive column of the unique examples U; where some are repeated, "repeated-examples" is compared too.
        forms: names of laws; default "chinchilla", "coupled", "bounded", "overfitted" and "kaplan".
        **options: as for `fit_surface`.

    Raises:
        ValueError: a column or an option is missing or unfit, there are too few distinct points, or the loss is
            asymmetric.
    """
    chosen = Options.of(options)
    if chosen.quantile != 0.5:
        raise ValueError(f"quantile is {chosen.quantile}; forms are compared under a symmetric loss, quantile 0.5")
    placed = {}
    for name in forms or _forms(frame, u, d):
        data, names = read_surface(frame, (n, u, d), y, name, chosen)
        if forms or has_parameters(law_entry(name)(data.logs, data.centre_x), chosen.constraints.names):
            placed[name] = (place(data, names, name, (n, d), chosen), data)
    if not placed:
        raise ValueError(f"no form has the parameters {', '.join(chosen.constraints.names)}")
    return _fit(compare(placed, chosen.residuals), (n, u, d), y, chosen, {})


def forms_of(fit: SurfaceFit) -> Forms | None:
    """A fit among all forms of its table; None for a law without rivals, and for an asymmetric loss."""
    rivals = fit.law.rivals() if fit.options.quantile == 0.5 else {}
    if not rivals:
        return None
    laws = {fit.name: fit.law} | rivals
    scored = compare({name: (law, fit.data) for name, law in laws.items()}, fit.options.residuals)
    options = replace(fit.options, resamples=min(fit.options.resamples, _RESAMPLES))
    return _fit(scored, (fit.x[0], "", fit.x[1]), fit.y, options, {fit.name: fit})


def _forms(frame: pd.DataFrame | Mapping[str, object], u: str, d: str) -> tuple[str, ...]:
    """The forms that a table can tell apart."""
    if u not in frame or d not in frame:
        return FORMS
    table = pd.DataFrame({"seen": frame[d], "distinct": frame[u]}).apply(pd.to_numeric, errors="coerce")
    return (*FORMS, REPEATED) if (table["seen"] > 1.01 * table["distinct"]).any() else FORMS


def _fit(
    scored: dict[str, Scored],
    columns: tuple[str, str, str],
    y: str,
    options: Options,
    known: Mapping[str, SurfaceFit],
) -> Forms:
    """The comparison, with resamples of every form that is not ruled out; `known` are fitted already."""
    best = next(iter(scored))
    aicc = {name: form.aicc - scored[best].aicc for name, form in scored.items()}
    ruled_out = {
        name: f"its AICc is {more:.1f} above that of {best}" for name, more in aicc.items() if more > RULED_OUT
    }
    shares = {name: 0.0 if name in ruled_out else float(np.exp(-0.5 * more)) for name, more in aicc.items()}
    fits: dict[str, LawFit] = {}
    for name, form in scored.items():
        chosen = replace(options, resamples=0) if name in ruled_out else options
        fits[name] = known.get(name) or _fitted(name, form, columns, y, chosen)
    forms = Forms(
        fits=fits,
        aicc=aicc,
        losses={name: form.objective for name, form in scored.items()},
        weights={name: share / sum(shares.values()) for name, share in shares.items()},
        ruled_out=ruled_out,
    )
    for fit in fits.values():
        vars(fit)["forms"] = forms  # the cached property: every fit is judged among the same forms
    return forms


def _fitted(name: str, form: Scored, columns: tuple[str, str, str], y: str, options: Options) -> SurfaceFit:
    n, u, d = columns
    names = (n, u, d) if len(form.law.inputs) == 3 else (n, d)
    return fit_placed(form.data, form.law, name, (names, y), options)
