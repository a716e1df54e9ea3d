"""The thread in every worker that sweeps, says that the worker lives, and ends it when it should end."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Collection
from datetime import timedelta

from finetune.errors import FtError
from finetune.placement import Site
from finetune.runs import Beat
from finetune.sweep import RING_AGAIN
from finetune.tasks import QUEUE_OF, TRAIN
from finetune.wiring import Releases
from workers.app import app

log = logging.getLogger("ft.worker")

#: A task that does nothing.
NOTHING = "ft.nothing"
#: How often the database is asked whether anything changed (embedded: one PRAGMA), and how often it is swept anyway.
LOOK_S = 0.05
SWEEP_S = 1.0
BEAT_S = 2.0
#: A worker started for the work at hand ends when there was none for so long.
IDLE_S = 2.0
GIVE_UP_S = 30.0


class Loop(threading.Thread):
    """Sweeps until `stop`. Whatever goes wrong is logged and waited out: database and broker may come back.

    With `until_idle` it asks the worker to end when there is no work, or when nothing has gone right for `GIVE_UP_S`:
    nobody watches such a worker.
    """

    def __init__(self, parts: Releases, queues: Collection[str], *, until_idle: bool) -> None:
        super().__init__(name="sweep", daemon=True)
        self._parts, self._queues, self._until_idle = parts, tuple(queues), until_idle
        self._ended = threading.Event()
        #: Set once Celery listens, to signals too: one that came before would end the process on the spot.
        self.ready = threading.Event()
        self._well_at = self._busy_at = self._now()

    def end(self) -> None:
        """Ring for nothing more; the thread ends by itself."""
        self._ended.set()

    def stop(self) -> None:
        """End the thread and sign off. Blocks for a moment."""
        self.end()
        if self.is_alive():
            self.join(timeout=5)

    def run(self) -> None:
        """The thread."""
        while not self._ended.is_set():
            try:
                self._sweep()
            except Exception as error:  # noqa: BLE001 -- a worker whose sweep has ended would be deaf for good
                log.error("%s", error if isinstance(error, FtError) else f"{type(error).__name__}: {error}")
                if self._until_idle and self._now() - self._well_at > GIVE_UP_S:
                    self._end_worker("nothing has gone right for a while")
                self._ended.wait(SWEEP_S)
        if self._parts.settings.embedded:
            # Celery looks at its wish to stop between two messages, or after two seconds without one, and then waits
            # for one message more before it stops.
            for _ in range(2):
                app.send_task(NOTHING, queue=self._queues[0])
        try:
            self._parts.beats.leave(self._parts.worker)
        except FtError as error:
            log.error("%s", error)

    def _sweep(self) -> None:
        parts = self._parts
        tasks = frozenset(task for task, queue in QUEUE_OF.items() if queue in self._queues)
        sweep = parts.sweep(_ring, tasks)
        clock = _Elapsed(self._now)
        with parts.database.watching() as connection:
            before: int | None = None
            while not self._ended.wait(LOOK_S):
                changes = parts.database.changes(connection)
                if clock.passed("beat", BEAT_S):
                    parts.beats.beat(self._me())
                changed = changes is not None and changes != before
                if clock.passed("sweep", SWEEP_S) or changed:
                    before = changes
                    sweep.tick()
                    self._well_at = self._now()
                if self._until_idle and clock.passed("idle", 0.5):
                    self._end_if_idle()

    def _end_if_idle(self) -> None:
        parts = self._parts
        if parts.jobs.recent(limit=1, unfinished=True) or parts.promotions.under_way():
            self._busy_at = self._now()
        elif self._now() - self._busy_at >= IDLE_S and self.ready.is_set():
            self._end_worker("no work left")

    def _end_worker(self, why: str) -> None:
        log.info("%s", why)
        self._ended.set()
        os.kill(os.getpid(), signal.SIGTERM)

    def _now(self) -> float:
        return self._parts.clock.now().timestamp()

    def _me(self) -> Beat:
        now = self._parts.clock.now()
        site = self._parts.site if QUEUE_OF[TRAIN] in self._queues else Site(self._parts.worker)
        return Beat(
            worker=site.worker,
            queues=self._queues,
            host=socket.gethostname(),
            pid=os.getpid(),
            seen_at=now,
            devices=site.devices,
            slots=site.slots,
        )


class _Elapsed:
    """Says when a named interval has passed; the first time it has."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._at: dict[str, float] = {}

    def passed(self, name: str, seconds: float) -> bool:
        now = self._now()
        if now - self._at.get(name, 0.0) < seconds:
            return False
        self._at[name] = now
        return True


def _ring(task: str, key: str) -> None:
    expires = (RING_AGAIN + timedelta(seconds=30)).total_seconds()
    app.send_task(task, (key,), queue=QUEUE_OF[task], expires=expires, retry=False)
