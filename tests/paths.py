"""Paths that tests read: the root of the checkout, and the shared data if it is beside it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
