"""What the queue costs: `python -m tests.bench.job_queue [JOBS] [HISTORY]`; 400 and 100000. Has its own servers.

1. From a submit to the end of the first step with a fake provider, against a Celery task with one committed insert:
   same Redis, same PostgreSQL, same worker process, in turns. One at a time for the latency; for the throughput all at
   once, and all steps of all jobs count, as each is a task and a committed change.
2. A table with HISTORY jobs, 1 in 50 unfinished, against one with a thousand, on SQLite and PostgreSQL: what `ft queue`
   and `ft status` ask, a scrape of `/metrics`, and claims.

Exits with 1 when a target is missed.
"""

import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from celery import Celery
from sqlalchemy import insert

from finetune.board import entries
from finetune.clock import SystemClock
from finetune.jobs import Event, Job, JobState
from finetune.queue import CeleryQueue
from finetune.store import Database, SqlBeats, SqlFigures, SqlJobs
from finetune.store.schema import jobs as table
from finetune.tasks import ADVANCE
from tests.support.process import Child, wait_until
from tests.support.servers import PostgresServer, RedisServer

#: Times the bare task's p50, at most; of its throughput, at least.
LATENCY, THROUGHPUT = 2.0, 0.5
#: Of a job here, to preparing, submitting, running, registering, succeeded; none waits for a time.
STEPS = 5
#: Milliseconds of database time for `ft queue` and for `ft status`, at most.
LOOK_MS = 100.0
CLOCK = SystemClock()
TTL = timedelta(seconds=30)


def job(number: int, **fields: Any) -> Job:
    now = datetime.now(UTC)
    data = {"train": "t", "validation": None, "train_rows": 1, "validation_rows": 0, "digest": "d", "format": "openai"}
    recipe = {"version": 1, "name": "bot", "base_model": "m", "provider": "fake", "dataset": {"path": "d.jsonl"}}
    return Job(
        **{
            "id": f"ft_{number:08}",
            "name": "bot",
            "owner": f"owner{number % 7}",
            "provider": "fake",
            "base_model": "m",
            "recipe": recipe,
            "fingerprint": f"{number:064}",
            "state": JobState.QUEUED,
            "admitted_at": now,
            "due_at": now,
            "data": data,
            "created_at": now,
            "changed_at": now,
            **fields,
        }
    )


class Line:
    """The servers, a worker, and both ways to give it work."""

    def __init__(self, url: str, broker: str, folder: Path) -> None:
        self.done, self._number = folder / "done", 0
        self.done.touch()
        self.store = SqlJobs(Database.open(url))
        with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
            connection.execute("CREATE TABLE bench (key text PRIMARY KEY, at timestamptz)")
        self.queue, self.bare = CeleryQueue(broker), Celery("bare", broker=broker, set_as_current=False)
        env = {**os.environ, "FT_DATABASE_URL": url, "FT_BROKER_URL": broker, "FT_HOME": str(folder)}
        argv = [sys.executable, "-m", "tests.bench.job_queue_worker", "--queue", "remote"]
        log = (folder / "worker.log").open("wb")
        self.worker = Child(
            argv, stop_signal=signal.SIGTERM, env={**env, "BENCH_DONE": str(self.done)}, stdout=log, stderr=log
        )
        wait_until(lambda: b"ready" in (folder / "worker.log").read_bytes(), 60, "the worker to be ready", 0.1)

    def submit(self) -> str:
        """What `Submitter.submit` does once the recipe is checked."""
        self._number += 1
        new = job(self._number)
        self.store.submit(new, Event(kind="state", message="queued", at=new.created_at), force=False)
        self.queue.wake(ADVANCE, new.id)
        return f"step {new.id}"

    def task(self) -> str:
        """A bare task."""
        self._number += 1
        self.bare.send_task("bench.insert", (f"k{self._number}",), queue="remote", ignore_result=True)
        return f"insert k{self._number}"

    def lines(self) -> list[tuple[str, float]]:
        """What was done, and when."""
        found = [line.rsplit(" ", 1) for line in self.done.read_text().splitlines()]
        return [(what, float(at)) for what, at in found]

    def timed(self, send: Callable[[], str], count: int, each: int) -> tuple[float, float]:
        """Seconds until the first and until the last commit, when `count` are sent and each makes `each` of them."""
        self.done.write_text("")
        start = time.time()
        for _ in range(count):
            send()
        # Both kinds of work are waited for to their ends: what is left of one must not delay the other. Looked for
        # seldom: whoever looks takes the time of who works.
        wait_until(lambda: len(self.lines()) >= count * each, 300, "all to be done", 0.005 if count == 1 else 0.05)
        times = [at - start for _, at in self.lines()]
        return min(times), max(times)


