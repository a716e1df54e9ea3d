"""The statements that every step of a job runs, each built once.

To put a statement of forty columns together takes longer than the database needs to run it; and each statement is a
trip to a server, so that one of PostgreSQL's writes a job's row together with its events.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields as dataclass_fields
from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    Connection,
    Executable,
    Text,
    and_,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from finetune.jobs import Event, Job, Json
from finetune.store.schema import Utc, events, jobs
from finetune.store.straight import Straight

FIELDS = tuple(field.name for field in dataclass_fields(Job))
COLUMNS = [jobs.c[name] for name in FIELDS]
#: What others may write of a job while somebody holds its lease: wishes, its turn, and when it is due.
OTHERS = [jobs.c[name] for name in ("cancel_requested", "hold_requested", "priority", "admitted_at", "due_at")]
#: A column's new value is the parameter `to_COLUMN`: a parameter of the column's own name is SQLAlchemy's.
_TO = "to_"
_NOW = bindparam("now", type_=Utc())
_UNLEASED = or_(jobs.c.lease_until.is_(None), jobs.c.lease_until <= _NOW)
_INSERT_EVENTS = insert(events).inline()

#: Of values, in the order of the statement's columns.
Row = tuple[Any, ...]
#: Makes a statement that writes the columns of these names and returns the row's id first, for this dialect.
Statement = Callable[[tuple[str, ...], str], Any]


def run(
    connection: Connection | Straight, statement: Statement, values: Json, new: Sequence[Event], **more: Any
) -> Row | None:
    """Write `values` with this statement, and append the events if it wrote a row; returns that row."""
    dialect = connection.dialect.name
    asked = {**{_TO + name: value for name, value in values.items()}, **more}
    if dialect != "sqlite" and new:
        asked |= {"kinds": [one.kind for one in new], "messages": [one.message for one in new]}
        asked["times"] = [one.at for one in new]
        return first(connection, _and_events(statement, tuple(values), dialect), asked)
    row = first(connection, statement(tuple(values), dialect), asked)
    if row is not None and new and isinstance(connection, Connection):
        append(connection, row[0], new)
    return row


def first(connection: Connection | Straight, statement: Any, asked: Json) -> Row | None:
    """Run it; its first row."""
    if isinstance(connection, Straight):
        return connection.first(statement, asked)
    found = connection.execute(statement, asked).first()
    return None if found is None else tuple(found)


def append(connection: Connection, job_id: str, new: Sequence[Event]) -> None:
    """Append events of a job."""
    rows = [{"job_id": job_id, "kind": one.kind, "message": one.message, "at": one.at} for one in new]
    if rows:
        connection.execute(_INSERT_EVENTS, rows)


@cache
def submitting(columns: tuple[str, ...], dialect: str) -> Any:
    """Insert a job, unless another one answers for its fingerprint."""
    kind: Any
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as kind
    else:
        # Imports its drivers, and takes as long as all else here.
        from sqlalchemy.dialects.postgresql import insert as kind
    new = kind(jobs).values({name: bindparam(_TO + name, type_=jobs.c[name].type) for name in columns})
    return new.on_conflict_do_nothing(index_elements=[jobs.c.answers_for]).returning(jobs.c.id)


@cache
def writing(columns: tuple[str, ...], _dialect: str) -> Any:
    """Write under a lease: `job`, `token`, `holder`. One that was given back writes nothing, as one taken over.

    `due_or_now` stands for `due_at`, but `now` if there is a wish to cancel.
    """
    mine = and_(jobs.c.id == bindparam("job"), jobs.c.lease_token == bindparam("token"))
    values: dict[str, Any] = {
        name: bindparam(_TO + name, type_=jobs.c[name].type) for name in columns if name != "due_or_now"
    }
    if "due_or_now" in columns:
        values["due_at"] = case((jobs.c.cancel_requested, _NOW), else_=bindparam(_TO + "due_or_now", type_=Utc()))
    return (
        update(jobs).where(mine, jobs.c.lease_owner == bindparam("holder")).values(values).returning(jobs.c.id, *OTHERS)
    )


@cache
def claiming() -> Any:
    """Take the `job` for `holder`, if it is due `now` and free."""
    return _taking(and_(jobs.c.id == bindparam("job"), jobs.c.due_at <= _NOW, _UNLEASED))


@cache
def claiming_due() -> Any:
    """Take the `most` longest due jobs, those left out that somebody else's transaction has locked.

    SQLite has no locks of rows: there the transaction has the whole file from its start (`Database.write`).
    """
    free = select(jobs.c.id).where(jobs.c.due_at <= _NOW, _UNLEASED).order_by(jobs.c.due_at).limit(bindparam("most"))
    # As a CTE: a subquery may be run again for each row that it is compared with, and then take more than `most`.
    chosen = free.with_for_update(skip_locked=True).cte("chosen")
    return _taking(jobs.c.id.in_(select(chosen.c.id)))


def _taking(condition: Any) -> Any:
    taken = {"lease_owner": bindparam("holder"), "lease_until": bindparam("until", type_=Utc())}
    values = {**taken, "lease_token": jobs.c.lease_token + 1}
    return update(jobs).where(condition).values(values).returning(*COLUMNS, jobs.c.lease_token)


@cache
def _and_events(statement: Statement, columns: tuple[str, ...], dialect: str) -> Executable:
    """PostgreSQL's: with the events of the row in the order given."""
    row = statement(columns, dialect).cte("row")
    arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in _EVENTS]
    new = func.unnest(*arrays).table_valued("kind", "message", "at", with_ordinality="place").render_derived()
    told = (
        select(row.c.id, new.c.kind, new.c.message, new.c.at).select_from(row.join(new, true())).order_by(new.c.place)
    )
    return select(row).add_cte(
        insert(events).from_select(["job_id", "kind", "message", "at"], told.order_by(new.c.place)).cte("told")
    )


_EVENTS: tuple[tuple[str, Any], ...] = (("kinds", Text()), ("messages", Text()), ("times", Utc()))
