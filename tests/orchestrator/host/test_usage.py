"""Energy by NVML, on a module and a device that stand for it: no GPU has seen this."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from orchestrator.cli import doctor
from orchestrator.host.usage import UsageMeter, joules

UUID = "9a8f3c1e-0000-1111-2222-333344445555"


class NVMLError(Exception):
    pass


@pytest.fixture
def gpu(monkeypatch):
    """A second GPU whose counter, in millijoules, a test sets; None: a card that does not count."""
    held = SimpleNamespace(millijoules=5_000)
    nvml = ModuleType("pynvml")
    started = []

    def consumed(handle):
        assert handle == (True, f"GPU-{UUID}")
        if held.millijoules is None:
            raise NVMLError("Not Supported")
        return held.millijoules

    vars(nvml).update(
        nvmlInit=lambda: started.append(True),
        nvmlDeviceGetHandleByUUID=lambda uuid: (any(started), uuid),
        nvmlDeviceGetTotalEnergyConsumption=consumed,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", {1: SimpleNamespace(uuid=UUID)}.__getitem__)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 123)
    return held


def test_energy_is_what_the_gpu_used_since(gpu):
    meter = UsageMeter()
    gpu.millijoules += 2_500
    assert meter.read()[:2] == (123, 2.5)
    gpu.millijoules += 1_000
    assert meter.read().energy == 3.5


def test_a_card_that_does_not_count_leaves_it_unknown(gpu):
    meter = UsageMeter()
    gpu.millijoules = None
    assert meter.read()[:2] == (123, None)
    assert UsageMeter().read()[:2] == (123, None)
    assert doctor.energy().found == "not measured: Not Supported"


def test_the_doctor_says_whether_energy_will_be_measured_and_what_is_missing(gpu, monkeypatch):
    assert doctor.energy()[:3] == ("ok", "energy", "measured by NVML")
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as where it is not installed
    assert doctor.energy() == ("note", "energy", "not measured", "./run add energy")
    assert UsageMeter().read()[:2] == (123, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor.energy()[:3] == ("ok", "energy", "not measured: no NVIDIA GPU here")
    assert UsageMeter().read().energy is None


def test_the_library_has_the_functions_that_are_called():
    pynvml = pytest.importorskip("pynvml", reason="./run add energy")
    assert callable(pynvml.nvmlDeviceGetTotalEnergyConsumption)
    assert callable(pynvml.nvmlDeviceGetHandleByUUID)
    if not torch.cuda.is_available():
        with pytest.raises(Exception, match=r"NVML|CUDA|NVIDIA"):
            joules()
