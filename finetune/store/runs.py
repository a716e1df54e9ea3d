"""The local provider's own books: which trainings were asked for, who runs them, how they ended."""

from dataclasses import fields as dataclass_fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, or_, select, update

from finetune.jobs import Json
from finetune.placement import Taken, from_row
from finetune.runs import Run
from finetune.store.database import Conflict, Database, taken_over
from finetune.store.schema import runs, seats, unleased

#: What a `Run` is read from.
COLUMNS = [runs.c[field.name] for field in dataclass_fields(Run)]


class SqlRuns:
    """`ports.RunStore` in SQL. Safe for threads and for any number of processes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add_run(self, run_key: str, request: Json, now: datetime, need: Json | None = None) -> Run:
        """See `ports.RunStore.add_run`."""
        new = Run(run_key=run_key, state="queued", request=request, need=need, created_at=now)
        try:
            with self._db.write(durable=True) as connection:
                if row := connection.execute(select(*COLUMNS).where(runs.c.run_key == run_key)).first():
                    return run_of(row)
                connection.execute(insert(runs).values(**vars(new)))
        except Conflict:
            # PostgreSQL only: a second create of this key committed between our look and our insert.
            return self.add_run(run_key, request, now, need)
        return new

    def get_run(self, run_key: str) -> Run | None:
        """See `ports.RunStore.get_run`."""
        with self._db.read() as connection:
            row = connection.execute(select(*COLUMNS).where(runs.c.run_key == run_key)).first()
        return None if row is None else run_of(row)

    def update_run(self, run: Run, now: datetime, *, ttl: timedelta | None = None, **fields: Any) -> Run:
        """See `ports.RunStore.update_run`."""
        values = {**fields, "lease_until": None if ttl is None else now + ttl}
        mine = and_(runs.c.run_key == run.run_key, runs.c.lease_token == run.lease_token)
        write = update(runs).where(mine).values(**values).returning(*COLUMNS)
        with self._db.write(durable="state" in fields) as connection:
            row = connection.execute(write).first()
        if row is None:
            raise taken_over(run.run_key)
        return run_of(row)

    def cancel_run(self, run_key: str, now: datetime) -> None:
        """See `ports.RunStore.cancel_run`."""
        mine = runs.c.run_key == run_key
        with self._db.write(durable=True) as connection:
            connection.execute(update(runs).where(mine).values(cancel_requested=True))
            queued = and_(mine, runs.c.state == "queued")
            connection.execute(update(runs).where(queued).values(state="cancelled"))

    def hold_run(self, run_key: str, hold: bool) -> None:
        """See `ports.RunStore.hold_run`."""
        with self._db.write(durable=True) as connection:
            connection.execute(update(runs).where(runs.c.run_key == run_key).values(hold_requested=hold))

    def training(self, now: datetime) -> list[Run]:
        """See `runs.RunStore.training`."""
        live = and_(runs.c.state == "running", runs.c.lease_until > now)
        wanted = select(*COLUMNS).where(live).order_by(runs.c.created_at)
        with self._db.read() as connection:
            return [run_of(row) for row in connection.execute(wanted)]

    def measuring(self, now: datetime) -> list[Taken]:
        """See `runs.RunStore.measuring`."""
        with self._db.read() as connection:
            return seated(connection, now)


def seated(connection: Connection, now: datetime) -> list[Taken]:
    """Evaluations that have a card, oldest first."""
    wanted = select(seats).where(seats.c.lease_until > now, seats.c.placed.is_not(None)).order_by(seats.c.since)
    return [Taken(row.ref, row.worker, from_row(row.placed)) for row in connection.execute(wanted)]


def waiting(now: datetime) -> Any:
    """The condition that a run waits for a worker."""
    # One that is paused waits for nobody, unless its worker died before it had paused it.
    wanted = or_(runs.c.hold_requested.is_(False), runs.c.state == "running")
    return and_(runs.c.state.in_(("queued", "running")), unleased(runs, now), wanted)


def run_of(row: Row[Any]) -> Run:
    """The run of a row with `COLUMNS`."""
    return Run(**{field.name: getattr(row, field.name) for field in dataclass_fields(Run)})
