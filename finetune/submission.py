"""From a recipe to a committed job: check the data, choose the target, insert the row, ring."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from typing import Any, Protocol

from finetune import traces
from finetune.abilities import Keyed
from finetune.catalogue import Cost
from finetune.choosing import Chooser
from finetune.choosing import Conditions as Conditions
from finetune.data import KIND_OF, DataReport, DataRequest
from finetune.errors import AuthenticationFailed, DataError, NotEligible, Problem, UsageError
from finetune.estimates import Estimate, to_row
from finetune.ids import login
from finetune.jobs import Event, Job, JobState
from finetune.plan import AUTO, Choice, Plan, aimed, planned, priced
from finetune.ports import Clock, JobStore, PreparedData, Provider, Queue
from finetune.spec import Recipe, RecipeFile, canonical, rooted
from finetune.targets import Size
from finetune.tasks import ADVANCE


class Data(Protocol):
    """The data room, as far as it is needed here."""

    def inspect(self, request: DataRequest, base_model: str) -> DataReport:
        """Look at the rows, with lengths in tokens of the base model. Never raises for what they say."""
        ...

    def count(self, request: DataRequest, base_models: Sequence[str]) -> "Counted":
        """What `prepare` would say; `tokens` of what it would write, for each base model, and `longest` of it, by one.

        Writes nothing.
        """
        ...

    def prepare(self, request: DataRequest, base_model: str) -> PreparedData:
        """Write the rows down for their target. Idempotent. Raises DataError, StateError."""
        ...

    def tokens(self, data: PreparedData, base_model: str) -> tuple[int, int]:
        """All tokens of the training rows, at least and at most."""
        ...

    def longest(self, data: PreparedData, base_model: str) -> int:
        """Tokens of the longest training row, at most."""
        ...


#: What was found; tokens of the training rows at least and at most, by base model; those of the longest.
Counted = tuple[DataReport, Mapping[str, tuple[int, int]], Callable[[str], int]]
_UNPRICED = "limits.max_cost is held against the cost when the data is read: by `--fetch`, and by `ft submit`"
_UNWEIGHED = (
    "which target costs least is known when the data is read, so `--fetch` and `ft submit` may name another one"
)
#: Fields of a recipe that change nothing in the outcome: where the data is, how it is checked, who was chosen.
_NOT_THE_RESULT = frozenset({"dataset", "validation", "provider", "privacy"})


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A recipe that was checked, with its data written down and its target chosen."""

    file: RecipeFile
    data: PreparedData
    plan: Plan
    estimate: Estimate
    #: See `Job.priority`.
    priority: int = 0


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
        data: Data,
        conditions: Conditions,
        providers: Mapping[str, Provider],
        new_id: Callable[[], str],
    ) -> None:
        self._jobs, self._queue, self._clock = jobs, queue, clock
        self._data, self._conditions, self._new_id = data, conditions, new_id
        self._providers = providers

    def check(
        self, file: RecipeFile, *, fetch: bool = False, near: bool | None = False, every: bool = False
    ) -> tuple[Plan, DataReport]:
        """The plan, and what was found in the data. Writes nothing; reads elsewhere only with `fetch`.

        The target is that of `ready`; where prices decide it, rows are read once more to count tokens. The options are
        those of DataRequest. Raises DataError, or NotEligible if the data has no fault, with everything that stands
        against recipe and data at once.
        """
        file = rooted(file)
        choice, against = self._chooser.choose(file, partial(self._counted, file, fetch))
        file = aimed(file, choice.base_model) if choice else file
        request = replace(self._request(file, choice), fetch=fetch, near=near, every=every)
        report = self._data.inspect(request, file.recipe.base_model)
        if report.errors or choice is None:
            kind = DataError if report.errors or against is None else type(against)
            raise kind(*report.problems, *(against.problems if against else ()))
        rivals = self._chooser.rivals(file, choice)
        if report.unseen and rivals:
            report = replace(report, notes=(*report.notes, _UNWEIGHED if rivals[1:] else _UNPRICED))
        return planned(file.recipe, choice, report.train_rows, report.validation_rows), report

    def ready(self, file: RecipeFile) -> Ready:
        """Check as `check` does, write down the data that will be trained on, and reckon what that costs. Idempotent.

        Raises StateError too, and AuthenticationFailed when the target's credentials are not set.
        """
        file = rooted(file)
        # What is named is priced below, by the rows that were written down for it.
        named = file.recipe.provider != AUTO
        choice, against = self._chooser.choose(file, lambda base_models: None if named else self.size(file))
        file = aimed(file, choice.base_model) if choice else file
        try:
            with traces.span("check data"):
                data = self._data.prepare(self._request(file, choice), file.recipe.base_model)
        except DataError as error:
            raise DataError(*error.problems, *(against.problems if against else ())) from None
        if choice is None:
            raise (type(against) if against else NotEligible)(*data.warnings, *(against.problems if against else ()))
        if missing := self._unconfigured(choice.provider):
            raise AuthenticationFailed(*missing)
        plan = planned(file.recipe, choice, data.train_rows, data.validation_rows)
        if plan.hosted:
            tokens = self._data.tokens(data, file.recipe.base_model)
            plan = priced(file, plan, self._conditions.cost_of(plan.provider, file.recipe, tokens))
        same = file.recipe.model_copy(update={"provider": plan.provider})
        estimate = self._conditions.foresee(same, self._size(data))
        if not plan.hosted and estimate.cost is not None:
            # Nothing is billed: it is only held against the limit.
            priced(file, plan, estimate.cost)
        return Ready(file=file, data=data, plan=plan, estimate=estimate)

    @property
    def _chooser(self) -> Chooser:
        return Chooser(self._providers, self._conditions)

    def _counted(self, file: RecipeFile, fetch: bool, base_models: Sequence[str]) -> Size | None:
        """`size`, with nothing written; None: the data has faults, which `inspect` tells, or is elsewhere."""
        request = replace(self._request(file, None), rules=None, privacy="off", fetch=fetch)
        report, tokens, longest = self._data.count(request, base_models)
        if report.errors or report.unseen:
            return None
        return Size(
            train_rows=report.train_rows,
            validation_rows=report.validation_rows,
            tokens=lambda base_model: tokens[base_model],
            longest=cache(longest),
        )

    def size(self, file: RecipeFile) -> Size:
        """What is to be trained on, whatever the target; written down in no target's layout. Idempotent.

        Raises DataError, StateError. Its `tokens` count for minutes where the data is large.
        """
        file = rooted(file)
        request = replace(self._request(file, None), rules=None)
        return self._size(self._data.prepare(request, file.recipe.base_model))

    def _size(self, data: PreparedData) -> Size:
        tokens, longest = cache(partial(self._data.tokens, data)), cache(partial(self._data.longest, data))
        return Size(train_rows=data.train_rows, validation_rows=data.validation_rows, tokens=tokens, longest=longest)

    def _unconfigured(self, provider: str) -> list[Problem]:
        found = self._providers[provider]
        return found.unconfigured() if isinstance(found, Keyed) else []

    def request(self, file: RecipeFile) -> DataRequest:
        """What a recipe asks of the data room."""
        return self._request(file, self._chooser.choose(file, lambda base_models: None)[0])

    def asks(self, ready: Ready, *, force: bool = False) -> bool:
        """Whether a user must be asked before `submit`: it would start something that bills, with no limit set."""
        plan = ready.plan
        if not plan.hosted or ready.file.recipe.limits.max_cost is not None:
            return False
        return force or self._jobs.answering(_fingerprint(ready)) is None

    def submit(self, ready: Ready, *, force: bool = False) -> Submission:
        """Commit a job and ring. Idempotent by recipe, data and target unless `force`. Does not wait for training.

        Raises StateError.
        """
        recipe, plan = canonical(ready.file.recipe), ready.plan
        job = self._new(
            name=ready.file.recipe.name,
            provider=plan.provider,
            base_model=plan.base_model,
            recipe=recipe,
            fingerprint=_fingerprint(ready),
            priority=ready.priority,
            data=_record(ready.data),
            cost=_priced(plan.cost or ready.estimate.cost),
            estimate=to_row(ready.estimate),
            deadline_s=ready.file.recipe.limits.deadline_s,
        )
        length = f"{plan.steps} steps" if plan.steps else f"{plan.epochs} epochs"
        job, created = self._queued(job, f"queued: {plan.target}, {length}", force=force)
        traces.tell({"ft.job.id": job.id, "ft.job.created": created, "ft.target": job.target})
        traces.tell({"ft.method": ready.file.recipe.method, "ft.rows": ready.data.train_rows})
        return Submission(job=job, created=created, plan=plan)

    def hosted(self, provider: str) -> bool:
        """Whether this provider trains elsewhere, and bills."""
        return isinstance(self._providers.get(provider), Keyed)

    def bills(self, job: Job) -> bool:
        """Whether a user must be asked before `again`, as by `asks`."""
        free = not self.hosted(job.provider) or Recipe.model_validate(job.recipe).limits.max_cost is not None
        return not free and self._jobs.answering(job.fingerprint) is None

    def again(self, job: Job) -> tuple[Job, bool]:
        """A new job with the recipe and data of one that failed or was cancelled; True if it is new. Rings.

        Another that goes on, or has succeeded, for the same work answers instead. Raises UsageError for a job that has
        not ended so, NotEligible when its target takes it no more, AuthenticationFailed, StateError.
        """
        if job.state not in (JobState.FAILED, JobState.CANCELLED):
            raise UsageError(_not_over(job))
        recipe = Recipe.model_validate(job.recipe)
        against = [each for each in self._conditions.eligible(job.provider, recipe) if each.level == "error"]
        if against:
            raise NotEligible(*against)
        if job.provider in self._providers and (missing := self._unconfigured(job.provider)):
            raise AuthenticationFailed(*missing)
        same = ("name", "provider", "base_model", "recipe", "fingerprint", "data", "priority", "estimate")
        estimate = {key: job.cost.get(key) for key in ("low", "high", "basis")} if job.cost else None
        new = self._new(**{key: getattr(job, key) for key in same}, cost=estimate, deadline_s=recipe.limits.deadline_s)
        return self._queued(new, f"queued: {job.target}, again after {job.id}", force=False)

    def _new(self, *, deadline_s: int | None, **fields: Any) -> Job:
        now = self._clock.now()
        deadline_at = None if deadline_s is None else now + timedelta(seconds=deadline_s)
        return Job(
            **fields,
            id=self._new_id(),
            owner=login(),
            state=JobState.QUEUED,
            admitted_at=None if self._conditions.caps else now,
            deadline_at=deadline_at,
            trace=traces.header(),
            due_at=deadline_at if self._conditions.caps else now,
            created_at=now,
            changed_at=now,
        )

    def _queued(self, job: Job, note: str, *, force: bool) -> tuple[Job, bool]:
        told = Event(kind="state", message=note, at=job.created_at)
        with traces.span("commit"):
            job, created = self._jobs.submit(job, told, force=force)
        if created and not self._conditions.caps:
            with traces.span("wake"):
                self._queue.wake(ADVANCE, job.id)
        return job, created

    def _request(self, file: RecipeFile, choice: Choice | None) -> DataRequest:
        """Where the data is (relative paths start at the recipe's folder), and what the target takes of it."""
        recipe, held_out = file.recipe, file.recipe.validation
        provider = choice.provider if choice else recipe.provider
        return DataRequest(
            train=recipe.dataset.path,
            folder=file.path.parent,
            validation=held_out.path if held_out else None,
            split=held_out.split if held_out else None,
            group_by=held_out.group_by if held_out else None,
            format=recipe.dataset.format,
            field_map=recipe.dataset.field_map,
            kind=KIND_OF[recipe.method],
            privacy=recipe.privacy,
            max_tokens=recipe.training.max_seq_length,
            rules=self._conditions.rules_of(provider, recipe.method, recipe.base_model),
        )


def fingerprint(recipe: Mapping[str, object], data_digest: str, target: str) -> str:
    """sha256 over the data, the target, and the recipe without what the data's digest stands for."""
    same = {key: value for key, value in recipe.items() if key not in _NOT_THE_RESULT}
    text = json.dumps([same, data_digest, target], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(ready: Ready) -> str:
    return fingerprint(canonical(ready.file.recipe), ready.data.digest, ready.plan.target)


def _record(data: PreparedData) -> dict[str, object]:
    return {
        "train": str(data.train),
        "validation": str(data.validation) if data.validation else None,
        "train_rows": data.train_rows,
        "validation_rows": data.validation_rows,
        "digest": data.digest,
        "format": data.format,
    }


def _priced(cost: Cost | None) -> dict[str, object] | None:
    if cost is None:
        return None
    low, high = (None if each is None else str(each) for each in (cost.low_usd, cost.high_usd))
    return {"low": low, "high": high, "basis": cost.basis}


def _not_over(job: Job) -> Problem:
    return Problem(
        code="E811",
        what=f"{job.id} is {job.state}: there is nothing to try again",
        why="a job is tried again when it has failed or was cancelled",
        fix="`ft submit recipe.yaml --force` trains again what has succeeded",
    )
