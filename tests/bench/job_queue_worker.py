"""The worker of `tests.bench.job_queue`: ours, with a fake provider, and beside it a bare task that inserts one row.

Every step and every insert appends `KIND KEY TIME` to the file that BENCH_DONE names, after its commit.
"""

import os
import time
from datetime import datetime
from functools import cache, cached_property
from typing import Any

import psycopg

from finetune.jobs import Change, Job, Lease
from finetune.store import SqlJobs
from finetune.testing import FakeProvider
from finetune.wiring import Parts
from workers import __main__ as worker
from workers import tasks
from workers.app import app

_done = open(os.environ["BENCH_DONE"], "a", buffering=1)
_ADDRESS = os.environ["FT_DATABASE_URL"].replace("postgresql+psycopg", "postgresql")


class _Told(SqlJobs):
    def apply(self, lease: Lease, change: Change, now: datetime, *, until: datetime | None = None) -> Job:
        job = super().apply(lease, change, now, until=until)
        _done.write(f"step {job.id} {time.time()}\n")
        return job


class BenchParts(Parts):
    """The parts of a worker whose only provider is a fake."""

    @cached_property
    def providers(self) -> Any:
        return {"fake": FakeProvider(script=("succeeded",))}

    @cached_property
    def jobs(self) -> SqlJobs:
        return _Told(self.database)


@cache
def _pool() -> Any:
    import threading

    return threading.local()


@app.task(name="bench.insert")
def insert(key: str) -> None:
    """One committed insert, over a connection that each thread keeps."""
    local = _pool()
    if not hasattr(local, "connection"):
        local.connection = psycopg.connect(_ADDRESS)
    with local.connection.transaction():
        local.connection.execute("INSERT INTO bench VALUES (%s, now())", (key,))
    _done.write(f"insert {key} {time.time()}\n")


if __name__ == "__main__":
    parts = cache(BenchParts)
    tasks.parts = parts
    worker.main()
