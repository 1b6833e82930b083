"""The laws of a live table: fitted when data changed, and never most of the time."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator import plan, read_sweep
from orchestrator.live.laws import LEAST, REST, Laws
from tests.orchestrator.cli.test_analysis import GRID, fill, planted
from tests.polling import until


class Worker:
    """A process that answers when it is told to."""

    def __init__(self):
        self.orders, self.answers, self.alive = [], [], True

    def send(self, order):
        self.orders.append(order)

    def poll(self):
        return bool(self.answers)

    def recv(self):
        return self.answers.pop()

    def is_alive(self):
        return self.alive


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("orchestrator.live.laws.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def worked(clock):
    started = []

    def start(store):
        started.append(Worker())
        return started[-1], started[-1]

    return Laws("t.db", start), started


def row(done, queued=5, sweep="s"):
    counts = {"runs": 10, "done": done, "queued": queued, "running": 0}
    return {"sweep": sweep, **counts, "best_error": 0.1, "charged_flops": done}


def test_laws_are_fitted_again_only_for_new_data_and_after_a_rest(worked, clock):
    made, started = worked
    assert made.poll([row(1)]) == {}
    assert made.poll([row(2)]) == {}  # one at a time
    (worker,) = started
    assert worker.orders == [("s", 0)]
    clock[0] += 20
    worker.answers.append("html")
    assert made.poll([row(2)]) == {"laws of s": "html"}
    clock[0] += 20 * REST - 1
    made.poll([row(2)])
    assert len(worker.orders) == 1
    clock[0] += 1
    made.poll([row(1)])
    assert len(worker.orders) == 1  # nothing new
    made.poll([row(2)])
    assert len(worker.orders) == 2
    assert started == [worker]


def test_the_last_word_does_not_wait(worked, clock):
    made, started = worked
    made.poll([row(1)])
    clock[0] += LEAST
    started[0].answers.append("html")
    made.poll([row(1)])
    made.poll([row(10, queued=0)])
    assert len(started[0].orders) == 2


def test_sweeps_take_turns_and_those_without_runs_are_left_out(worked, clock):
    made, started = worked
    sweeps = [row(1, sweep="a"), row(0, sweep="empty"), row(1, sweep="b")]
    for _ in range(4):
        made.poll(sweeps)
        clock[0] += 1
        started[0].answers.append("html")
    made.poll(sweeps)
    assert started[0].orders == [("a", 0), ("b", 2)]


def test_a_process_that_died_is_replaced_for_the_next_change(worked, clock):
    made, started = worked
    made.poll([row(1)])
    started[0].alive = False
    made.poll([row(1)])
    clock[0] += LEAST
    made.poll([row(2)])
    assert [worker.orders for worker in started] == [[("s", 0)], [("s", 0)]]


def test_the_laws_are_those_of_the_report(tmp_path, result_of):
    rng, path = np.random.default_rng(0), tmp_path / "t.db"
    made = plan(read_sweep(GRID))
    fill(path, made, lambda run: result_of(run, error=planted(run, rng)))
    fitted = Laws(str(path))
    sweep = {**row(len(made.runs), queued=0), "sweep": made.sweep}
    fresh = {}
    until(lambda: fresh.update(fitted.poll([sweep])) or fresh)
    fitted.close()
    part = fresh[f"laws of {made.sweep}"]
    assert 'class="question">How does' in part.html or 'class="question">Which size' in part.html
    assert 'class="conclusion"' in part.html
    assert len(part.charts) == part.html.count('class="chart"') >= 2
    assert 'id="laws-0-0"' in part.html
