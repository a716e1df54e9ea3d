"""What claims in batches are worth: `python -m tests.bench.backlog [JOBS] [SECONDS]`; 2000 and 0.005.

JOBS are due at once, as after an hour without workers. Two workers of four threads each sweep and carry them on, with a
message a job, and with a message for several; each look at the provider takes SECONDS. On SQLite and on a PostgreSQL of
its own, in turns, three times each. A message costs what Celery takes for one: not counted here.
"""

import statistics
import sys
import tempfile
import threading
import time
from datetime import timedelta
from queue import Empty, SimpleQueue

from sqlalchemy import insert, update

from finetune.clock import SystemClock
from finetune.jobs import JobState
from finetune.lifecycle import Lifecycle
from finetune.store import Database, SqlJobs, SqlModels
from finetune.store.schema import jobs as table
from finetune.sweep import TAKE, Sweep
from finetune.tasks import ADVANCE, ADVANCE_DUE, TRAIN
from finetune.testing import FakeProvider, ListQueue
from tests.bench.job_queue import job
from tests.support.servers import PostgresServer

CLOCK = SystemClock()
WORKERS, THREADS, TURNS = 2, 4, 3


class Slow(FakeProvider):
    """Trains for ever, and takes its time to say so."""

    takes_s = 0.0

    def __init__(self) -> None:
        super().__init__(script=("running",))
        self.max_poll_s = 3600.0

    def poll(self, remote_id, cursor):
        CLOCK.sleep(self.takes_s)
        return super().poll(remote_id, cursor)


class Bench:
    """A database with JOBS that are due."""

    def __init__(self, url: str, count: int, provider: Slow) -> None:
        self.url, self.count, self.provider = url, count, provider
        self.database = Database.open(url)
        now = CLOCK.now()
        rows = [
            {**vars(job(n, state=JobState.RUNNING, remote_id=f"r{n}", run_key=f"ft_{n:08}-a1")), "lease_token": 0}
            for n in range(count)
        ]
        with self.database.write() as connection:
            connection.execute(insert(table), [{**row, "changed_at": now - timedelta(days=1)} for row in rows])

    def drained(self, most: int) -> tuple[float, int]:
        """Seconds until nothing is due, and the messages for it, when a message takes up to `most` jobs."""
        with self.database.write() as connection:
            connection.execute(update(table).values(due_at=CLOCK.now() - timedelta(seconds=1), lease_until=None))
        ended, messages, start = threading.Event(), [0] * WORKERS, time.perf_counter()
        threads = [
            threading.Thread(target=self._worker, args=(number, most, messages, ended)) for number in range(WORKERS)
        ]
        for thread in threads:
            thread.start()
        store = SqlJobs(self.database)
        while store.due(CLOCK.now(), 1):
            CLOCK.sleep(0.02)
        took = time.perf_counter() - start
        ended.set()
        for thread in threads:
            thread.join(60)
        return took, sum(messages)

    def _worker(self, number: int, most: int, messages: list[int], ended: threading.Event) -> None:
        database = Database.open(self.url)
        jobs, inbox = SqlJobs(database), SimpleQueue[tuple[str, str]]()
        life = Lifecycle(jobs, SqlModels(database), lambda name: self.provider, ListQueue(), CLOCK, owner=f"w{number}")

        def ring(task: str, key: str) -> None:
            messages[number] += 1
            inbox.put((task, key))

        def act() -> None:
            while not ended.is_set():
                try:
                    task, key = inbox.get(timeout=0.05)
                except Empty:
                    continue
                if task != ADVANCE_DUE:
                    life.advance(key, more=lambda: True)
                    continue
                for _, step in life.advance_due(most, more=lambda: True):
                    step()

        # As runs they have a message each: a sweep without batches.
        sweep = Sweep({TRAIN if most == 1 else ADVANCE: jobs.due}, CLOCK, ring)
        threads = [threading.Thread(target=act) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        while not ended.wait(0.05):
            sweep.tick()
        for thread in threads:
            thread.join(60)
        database.close()


def main(count: int = 2000, takes_s: float = 0.005) -> int:
    """Measure and print."""
    Slow.takes_s = takes_s
    with PostgresServer() as postgres, tempfile.TemporaryDirectory() as folder:
        for name, url in (("sqlite", f"sqlite:///{folder}/ft.db"), ("postgresql", postgres.database())):
            bench = Bench(url, count, Slow())
            bench.drained(1)
            found = [(bench.drained(1), bench.drained(TAKE)) for _ in range(TURNS)]
            for title, each in (
                ("a message a job", [one for one, _ in found]),
                (f"up to {TAKE}", [b for _, b in found]),
            ):
                rate = count / statistics.median(took for took, _ in each)
                messages = statistics.median(sent for _, sent in each)
                print(f"{name:11} {title:16} {rate:7.0f} jobs/s  {messages:6.0f} messages for {count:,}")
            ratio = statistics.median(one[0] / many[0] for one, many in found)
            print(f"{name:11} in batches      {ratio:7.2f}x as fast")
            bench.database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*(kind(arg) for kind, arg in zip((int, float), sys.argv[1:], strict=False))))
