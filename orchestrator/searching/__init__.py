"""Sources of further runs while a sweep trains: searches by Optuna and by Ray Tune. Read `sweep_search.py` first.

`sweep_search` holds the searches of all cells of a sweep and finds the best trial of each. `optuna_cell` is the
search of one cell: what it tries next, and which trials it prunes. Where a sweep file names a scheduler of Ray
Tune, `tune_search` (ASHA, HyperBand) or `tune_population` (PBT) trains the trials instead; `tune_trial` and
`tune_member` are what runs in Tune's actors, and `tune_writer` writes their reports to the table. Only these three
import Ray.

To add a search method:

* A sampler or a pruner of Optuna is a case in `optuna_cell`, and its name in `orchestrator.sweep.sweep`.
* Any other method is a source of runs (`orchestrator.scheduling.options.RunSource`), an object with two methods:
  `more()` puts the next runs into the queue and returns whether there are any; `judge(record)` returns the runs to
  prune, now that a run has recorded this. `SweepSearch` is one.

Every method keeps one rule: proposals are written to the table before they train, and depend only on results and
on (seed, cell, number of the trial). A search that was killed then continues with the trials of an undisturbed
one. See docs/how-to/add-a-search-method.md.
"""
