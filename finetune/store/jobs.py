"""Jobs, attempts, events and metrics. `apply` is the only place where a job's state is written."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, insert, select, update

from finetune.errors import InternalError, NotFound, Problem
from finetune.jobs import FINAL, TRANSITIONS, Change, Due, Event, Job, JobState, Json, Lease, Metric
from finetune.store.database import Database, taken_over
from finetune.store.schema import attempts, events, jobs, metrics, unleased
from finetune.store.statements import (
    COLUMNS,
    FIELDS,
    OTHERS,
    append,
    claiming,
    claiming_due,
    first,
    run,
    submitting,
    writing,
)
from finetune.store.straight import Straight

#: An ended job may still be due: for a look at what a create in doubt has left (`finetune.doubt`).
_UNFINISHED = jobs.c.finished_at.is_(None)
#: States whose job no longer answers for its fingerprint: the same recipe may be submitted again.
_GIVEN_UP = {JobState.FAILED, JobState.CANCELLED}


class SqlJobs:
    """`ports.JobStore` in SQL. Safe for threads and for any number of processes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def submit(self, job: Job, event: Event, *, force: bool) -> tuple[Job, bool]:
        """See `ports.JobStore.submit`."""
        set_ = {name: value for name in FIELDS if (value := getattr(job, name)) is not None}
        values = {**set_, "answers_for": job.fingerprint, "lease_token": 0}
        mine = jobs.c.answers_for == job.fingerprint
        if force:
            with self._db.write(durable=True) as transaction:
                transaction.execute(update(jobs).where(mine).values(answers_for=None))
                inserted = run(transaction, submitting, values, [event])
        else:
            with self._db.write_once(durable=True) as connection:
                inserted = run(connection, submitting, values, [event])
        if inserted:
            return job, True
        other = None if force else self.answering(job.fingerprint)
        # None: it has failed in this moment and answers no more, or two were forced at once.
        return (other, False) if other else self.submit(job, event, force=force)

    def answering(self, fingerprint: str) -> Job | None:
        """See `ports.JobStore.answering`."""
        with self._db.read() as connection:
            row = connection.execute(select(*COLUMNS).where(jobs.c.answers_for == fingerprint)).first()
        return _job(row) if row else None

    def get(self, job_id: str) -> Job:
        """See `ports.JobStore.get`."""
        with self._db.read() as connection:
            found = select(*COLUMNS).where(jobs.c.id.startswith(job_id, autoescape=True)).limit(2)
            rows = connection.execute(found).all()
        exact = [row for row in rows if row.id == job_id]
        if len(exact or rows) == 1 and job_id:
            return _job((exact or rows)[0])
        raise _no_job(job_id, many=bool(rows))

    def recent(self, *, limit: int | None = None, unfinished: bool = False) -> list[Job]:
        """See `ports.JobStore.recent`."""
        wanted = select(*COLUMNS).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(limit)
        if unfinished:
            wanted = wanted.where(_UNFINISHED)
        with self._db.read() as connection:
            return [_job(row) for row in connection.execute(wanted)]

    def claim(self, job_id: str, owner: str, now: datetime, ttl: timedelta) -> Lease | None:
        """See `ports.JobStore.claim`."""
        asked = {"job": job_id, "now": now, "holder": owner, "until": now + ttl}
        with self._db.write_once() as connection:
            row = first(connection, claiming(), asked)
        if row is None:
            return None
        return Lease(job=_job(row), owner=owner, token=row[-1], until=now + ttl)

    def claim_due(self, owner: str, now: datetime, ttl: timedelta, limit: int) -> list[Lease]:
        """See `ports.JobStore.claim_due`."""
        asked = {"now": now, "holder": owner, "until": now + ttl, "most": limit}
        with self._db.write() as connection:
            rows = connection.execute(claiming_due(), asked).all()
        taken = [Lease(job=_job(row), owner=owner, token=row[-1], until=now + ttl) for row in rows]
        return sorted(taken, key=lambda lease: (lease.job.due_at or now, lease.job.id))

    def apply(self, lease: Lease, change: Change, now: datetime, *, until: datetime | None = None) -> Job:
        """See `ports.JobStore.apply`."""
        before = lease.job
        moved = change.state != before.state
        if moved and change.state not in TRANSITIONS[before.state]:
            raise InternalError(_illegal(before, change.state))
        values = {**change.fields, "state": change.state, "lease_until": until}
        if until is None:
            values |= {"lease_owner": None}
        if moved:
            values |= {"changed_at": now}
        if moved and change.state in FINAL:
            values |= {"finished_at": now}
        if moved and change.state in _GIVEN_UP:
            values |= {"answers_for": None}
        # A wish to cancel that came in while this step ran, and that it did not see, makes the job due at once.
        values |= {"due_or_now" if change.due_at and not before.cancel_requested else "due_at": change.due_at}
        if not change.metrics and not {"run_key", "remote_id"} & set(change.fields):
            with self._db.write_once(durable=moved) as connection:
                return _written(connection, lease, values, now, change.events)
        with self._db.write(durable=moved) as transaction:
            job = _written(transaction, lease, values, now, change.events)
            _note_attempt(transaction, job, change, now)
            _measure(transaction, before.id, change.metrics)
        return job

    def record(self, lease: Lease, now: datetime, fields: Json) -> Lease:
        """See `ports.JobStore.record`."""
        with self._db.write_once(durable=True) as connection:
            return replace(lease, job=_written(connection, lease, fields, now))

    def renew(self, lease: Lease, until: datetime) -> None:
        """See `ports.JobStore.renew`."""
        with self._db.write_once() as connection:
            _written(connection, lease, {"lease_until": until}, until)

    def request_cancel(self, job_id: str, now: datetime) -> Job:
        """See `ports.JobStore.request_cancel`."""
        job = self.get(job_id)
        wish = (
            update(jobs)
            .where(jobs.c.id == job.id, _UNFINISHED, jobs.c.cancel_requested.is_(False))
            .values(cancel_requested=True, due_at=now)
        )
        with self._db.write(durable=True) as connection:
            if connection.execute(wish).rowcount:
                append(connection, job.id, [Event(kind="state", message="cancel requested", at=now)])
        return self.get(job.id)

    def note_model(self, job_id: str, ref: str) -> None:
        """See `ports.JobStore.note_model`."""
        with self._db.write(durable=True) as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(model=ref))

    def nudge(self, provider: str, remote_id: str, now: datetime) -> str | None:
        """See `ports.JobStore.nudge`."""
        mine = and_(jobs.c.remote_id == remote_id, jobs.c.provider == provider, _UNFINISHED)
        with self._db.write() as connection:
            row = connection.execute(update(jobs).where(mine).values(due_at=now).returning(jobs.c.id)).first()
        return row.id if row else None

    def due(self, now: datetime, limit: int) -> Sequence[Due]:
        """See `ports.JobStore.due`."""
        wanted = (
            select(jobs.c.id, jobs.c.lease_token)
            .where(jobs.c.due_at <= now, unleased(jobs, now))
            .order_by(jobs.c.due_at)
            .limit(limit)
        )
        with self._db.read() as connection:
            return [Due(*row) for row in connection.execute(wanted)]

    def events(self, job_id: str, after: int = 0) -> list[Event]:
        """See `ports.JobStore.events`."""
        wanted = select(events).where(events.c.job_id == job_id, events.c.seq > after).order_by(events.c.seq)
        with self._db.read() as connection:
            rows = connection.execute(wanted).all()
        return [Event(kind=row.kind, message=row.message, at=row.at, seq=row.seq) for row in rows]

    def metrics(self, job_id: str) -> list[Metric]:
        """See `ports.JobStore.metrics`."""
        wanted = select(metrics).where(metrics.c.job_id == job_id).order_by(metrics.c.step, metrics.c.name)
        with self._db.read() as connection:
            rows = connection.execute(wanted).all()
        return [Metric(step=row.step, name=row.name, value=row.value) for row in rows]


