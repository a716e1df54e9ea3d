"""advance(): the one state machine. It looks at a job, does the one next step, and says when to look again.

    queued -> preparing -> submitting -> running -> registering -> succeeded
       \\___________\\___________\\___________\\______________\\______-> failed
        \\___________\\___________\\___________\\____________________-> cancelled

It may be called twice, late, after a crash, or by two workers at once: a lease lets one of them write, and every step
can be repeated. A step is one method; what it wants written is a `Change`; `JobStore.apply` writes it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from finetune import doubt, setbacks, wishes
from finetune.abilities import Keyed, Reporting, Startable, Storing
from finetune.errors import FtError, InternalError, LeaseLost, Problem, ProviderUnavailable, StateError
from finetune.jobs import FINAL, Change, Event, Job, JobState, Json, Lease
from finetune.ports import Clock, JobStore, PreparedData, Provider, Queue, RemoteData
from finetune.promotions import Wanted, begun
from finetune.releases import ModelStore
from finetune.spec import Recipe
from finetune.tasks import ADVANCE

#: A step must end, or renew, within this; another worker may take the job over afterwards.
LEASE = timedelta(seconds=30)
#: One call does no more steps of a job than this, and begins none when its lease is a third old: others wait too.
_STEPS = 8
#: Files that tell of a training are fetched so often before the job goes on without them.
_FETCHES = 3


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
        ways: "Ways | None" = None,
    ) -> None:
        """`owner` names this worker in leases."""
        self._jobs, self._models, self._provider = jobs, models, provider
        self._queue, self._clock = queue, clock
        self._owner, self._ways = owner, ways or Ways()
        self._steps: dict[JobState, Callable[[Lease], Change]] = {
            JobState.QUEUED: self._start,
            JobState.PREPARING: self._upload,
            JobState.SUBMITTING: self._submit,
            JobState.RUNNING: self._poll,
            JobState.REGISTERING: self._register,
            **dict.fromkeys(FINAL, self._watch),
        }

    def advance(self, job_id: str, *, more: Callable[[], bool] = lambda: False) -> Job | None:
        """Do the next step of this job, and those due at once after it while `more()`. None if nothing was written.

        That is when it is not due, somebody else holds it, or the lease was lost. Blocks for a provider's request (or
        upload) a step. Raises StateError when our own store or disk cannot be used, InternalError for a transition that
        is not in the table; every other failure becomes part of the job.
        """
        lease = self._jobs.claim(job_id, self._owner, self._clock.now(), LEASE)
        if lease is None:
            return None
        with self._ways.hold(lease):
            return self._advance(lease, more)

    def advance_due(self, limit: int, *, more: Callable[[], bool]) -> Iterator[tuple[Job, Callable[[], Job | None]]]:
        """Claim up to `limit` due jobs at once, longest due first; yield each with what advances it (as `advance`).

        What is not called is given back: what the caller leaves, what is not `more()`, and what is not begun when the
        claim is a third of a lease old, for another worker may be free.
        """
        begun = self._clock.now()
        leases = self._jobs.claim_due(self._owner, begun, LEASE, limit)
        with ExitStack() as held:
            for lease in leases:
                held.enter_context(self._ways.hold(lease))
            try:
                while leases and more() and self._clock.now() - begun < LEASE / 3:
                    lease = leases[0]
                    yield lease.job, lambda: self._advance(leases.pop(0), more)
                    # Not called: a caller that wants none of this one.
                    if leases and leases[0] is lease:
                        break
            finally:
                for lease in leases:
                    self._give_back(lease)

    def _advance(self, lease: Lease, more: Callable[[], bool]) -> Job | None:
        begun, job = self._clock.now(), None
        try:
            for number in range(1, _STEPS + 1):
                change = self._ended(lease.job, wishes.late(lease.job, self._clock.now()) or self._step(lease))
                now = self._clock.now()
                at_once = change.due_at is not None and change.due_at <= now
                goes_on = at_once and number < _STEPS and now - begun < LEASE / 3 and more()
                job = self._jobs.apply(lease, change, now, until=now + LEASE if goes_on else None)
                if not goes_on:
                    break
                lease = replace(lease, job=job)
        except LeaseLost:
            return job
        if job and job.due_at is not None and job.due_at <= self._clock.now():
            self._queue.wake(ADVANCE, job.id)
        return job

    def _give_back(self, lease: Lease) -> None:
        with suppress(LeaseLost):
            unchanged = Change(state=lease.job.state, due_at=lease.job.due_at, fields={})
            self._jobs.apply(lease, unchanged, self._clock.now())

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
            return self._trouble(job, InternalError(setbacks.fault(error)))

    def _start(self, lease: Lease) -> Change:
        if lease.job.cancel_requested:
            return self._end(JobState.CANCELLED, "cancelled before it started")
        if lease.job.hold_requested:
            # It gives its turn back.
            fields: Json = {"held": True, "admitted_at": None}
            return Change(state=lease.job.state, due_at=lease.job.deadline_at, fields=fields)
        return self._go(JobState.PREPARING, "handing the data to the provider", held=False)

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
        if known:
            found, more = doubt.adopted(provider, known)
            note = f"found {found.remote_id} at the provider{more}" if job.create_sent_at else "submitted"
            return self._submitted(found.remote_id, found.raw_state, note)
        now = self._clock.now()
        sent: Json = {"create_sent_at": now}
        if job.create_sent_at is not None:
            wait_until = job.create_sent_at + timedelta(seconds=provider.grace_s)
            if now < wait_until:
                # Sooner each time at first: mostly the list is only a moment behind.
                soon = now + max(timedelta(seconds=1), now - job.create_sent_at)
                return Change(state=job.state, due_at=min(wait_until, soon), fields={})
            sent["doubt_until"] = now + doubt.DOUBT if provider.grace_s else None
        if job.cancel_requested:
            certain = {} if provider.grace_s else {"create_sent_at": None}
            return self._end(JobState.CANCELLED, "cancelled before the provider had it", **certain)
        self._jobs.record(lease, now, sent)
        try:
            remote = provider.create(recipe_of(job), RemoteData(ids=job.remote_data or {}), run_key)
        except ProviderUnavailable as error:
            return self._trouble(job, error, create_sent_at=None)
        return self._submitted(remote.remote_id, remote.raw_state, f"submitted as {remote.remote_id}")

    def _submitted(self, remote_id: str, raw_state: str, note: str) -> Change:
        fields = {"remote_id": remote_id, "provider_state": raw_state, "create_sent_at": None}
        return self._go(JobState.RUNNING, note, **fields)

    def _poll(self, lease: Lease) -> Change:
        provider = self._provider(lease.job.provider)
        fields, told = doubt.doubted(lease.job, provider, self._clock.now())
        job = replace(lease.job, **fields)
        if job.cancel_requested:
            provider.cancel(str(job.remote_id))
        seen = provider.poll(str(job.remote_id), job.cursor)
        fields |= {"provider_state": seen.raw_state, "cursor": seen.cursor, "failures": 0}
        if seen.progress is not None:
            fields["progress"] = seen.progress
        used = wishes.spent(job, seen, self._clock.now())
        fields |= used.fields
        news: dict[str, Any] = {"events": (*told, *seen.events, *used.events), "metrics": seen.metrics}
        if seen.state == "succeeded":
            return self._go(JobState.REGISTERING, "trained", **fields, artifact=seen.artifact, **news)
        if seen.state == "cancelled":
            by = "cancelled" if job.cancel_requested else "cancelled at the provider, not through ft"
            return self._end(JobState.CANCELLED, f"{by}; nothing runs there any more", **fields, **news)
        if seen.state == "failed":
            problem = seen.problem or _unexplained(seen.raw_state)
            return self._end(JobState.FAILED, problem.what, **fields, error=problem.brief, **news)
        if seen.quote is not None and not job.cancel_requested:
            return self._quoted(job, provider, seen.quote, fields, news)
        held = wishes.held(job, provider, seen.state, self._clock.now())
        news["events"] = (*news["events"], *held.events)
        return Change(state=job.state, due_at=self._next_poll(job, provider), fields=fields | held.fields, **news)

    def _quoted(self, job: Job, provider: Provider, quote: Json, fields: Json, news: Json) -> Change:
        """The provider has named its price and waits: write it down, then start, or not above the recipe's limit."""
        recipe = recipe_of(job)
        limit, unpriced_too = recipe.limits.max_cost_usd, "limits.max_cost" in recipe.allow_ignored
        usd = Decimal(str(quote["usd"])) if quote.get("usd") is not None else None
        if limit is not None and (usd > limit if usd is not None else not unpriced_too):
            provider.cancel(str(job.remote_id))
            problem = _too_dear(usd, limit)
            return self._end(JobState.FAILED, problem.what, **fields, error=problem.brief, **news)
        now = self._clock.now()
        if (job.cost or {}).get("quote") == quote:
            if isinstance(provider, Startable):
                provider.start(str(job.remote_id))
            return Change(state=job.state, due_at=self._next_poll(job, provider), fields=fields, **news)
        asks = "names no price" if usd is None else f"asks {usd} US dollars"
        told = Event(kind="provider", message=f"the provider {asks}; starting the training", at=now)
        fields |= {"cost": {**(job.cost or {}), "quote": quote}}
        return Change(state=job.state, due_at=now, fields=fields, **{**news, "events": (*news["events"], told)})

    def _register(self, lease: Lease) -> Change:
        recipe = recipe_of(lease.job)
        job, told = self._fetched(lease.job)
        now, wanted = self._clock.now(), recipe.register
        follows: dict[str, Any] = {}
        if wanted and (wanted.gateways or recipe.gate):
            # Named by the job: asked twice there is one.
            promotion_id = job.id.replace("ft_", "pr_", 1)
            wish = Wanted(alias=wanted.alias)
            follows["promotion"] = begun(recipe, wish, 0, promotion_id=promotion_id, by=job.owner, now=now)
        elif wanted:
            follows["alias"] = wanted.alias
        version = self._models.add_model(job, now, **follows)
        fields = {"model": version.ref, "artifact": job.artifact, "failures": 0}
        return self._end(JobState.SUCCEEDED, f"registered as {version.ref}", events=told, **fields)

    def _fetched(self, job: Job) -> tuple[Job, tuple[Event, ...]]:
        """The job with the files that tell of its training, where the provider keeps such; a model is worth more."""
        provider, folder = self._provider(job.provider), self._ways.results_dir
        if folder is None or not isinstance(provider, Reporting):
            return job, ()
        try:
            files = provider.fetch_results(str(job.remote_id), folder / str(job.run_key))
        except StateError:
            raise
        except Exception as error:
            if isinstance(error, FtError) and error.retry and job.failures < _FETCHES:
                raise
            note = f"the result files were not fetched: {setbacks.summary(error)}"
            return job, (Event(kind="warning", message=note, at=self._clock.now()),)
        return replace(job, artifact={**(job.artifact or {}), "results": [str(path) for path in files]}), ()

    def _watch(self, lease: Lease) -> Change:
        """After an end in doubt: look for another job of the key. Whatever happens, the end stands."""
        job, now = lease.job, self._clock.now()
        try:
            return doubt.watched(job, self._provider(job.provider), self._jobs.events(job.id), now)
        except StateError:
            raise
        except Exception as error:  # noqa: BLE001 -- a fault in an adapter must not end the watch
            return doubt.unseen(job, setbacks.summary(error), now)

    def _ended(self, job: Job, change: Change) -> Change:
        """With what follows from an end: a deadline's failure, uploads that go, a watch where a create is in doubt."""
        change = wishes.ended(job, change)
        if change.state not in FINAL or job.final:
            return change
        return doubt.ended(job, self._tidied(job, change), self._clock.now())

    def _tidied(self, job: Job, change: Change) -> Change:
        """With the uploaded files deleted, if recipe or settings say so."""
        if not job.remote_data:
            return change
        wish = recipe_of(job).dataset.keep_upload
        if self._ways.keep_uploads if wish is None else wish:
            return change
        now = self._clock.now()
        try:
            provider = self._provider(job.provider)
            if not isinstance(provider, Storing):
                return change
            gone = self._unused(job, provider)
            for file in gone:
                provider.delete_file(file)
            note = f"deleted the uploaded files: {', '.join(gone) or 'none, another job uses them'}"
            told = Event(kind="provider", message=note, at=now)
        except StateError:
            raise
        except Exception as error:  # noqa: BLE001 -- a fault in an adapter must not keep a job from its end
            note = f"the uploaded files were not deleted: {setbacks.summary(error)}; see `ft files`"
            told = Event(kind="warning", message=note, at=now)
        return replace(change, events=(*change.events, told))

    def _unused(self, job: Job, provider: Storing) -> list[str]:
        """The job's files that no other unfinished one has, nor is about to find there as its own upload."""
        others = self._jobs.recent(unfinished=True)
        others = [other for other in others if other.id != job.id and other.provider == job.provider]
        if any(not other.remote_data and other.data["digest"] == job.data["digest"] for other in others):
            return []
        used = {file for other in others for file in provider.file_ids(other.remote_data or {})}
        return [file for file in provider.file_ids(job.remote_data or {}) if file not in used]

    def _next_poll(self, job: Job, provider: Provider) -> datetime:
        """A second at first, then a tenth of the job's age, up to the provider's longest pause."""
        now = self._clock.now()
        age_s = (now - job.changed_at).total_seconds()
        # A user who asked for the end is waiting for it; a request to a hosted API still has its price.
        set_s = self._ways.max_poll_s if isinstance(provider, Keyed) else None
        longest_s = set_s or provider.max_poll_s
        pause_s = min(1.0, longest_s / 5) if job.cancel_requested else min(longest_s, max(1.0, age_s / 10))
        return now + timedelta(seconds=pause_s)

    def _trouble(self, job: Job, error: FtError, **fields: Any) -> Change:
        return setbacks.after(job, error, self._clock.now(), self._ways.chance(), **fields)

    def _go(self, state: JobState, note: str, *, events: Any = (), metrics: Any = (), **fields: Any) -> Change:
        now = self._clock.now()
        told = Event(kind="state", message=f"{state}: {note}", at=now)
        fields = {"failures": 0, **fields}
        return Change(state=state, due_at=now, fields=fields, events=(*events, told), metrics=metrics)

    def _end(self, state: JobState, note: str, *, events: Any = (), metrics: Any = (), **fields: Any) -> Change:
        told = Event(kind="state", message=f"{state}: {note}", at=self._clock.now())
        return Change(state=state, due_at=None, fields=fields, events=(*events, told), metrics=metrics)


