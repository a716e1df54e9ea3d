"""Jobs, attempts, events and metrics. `apply` is the only place where a job's state is written."""

from collections.abc import Iterable, Sequence
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, case, insert, literal, select, update

from finetune.errors import InternalError, NotFound, Problem
from finetune.jobs import FINAL, TRANSITIONS, Change, Event, Job, JobState, Json, Lease, Metric
from finetune.ports import Due
from finetune.store.database import Conflict, Database, taken_over
from finetune.store.schema import attempts, events, jobs, metrics, unleased

_COLUMNS = [jobs.c[field.name] for field in dataclass_fields(Job)]
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
        try:
            with self._db.write(durable=True) as connection:
                mine = jobs.c.answers_for == job.fingerprint
                if force:
                    connection.execute(update(jobs).where(mine).values(answers_for=None))
                elif row := connection.execute(select(*_COLUMNS).where(mine)).first():
                    return _job(row), False
                values = {field.name: getattr(job, field.name) for field in dataclass_fields(Job)}
                connection.execute(insert(jobs).values(**values, answers_for=job.fingerprint, lease_token=0))
                _append(connection, job.id, [event])
                return job, True
        except Conflict:
            # PostgreSQL only: another submit of the same fingerprint committed between our look and our insert.
            return self.submit(job, event, force=force)

    def answering(self, fingerprint: str) -> Job | None:
        """See `ports.JobStore.answering`."""
        with self._db.read() as connection:
            row = connection.execute(select(*_COLUMNS).where(jobs.c.answers_for == fingerprint)).first()
        return _job(row) if row else None

    def get(self, job_id: str) -> Job:
        """See `ports.JobStore.get`."""
        with self._db.read() as connection:
            found = select(*_COLUMNS).where(jobs.c.id.startswith(job_id, autoescape=True)).limit(2)
            rows = connection.execute(found).all()
        exact = [row for row in rows if row.id == job_id]
        if len(exact or rows) == 1 and job_id:
            return _job((exact or rows)[0])
        raise _no_job(job_id, many=bool(rows))

    def recent(self, *, limit: int | None = None, unfinished: bool = False) -> list[Job]:
        """See `ports.JobStore.recent`."""
        wanted = select(*_COLUMNS).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(limit)
        if unfinished:
            wanted = wanted.where(_UNFINISHED)
        with self._db.read() as connection:
            return [_job(row) for row in connection.execute(wanted)]

    def claim(self, job_id: str, owner: str, now: datetime, ttl: timedelta) -> Lease | None:
        """See `ports.JobStore.claim`."""
        take = (
            update(jobs)
            .where(jobs.c.id == job_id, jobs.c.due_at <= now, unleased(jobs, now))
            .values(lease_owner=owner, lease_token=jobs.c.lease_token + 1, lease_until=now + ttl)
            .returning(*_COLUMNS, jobs.c.lease_token)
        )
        with self._db.write() as connection:
            row = connection.execute(take).first()
        if row is None:
            return None
        return Lease(job=_job(row), owner=owner, token=row.lease_token, until=now + ttl)

    def apply(self, lease: Lease, change: Change, now: datetime) -> Job:
        """See `ports.JobStore.apply`."""
        before = lease.job
        moved = change.state != before.state
        if moved and change.state not in TRANSITIONS[before.state]:
            raise InternalError(_illegal(before, change.state))
        values = {**change.fields, "state": change.state, "due_at": self._due(change, before, now)}
        if moved:
            values |= {"changed_at": now}
        if moved and change.state in FINAL:
            values |= {"finished_at": now}
        if moved and change.state in _GIVEN_UP:
            values |= {"answers_for": None}
        with self._db.write(durable=moved) as connection:
            row = self._write(connection, lease, {**values, "lease_owner": None, "lease_until": None})
            _note_attempt(connection, row, change, now)
            _append(connection, before.id, change.events)
            _measure(connection, before.id, change.metrics)
        return _job(row)

    def record(self, lease: Lease, now: datetime, fields: Json) -> Lease:
        """See `ports.JobStore.record`."""
        with self._db.write(durable=True) as connection:
            row = self._write(connection, lease, fields)
        return replace(lease, job=_job(row))

    def renew(self, lease: Lease, until: datetime) -> None:
        """See `ports.JobStore.renew`."""
        with self._db.write() as connection:
            self._write(connection, lease, {"lease_until": until})

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
                _append(connection, job.id, [Event(kind="state", message="cancel requested", at=now)])
        return self.get(job.id)

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

    @staticmethod
    def _due(change: Change, before: Job, now: datetime) -> Any:
        """The new due time: now, if the wish to cancel came in while this step ran and did not see it."""
        if change.due_at is None or before.cancel_requested:
            return change.due_at
        return case((jobs.c.cancel_requested, literal(now, jobs.c.due_at.type)), else_=change.due_at)

    @staticmethod
    def _write(connection: Connection, lease: Lease, values: Json) -> Row[Any]:
        mine = and_(jobs.c.id == lease.job.id, jobs.c.lease_token == lease.token)
        row = connection.execute(update(jobs).where(mine).values(**values).returning(*_COLUMNS)).first()
        if row is None:
            raise taken_over(lease.job.id)
        return row


def _job(row: Row[Any]) -> Job:
    values = {field.name: getattr(row, field.name) for field in dataclass_fields(Job)}
    return Job(**{**values, "state": JobState(row.state)})


def _append(connection: Connection, job_id: str, new: Iterable[Event]) -> None:
    rows = [{"job_id": job_id, "kind": one.kind, "message": one.message, "at": one.at} for one in new]
    if rows:
        connection.execute(insert(events), rows)


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


def _note_attempt(connection: Connection, row: Row[Any], change: Change, now: datetime) -> None:
    """A new run key is a new attempt; a remote id belongs to the present one."""
    if "run_key" in change.fields:
        values = {"run_key": row.run_key, "job_id": row.id, "number": row.attempt, "created_at": now}
        connection.execute(insert(attempts).values(**values))
    if "remote_id" in change.fields:
        mine = attempts.c.run_key == row.run_key
        connection.execute(update(attempts).where(mine).values(remote_id=row.remote_id))


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
