"""One installation with one hosted job: a database on disk, the adapter, the lifecycle. In this process or another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune.jobs import Event, Job, JobState
from finetune.lifecycle import Lifecycle
from finetune.ports import Provider
from finetune.providers.azure import AzureProvider
from finetune.providers.bedrock import BedrockProvider
from finetune.providers.fireworks import FireworksProvider
from finetune.providers.mistral import MistralProvider
from finetune.providers.openai import OpenAiProvider
from finetune.providers.together import TogetherProvider
from finetune.providers.vertex import VertexProvider
from finetune.store import SqlJobs, SqlModels
from finetune.testing import ListQueue
from tests.support import hosted
from tests.support.jobs import opened, sqlite
from tests.support.travel import Traveller

ADAPTERS: dict[str, Callable[..., Provider]] = {
    "openai": OpenAiProvider,
    "azure": AzureProvider,
    "mistral": MistralProvider,
    "vertex": VertexProvider,
    "bedrock": BedrockProvider,
    "fireworks": FireworksProvider,
    "together": TogetherProvider,
}
MODELS = {
    "openai": ("gpt-4o-mini", "openai"),
    "azure": ("gpt-4.1-mini", "openai"),
    "mistral": ("ministral-3b-latest", "mistral"),
    "vertex": ("gemini-3.5-flash", "gemini"),
    "bedrock": ("amazon.nova-micro-v1:0:128k", "bedrock"),
    "fireworks": ("qwen3-0p6b", "fireworks"),
    "together": ("Qwen/Qwen3.5-4B", "together"),
}
JOB = "ft_matrix0001"


class HostedWorld:
    """What a worker has, over one database file."""

    def __init__(self, name: str, folder: Path, environ: dict[str, str], clock: Traveller, *, read_s: float) -> None:
        self.name, self.folder, self.clock = name, folder, clock
        self.database = opened(sqlite(folder))
        self.jobs, self.models, self.queue = SqlJobs(self.database), SqlModels(self.database), ListQueue()
        self.provider = ADAPTERS[name](hosted.kit(folder, environ, clock), read_s=read_s)

    def lifecycle(self, owner: str = "w1") -> Lifecycle:
        return Lifecycle(self.jobs, self.models, lambda name: self.provider, self.queue, self.clock, owner=owner)

    def submit(self, job_id: str = JOB, content: int = 0, **recipe: Any) -> str:
        """A queued job with prepared data; each number of content is another."""
        model, format = MODELS[self.name]
        place = self.folder / f"data-{content}"
        place.mkdir(exist_ok=True)
        data, now = hosted.data(place, format, digest=f"{content:064d}"), self.clock.now()
        value = {"version": 1, "name": "bot", "base_model": model, "provider": self.name, **recipe}
        job = Job(
            id=job_id,
            name="bot",
            owner="me",
            provider=self.name,
            base_model=model,
            recipe={**value, "dataset": {"path": "data.jsonl", **recipe.get("dataset", {})}},
            fingerprint=job_id,
            state=JobState.QUEUED,
            due_at=now,
            data={
                "train": str(data.train),
                "validation": None,
                "train_rows": data.train_rows,
                "validation_rows": 0,
                "digest": data.digest,
                "format": format,
            },
            created_at=now,
            changed_at=now,
        )
        self.jobs.submit(job, Event(kind="state", message="queued", at=now), force=False)
        return job_id

    def run(
        self, until: Callable[[Job], bool] = lambda job: job.final, steps: int = 400, *, at_once: bool = False
    ) -> Job:
        """Advance until the condition holds, travelling to whenever something is due; `at_once` as a worker does."""
        lifecycle = self.lifecycle()
        for _ in range(steps):
            job = self.jobs.get(JOB)
            if until(job):
                return job
            if lifecycle.advance(JOB, more=lambda: at_once) is None:
                self._travel(job)
        raise AssertionError(f"{JOB} is {self.jobs.get(JOB)} after {steps} steps")

    def _travel(self, job: Job) -> None:
        """To the due time, or past the lease of a worker that has died."""
        wait_s = (job.due_at - self.clock.now()).total_seconds() if job.due_at else 0.0
        self.clock.sleep(wait_s if wait_s > 0 else 5.0)

    def close(self) -> None:
        self.database.close()
