"""What the tests of the orchestrator share: sweeps in a line, results made by hand."""

import math
import sys

import pytest

from orchestrator import plan, read_sweep
from orchestrator.cli import main as cli
from orchestrator.scheduling.options import SchedulerOptions
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.store.table import Table
from orchestrator.sweep.planner import run_flops
from tests.orchestrator.fakes import Clock, FakeExecutor, Saved
from trainer import cost
from trainer.result import Record, RunResult

DIGITS = """\
sweep: {sweep}
data: {{dataset: digits, dataset_size: {dataset_size}}}
model: {{family: b-mlp, depth: 1, width: {width}}}
train: {{batch_size: 32, lr: {lr}}}
budget: {{epochs: {epochs}}}
seeds: {seeds}
{more}
"""


def digits_text(sweep="small", width="[16, 32]", lr="1e-3", epochs="1", seeds="2", dataset_size="180", more=""):
    return DIGITS.format(**locals())


@pytest.fixture(scope="session")
def text_of():
    """The text of a small sweep on digits: 2 widths x 2 seeds unless told otherwise."""
    return digits_text


@pytest.fixture(scope="session")
def planned():
    """The plan of such a sweep."""
    return lambda **said: plan(read_sweep(digits_text(**said)))


def made_result(run, state="done", error=0.5, records=2):
    shape = cost.shape_of(run)
    steps = [max(1, run.steps * (i + 1) // records) for i in range(records)] if state != "cancelled" else [1]
    history = tuple(
        Record(
            run_id=run.run_id,
            step=step,
            examples=step * run.batch_size,
            flops=step * run.batch_size * cost.flops_per_example(shape),
            seconds=step * 1e-3,
            train_loss=1.0,
            loss=1.0,
            error=error,
        )
        for step in dict.fromkeys(steps)
    )
    last = history[-1]
    return RunResult(
        run_id=run.run_id,
        state=state,
        error=error,
        loss=1.0,
        train_loss=1.0,
        val_error=math.nan,
        val_loss=math.nan,
        top5_error=0.1,
        real_error=math.nan,
        steps=last.step,
        examples=last.examples,
        flops=last.flops,
        flops_paper=last.examples * cost.flops_paper_per_example(shape),
        flops_6nd=last.examples * cost.flops_6nd_per_example(shape),
        params=cost.params(shape).total,
        seconds=0.25,
        device="cpu",
        loader="resident",
        accumulate=run.accumulate,
        threads=1,
        stack=1,
        history=history,
    )


@pytest.fixture(scope="session")
def result_of():
    """The result that a resolved run would have, made without training."""
    return made_result


@pytest.fixture(scope="session")
def price():
    return run_flops


class Ended:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def isoflop(monkeypatch, capsys, tmp_path):
    """Types a command in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def typed(*arguments):
        monkeypatch.setattr(sys, "argv", ["isoflop", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return Ended(ended.value.code or 0, said.out, said.err)

    return typed


@pytest.fixture
def sweep(tmp_path, text_of):
    """Writes a small sweep; its file's name."""

    def write(name="s.yaml", **said):
        (tmp_path / name).write_text(text_of(**said))
        return name

    return write


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def table(tmp_path):
    with Table(tmp_path / "t.db", writable=True) as made:
        yield made


@pytest.fixture
def begin(table, planned, result_of, clock):
    """Plans and enqueues a small sweep; its scheduler, executor and plan."""

    def begun(
        fate=lambda specs: "done",
        slots=2,
        on_progress=lambda progress: None,
        files=None,
        inbox=None,
        smoke_test=False,
        **said,
    ):
        made = planned(**said)
        table.queue.enqueue(made)
        executor = FakeExecutor(result_of, clock, slots, fate)
        options = SchedulerOptions(files or Saved(executor), smoke_test=smoke_test)
        scheduler = Scheduler(
            table, executor, [made.sweep], options, on_progress=on_progress, inbox=inbox, clock=clock
        )
        return scheduler, executor, made

    return begun
