"""What a container leaves of a machine: control groups of both versions, in folders that only look like them."""

import os
import time

import pytest
import torch

from trainer import RunSpec
from trainer.data import batches, datasets
from trainer.host.limits import Memory, cores, memory, seconds_without_core, visible_gpus

GIB = 2**30
MEMINFO = f"MemTotal: {256 * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {200 * 2**20} kB\nHugePages_Total: 0\n"
HOST = Memory(256 * GIB, 200 * GIB)
UNLIMITED = 9223372036854771712


@pytest.fixture
def root(tmp_path):
    """A machine of 256 GiB, which says in which control groups this process is."""

    def made(groups, files):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/meminfo").write_text(MEMINFO)
        (tmp_path / "proc/self/cgroup").write_text(groups)
        for name, text in files.items():
            place = tmp_path / "sys/fs/cgroup" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"{text}\n")
        return tmp_path

    return made


def v2(folder, limit, used=0, cache=0, cpu="max 100000"):
    stat = f"anon 1\ninactive_file {cache}\nactive_file 7"
    files = {"memory.max": limit, "memory.current": used, "memory.stat": stat, "cpu.max": cpu}
    return {f"{folder}{name}": text for name, text in files.items()}


def v1(folder, limit, used=0, cache=0):
    stat = f"inactive_file 5\ntotal_inactive_file {cache}"
    files = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat}
    return {f"memory/{folder}{name}": text for name, text in files.items()}


def test_a_container_of_8_gib_on_a_machine_of_256_sees_8(root):
    """Of what it uses, the page cache that nobody has touched lately is there to be had."""
    held = root("0::/\n", v2("", 8 * GIB, used=6 * GIB, cache=4 * GIB))
    assert memory(held) == [HOST, Memory(8 * GIB, 6 * GIB)]


def test_so_it_does_with_control_groups_of_version_1(root):
    groups = "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n1:name=systemd:/docker/x\n"
    held = root(groups, v1("", 8 * GIB, used=6 * GIB, cache=4 * GIB))  # the container sees its own as the top
    assert memory(held) == [HOST, Memory(8 * GIB, 6 * GIB)]


@pytest.mark.parametrize("limited", ["a.slice/", "a.slice/b.scope/", ""])
def test_a_limit_counts_at_whatever_level_it_stands(root, limited):
    levels = ("", "a.slice/", "a.slice/b.scope/")
    files = {k: v for level in levels for k, v in v2(level, 8 * GIB if level == limited else "max").items()}
    held = root("0::/a.slice/b.scope\n", files)
    assert memory(held) == [HOST, Memory(8 * GIB, 8 * GIB)]


def test_another_groups_limit_does_not_count(root):
    held = root("0::/a\n", v2("a/", "max") | v2("b/", GIB))
    assert memory(held) == [HOST]


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/\n", v2("", "max")),
        ("0::/\n", v2("", 512 * GIB)),
        ("4:memory:/\n", v1("", UNLIMITED)),
        ("0::/../gone\n", {}),
        ("0::/\n", {"memory.max": 8 * GIB}),  # of which nobody says what is used
    ],
)
def test_where_nothing_limits_the_machine_counts(root, groups, files):
    assert memory(root(groups, files)) == [HOST]


def test_where_both_versions_are_mounted_memory_is_where_its_controller_is(root):
    """As on the machine that this was written on: version 2 beside, without controllers."""
    files = v1("box/", 8 * GIB, used=GIB) | {"unified/cgroup.procs": 1}
    assert memory(root("4:memory:/box\n0::/\n", files)) == [HOST, Memory(8 * GIB, 7 * GIB)]


def test_without_proc_nothing_is_known(tmp_path):
    assert memory(tmp_path) == []
    assert cores(tmp_path) == len(os.sched_getaffinity(0))


def test_what_is_used_beyond_the_limit_leaves_nothing(root):
    assert memory(root("0::/\n", v2("", GIB, used=2 * GIB)))[1] == Memory(GIB, 0)


@pytest.mark.parametrize(
    ("groups", "files", "wanted"),
    [
        ("0::/\n", v2("", "max", cpu="150000 100000"), 2),
        ("0::/\n", v2("", "max", cpu="100000 100000"), 1),
        ("0::/\n", v2("", "max", cpu="20000 100000"), 1),
        ("0::/\n", v2("", "max"), 64),
        ("0::/a/b\n", v2("a/", "max", cpu="300000 100000") | v2("a/b/", "max", cpu="800000 100000"), 3),
        ("5:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": 400000, "cpu/x/cpu.cfs_period_us": 100000}, 4),
        ("5:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": -1, "cpu/x/cpu.cfs_period_us": 100000}, 64),
    ],
)
def test_the_time_that_a_container_has_is_so_many_cores(root, monkeypatch, groups, files, wanted):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert cores(root(groups, files)) == wanted


def test_a_process_bound_to_few_cores_has_no_more(root, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert cores(root("0::/\n", v2("", "max", cpu="800000 100000"))) == 1


def test_a_data_set_that_a_container_cannot_hold_is_mapped(monkeypatch):
    spec = RunSpec(dataset="digits", epochs=1)
    arrays = datasets.load(spec)
    half = Memory(2 * arrays.inputs.nbytes, 0)
    for levels, loader in [([HOST, half], "resident"), ([HOST, half._replace(total=half.total - 2)], "mmap")]:
        monkeypatch.setattr(batches, "memory", lambda levels=levels: levels)
        assert batches.loader_of(spec, arrays, torch.device("cpu")) == loader


@pytest.mark.skipif(not os.path.exists("/proc/thread-self/schedstat"), reason="needs Linux")  # noqa: PTH110
def test_waiting_for_a_core_is_told_from_sleeping():
    before, began = seconds_without_core(), time.monotonic()
    time.sleep(0.05)
    slept = seconds_without_core() - before
    assert 0 <= slept <= time.monotonic() - began - 0.05 + 1e-3
    assert before > 0


@pytest.mark.parametrize(
    ("named", "files", "wanted"),
    [
        (None, [], []),
        (None, ["nvidiactl", "nvidia0", "nvidia1", "nvidia-uvm"], ["0", "1"]),
        ("", ["nvidia0"], []),
        ("-1", ["nvidia0"], []),
        ("3, GPU-5ebe9f43", ["nvidia0"], ["3", "GPU-5ebe9f43"]),
    ],
)
def test_gpus_are_those_that_cuda_would_show(tmp_path, monkeypatch, named, files, wanted):
    (tmp_path / "dev").mkdir()
    for file in files:
        (tmp_path / "dev" / file).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus(tmp_path) == wanted
