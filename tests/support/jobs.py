"""Jobs and stores for tests of the core."""

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from finetune.jobs import Event, Job, JobState
from finetune.lifecycle import Lifecycle
from finetune.placement import Device, Site
from finetune.store import Database, SqlJobs, SqlModels, SqlPlacements, SqlTurns
from finetune.testing import FakeProvider, ListQueue, ManualClock

RECIPE = {
    "version": 1,
    "name": "bot",
    "base_model": "builtin:tiny-llama",
    "provider": "fake",
    "dataset": {"path": "data.jsonl"},
}


class World:
    """A store, a clock, a provider, a queue, and the lifecycle over them."""

    def __init__(self, url: str, provider: FakeProvider | None = None) -> None:
        self.url = url
        self.database = opened(url)
        self.jobs, self.models = SqlJobs(self.database), SqlModels(self.database)
        self.turns = SqlTurns(self.database, self.jobs)
        self.clock, self.queue = ManualClock(), ListQueue()
        self.provider = provider or FakeProvider()
        self.lifecycle = self.worker("w1")
        #: Whether `run` does all due steps under one lease, as a worker does, or stops after each.
        self.at_once = False

    def placements(self, worker: str = "w", *devices: Device, slots: int = 99) -> SqlPlacements:
        """Places on a worker's devices; on the processor there is room for all."""
        return SqlPlacements(self.database, Site(worker, devices, slots))

    def worker(self, owner: str) -> Lifecycle:
        return Lifecycle(self.jobs, self.models, lambda name: self.provider, self.queue, self.clock, owner=owner)

    def submit(self, job_id: str = "ft_1", **fields: object) -> Job:
        now = self.clock.now()
        job = Job(
            **{
                "id": job_id,
                "name": "bot",
                "owner": "me",
                "provider": "fake",
                "base_model": "builtin:tiny-llama",
                "recipe": RECIPE,
                "fingerprint": f"print-{job_id}",
                "state": JobState.QUEUED,
                "due_at": now,
                "data": {
                    "train": "t",
                    "validation": None,
                    "train_rows": 3,
                    "validation_rows": 0,
                    "digest": "d",
                    "format": "openai",
                },
                "created_at": now,
                "changed_at": now,
                **fields,
            }
        )
        return self.jobs.submit(job, Event(kind="state", message="queued", at=now), force=False)[0]

    def run(self, job_id: str = "ft_1", until: Callable[[Job], bool] = lambda job: job.final, steps: int = 60) -> Job:
        """Advance the job, turning the clock to its due time, until the condition holds."""
        for _ in range(steps):
            job = self.jobs.get(job_id)
            if until(job):
                return job
            if job.due_at is not None and job.due_at > self.clock.now():
                self.clock.sleep((job.due_at - self.clock.now()).total_seconds())
            self.lifecycle.advance(job_id, more=lambda: self.at_once)
        raise AssertionError(f"{job_id} is {self.jobs.get(job_id).state} after {steps} steps")


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'ft.db'}"


def opened(url: str) -> Database:
    """`Database.open`, after `furnish`."""
    furnish(url)
    return Database.open(url)


def furnish(url: str) -> None:
    """Put a file with today's schema where SQLite has none yet: few tests have a use for the migrations before it."""
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and path.parent.is_dir() and not path.exists():
        path.write_bytes(_migrated())


@cache
def _migrated() -> bytes:
    """A file that the migrations have made."""
    with tempfile.TemporaryDirectory(prefix="ft-test-schema-") as folder:
        Database.open(sqlite(Path(folder))).close()
        return (Path(folder) / "ft.db").read_bytes()
