"""Claims that hold, claims that do not, and refusals, of every verb on planted tables of many kinds.

`./run python benchmarks/bench_claims.py [--tables 4] [--only KIND ...] [--quick] [--csv FILE]`

A claim of an interval is right if the interval holds the planted value (of every population, where a table has
several); a claimed extrapolation, if the law of all rows is off by at most twice the promised rms at the claimed
reach; no claim of a floor where there is none is right too. The goal is at most 5 % wrong in every kind and at most
10 % refused of the healthy kinds. Table k of a kind has the seed k: `--only KIND --first k --tables 1 --show` tells
what the verbs say of it. `--csv` appends the single outcomes, and `--summary FILE` prints their table.
"""

from __future__ import annotations

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import argparse
import sys
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from planted_claims import HEALTHY, KINDS
from scipy.stats import binom

from analysis import (
    FitError,
    allocate,
    compare,
    fit_by,
    fit_forms,
    fit_frontier,
    fit_isoflop,
    fit_power_law,
    fit_surface,
    suggest,
    verdict,
)
from analysis.checks.agreement import Fitted
from analysis.checks.predictors import Question, surface
from analysis.checks.validate import LAWS
from analysis.laws.surfaces.chinchilla import FORMS

RESAMPLES = 200
OUTCOMES = ("right", "wrong", "refused")
REFUSED = ("refused", np.nan)
FAR = 10.0
"""`allocate` and `suggest` are asked about this factor on the largest compute."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=4, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", nargs="+", choices=KINDS, metavar="KIND", default=list(KINDS))
    parser.add_argument("--quick", action="store_true", help="one table of each kind")
    parser.add_argument("--show", action="store_true", help="print what the verbs say")
    parser.add_argument("--csv", type=Path, help="append the outcomes to this file")
    parser.add_argument("--summary", type=Path, help="only print the table of this file")
    parser.add_argument("--matrix", type=Path, help="only print a line a kind of this file")
    chosen = parser.parse_args()
    if chosen.summary or chosen.matrix:
        (report if chosen.summary else matrix)(pd.read_csv(chosen.summary or chosen.matrix))
        return
    count, rows = 1 if chosen.quick else chosen.tables, []
    for kind in chosen.only:
        before = len(rows)
        for seed in range(chosen.first, chosen.first + count):
            rows += [{"kind": kind, "seed": seed, **row} for row in judged(kind, seed, show=chosen.show)]
        if chosen.csv:
            head = not chosen.csv.exists()
            pd.DataFrame(rows[before:]).to_csv(chosen.csv, mode="a", header=head, index=False)
        print(kind, file=sys.stderr, flush=True)
    report(pd.DataFrame(rows))


def report(rows: pd.DataFrame) -> None:
    """Shares by kind and verb, the most wrong first, then the claims that were wrong, one by one."""
    verbs = summary(rows, ["kind", "verb"])
    print(f"{rows['seed'].nunique()} tables a kind; shares of the claims that a verb could make\n")
    print("| kind | verb | right | wrong | refused |\n|---|---|---|---|---|")
    for line in verbs.itertuples():
        healthy = " (healthy)" if line.kind in HEALTHY else ""
        print(f"| {line.kind}{healthy} | {line.verb} | {line.right:.2f} | {line.wrong:.2f} | {line.refused:.2f} |")
    claims = summary(rows, ["kind", "verb", "claim"])
    false = claims[binom.sf(claims["wrong"] * claims["tables"] - 0.5, claims["tables"], 0.05) < 0.05]
    shy = verbs[verbs["kind"].isin(HEALTHY) & (verbs["refused"] > 0.1)]
    kinds = f"in {false['kind'].nunique()} of {rows['kind'].nunique()} kinds"
    print(f"\nmore than 5 % wrong: {(verbs['wrong'] > 0.05).sum()} of {len(verbs)} rows")
    print(f"more than 5 % wrong beyond chance (p < 0.05): {len(false)} of {len(claims)} single claims, {kinds}")
    print(f"healthy and more than 10 % refused: {len(shy)} rows, in {shy['kind'].nunique()} kinds")
    print(
        "\nWrong claims; miss: from the middle of the interval to the truth in half-widths, or rms over promise\n"
    )
    print("| kind | verb | claim | wrong | worst miss | at seed |\n|---|---|---|---|---|---|")
    for line in claims.itertuples():
        if line.wrong:
            where = f"{line.kind} | {line.verb} | {line.claim}"
            print(f"| {where} | {line.wrong:.2f} | {line.miss:.1f} | {line.example:.0f} |")


def matrix(rows: pd.DataFrame) -> None:
    """A line a kind: tables, and the percentages wrong / refused by verb; both kinds of table apart."""
    lines, tables = summary(rows, ["kind", "verb"]), rows.groupby("kind")["seed"].nunique()
    cells = {(x.kind, x.verb): f"{100 * x.wrong:.0f} / {100 * x.refused:.0f}" for x in lines.itertuples()}
    curves = [kind for kind in KINDS if (kind, "fit") in cells]
    for kinds in (curves, [kind for kind in KINDS if kind in tables and kind not in curves]):
        verbs = [verb for verb in dict.fromkeys(rows["verb"]) if any((kind, verb) in cells for kind in kinds)]
        print(f"| kind | n | {' | '.join(verbs)} |\n{'|---' * (len(verbs) + 2)}|")
        for kind in kinds:
            name = f"**{kind}**" if kind in HEALTHY else kind
            print(f"| {name} | {tables[kind]} | {' | '.join(cells.get((kind, verb), '') for verb in verbs)} |")
        print()


def summary(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Shares of the outcomes, the largest miss of a wrong claim and its seed; the kinds with most wrong first."""
    lines = []
    for key, group in rows.groupby(by, sort=False):
        share = group["outcome"].value_counts(normalize=True)
        wrong = group[group["outcome"] == "wrong"].sort_values("miss", ascending=False)
        line = dict(zip(by, key, strict=True)) | {name: share.get(name, 0.0) for name in OUTCOMES}
        worst = wrong.iloc[0] if len(wrong) else {"miss": np.nan, "seed": np.nan}
        lines.append(line | {"tables": len(group), "miss": worst["miss"], "example": worst["seed"]})
    table = pd.DataFrame(lines)
    order = table.groupby("kind")["wrong"].transform("mean")
    table = table.assign(order=order).sort_values(["order", "kind", "wrong"], ascending=[False, True, False])
    return table.reset_index(drop=True)