@dataclass(frozen=True, kw_only=True)
class Ways:
    """What can be set about the moving of jobs."""

    #: Renews a lease while a step takes long.
    hold: Callable[[Lease], AbstractContextManager[None]] = lambda lease: nullcontext()
    #: Where files go that tell of a training, a folder a run key; None: they are not fetched.
    results_dir: Path | None = None
    #: What becomes of uploaded files when the recipe does not say (`dataset.keep_upload`).
    keep_uploads: bool = True
    #: The longest pause between two polls in seconds, instead of a hosted provider's own.
    max_poll_s: float | None = None
    #: A number from 0 to 1 that spreads retries.
    chance: Callable[[], float] = lambda: 0.5


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


def _too_dear(usd: Decimal | None, limit: Decimal) -> Problem:
    asks = "the provider names no price" if usd is None else f"the provider asks {usd} US dollars"
    return Problem(
        code="E311",
        what=f"{asks}, and limits.max_cost is {limit}",
        why="it was not started, so it costs nothing",
        fix="raise limits.max_cost, or train on fewer rows or epochs",
    )


def _unexplained(raw_state: str) -> Problem:
    return Problem(
        code="E401",
        what=f"the provider ended the job as {raw_state!r} and gave no reason",
        fix="look at the job in the provider's own console, then `ft submit --force`",
    )
