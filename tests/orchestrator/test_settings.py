"""When a machine is measured before a sweep trains, and when what is remembered serves."""

from dataclasses import replace

import pytest

from orchestrator import settings
from orchestrator.host import calibration
from orchestrator.host.machine_cache import code_version
from orchestrator.host.speed import TYPICAL, keep, known_speed
from orchestrator.settings import speed_of
from orchestrator.store.table import Table


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """The devices of the measurements that are made, in a cache of their own."""
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path))
    asked = []

    def measure(device):
        asked.append(device)
        return replace(TYPICAL, layer=1e-4, spread=0.1, code=code_version())

    monkeypatch.setattr(calibration, "measure", measure)
    return asked


def test_a_machine_is_measured_once_for_each_version_of_the_code(measured, planned, tmp_path, monkeypatch):
    runs, said = planned(epochs=10).runs, []
    monkeypatch.setattr(settings, "WORTH_MEASURING", 0.0)
    with Table(tmp_path / "t.db", writable=True) as table:
        keep(replace(TYPICAL, layer=9e-4, code="of older code"))
        assert speed_of(table, runs, "cpu", said.append).layer == 1e-4
        assert (measured, len(said)) == (["cpu"], 1)
        assert speed_of(table, runs, "cpu", said.append).layer == 1e-4
        assert (measured, len(said)) == (["cpu"], 1)
        assert table.speed == known_speed().to_dict()


def test_a_short_sweep_is_not_worth_measuring(measured, planned, tmp_path):
    with Table(tmp_path / "t.db", writable=True) as table:
        assert speed_of(table, planned(epochs=1).runs, "cpu", print) == TYPICAL
        keep(replace(TYPICAL, layer=9e-4, code="of older code"))
        assert speed_of(table, planned(epochs=1).runs, "cpu", print).layer == 9e-4
    assert measured == []