def judged(kind: str, seed: int, *, show: bool = False) -> list[dict]:
    """The outcome of every claim on one table."""
    made = KINDS[kind](np.random.default_rng([zlib.crc32(kind.encode()), seed]))
    verbs = (fits, verdicts) if len(made.x) == 1 else (first, second, third, united, verdicts, suggested)
    rows = []
    for verb in (*verbs, *((grouped, compared) if made.by else ())):
        for (name, claim), (outcome, miss) in verb(made, show).items():
            rows.append({"verb": name, "claim": claim, "outcome": outcome, "miss": miss})
    return [row for row in rows if row["verb"] not in made.without and row["outcome"] != "unknown"]


def attempt(run, show, claims):
    """What `run()` returns; None where it refuses by an exception."""
    try:
        found = run()
    except (FitError, ValueError) as error:
        if show:
            print(f"--- {claims}: {type(error).__name__}: {error}")
        return None
    if show:
        print(f"--- {claims}\n{found}")
    return found


def holds(ends, truths, value=None):
    """Right if the interval holds every true value; a claim without an interval must be within 1 %."""
    low, high = ends
    if not np.isfinite(high - low):
        low, high = (0.99 * value, 1.01 * value) if value is not None else (np.inf, np.inf)
    if np.isnan(truths).any():
        return ("unknown", np.nan)
    half = max((high - low) / 2, 1e-12)
    miss = max(abs(truth - (low + high) / 2) / half for truth in truths)
    return ("right" if miss <= 1 else "wrong", float(miss))


