"""From a recipe to a committed job: check the data, choose the target, insert the row, ring."""

import getpass
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from finetune.jobs import Event, Job, JobState
from finetune.plan import Plan, plan
from finetune.ports import ADVANCE, Clock, JobStore, PreparedData, Provider, Queue
from finetune.spec import RecipeFile, canonical

#: Checks and splits a recipe's data: (train, validation, split) -> files.
Prepare = Callable[[Path, Path | None, float | None], PreparedData]


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What became of a recipe."""

    job: Job
    #: False when the same recipe, data and target were submitted before and that job answers.
    created: bool
    plan: Plan


class Submitter:
    """Takes recipes in. Holds no state of its own."""

    def __init__(
        self,
        jobs: JobStore,
        queue: Queue,
        clock: Clock,
        *,
        prepare: Prepare,
        providers: Mapping[str, Provider],
        new_id: Callable[[], str],
    ) -> None:
        self._jobs, self._queue, self._clock = jobs, queue, clock
        self._prepare, self._providers, self._new_id = prepare, providers, new_id

    def plan(self, file: RecipeFile) -> tuple[Plan, PreparedData]:
        """Check recipe and data and choose the target. Raises DataError, NotEligible. Sends nothing."""
        recipe, folder = file.recipe, file.path.parent
        own = recipe.validation.path if recipe.validation else None
        data = self._prepare(
            folder / recipe.dataset.path,
            folder / own if own else None,
            recipe.validation.split if recipe.validation else None,
        )
        return plan(file, data, self._providers), data

    def submit(self, file: RecipeFile, *, force: bool = False) -> Submission:
        """Plan, commit a job, ring. Idempotent by recipe, data and target unless `force`. Does not wait for it."""
        chosen, data = self.plan(file)
        now = self._clock.now()
        recipe = canonical(file.recipe)
        job = Job(
            id=self._new_id(),
            name=file.recipe.name,
            owner=_login(),
            provider=chosen.provider,
            base_model=chosen.base_model,
            recipe=recipe,
            fingerprint=fingerprint(recipe, data.digest, chosen.target),
            state=JobState.QUEUED,
            due_at=now,
            data=_record(data),
            created_at=now,
            changed_at=now,
        )
        told = Event(kind="state", message=f"queued: {chosen.target}, {chosen.steps} steps", at=now)
        job, created = self._jobs.submit(job, told, force=force)
        if created:
            self._queue.wake(ADVANCE, job.id)
        return Submission(job=job, created=created, plan=chosen)


def fingerprint(recipe: Mapping[str, object], data_digest: str, target: str) -> str:
    """sha256 over the recipe without its paths (the data's digest stands for them), the data and the target."""
    same = {key: value for key, value in recipe.items() if key not in ("dataset", "validation", "provider")}
    text = json.dumps([same, data_digest, target], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _record(data: PreparedData) -> dict[str, object]:
    return {
        "train": str(data.train),
        "validation": str(data.validation) if data.validation else None,
        "train_rows": data.train_rows,
        "validation_rows": data.validation_rows,
        "digest": data.digest,
    }


def _login() -> str:
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return "unknown"
