"""What stands for the world in tests of the coordinator: a clock that they move, a scripted executor."""

from orchestrator.workers.executor import Failed, Finished, Lost, Place, Recorded
from orchestrator.workers.worker import Files


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 1000.0
        self.on_sleep = lambda: None

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.on_sleep()


class FakeExecutor:
    """Ends one stack a poll, in the order submitted; `fate(specs)` says how: an end, or "hang"."""

    def __init__(self, result_of, clock, slots=2, fate=lambda specs: "done"):
        self.slots, self.submitted, self.stops, self.kept = slots, [], 0, set()
        self.gpus, self.leaving = 0, set()
        self.places, self.tried = [Place("here", "cpu", 2**40)], []
        self.result_of, self.clock, self.fate = result_of, clock, fate
        self.running = []
        self.on_poll = lambda: None

    @property
    def free(self):
        return self.slots - len(self.running)

    @property
    def open(self):
        return ["here"] * self.free

    def submit(self, stack, specs, keep=(), place=None):
        self.kept |= set(keep)
        assert self.free
        assert place in self.open
        self.tried += specs
        self.running.append((stack, list(specs)))
        self.submitted.append([spec.run_id for spec in specs])

    def poll(self, timeout):
        self.clock.now += 1
        self.on_poll()
        for i, (stack, specs) in enumerate(self.running):
            if (fate := self.ends(specs)) != "hang":
                del self.running[i]
                return self.events(stack, specs, fate)
        return []

    def ends(self, specs):
        fate = self.fate(specs)
        left = all(spec.run_id in self.leaving for spec in specs)
        return "cancelled" if fate == "hang" and (self.stops or left) else fate

    def events(self, stack, specs, fate):
        if fate == "raise":
            return [Failed(stack, "ValueError: no such data", "Traceback ...\nValueError: no such data")]
        if fate == "exhaust":
            return [Failed(stack, "OutOfMemoryError: tried to allocate", "Traceback ...", "OutOfMemoryError")]
        if fate == "die":
            return [Lost(stack, "its worker died (ActorDiedError)")]
        error = 0.25 if fate == "done" else 0.9
        states = ["cancelled" if spec.run_id in self.leaving else fate for spec in specs]
        results = [self.result_of(spec, state, error) for spec, state in zip(specs, states, strict=True)]
        records = [Recorded(stack, record) for result in results for record in result.history]
        return [*records, Finished(stack, results)]

    def stop(self):
        self.stops += 1

    def leave(self, stack, run_ids):
        self.leaving |= set(run_ids)

    def close(self):
        pass


class Saved(Files):
    """Checkpoints in name only: the steps that runs resume from, and what an executor has kept."""

    executor: FakeExecutor | None
    steps: dict[str, int]
    dropped: list[str]

    def __new__(cls, executor=None, steps=None):
        saved = super().__new__(cls)
        saved.executor, saved.steps, saved.dropped = executor, steps or {}, []
        return saved

    def begun(self):
        return self.steps

    def kept(self):
        return set() if self.executor is None else self.executor.kept

    def drop(self, run_ids):
        self.dropped += run_ids
