"""The search of one cell: an Optuna study in memory, rebuilt from the table.

The study is no storage. It is given every earlier trial again at the start, in the order of their numbers, and its
sampler is seeded by (seed, cell, number of the trial): what is proposed depends on what came out and on nothing
else, so that a search that was killed goes on with the trials that it would have had.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import warnings
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import TrialState

from orchestrator.store.trials import ENDED, WORST, Trial
from orchestrator.sweep.search_space import WHOLE, choices, is_log, trials_of, values_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from orchestrator.store.trials import RunState
    from orchestrator.sweep.planner import Make
    from orchestrator.sweep.sweep import Parameter, SearchSection
    from trainer.result import Record
    from trainer.spec import RunSpec


_TRIES = 100  # draws for a trial that is new
_COUNTABLE = 10_000  # combinations up to which each of them is gone through instead
_HALVINGS = 27  # the first rung of successive halving stands at this part of a run

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass
class _Asked:
    """A trial and its place in the study; `seen` holds metrics by step and run until all its runs have one."""

    trial: Trial
    live: optuna.Trial
    seen: dict[int, dict[str, float]] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)


class CellSearch:
    """The trials of one cell. `make` returns its run with some values and a seed; every trial has the `seeds`."""

    def __init__(self, search: SearchSection, declared: RunSpec, make: Make, seeds: Sequence[int]) -> None:
        self.search, self.make, self._seeds = search, make, seeds
        self.declared, self.dearest = declared, make({}, seeds[0])
        self.cell_id = _cell_id(declared, self.dearest.fingerprint, search.parameters)
        self._space = {name: _distribution(name, p) for name, p in search.parameters.items()}
        pruner = _pruner(search.pruner, self.dearest.steps or 1)
        self._study = optuna.create_study(study_name=self.cell_id, pruner=pruner)
        self._pending: list[_Asked] = []
        self._here: dict[str, _Asked] = {}
        self.count, self._next = 0, 0

    # earlier trials

    def restore(
        self,
        trials: Sequence[Trial],
        states: Mapping[str, RunState],
        curves: Mapping[str, Mapping[int, float]],
    ) -> None:
        """Begin with earlier trials, in rounds as proposed; those outside the present ranges do not count."""
        for group in _rounds([trial for trial in trials if self.contains(trial)], self.search.batch):
            for trial in group:
                self._enter(trial)
            for asked in self._pending:
                if all(states[run.run_id].state in ENDED for run in asked.trial.runs):
                    self._report_all(asked, curves)
            self.settle(states)
        self._skip_to(max((trial.number + 1 for trial in trials), default=0))

    def contains(self, trial: Trial) -> bool:
        """Whether a trial lies within the present ranges."""
        return all(_inside(getattr(trial.runs[0], name), space) for name, space in self._space.items())

    def _enter(self, trial: Trial) -> None:
        """Put a trial of known values into the study, under its number."""
        self._skip_to(trial.number)
        replays = self.search.method == "cmaes"  # whose state lies in the study and grows as it is asked
        self._study.sampler = self._sampler(trial.number) if replays else optuna.samplers.RandomSampler(0)
        self._study.enqueue_trial({name: getattr(trial.runs[0], name) for name in self._space})
        live = self._study.ask(self._space)
        _ = live.relative_params if replays else None  # sampled when it is read
        self._add(trial, live)

    def _skip_to(self, number: int) -> None:
        """Fill the study's numbers below `number`, which belong to trials that do not count."""
        for _ in range(self._next, number):
            self._study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))
        self._next = max(self._next, number)

    def _add(self, trial: Trial, live: optuna.Trial) -> None:
        assert trial.number == live.number
        self._next = trial.number + 1
        self.count += 1
        asked = _Asked(trial, live)
        self._pending.append(asked)
        self._here |= {run.run_id: asked for run in trial.runs}

    def _report_all(self, asked: _Asked, curves: Mapping[str, Mapping[int, float]]) -> None:
        """Report the curve of an earlier trial, with which a pruner compares others."""
        recorded = [curves.get(run.run_id, {}) for run in asked.trial.runs]
        for step in sorted(set(recorded[0]).intersection(*recorded[1:])):
            self._report(asked, step, [curve[step] for curve in recorded])

    def _report(self, asked: _Asked, step: int, values: Sequence[float]) -> bool:
        """Report a value; returns whether a pruner would stop the trial."""
        if step in asked.told or not np.isfinite(values).all():
            return False
        asked.told.add(step)
        asked.live.report(float(np.mean(values)), step)
        return bool(asked.live.should_prune())

    # the next trials

    @property
    def pending(self) -> list[str]:
        """Ids of the runs of trials that are not over."""
        return [run.run_id for asked in self._pending for run in asked.trial.runs]

    def settle(self, states: Mapping[str, RunState]) -> None:
        """Tell the study how the pending trials ended, once all have: the next ones learn from all of them."""
        ends = [[states[run.run_id] for run in asked.trial.runs] for asked in self._pending]
        if any(run.state not in ENDED for runs in ends for run in runs):
            return
        for asked, runs in zip(self._pending, ends, strict=True):
            ended = {run.state for run in runs}
            if ended & {"failed", "cancelled"}:
                self._study.tell(asked.live, state=TrialState.FAIL)
            elif "pruned" in ended:
                self._study.tell(asked.live, state=TrialState.PRUNED)
            else:
                self._study.tell(asked.live, self.value(runs))
        self._pending.clear()

    def value(self, runs: Sequence[RunState]) -> float:
        """The metric of a trial that has ended: the mean over its seeds."""
        metric = self.search.metric
        return float(np.mean([WORST[metric] if run.state == "diverged" else getattr(run, metric) for run in runs]))

    def ask(self) -> list[Trial]:
        """The next batch of trials; none at the end, and none while others are pending from which they learn."""
        if self._pending and self.search.scheduler is None:
            return []
        room = min(self.search.batch, trials_of(self.search) - self.count)
        trials: list[Trial] = []
        while len(trials) < room and (trial := self._ask()) is not None:
            trials.append(trial)
        return trials

    def _ask(self) -> Trial | None:
        if self.search.method == "grid":
            return self._first_new(self._grid())
        self._study.sampler = self._sampler(self._next)
        live = self._study.ask(self._space)
        trial = self._trial(live.params)
        if trial.runs[0].run_id not in self._here:
            self._add(trial, live)
            return trial
        self._study.tell(live, state=TrialState.FAIL)  # nothing is learnt from a repetition: draw another at random
        self._next += 1
        return self._first_new(self._anything())

    def _first_new(self, proposals: Iterator[dict[str, Any]]) -> Trial | None:
        """Enter the first proposal that was not tried yet and return its trial; None if there is none."""
        for values in proposals:
            trial = self._trial(values)
            if trial.runs[0].run_id not in self._here:
                self._enter(trial)
                return trial
        return None

    def _trial(self, values: dict[str, Any]) -> Trial:
        return Trial(self.cell_id, self._next, [self.make(values, seed) for seed in self._seeds])

    def _grid(self) -> Iterator[dict[str, Any]]:
        """Every combination; shuffled under a pruner, which would stop none of a grid from worst to best."""
        axes = [choices(name, parameter) for name, parameter in self.search.parameters.items()]
        combinations = list(itertools.product(*axes))
        if self.search.pruner != "none":
            random.Random(self._seed(0)).shuffle(combinations)  # noqa: S311 - no secret
        return (dict(zip(self._space, values, strict=True)) for values in combinations)

    def _anything(self) -> Iterator[dict[str, Any]]:
        """Combinations at random; all of them if there are few enough."""
        seed = self._seed(self._next)
        axes = [_values(space) for space in self._space.values()]
        if all(axes) and math.prod(map(len, axes)) <= _COUNTABLE:
            combinations = list(itertools.product(*axes))
            random.Random(seed).shuffle(combinations)  # noqa: S311 - no secret
            return (dict(zip(self._space, values, strict=True)) for values in combinations)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
        return (study.ask(self._space).params for _ in range(_TRIES))

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        seed = self._seed(number)
        with warnings.catch_warnings():  # what Optuna calls experimental differs from release to release
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            match self.search.method:
                case "gp":
                    return optuna.samplers.GPSampler(seed=seed)
                case "cmaes":
                    return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
                case "tpe":
                    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return optuna.samplers.RandomSampler(seed)

    def _seed(self, number: int) -> int:
        """The seed with which a trial is drawn, by its number."""
        entropy = [self.search.seed, int(self.cell_id[:8], 16), number]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    # trials in training

    def judge(self, record: Record) -> Collection[str]:
        """The runs to prune, now that one has recorded this: all runs of its trial, or none."""
        asked = self._here.get(record.run_id)
        if asked is None or self.search.pruner == "none":
            return ()
        value = record.error if self.search.metric == "val_error" else record.loss
        if math.isnan(value):  # not evaluated
            return ()
        seen = asked.seen.setdefault(record.step, {})
        seen[record.run_id] = value
        if len(seen) < len(asked.trial.runs):
            return ()
        stop = self._report(asked, record.step, list(asked.seen.pop(record.step).values()))
        at_end = record.step == asked.trial.runs[0].steps
        return [run.run_id for run in asked.trial.runs] if stop and not at_end else ()


