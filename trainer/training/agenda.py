"""What happens when in a stack: at which steps its runs are recorded and evaluated, and part from longer ones."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from trainer.evaluations import evaluation_steps, record_steps
from trainer.trunk import shared_steps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.spec import RunSpec


class Event(NamedTuple):
    """The runs of a stack recorded after a step, and those that part from their heirs before and after that."""

    recorded: Sequence[int] = ()
    before: Sequence[int] = ()
    after: Sequence[int] = ()


NOTHING = Event()


class Agenda:
    """The events of a stack by the number of steps that it has made since its runs went on from `begins`.

    `examples` is the number on which each run is evaluated. `heirs` are the next longer runs of the same recipe, by
    run_id: a run parts from its heir at the last step that they share, before its own record if the heir has none
    there. With a number of `evaluations` each run is recorded and evaluated at about so many steps; by default it
    is recorded at trainer.evaluations.RECORDS and evaluated at those that it can afford.
    """

    def __init__(
        self,
        runs: Sequence[RunSpec],
        begins: Sequence[int],
        examples: Sequence[int],
        heirs: Mapping[str, RunSpec],
        evaluations: int | None,
    ) -> None:
        self.heirs = [heirs.get(run.run_id) for run in runs]
        self._evaluations = evaluations
        self._evaluated = [self._evaluations_of(run, n) for run, n in zip(runs, examples, strict=True)]
        self._of_heirs = [
            self._evaluations_of(heir, n) if heir else set() for heir, n in zip(self.heirs, examples, strict=True)
        ]
        self.events = self._planned(runs, begins)

    def _planned(self, runs: Sequence[RunSpec], begins: Sequence[int]) -> dict[int, Event]:
        recorded, before, after = (defaultdict[int, list[int]](list) for _ in range(3))
        for k, (run, begin, heir) in enumerate(zip(runs, begins, self.heirs, strict=True)):
            for step in self._records_of(run):
                recorded[step - begin].append(k)
            if heir and (parting := shared_steps(run)):
                (after if parting in self._records_of(heir) else before)[parting - begin].append(k)
        times = {*recorded, *before, *after}
        return {done: Event(recorded[done], before[done], after[done]) for done in times if done > 0}

    def _records_of(self, run: RunSpec) -> list[int]:
        assert run.steps is not None
        return record_steps(run.steps) if self._evaluations is None else record_steps(run.steps, self._evaluations)

    def _evaluations_of(self, run: RunSpec, examples: int) -> set[int]:
        return set(evaluation_steps(run, examples) if self._evaluations is None else self._records_of(run))

    def evaluates(self, k: int, step: int) -> bool:
        """Whether a run is evaluated for its record of a step."""
        return step in self._evaluated[k]

    def heir_evaluates(self, k: int, step: int) -> bool:
        """Whether the heir of a run would be evaluated at a step that they share."""
        return step in self._of_heirs[k]