def _written(
    connection: Connection | Straight, lease: Lease, values: Json, now: datetime, new: Sequence[Event] = ()
) -> Job:
    """Set these columns under the lease, append events; the job afterwards. Raises LeaseLost."""
    mine = {"job": lease.job.id, "token": lease.token, "holder": lease.owner, "now": now}
    row = run(connection, writing, values, new, **mine)
    if row is None:
        raise taken_over(lease.job.id)
    known = {name: value for name, value in values.items() if name in FIELDS}
    # Nobody else may have written anything but `OTHERS`.
    return replace(lease.job, **{**known, **dict(zip(("id", *(each.name for each in OTHERS)), row, strict=True))})


def _job(row: Sequence[Any]) -> Job:
    values = dict(zip(FIELDS, row, strict=False))
    return Job(**{**values, "state": JobState(values["state"])})


def _measure(connection: Connection, job_id: str, new: Iterable[Metric]) -> None:
    """Insert or replace: a resumed training reports some steps a second time."""
    rows = {(one.step, one.name): one.value for one in new}
    if not rows:
        return
    steps = [step for step, _ in rows]
    # A range, not a list of steps: a database takes only so many values in one statement.
    same = and_(metrics.c.job_id == job_id, metrics.c.step.between(min(steps), max(steps)))
    old = connection.execute(select(metrics.c.step, metrics.c.name, metrics.c.value).where(same)).all()
    kept = {(row.step, row.name): row.value for row in old}
    connection.execute(metrics.delete().where(same))
    values = [{"job_id": job_id, "step": s, "name": n, "value": v} for (s, n), v in {**kept, **rows}.items()]
    connection.execute(insert(metrics), values)


def _note_attempt(connection: Connection, job: Job, change: Change, now: datetime) -> None:
    """A new run key is a new attempt; a remote id belongs to the present one."""
    if "run_key" in change.fields:
        values = {"run_key": job.run_key, "job_id": job.id, "number": job.attempt, "created_at": now}
        connection.execute(insert(attempts).values(**values))
    if "remote_id" in change.fields:
        mine = attempts.c.run_key == job.run_key
        connection.execute(update(attempts).where(mine).values(remote_id=job.remote_id))


def _no_job(job_id: str, *, many: bool) -> NotFound:
    return NotFound(
        Problem(
            code="E701",
            what=f"several jobs begin with {job_id!r}" if many else f"there is no job {job_id!r}",
            why="a job is named by its id or the beginning of it",
            fix="`ft status` lists the jobs",
        )
    )


def _illegal(job: Job, state: JobState) -> Problem:
    return Problem(
        code="E990",
        what=f"{job.id} cannot go from {job.state} to {state}",
        why="the transition is not in the table",
        fix="please report it with the output of `ft logs`",
    )