def _rounds(trials: Sequence[Trial], batch: int) -> Iterator[Sequence[Trial]]:
    return (trials[i : i + batch] for i in range(0, len(trials), batch))


_LATER = ("test_examples", "validation_examples")
"""Fields that came when tables with searches existed: no search declares them, and cells keep their identity."""


def _cell_id(declared: RunSpec, fingerprint: str, searched: Collection[str]) -> str:
    """32 hex digits: the cell without its searched parameters, whatever their ranges."""
    fields = {**asdict(declared), "path": None, "seed": None, "fingerprint": fingerprint} | dict.fromkeys(searched)
    fields = {name: value for name, value in fields.items() if name not in _LATER}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:32]


def _distribution(name: str, parameter: Parameter) -> optuna.distributions.BaseDistribution:
    if parameter.values is not None:
        return optuna.distributions.CategoricalDistribution(values_of(name, parameter))
    assert parameter.min is not None
    assert parameter.max is not None
    if name in WHOLE:
        return optuna.distributions.IntDistribution(int(parameter.min), int(parameter.max), log=is_log(parameter))
    return optuna.distributions.FloatDistribution(parameter.min, parameter.max, log=is_log(parameter))


def _values(space: optuna.distributions.BaseDistribution) -> Sequence[Any]:
    """All values of a discrete distribution; none of a continuous one."""
    if isinstance(space, optuna.distributions.CategoricalDistribution):
        return space.choices
    return range(space.low, space.high + 1) if isinstance(space, optuna.distributions.IntDistribution) else ()


def _inside(value: Any, space: optuna.distributions.BaseDistribution) -> bool:
    if isinstance(space, optuna.distributions.CategoricalDistribution):
        return value in space.choices
    assert isinstance(space, optuna.distributions.FloatDistribution | optuna.distributions.IntDistribution)
    return bool(space.low <= value <= space.high)


def _pruner(name: str, steps: int) -> optuna.pruners.BasePruner:
    least = max(1, steps // _HALVINGS)
    match name:
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=least)
        case "successive_halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=3)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=least, max_resource=max(steps, least + 1), reduction_factor=3
            )
    return optuna.pruners.NopPruner()
