"""Whether a law can be trusted: held-out data, rivals, agreement, design bias. Read `verdict.py` first."""
