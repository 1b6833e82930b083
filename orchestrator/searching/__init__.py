"""Sources of further runs while a sweep trains: Optuna and Ray Tune. Read `sweep_search.py` first."""
