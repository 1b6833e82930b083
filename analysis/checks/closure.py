"""Whether a set of published exponents can be true at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analysis.fits.summary import Summary
from analysis.numbers import short


@dataclass(frozen=True)
class Relation:
    """One equation between exponents: what is claimed, what the others imply, and how far they may differ."""

    claim: str
    claimed: float
    implied: float
    by: str
    tolerance: float

    @property
    def closes(self) -> bool:
        """Whether claim and implication agree within the tolerance."""
        return abs(self.claimed - self.implied) <= self.tolerance

    def __str__(self) -> str:
        verb = "closes" if self.closes else "does not close"
        return f"{self.claim} {short(self.claimed)} {verb} with {short(self.implied)}, implied by {self.by}"


@dataclass(frozen=True)
class Closure(Summary):
    """All relations between the exponents given; `warnings` are those that do not close."""

    relations: tuple[Relation, ...]

    @property
    def closes(self) -> bool:
        """Whether every relation does."""
        return all(relation.closes for relation in self.relations)

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]  # computed, not stored
        """The relations that do not close."""
        return tuple(str(relation) for relation in self.relations if not relation.closes)

    def summary(self) -> str:
        """One line per relation."""
        head = "the exponents close" if self.closes else "the exponents do not close"
        return "\n".join([head, *(f"  {relation}" for relation in self.relations)])

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        relations = [vars(relation) | {"closes": relation.closes} for relation in self.relations]
        return {"closes": self.closes, "relations": relations}


def closure(
    *,
    alpha: float | None = None,
    beta: float | None = None,
    frontier: float | None = None,
    params: float | None = None,
    examples: float | None = None,
    power: float = 1.0,
    tolerance: float = 0.02,
) -> Closure:
    """Check published exponents against each other, assuming floor + A N^-alpha + B D^-beta and C ~ N^power D.

    Bachmann et al. 2023 publish alpha 1, beta 0.35, frontier 0.25, params 0.35 and examples 0.65. The first two
    imply 0.259, 0.26 and 0.74: the frontier closes and the allocation does not.

    Args:
        alpha: exponent against params when examples do not limit.
        beta: exponent against examples when params do not limit.
        frontier: exponent of the lowest error against compute.
        params: exponent of the best params in compute.
        examples: exponent of the best examples in compute.
        power: exponent of the FLOPs per example in params.
        tolerance: the largest difference that rounding and sampling explain.

    Raises:
        ValueError: an exponent is not positive, or no relation holds between those given.
    """
    given = {"alpha": alpha, "beta": beta, "frontier": frontier, "params": params, "examples": examples}
    for name, value in {**given, "power": power, "tolerance": tolerance}.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value!r}; expected a positive number")
    claims = {name: value for name, value in given.items() if value is not None}
    relations = [
        Relation(claim, claims[claim], implied, by, tolerance)
        for claim, implied, by in _implications(claims, power)
        if claim in claims
    ]
    if not relations:
        raise ValueError(f"no relation between {', '.join(claims) or 'nothing'}; give alpha and beta and one more")
    return Closure(tuple(relations))


def _implications(claims: dict[str, float], power: float) -> list[tuple[str, float, str]]:
    """(exponent, its implied value, the exponents that imply it) for every equation that can be evaluated."""
    out = []
    a, b = claims.get("alpha"), claims.get("beta")
    if a is not None and b is not None:
        by, both = f"alpha {a:g} and beta {b:g}", a + power * b
        out += [("frontier", a * b / both, by), ("params", b / both, by), ("examples", a / both, by)]
    n, d = claims.get("params"), claims.get("examples")
    if n is not None:
        out.append(("examples", 1 - power * n, f"params {n:g}"))
    if a is not None and n is not None and b is None:
        out.append(("frontier", a * n, f"alpha {a:g} and params {n:g}"))
    if b is not None and d is not None and a is None:
        out.append(("frontier", b * d, f"beta {b:g} and examples {d:g}"))
    return out
