"""Power cuts under checkpoints: what was saved is there, whole, or a later one is."""

import random

import pytest

from tests.power.disk import Disk, recorded
from trainer import RunSpec
from trainer.checkpoints.checkpoints import Checkpoints, kept_parameters
from trainer.data import datasets

PROGRAM = """
import ctypes, sys
from pathlib import Path
import safetensors.torch, torch
from trainer import RunSpec
from trainer.data import datasets
from trainer.checkpoints.checkpoints import Checkpoints, State

# safetensors calls the kernel without libc, past the recorder; it does not sync either
safetensors.torch.save_file = lambda tensors, path: path.write_bytes(safetensors.torch.save(tensors))
acknowledge = ctypes.CDLL(None).acknowledge
spec = RunSpec(width=8, examples=320, batch_size=32)
run = datasets.resolve(spec, datasets.describe(spec))
saver = Checkpoints(Path(sys.argv[1], "t.db.checkpoints"), 0, ("cpu", 1))
names = ("row", "loss_sum", "optimizer.0.step", "optimizer.0.exp_avg", "optimizer.0.exp_avg_sq")
for step in range(1, 9):
    state = State(step, 0, 0.0, (), {name: torch.full([700], float(step)) for name in names})
    saver.save([(run, state)])
    saver.storage.settle()
    acknowledge(f"saved {step}".encode())
saver.keep(run, {"head": torch.full([700], 8.0)})
acknowledge(b"kept 8")
"""
RUN = RunSpec(width=8, examples=320, batch_size=32)


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    return folder, recorded(PROGRAM, folder, tmp_path_factory.mktemp("recorder"))


def test_the_recorder_misses_nothing(entries):
    folder, calls = entries
    disk = Disk(folder)
    for call in calls:
        disk.take(*call)
    assert disk.now() == {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert disk.promised[-1] == "kept 8"


def test_after_a_power_cut_a_run_goes_on_where_it_was_saved(entries, tmp_path):
    folder, calls = entries
    run, dice, disk, seen = datasets.resolve(RUN, datasets.describe(RUN)), random.Random(0), Disk(folder), set()
    for call in calls:
        disk.take(*call)
        disk.cut(dice, tmp_path / "left")
        left = tmp_path / "left" / "t.db.checkpoints"
        state = Checkpoints(left, 0, ("cpu", 1)).newest(run)
        step = 0 if state is None else state.step
        seen.add(step)
        assert step >= max((int(said.split()[1]) for said in disk.promised), default=0)
        assert state is None or {value.item() for t in state.tensors.values() for value in t} == {step}
        if "kept 8" in disk.promised:
            _, weights = kept_parameters(left, run.run_id)
            assert weights["head"].tolist() == [8.0] * 700
    assert seen == set(range(9))