def parameters(verb, fit, truth):
    """The claims of a fit of one law: each quantity whose truth is known."""
    out = {}
    for name, true in truth.items():
        claimed = fit is not None and fit.supported and name in fit.estimates
        if name == "floor":
            claimed = claimed and fit.floor > 0 and fit.intervals["floor"][0] > 0
            if not claimed and max(true) == 0:
                out[verb, name] = ("right", np.nan)
                continue
        out[verb, name] = holds(printed(fit, name), true, fit[name]) if claimed else REFUSED
    return out


def printed(fit, name):
    """The interval beside a value."""
    return fit.claimed[name]


def fits(made, show):
    (x,) = made.x
    found = attempt(lambda: fit_power_law(made.table, x, made.y, resamples=RESAMPLES), show, "fit")
    out = parameters("fit", found, made.truth)
    found = attempt(lambda: fit_frontier(made.table, x, made.y, resamples=RESAMPLES), show, "approach 1")
    return out | parameters("approach 1", found, made.truth)


@lru_cache(maxsize=1)
def surface_of(made):
    """The additive surface of a table, which several verbs start from, as they do on the command line."""
    return attempt(lambda: fit_surface(made.table, y=made.y, resamples=RESAMPLES), show=False, claims="approach 3")


def first(made, show):
    forms = surface_of(made).forms if surface_of(made) else None
    found = attempt(
        lambda: fit_frontier(made.table, "flops", made.y, forms=forms, resamples=RESAMPLES), show, "approach 1"
    )
    return parameters(
        "approach 1", found, {"exponent": made.truth["frontier_exponent"], "floor": made.truth["floor"]}
    )


def second(made, show):
    out = {}
    for method in ("akima", "parabola", "joint"):
        found = attempt(
            lambda method=method: fit_isoflop(made.table, y=made.y, method=method, resamples=RESAMPLES),
            show,
            method,
        )
        at = found.n_exponent if found and found.supported else None
        out["approach 2", method] = (
            holds((at.low, at.high), made.truth["params_exponent"], at.value) if at else REFUSED
        )
    return out


def third(made, show):
    """The surface, and the allocation of ten times the largest compute by it."""
    found = surface_of(made)
    if show:
        print(f"--- approach 3\n{found}")
    return parameters("approach 3", found, made.truth) | decided(made, show, found)


def verdicts(made, show):
    x = made.x[0] if len(made.x) == 1 else made.x
    known = Fitted(surface=surface_of(made)) if len(made.x) == 2 else None
    found = attempt(lambda: verdict(made.table, x, made.y, resamples=RESAMPLES, fitted=known), show, "verdict")
    names = {"exponent": "exponent" if len(made.x) == 1 else "params_exponent", "floor": "floor"}
    out = {}
    for claim, name in names.items():
        if found and getattr(found, claim).supported:
            out["verdict", claim] = holds(printed(found.fit, name), made.truth[name])
        else:
            none = claim == "floor" and max(made.truth["floor"]) == 0
            out["verdict", claim] = ("right", np.nan) if none else REFUSED
    far = found is not None and found.extrapolation.supported
    return out | {("verdict", "extrapolation"): reached(made, found.validation) if far else REFUSED}


def reached(made, validation):
    """Whether the claimed law, fitted to all rows, is within twice the promised rms at the claimed reach."""
    reach, promised = validation.reach()
    question = Question(validation.x, made.y, {"resamples": 20, "level": 0.95, "seed": 0})
    there = beyond(made, reach)
    laws = LAWS[len(made.x)] | ({name: surface(name) for name in FORMS} if len(made.x) == 2 else {})
    middle = laws[validation.best](made.table, question)(there)[0]
    at = [there[name].to_numpy() for name in made.x]
    off = max(float(np.sqrt(np.mean((middle - np.log(law(*at))) ** 2))) for law in made.laws)
    return ("right" if off <= 2 * promised else "wrong", off / promised)


