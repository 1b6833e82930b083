"""The keywords that every fit takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from analysis.laws.newton import Residuals

Bootstrap = Literal["pairs", "wild", "parametric"]
_CHOICES = {
    "loss": ("huber", "squares"),
    "residuals": ("log", "raw"),
    "bootstrap": ("pairs", "wild", "parametric"),
}


class OptionNames(TypedDict, total=False):
    """The keywords that every fit takes; see `Options`."""

    loss: Literal["huber", "squares"]
    delta: float | None
    residuals: Residuals
    quantile: float
    weights: str | None
    sd: str | None
    bootstrap: Bootstrap
    by: str
    resamples: int
    level: float
    seed: int


@dataclass(frozen=True)
class Options:
    """How a law is fitted and its intervals are drawn.

    Attributes:
        loss: "huber" on the residuals, or "squares".
        delta: Huber's threshold in the unit of the residuals (log y, or y). None takes it from the data,
            1.345 x 1.4826 x MAD after a pilot fit; Hoffmann et al. 2022 fix 1e-3 on log residuals.
        residuals: "log" (a percent is a percent everywhere) or "raw".
        quantile: 0.5 for the law through the middle; smaller for a lower envelope: residuals above the law
            count 2 quantile, those below 2 (1 - quantile).
        weights: column of weights on the loss, > 0.
        sd: column of the standard deviation of y among seeds, as from `average_seeds`; each residual is divided
            by it. A deviation from few seeds is drawn towards the pooled one (four degrees of freedom).
        bootstrap: "pairs" draws rows (or clusters of rows) with replacement, whatever their noise. "wild" turns
            the signs of the residuals, cluster by cluster, and keeps the design; "parametric" draws Gaussian
            noise of the residuals' robust spread. These two trust the law, and the last one equal noise too.
        by: what is drawn together. "auto": rows that share a `run_id` (records of one run) where there are any,
            otherwise rows; "row": rows, whatever they share; "seed": runs anew inside every cell (`cell_id`),
            so that the interval holds the noise of seeds only; or the name of a column: rows that share its value.
        resamples: bootstrap resamples; 0 for no intervals.
        level: nominal coverage of the intervals, in (0, 1).
        seed: of the resampling; the same call gives the same answer.
    """

    loss: Literal["huber", "squares"] = "huber"
    delta: float | None = None
    residuals: Residuals = "log"
    quantile: float = 0.5
    weights: str | None = None
    sd: str | None = None
    bootstrap: Bootstrap = "pairs"
    by: str = "auto"
    resamples: int = 1000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {' or '.join(map(repr, known))}")
        for name in ("level", "quantile"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected a fraction between 0 and 1")
        if self.resamples < 0:
            raise ValueError(f"resamples is {self.resamples!r}; expected 0 (no intervals) or more, such as 1000")
        if self.by == "seed" and self.bootstrap != "pairs":
            raise ValueError(
                f"by is 'seed' with bootstrap {self.bootstrap!r}; runs inside cells are drawn by 'pairs'"
            )
        if self.delta is not None and not (self.delta > 0 and self.loss == "huber"):
            raise ValueError(f"delta is {self.delta!r} with loss {self.loss!r}; a threshold > 0 belongs to 'huber'")
