"""The results table, which is also the queue. Read `table.py` first, then `queue.py`.

`Table` is what other packages use: it reads, `Table.queue` changes the states of runs, `Table.trials` holds what a
search has tried. Below it, `connection` opens the database with its lock and transactions, `engine` knows SQLite
and PostgreSQL, and `schema` has the columns. `requests` carries commands of other terminals to the process that
trains, `retry` waits out a full disk or a locked database, and `export` filters and writes frames.

The contract of a store, which tests/contracts/store.py checks:

* A run is a row, once, by its `run_id`; several sweeps may have it as a member.
* `claim` gives a queued run to one coordinator only, and with it a fencing token: the number of its attempt. Every
  write about a running run carries the token; writes with an outdated one are ignored, whatever their order.
* An attempt ends once. It is charged what it computed, and its row stays, with how it ended.
* A transaction is written as a whole or not at all, and survives a power cut once it is committed.
* What a dead coordinator had claimed is queued again by `recover`.
* Readers never wait for writers, and cannot write.

To add a back end: have `engine.engine_of` make its SQLAlchemy engine from a URL (isolation, lock, errors that
pass), then run the contract over it as tests/orchestrator/store/test_contract.py does.
"""
