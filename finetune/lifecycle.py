"""advance(): the one state machine. It looks at a job, does the one next step, and says when to look again.

    queued -> preparing -> submitting -> running -> registering -> succeeded
       \\___________\\___________\\___________\\______________\\______-> failed
        \\___________\\___________\\___________\\____________________-> cancelled

It may be called twice, late, after a crash, or by two workers at once: a lease lets one of them write, and every step
can be repeated. A step is one method; what it wants written is a `Change`; `JobStore.apply` writes it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from finetune.errors import (
    AuthenticationFailed,
    FtError,
    InternalError,
    LeaseLost,
    OutcomeUnknown,
    Problem,
    ProviderUnavailable,
    StateError,
)
from finetune.jobs import Change, Event, Job, JobState, Json, Lease
from finetune.ports import Clock, JobStore, ModelStore, PreparedData, Provider, Queue, RemoteData
from finetune.spec import Recipe
from finetune.tasks import ADVANCE

#: A step must end, or renew, within this; another worker may take the job over afterwards.
LEASE = timedelta(seconds=30)
#: Temporary failures in a row before a job that cost nothing yet is given up (about half an hour).
MAX_FAILURES = 10
_LONGEST_WAIT_S = 300.0


class Lifecycle:
    """Moves jobs. Holds no state of its own; any number of processes may run one."""

    def __init__(
        self,
        jobs: JobStore,
        models: ModelStore,
        provider: Callable[[str], Provider],
        queue: Queue,
        clock: Clock,
        *,
        owner: str,
        hold: Callable[[Lease], AbstractContextManager[None]] = lambda lease: nullcontext(),
    ) -> None:
        """`owner` names this worker in leases; `hold` renews a lease while a step takes long."""
        self._jobs, self._models, self._provider = jobs, models, provider
        self._queue, self._clock = queue, clock
        self._owner, self._hold = owner, hold
        self._steps: dict[JobState, Callable[[Lease], Change]] = {
            JobState.QUEUED: self._start,
            JobState.PREPARING: self._upload,
            JobState.SUBMITTING: self._submit,
            JobState.RUNNING: self._poll,
            JobState.REGISTERING: self._register,
        }

    def advance(self, job_id: str) -> Job | None:
        """Do the next step of this job. None if it is not due, somebody else holds it, or the lease was lost.

        Blocks for at most one provider request (or upload). Raises StateError when our own store or disk cannot be
        used, InternalError for a transition that is not in the table; every other failure becomes part of the job.
        """
        lease = self._jobs.claim(job_id, self._owner, self._clock.now(), LEASE)
        if lease is None:
            return None
        try:
            with self._hold(lease):
                change = self._step(lease)
            job = self._jobs.apply(lease, change, self._clock.now())
        except LeaseLost:
            return None
        if job.due_at is not None and job.due_at <= self._clock.now():
            self._queue.wake(ADVANCE, job.id)
        return job

    def _step(self, lease: Lease) -> Change:
        job = lease.job
        try:
            return self._steps[job.state](lease)
        except StateError:
            # Our own disk or database, not the job's fault: the job stays as it is and the sweep comes back to it.
            raise
        except FtError as error:
            return self._trouble(job, error)
        except Exception as error:  # noqa: BLE001 -- a fault in an adapter must not lose a job that costs money
            return self._trouble(job, InternalError(_fault(error)))

    def _start(self, lease: Lease) -> Change:
        if lease.job.cancel_requested:
            return self._end(JobState.CANCELLED, "cancelled before it started")
        return self._go(JobState.PREPARING, "handing the data to the provider")

    def _upload(self, lease: Lease) -> Change:
        job = lease.job
        if job.cancel_requested:
            return self._end(JobState.CANCELLED, "cancelled before it was submitted")
        remote = self._provider(job.provider).upload(prepared(job))
        number = job.attempt + 1
        attempt = {"attempt": number, "run_key": f"{job.id}-a{number}", "remote_data": remote.ids}
        return self._go(JobState.SUBMITTING, f"attempt {number}: submitting", **attempt)

    def _submit(self, lease: Lease) -> Change:
        """Look the run key up, then create: a job that was created before a crash is found, never paid twice."""
        job, provider = lease.job, self._provider(lease.job.provider)
        run_key = str(job.run_key)
        known = provider.find(run_key)
        for extra in known[1:]:
            provider.cancel(extra.remote_id)
        if known:
            found = known[0]
            more = f"; cancelled {len(known) - 1} more with the same key" if known[1:] else ""
            note = f"found {found.remote_id} at the provider{more}" if job.create_sent_at else "submitted"
            return self._submitted(found.remote_id, found.raw_state, note)
        if job.create_sent_at is not None:
            wait_until = job.create_sent_at + timedelta(seconds=provider.grace_s)
            if self._clock.now() < wait_until:
                return Change(state=job.state, due_at=wait_until, fields={})
        if job.cancel_requested:
            return self._end(JobState.CANCELLED, "cancelled before the provider had it")
        self._jobs.record(lease, self._clock.now(), {"create_sent_at": self._clock.now()})
        try:
            remote = provider.create(recipe_of(job), RemoteData(ids=job.remote_data or {}), run_key)
        except ProviderUnavailable as error:
            return self._trouble(job, error, create_sent_at=None)
        return self._submitted(remote.remote_id, remote.raw_state, f"submitted as {remote.remote_id}")

    def _submitted(self, remote_id: str, raw_state: str, note: str) -> Change:
        fields = {"remote_id": remote_id, "provider_state": raw_state, "create_sent_at": None}
        return self._go(JobState.RUNNING, note, **fields)

    def _poll(self, lease: Lease) -> Change:
        job, provider = lease.job, self._provider(lease.job.provider)
        remote_id = str(job.remote_id)
        if job.cancel_requested:
            provider.cancel(remote_id)
        seen = provider.poll(remote_id, job.cursor)
        fields: Json = {"provider_state": seen.raw_state, "cursor": seen.cursor, "failures": 0}
        if seen.progress is not None:
            fields["progress"] = seen.progress
        news: dict[str, Any] = {"events": seen.events, "metrics": seen.metrics}
        if seen.state == "succeeded":
            return self._go(JobState.REGISTERING, "trained", **fields, artifact=seen.artifact, **news)
        if seen.state == "cancelled":
            return self._end(JobState.CANCELLED, "cancelled, the provider runs it no more", **fields, **news)
        if seen.state == "failed":
            problem = seen.problem or _unexplained(seen.raw_state)
            return self._end(JobState.FAILED, problem.what, **fields, error=_error(problem), **news)
        return Change(state=job.state, due_at=self._next_poll(job, provider), fields=fields, **news)

    def _register(self, lease: Lease) -> Change:
        job = lease.job
        wanted = recipe_of(job).register
        version = self._models.add_model(job, self._clock.now(), alias=wanted.alias if wanted else None)
        return self._end(JobState.SUCCEEDED, f"registered as {version.ref}", model=version.ref, failures=0)

    def _next_poll(self, job: Job, provider: Provider) -> datetime:
        """A second at first, then a twentieth of the job's age, up to the provider's longest pause."""
        now = self._clock.now()
        age_s = (now - job.changed_at).total_seconds()
        # A user who asked for the end is waiting for it.
        pause_s = 0.2 if job.cancel_requested else min(provider.max_poll_s, max(1.0, age_s / 20))
        return now + timedelta(seconds=pause_s)

    def _trouble(self, job: Job, error: FtError, **fields: Any) -> Change:
        """Try again later, or give up.

        A job that may cost money is given up only when the provider itself refuses for good: a key that has expired or
        a fault of ours says nothing about the training, which goes on.
        """
        problem = error.problems[0]
        failures = job.failures + 1
        in_doubt = job.create_sent_at is not None or isinstance(error, OutcomeUnknown)
        costs = in_doubt or job.state in (JobState.RUNNING, JobState.REGISTERING)
        ours = isinstance(error, (InternalError, AuthenticationFailed))
        patient = error.retry or (ours and costs) or isinstance(error, InternalError)
        if not patient or (failures >= MAX_FAILURES and not costs):
            return self._end(JobState.FAILED, problem.what, **fields, error=_error(problem))
        wait_s = min(_LONGEST_WAIT_S, 2.0 ** min(failures, 9))
        note = f"{problem.what} ({problem.code}); trying again in {wait_s:.0f} s"
        now = self._clock.now()
        return Change(
            state=job.state,
            due_at=now + timedelta(seconds=wait_s),
            fields={**fields, "failures": failures},
            events=(Event(kind="warning", message=note, at=now),),
        )

    def _go(self, state: JobState, note: str, *, events: Any = (), metrics: Any = (), **fields: Any) -> Change:
        now = self._clock.now()
        told = Event(kind="state", message=f"{state}: {note}", at=now)
        fields = {"failures": 0, **fields}
        return Change(state=state, due_at=now, fields=fields, events=(*events, told), metrics=metrics)

    def _end(self, state: JobState, note: str, *, events: Any = (), metrics: Any = (), **fields: Any) -> Change:
        told = Event(kind="state", message=f"{state}: {note}", at=self._clock.now())
        return Change(state=state, due_at=None, fields=fields, events=(*events, told), metrics=metrics)


def recipe_of(job: Job) -> Recipe:
    """The job's recipe as it was submitted."""
    return Recipe.model_validate(job.recipe)


def prepared(job: Job) -> PreparedData:
    """The job's data as it was when it was submitted."""
    data = job.data
    return PreparedData(
        train=Path(data["train"]),
        validation=Path(data["validation"]) if data.get("validation") else None,
        train_rows=data["train_rows"],
        validation_rows=data["validation_rows"],
        digest=data["digest"],
        format=data["format"],
    )


def _error(problem: Problem) -> Json:
    return {key: asdict(problem)[key] for key in ("code", "what", "why", "fix")}


def _unexplained(raw_state: str) -> Problem:
    return Problem(
        code="E401",
        what=f"the provider ended the job as {raw_state!r} and gave no reason",
        fix="look at the job in the provider's own console, then `ft submit --force`",
    )


def _fault(error: Exception) -> Problem:
    return Problem(
        code="E991",
        what=f"a step failed unexpectedly: {type(error).__name__}",
        why=str(error)[:300],
        fix="please report it with the output of `ft logs`",
    )
