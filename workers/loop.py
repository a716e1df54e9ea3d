"""The thread in every worker that sweeps, says that the worker lives, and ends it when it should end."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Collection
from datetime import timedelta

from finetune.errors import FtError
from finetune.ports import Beat
from finetune.queue import QUEUES
from finetune.sweep import RING_AGAIN
from finetune.wiring import Parts
from workers.app import app

log = logging.getLogger("ft.worker")

#: How often the database is asked whether anything changed (embedded: one PRAGMA), and how often it is swept anyway.
LOOK_S = 0.05
SWEEP_S = 1.0
BEAT_S = 2.0
#: A worker started for the work at hand ends when there was none for so long.
IDLE_S = 2.0


class Loop(threading.Thread):
    """Sweeps until `stop`. Errors of the store are logged and waited out: the store may come back."""

    def __init__(self, parts: Parts, queues: Collection[str], *, until_idle: bool) -> None:
        super().__init__(name="sweep", daemon=True)
        self._parts, self._queues, self._until_idle = parts, tuple(queues), until_idle
        self._ended = threading.Event()
        self._busy_at = 0.0

    def stop(self) -> None:
        """End the thread and sign off. Blocks for a moment."""
        self._ended.set()
        self.join(timeout=5)

    def run(self) -> None:
        """The thread."""
        while not self._ended.is_set():
            try:
                self._sweep()
            except FtError as error:
                log.error("%s", error)
                self._ended.wait(SWEEP_S)
        try:
            self._parts.beats.leave(self._parts.worker)
        except FtError as error:
            log.error("%s", error)

    def _sweep(self) -> None:
        parts = self._parts
        tasks = frozenset(task for task, queue in QUEUES.items() if queue in self._queues)
        sweep = parts.sweep(_ring, tasks)
        clock = _Elapsed(parts)
        self._busy_at = clock.now()
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
                if self._until_idle and clock.passed("idle", 0.5):
                    self._end_if_idle(clock.now())

    def _end_if_idle(self, now: float) -> None:
        if self._parts.jobs.recent(limit=1, unfinished=True):
            self._busy_at = now
        elif now - self._busy_at >= IDLE_S:
            log.info("no work left")
            self._ended.set()
            os.kill(os.getpid(), signal.SIGTERM)

    def _me(self) -> Beat:
        now = self._parts.clock.now()
        name = self._parts.worker
        return Beat(worker=name, queues=self._queues, host=socket.gethostname(), pid=os.getpid(), seen_at=now)


class _Elapsed:
    """Says when a named interval has passed; the first time it has."""

    def __init__(self, parts: Parts) -> None:
        self._clock = parts.clock
        self._at: dict[str, float] = {}

    def now(self) -> float:
        return self._clock.now().timestamp()

    def passed(self, name: str, seconds: float) -> bool:
        now = self.now()
        if now - self._at.get(name, 0.0) < seconds:
            return False
        self._at[name] = now
        return True


def _ring(task: str, key: str) -> None:
    expires = (RING_AGAIN + timedelta(seconds=30)).total_seconds()
    app.send_task(task, (key,), queue=QUEUES[task], expires=expires, retry=False)
