"""Ray Tune's schedulers that stop trials: ASHA and HyperBand. Their clock is the progress of a trial."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import ASHAScheduler, HyperBandScheduler, TrialScheduler

from orchestrator.searching.tune_trial import CLOCK


def scheduler_of(name: str, steps: int) -> Any:
    """The one of a name, for runs of at most so many steps. Each stops two of three, first at 1/27 of a run."""
    if name == "asha":
        return ASHAScheduler(
            time_attr="step", max_t=steps + 1, grace_period=max(1, steps // CLOCK), reduction_factor=3
        )
    return Brackets(time_attr="clock", max_t=CLOCK, reduction_factor=3)


class Brackets(HyperBandScheduler):
    """HyperBand that halves until a trial can go on.

    Evaluations may lie further apart than its rungs, and a trial that diverged is at its end.
    """

    def _process_bracket(self, tune_controller: Any, bracket: Any) -> str:
        action: str = super()._process_bracket(tune_controller, bracket)
        while bracket.current_trials() and bracket.cur_iter_done() and not bracket.finished():
            again = super()._process_bracket(tune_controller, bracket)
            action = action if action == TrialScheduler.STOP else again
        return action