def beyond(made, reach):
    table = made.table
    if len(made.x) == 1:
        return pd.DataFrame({made.x[0]: [reach * table[made.x[0]].max()]})
    last = table[table["flops"] > 0.9 * table["flops"].max()]
    share = np.nan_to_num(made.truth["params_exponent"][0], nan=0.5)
    return last.assign(params=last["params"] * reach**share, examples=last["examples"] * reach ** (1 - share))


def united(made, show):
    """The union over the forms of a surface that are not ruled out."""
    found = attempt(lambda: fit_forms(made.table, y=made.y, resamples=RESAMPLES), show, "forms")
    claims = dict.fromkeys(made.truth, REFUSED)
    if found and found.supported:
        claims = {name: holds(found.intervals[name], made.truth[name]) for name in made.truth}
    elif max(made.truth["floor"]) == 0:
        claims["floor"] = ("right", np.nan)
    return {("forms", name): outcome for name, outcome in claims.items()}


def grouped(made, show):
    """A surface for each family, s-mlp's truth first in `made.truth`."""
    found = attempt(lambda: fit_by(fit_surface, made.table, made.by, y=made.y, resamples=RESAMPLES), show, "groups")
    out = {}
    for family, place in (("s-mlp", 0), ("b-mlp", 1)):
        truth = {name: (values[place],) for name, values in made.truth.items()}
        fit = found.results.get((family,)) if found else None
        for (_, name), outcome in parameters("by group", fit, truth).items():
            out["by group", f"{name} of {family}"] = outcome
    return out


def decided(made, show, fit):
    at = FAR * made.table["flops"].max()
    found = attempt(lambda: allocate(fit, at), show, "allocate") if fit else None
    if not found or not found.supported:
        return dict.fromkeys((("allocate", "params"), ("allocate", made.y)), REFUSED)
    n = np.exp(np.linspace(np.log(1e5), np.log(1e14), 20000))
    best = [(n[k], y[k]) for y in (law(n, at / 6 / n) for law in made.laws) for k in (int(np.argmin(y)),)]
    sizes, lowest = zip(*best, strict=True)
    return {
        ("allocate", "params"): holds((found.params.low, found.params.high), sizes),
        ("allocate", made.y): holds((found.lowest.low, found.lowest.high), lowest),
    }


def suggested(made, show):
    """The exponent that `suggest` states as known now."""
    spend = FAR * made.table["flops"].sum()
    found = attempt(lambda: suggest(made.table, spend, y=made.y), show, "suggest")
    if not found or found.reasons:
        return {("suggest", "exponent"): REFUSED}
    return {("suggest", "exponent"): holds((found.now.low, found.now.high), made.truth["params_exponent"])}


def compared(made, show):
    """The difference of the frontier's exponents, b-mlp's minus s-mlp's, and the ratio of compute at one loss."""
    found = attempt(lambda: compare(made.table, made.by, "flops", made.y, resamples=RESAMPLES), show, "compare")
    out = dict.fromkeys((("compare", "exponents"), ("compare", "compute")), REFUSED)
    if not found:
        return out
    s_mlp, b_mlp = made.truth["frontier_exponent"]
    if found.supported:
        out["compare", "exponents"] = holds((found.difference.low, found.difference.high), (b_mlp - s_mlp,))
    told = found.ratios[found.ratios["refused"] == ""]
    if len(told):
        row = told.iloc[len(told) // 2]
        s_needs, b_needs = (needed(law, row["y"]) for law in made.laws)
        out["compare", "compute"] = holds((row["low"], row["high"]), (b_needs / s_needs,))
    return out


def needed(law, y):
    """The compute at which the best size of a law has this y."""
    n, compute = np.geomspace(1e6, 1e12, 3000), np.geomspace(1e17, 1e22, 400)
    lowest = np.array([law(n, c / 6 / n).min() for c in compute])
    return float(np.exp(np.interp(-np.log(y), -np.log(lowest), np.log(compute))))


if __name__ == "__main__":
    main()