def speed(count: int) -> bool:
    """Print both ratios; True when a target is missed."""
    with PostgresServer() as postgres, RedisServer() as redis, tempfile.TemporaryDirectory() as folder:
        line = Line(postgres.database(), redis.url, Path(folder))
        try:
            taken: dict[str, list[float]] = {"a bare task": [], "submit to first step": []}
            for number in range(count):
                for name, send, each in (("a bare task", line.task, 1), ("submit to first step", line.submit, STEPS)):
                    took, _ = line.timed(send, 1, each)
                    # The first ones open connections.
                    if number >= 10:
                        taken[name].append(took)
                    CLOCK.sleep(0.02)
            rates: dict[str, list[float]] = {"a bare task": [], "steps": []}
            for _ in range(3):
                rates["a bare task"].append(count / line.timed(line.task, count, 1)[1])
                rates["steps"].append(count // 4 * STEPS / line.timed(line.submit, count // 4, STEPS)[1])
        finally:
            line.worker.stop(30)
    p50 = {name: statistics.median(each) * 1e3 for name, each in taken.items()}
    rate = {name: statistics.median(each) for name, each in rates.items()}
    slower = p50["submit to first step"] / p50["a bare task"]
    share = rate["steps"] / rate["a bare task"]
    print(f"{'p50 of a bare task':34} {p50['a bare task']:8.1f} ms")
    print(f"{'p50 from submit to first step':34} {p50['submit to first step']:8.1f} ms  {slower:.2f}x  (<= {LATENCY}x)")
    print(f"{'bare tasks a second':34} {rate['a bare task']:8.0f}")
    print(f"{'steps a second':34} {rate['steps']:8.0f}     {share:.2f}x  (>= {THROUGHPUT}x)")
    return slower > LATENCY or share < THROUGHPUT


def fill(database: Database, count: int) -> None:
    """So many jobs, 1 in 50 unfinished."""
    states = [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]
    start, rows = datetime.now(UTC) - timedelta(days=30), []
    for number in range(count):
        at = start + timedelta(days=30) * (number / count)
        live = number % 50 == 0
        state = JobState.RUNNING if live else states[number % 3]
        ends = {"due_at": at if live else None, "finished_at": None if live else at, "admitted_at": at}
        one = job(number, state=state, created_at=at, changed_at=at, **ends)
        rows.append({**vars(one), "lease_token": 0})
    with database.write() as connection:
        for begin in range(0, count, 5_000):
            connection.execute(insert(table), rows[begin : begin + 5_000])
        connection.exec_driver_sql("ANALYZE")


def asked(url: str, count: int) -> dict[str, float]:
    """Milliseconds of each question (claims: of one), the median of many."""
    database = Database.open(url)
    fill(database, count)
    store, beats = SqlJobs(database), SqlBeats(database)
    now = datetime.now(UTC)
    due = [each.key for each in store.due(now, 200)]

    def claim() -> None:
        key = due.pop()
        assert store.claim(key, "w", now, TTL)

    def look() -> None:
        found = store.recent(unfinished=True)
        entries(found, beats.workers(now), {}, now)

    questions = {
        "ft status": lambda: store.recent(limit=20),
        "ft queue, rows": lambda: store.recent(unfinished=True),
        "ft queue, all": look,
        "/metrics": lambda: SqlFigures(database).look(now),
        "due": lambda: store.due(now, 200),
        "claim": claim,
    }
    found = {}
    for name, ask in questions.items():
        took = []
        for _ in range(min(20, len(due))):
            start = time.perf_counter()
            ask()
            took.append((time.perf_counter() - start) * 1e3)
        found[name] = statistics.median(took)
    database.close()
    return found


def history(count: int) -> bool:
    """Print what a long history costs; True when a target is missed."""
    missed = False
    with PostgresServer() as postgres, tempfile.TemporaryDirectory() as folder:
        for name in ("sqlite", "postgresql"):
            urls = [
                f"sqlite:///{folder}/{size}.db" if name == "sqlite" else postgres.database() for size in (1000, count)
            ]
            small, large = asked(urls[0], 1000), asked(urls[1], count)
            for question, ms in large.items():
                looks = question in ("ft status", "ft queue, rows")
                limit = f"  (<= {LOOK_MS:.0f} ms)" if looks else ""
                print(f"{name:11} {question:16} {small[question]:8.2f} ms of 1,000  {ms:8.2f} ms of {count:,}{limit}")
                missed |= looks and ms > LOOK_MS
    return missed


def main(count: int = 400, past: int = 100_000) -> int:
    """Measure and print; the exit status."""
    missed = [speed(count), history(past)]
    return int(any(missed))


if __name__ == "__main__":
    sys.exit(main(*(int(arg) for arg in sys.argv[1:])))
