"""What a user can ask about jobs that exist. Each method does one thing that a user would name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from finetune.errors import Problem, UsageError, WaitTimeout
from finetune.jobs import Event, Job, Metric
from finetune.ports import Clock, JobStore, Queue
from finetune.tasks import ADVANCE
from finetune.turns import HIGHEST, TurnStore

_LOOK_S = 0.25
#: Without news for so long a job is asked what it waits for.
_QUIET = timedelta(seconds=5)


@dataclass(frozen=True, kw_only=True)
class Update:
    """What is new about a job since the last update."""

    job: Job
    events: tuple[Event, ...] = ()
    #: What it waits for; told when nothing else is new for a while. None: not told.
    waits_for: str | None = None


class Service:
    """Shows jobs and takes wishes about them. Holds no state of its own."""

    def __init__(
        self, jobs: JobStore, turns: TurnStore, queue: Queue, clock: Clock, *, pausable: Callable[[str], bool]
    ) -> None:
        """`pausable` says whether a provider of this name can hold a job that it has."""
        self._jobs, self._turns, self._queue, self._clock = jobs, turns, queue, clock
        self._pausable = pausable

    def job(self, job_id: str) -> Job:
        """One job, by id or the beginning of it. Raises NotFound."""
        return self._jobs.get(job_id)

    def recent(self, limit: int | None = None) -> list[Job]:
        """Newest first."""
        return self._jobs.recent(limit=limit)

    def events(self, job_id: str) -> list[Event]:
        """The job's history so far. Raises NotFound."""
        return self._jobs.events(self._jobs.get(job_id).id)

    def metrics(self, job_id: str) -> list[Metric]:
        """Everything measured so far. Raises NotFound."""
        return self._jobs.metrics(self._jobs.get(job_id).id)

    def cancel(self, job_id: str) -> Job:
        """Ask for the end; `watch` or `wait` tell when it is reached. Idempotent. Raises NotFound."""
        job = self._jobs.request_cancel(job_id, self._clock.now())
        self._queue.wake(ADVANCE, job.id)
        return job

    def hold(self, job_id: str) -> Job:
        """Ask for a pause. Idempotent. Raises NotFound, and UsageError where the provider cannot pause what it has."""
        job = self._jobs.get(job_id)
        if job.run_key is not None and not job.final and not self._pausable(job.provider):
            raise UsageError(_no_pause(job))
        return self._rung(self._turns.request_hold(job.id, True, self._clock.now()))

    def lift(self, job_id: str) -> Job:
        """Ask it to go on. Idempotent. Raises NotFound."""
        return self._rung(self._turns.request_hold(job_id, False, self._clock.now()))

    def prioritise(self, job_id: str, priority: int) -> Job:
        """Set when its turn comes. Raises NotFound, UsageError."""
        if abs(priority) > HIGHEST:
            what, why = f"priority {priority}", f"priorities are from -{HIGHEST} to {HIGHEST}"
            raise UsageError(Problem(code="E901", what=what, why=why, fix="0 is usual, the highest goes first"))
        return self._turns.prioritise(job_id, priority, self._clock.now())

    def _rung(self, job: Job) -> Job:
        if job.due_at is not None and job.due_at <= self._clock.now():
            self._queue.wake(ADVANCE, job.id)
        return job

    def follow(
        self,
        job_id: str,
        *,
        each: Callable[[], object] = lambda: None,
        waits_for: Callable[[str], str | None] = lambda job_id: None,
    ) -> Iterator[Update]:
        """Updates as they come, the last one with a final state. Blocks in between; looks four times a second.

        `each` is called at every look that does not end it, `waits_for` when nothing has been new for a while.
        """
        last = self._jobs.get(job_id)
        job_id, seen, said, quiet_since = last.id, 0, None, self._clock.now()
        while True:
            # The job first: events of a final state are committed together with it, so none is missed after it.
            job = self._jobs.get(job_id)
            events = tuple(self._jobs.events(job_id, after=seen))
            seen = events[-1].seq or seen if events else seen
            if events or replace(job, due_at=last.due_at) != last:
                yield Update(job=job, events=events)
                quiet_since = self._clock.now()
            if job.final:
                return
            if self._clock.now() - quiet_since >= _QUIET:
                quiet_since = self._clock.now()
                waits, said = said, waits_for(job_id)
                if said is not None and said != waits:
                    yield Update(job=job, waits_for=said)
            each()
            last = job
            self._clock.sleep(_LOOK_S)

    def wait(
        self, job_ids: Sequence[str], *, timeout: timedelta | None = None, each: Callable[[], object] | None = None
    ) -> list[Job]:
        """Block until all have ended; the jobs in the order asked. `each` is called at every look that does not end it.

        Raises WaitTimeout, NotFound.
        """
        ids = [self._jobs.get(job_id).id for job_id in job_ids]
        end = None if timeout is None else self._clock.now() + timeout
        while True:
            jobs = [self._jobs.get(job_id) for job_id in ids]
            running = [job for job in jobs if not job.final]
            if not running:
                return jobs
            if end is not None and self._clock.now() >= end:
                raise WaitTimeout(_too_long(running, timeout))
            if each is not None:
                each()
            self._clock.sleep(_LOOK_S)


def _no_pause(job: Job) -> Problem:
    return Problem(
        code="E812",
        what=f"{job.provider} cannot pause {job.id}, which it has as {job.provider_state or job.state}",
        why="its API has no such call; only a job that still waits here could be held back",
        fix=f"`ft cancel {job.id}` ends it",
    )


def _too_long(running: Sequence[Job], timeout: timedelta | None) -> Problem:
    names = ", ".join(f"{job.id} ({job.state})" for job in running)
    return Problem(
        code="E810",
        what=f"still going after {timeout.total_seconds() if timeout else 0:.0f} s: {names}",
        why="the wait has ended, the jobs have not",
        fix=f"`ft watch {running[0].id}` shows how far it is; without --timeout the wait has no end",
    )
