"""From a recipe to a committed job: check the data, choose the target, insert the row, ring."""

import getpass
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from finetune.errors import DataError, NotEligible, Problem
from finetune.jobs import Event, Job, JobState
from finetune.plan import Plan, choose
from finetune.ports import Clock, Inspected, JobStore, PreparedData, Provider, Queue
from finetune.spec import RecipeFile, canonical
from finetune.tasks import ADVANCE

#: Both take (train, validation, split). The one looks, the other also writes the files that are trained on.
Inspect = Callable[[Path, Path | None, float | None], Inspected]
Prepare = Callable[[Path, Path | None, float | None], PreparedData]


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A recipe that was checked, with its data written down and its target chosen."""

    file: RecipeFile
    data: PreparedData
    plan: Plan


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
        inspect: Inspect,
        prepare: Prepare,
        providers: Mapping[str, Provider],
        new_id: Callable[[], str],
    ) -> None:
        self._jobs, self._queue, self._clock = jobs, queue, clock
        self._inspect, self._prepare, self._new_id = inspect, prepare, new_id
        self._providers = providers

    def check(self, file: RecipeFile) -> tuple[Plan, tuple[Problem, ...]]:
        """The plan, and every warning about the data. Writes nothing, sends nothing.

        Raises DataError, or NotEligible if the data has no fault, with everything that stands against it at once.
        """
        file = rooted(file)
        found = self._inspect(*_files(file))
        return self._plan(file, found.problems, found.train_rows, found.validation_rows), found.problems

    def ready(self, file: RecipeFile) -> Ready:
        """Check as `check` does, and write down the data that will be trained on. Idempotent. Raises StateError too."""
        file = rooted(file)
        try:
            data = self._prepare(*_files(file))
        except DataError as error:
            self._plan(file, error.problems, 0, 0)
            raise
        return Ready(file=file, data=data, plan=self._plan(file, data.warnings, data.train_rows, data.validation_rows))

    def submit(self, ready: Ready, *, force: bool = False) -> Submission:
        """Commit a job and ring. Idempotent by recipe, data and target unless `force`. Does not wait for training.

        Raises StateError.
        """
        now = self._clock.now()
        recipe, plan = canonical(ready.file.recipe), ready.plan
        job = Job(
            id=self._new_id(),
            name=ready.file.recipe.name,
            owner=_login(),
            provider=plan.provider,
            base_model=plan.base_model,
            recipe=recipe,
            fingerprint=fingerprint(recipe, ready.data.digest, plan.target),
            state=JobState.QUEUED,
            due_at=now,
            data=_record(ready.data),
            created_at=now,
            changed_at=now,
        )
        told = Event(kind="state", message=f"queued: {plan.target}, {plan.steps} steps", at=now)
        job, created = self._jobs.submit(job, told, force=force)
        if created:
            self._queue.wake(ADVANCE, job.id)
        return Submission(job=job, created=created, plan=plan)

    def _plan(self, file: RecipeFile, problems: tuple[Problem, ...], train_rows: int, validation_rows: int) -> Plan:
        """Choose the target; whatever stands against data or target is raised together."""
        faulty = any(problem.level == "error" for problem in problems)
        try:
            plan = choose(file, train_rows, validation_rows, self._providers)
        except NotEligible as error:
            kind = DataError if faulty else NotEligible
            raise kind(*problems, *error.problems) from None
        if faulty:
            raise DataError(*problems)
        return plan


def fingerprint(recipe: Mapping[str, object], data_digest: str, target: str) -> str:
    """sha256 over the recipe without its paths (the data's digest stands for them), the data and the target."""
    same = {key: value for key, value in recipe.items() if key not in ("dataset", "validation", "provider")}
    text = json.dumps([same, data_digest, target], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def rooted(file: RecipeFile) -> RecipeFile:
    """The recipe with a base model that is a relative path (`./`, `../`, `~`) as an absolute one.

    Like the data's, its path starts at the recipe's folder: the worker that loads it stands elsewhere.
    """
    name = file.recipe.base_model
    if not name.startswith(("./", "../", "~")):
        return file
    path = (file.path.parent / Path(name).expanduser()).resolve()
    return replace(file, recipe=file.recipe.model_copy(update={"base_model": str(path)}))


def _files(file: RecipeFile) -> tuple[Path, Path | None, float | None]:
    """Where the data is: relative paths start at the recipe's folder."""
    folder, held_out = file.path.parent, file.recipe.validation
    own = folder / held_out.path if held_out and held_out.path else None
    return folder / file.recipe.dataset.path, own, held_out.split if held_out else None


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
