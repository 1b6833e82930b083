"""A folder with a plug-in and a sweep that uses it."""

from __future__ import annotations

import sys

import pytest
import torch


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """Writes a module and `sweep.yaml` into the current folder, which can be imported from; returns the folder."""
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    modules, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)  # as the command does

    def write(name, module, sweep):
        modules.append(name)
        (tmp_path / f"{name}.py").write_text(module)
        (tmp_path / "sweep.yaml").write_text(sweep)
        return tmp_path

    yield write
    torch.set_num_threads(threads)
    for name in modules:
        sys.modules.pop(name, None)
