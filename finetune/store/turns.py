"""Jobs that wait for their turn, in SQL."""

from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, case, func, insert, select, text, update

from finetune.jobs import Job, JobState
from finetune.store.database import Database
from finetune.store.jobs import SqlJobs
from finetune.store.schema import events, jobs
from finetune.turns import Caps, Load, in_turn

#: Any number that nothing else locks in this database.
_LOCK = 0x6674
#: Looked at in one go, by priority and age; what is beyond comes to its turn later.
_LONGEST = 5_000
_WAITS = and_(jobs.c.finished_at.is_(None), jobs.c.admitted_at.is_(None), jobs.c.hold_requested.is_(False))


class SqlTurns:
    """`turns.TurnStore` in SQL."""

    def __init__(self, database: Database, store: SqlJobs) -> None:
        self._db, self._jobs = database, store

    def admit(self, now: datetime, caps: Caps) -> list[str]:
        """See `turns.TurnStore.admit`."""
        with self._db.read() as connection:
            if connection.execute(select(jobs.c.id).where(_WAITS).limit(1)).first() is None:
                return []
        columns = [jobs.c[name] for name in ("id", "owner", "provider", "base_model", "priority", "created_at")]
        wanted = select(*columns).where(_WAITS).order_by(jobs.c.priority.desc(), jobs.c.created_at).limit(_LONGEST)
        with self._db.write() as connection:
            if not self._db.sqlite:
                # Two that count at once would both find room.
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            load = Load(caps)
            for row in connection.execute(_under_way()):
                load.add(row.owner, row.provider, row.base_model, row.number)
            rows: list[Any] = list(connection.execute(wanted))
            chosen = [row.id for row in in_turn(rows, load)]
            if chosen:
                mine = jobs.c.id.in_(chosen)
                connection.execute(update(jobs).where(mine).values(admitted_at=now, due_at=now))
        return chosen

    def request_hold(self, job_id: str, hold: bool, now: datetime) -> Job:
        """See `turns.TurnStore.request_hold`."""
        job = self._jobs.get(job_id)
        mine = and_(jobs.c.id == job.id, jobs.c.finished_at.is_(None), jobs.c.hold_requested.is_(not hold))
        values: dict[str, Any] = {"hold_requested": hold}
        if not hold:
            # The provider may have been asked for a pause that has not shown yet: the lift has to reach it, too.
            values["held"] = case((jobs.c.state == JobState.RUNNING, True), else_=jobs.c.held)
        with self._db.write(durable=True) as connection:
            if connection.execute(update(jobs).where(mine).values(**values)).rowcount:
                # One that waits for its turn is not due: the sweep passes it over, or sees it again.
                under_way = and_(jobs.c.id == job.id, jobs.c.admitted_at.is_not(None))
                connection.execute(update(jobs).where(under_way).values(due_at=now))
                note = "pause requested" if hold else "resume requested"
                connection.execute(insert(events).values(_told(job, note, now)))
        return self._jobs.get(job.id)

    def prioritise(self, job_id: str, priority: int, now: datetime) -> Job:
        """See `turns.TurnStore.prioritise`."""
        job = self._jobs.get(job_id)
        mine = and_(jobs.c.id == job.id, jobs.c.finished_at.is_(None), jobs.c.priority != priority)
        with self._db.write(durable=True) as connection:
            if connection.execute(update(jobs).where(mine).values(priority=priority)).rowcount:
                connection.execute(insert(events).values(_told(job, f"priority {priority}", now)))
        return self._jobs.get(job.id)


def _under_way() -> Select[Any]:
    by = (jobs.c.owner, jobs.c.provider, jobs.c.base_model)
    live = and_(jobs.c.finished_at.is_(None), jobs.c.admitted_at.is_not(None))
    return select(*by, func.count().label("number")).where(live).group_by(*by)


def _told(job: Job, message: str, at: datetime) -> dict[str, Any]:
    return {"job_id": job.id, "kind": "state", "message": message, "at": at}
