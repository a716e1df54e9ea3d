"""The local provider with its books and a supervisor over the test trainer."""

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from finetune.clock import SystemClock
from finetune.placement import Device, Site
from finetune.ports import Clock, ProviderKit
from finetune.providers.local import LocalProvider
from finetune.report import read
from finetune.store import SqlPlacements, SqlRuns
from finetune.testing import ListQueue
from finetune.training.supervisor import Supervisor
from tests.support.jobs import opened, sqlite
from tests.support.process import wait_until

_TRAINER = str(Path(__file__).with_name("trainer.py"))


class Shop:
    """One machine that trains: books, provider, supervisors."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.queue = folder, SystemClock(), ListQueue()
        self.database = opened(sqlite(folder))
        self.runs = SqlRuns(self.database)
        self.kit = ProviderKit(
            runs_dir=folder / "runs",
            cache_dir=folder / "cache",
            clock=self.clock,
            queue=self.queue,
            runs=lambda: self.runs,
            read_report=read,
        )
        self.provider = LocalProvider(self.kit)

    def priced(self, gpu_hour_usd: Decimal) -> LocalProvider:
        """The provider, where an hour of a card has its price."""
        return LocalProvider(replace(self.kit, gpu_hour_usd=gpu_hour_usd))

    def supervisor(
        self,
        worker: str = "w1",
        *devices: Device,
        shelve: Callable[[Path, str], str | None] = lambda folder, digest: None,
        clock: Clock | None = None,
    ) -> Supervisor:
        return Supervisor(
            self.runs,
            clock or self.clock,
            shelve=shelve,
            placements=SqlPlacements(self.database, Site(worker, devices)),
            runs_dir=self.folder / "runs",
            adapters_dir=self.folder / "adapters",
            command=lambda run_dir, report, processes: [
                sys.executable,
                _TRAINER,
                str(run_dir),
                str(report),
                str(processes),
            ],
        )

    def work(self, stopping: Callable[[], bool] = lambda: False, supervisor: Supervisor | None = None) -> None:
        """What a worker's task does."""
        supervisor = supervisor or self.supervisor()
        if run := supervisor.claim(stopping):
            supervisor.run(run, stopping)

    def add(self, play: str, key: str = "k") -> None:
        self.runs.add_run(key, {"play": play}, self.clock.now())

    def start(self, stopping: Callable[[], bool] = lambda: False) -> threading.Thread:
        """A supervisor in a thread, as a worker has it."""
        thread = threading.Thread(target=self.work, args=(stopping,))
        thread.start()
        return thread

    def said(self, word: str, key: str = "k") -> list[str]:
        """Messages that begin with the word."""
        seen = self.provider.poll(key, None)
        return [event.message for event in seen.events if event.message.startswith(word)]

    def wait_for(self, word: str, key: str = "k") -> str:
        wait_until(lambda: self.said(word, key), 10, f"the trainer to say {word!r}")
        return self.said(word, key)[0]
