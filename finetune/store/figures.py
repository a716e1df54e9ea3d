"""Figures of the whole installation in SQL. Each statement is led by an index or bounded by a number of rows.

Counting jobs, promotions and moves of aliases grows with the history: it reads an index, never the rows.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Float, Row, and_, case, cast, func, or_, select

from finetune.figures import Backlog, Coded, Figures, InState, Spending
from finetune.jobs import FINAL, JobState
from finetune.store.database import Database
from finetune.store.figures_serving import serving
from finetune.store.runs import waiting
from finetune.store.schema import attempts, events, jobs, runs, unleased, workers
from finetune.tasks import ADVANCE, ALIVE, QUEUE_OF, QUEUES, TRAIN

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
#: What `Lifecycle._trouble` says of a step that will be tried again.
_RETRIED = re.compile(r"\((E\d{3})\); trying again in ")
_STARTED = f"{JobState.PREPARING}: "
_UNFINISHED = sorted(set(JobState) - FINAL)


@dataclass(frozen=True, kw_only=True)
class Most:
    """How many rows one look reads at most."""

    #: Jobs that are due, those first that have been for longest.
    due: int = 20_000
    #: The newest events.
    events: int = 10_000
    #: The newest jobs, for their price.
    priced: int = 5_000
    #: The newest ends of each provider and state.
    ended: int = 300
    #: Those moved last, for who gets their calls.
    aliases: int = 200


class SqlFigures:
    """`figures.FigureSource` in SQL. Safe for threads."""

    def __init__(self, database: Database, most: Most | None = None) -> None:
        self._db, self._most = database, most or Most()

    def look(self, now: datetime) -> Figures:
        """See `figures.FigureSource.look`."""
        with self._db.read() as connection:
            counted = _counted(connection)
            due = connection.execute(_due(now, self._most.due)).all()
            floor, events_reach = _events_reach(connection, now, self._most.events)
            waits, errors = _told(connection, floor, now - events_reach)
            runs_s, failed = _ends(connection, counted, now - _HOUR, self._most.ended)
            spending_reach = _spending_reach(connection, now, self._most.priced)
            running = {each.provider for each, count in counted.items() if each.state is JobState.RUNNING and count}
            return Figures(
                backlogs={
                    QUEUE_OF[ADVANCE]: _backlog(sum(row.jobs for row in due), [row.since for row in due], now),
                    QUEUE_OF[TRAIN]: _waiting_runs(connection, now),
                },
                workers=_workers(connection, now),
                jobs=counted,
                retrying=_retrying(connection),
                poll_lag_s={name: _lag(due, name, now) for name in sorted(running)},
                waits_s=waits,
                runs_s=runs_s,
                errors=errors,
                failed=failed,
                spending=_spending(connection, now - spending_reach),
                serving=serving(connection, now, failed=self._most.ended, aliases=self._most.aliases),
                events_reach_s=events_reach.total_seconds(),
                spending_reach_s=spending_reach.total_seconds(),
            )


def _counted(connection: Connection) -> dict[InState, int]:
    wanted = select(jobs.c.state, jobs.c.provider, func.count().label("jobs")).group_by(jobs.c.state, jobs.c.provider)
    return {InState(row.provider, JobState(row.state)): row.jobs for row in connection.execute(wanted)}


def _due(now: datetime, most: int) -> Any:
    """How many jobs are due and unleased, by provider and state, and since when the first of them."""
    # Inside, so that the index on due_at leads: SQLite would read all jobs in the order of their groups.
    each = (
        select(jobs.c.provider, jobs.c.state, jobs.c.due_at)
        .where(jobs.c.due_at <= now, unleased(jobs, now))
        .order_by(jobs.c.due_at)
        .limit(most)
        .subquery()
    )
    counted = select(each.c.provider, each.c.state, func.count().label("jobs"), func.min(each.c.due_at).label("since"))
    return counted.group_by(each.c.provider, each.c.state)


def _lag(due: Sequence[Row[Any]], provider: str, now: datetime) -> float:
    sinces = [row.since for row in due if row.provider == provider and row.state == JobState.RUNNING]
    return _age(sinces, now)


def _waiting_runs(connection: Connection, now: datetime) -> Backlog:
    # A run that was paused, or lost its worker, waits since its lease ended; a new one since it was made.
    since = func.min(func.coalesce(runs.c.lease_until, runs.c.created_at)).label("since")
    wanted = select(func.count().label("runs"), since).where(waiting(now))
    row = connection.execute(wanted).one()
    return _backlog(row.runs, [row.since], now)


def _backlog(depth: int, sinces: Sequence[datetime | None], now: datetime) -> Backlog:
    return Backlog(depth=depth, oldest_s=_age(sinces, now))


def _age(sinces: Sequence[datetime | None], now: datetime) -> float:
    return max([(now - since).total_seconds() for since in sinces if since is not None], default=0.0)


def _workers(connection: Connection, now: datetime) -> dict[str, int]:
    alive = select(workers.c.queues).where(workers.c.seen_at >= now - ALIVE)
    serving = Counter(queue for row in connection.execute(alive) for queue in row.queues)
    return {queue: serving[queue] for queue in QUEUES}


def _retrying(connection: Connection) -> dict[str, int]:
    wanted = (
        select(jobs.c.provider, func.count().label("jobs"))
        .where(jobs.c.state.in_(_UNFINISHED), jobs.c.failures > 0)
        .group_by(jobs.c.provider)
    )
    return {row.provider: row.jobs for row in connection.execute(wanted)}


def _events_reach(connection: Connection, now: datetime, most: int) -> tuple[int, timedelta]:
    """The seq above which events are looked at, and how far back these reach."""
    newest = connection.execute(select(func.max(events.c.seq))).scalar() or 0
    floor = newest - most
    if floor <= 0:
        return 0, _HOUR
    # Lines of the provider carry its own time; ours are written in the order of time.
    ours = events.c.kind.in_(("state", "warning"))
    first = select(events.c.at).where(events.c.seq > floor, ours).order_by(events.c.seq).limit(1)
    at = connection.execute(first).scalar()
    return floor, min(_HOUR, max(timedelta(0), now - at)) if at else _HOUR


def _told(connection: Connection, floor: int, since: datetime) -> tuple[dict[str, list[float]], "Counter[Coded]"]:
    """What recent events say: how long jobs waited before their first step, and which steps failed."""
    started = and_(events.c.kind == "state", events.c.message.startswith(_STARTED, autoescape=True))
    wanted = (
        select(events.c.kind, events.c.message, events.c.at, jobs.c.provider, jobs.c.created_at)
        .join(jobs, jobs.c.id == events.c.job_id)
        .where(events.c.seq > floor, events.c.at >= since, or_(events.c.kind == "warning", started))
    )
    waits: defaultdict[str, list[float]] = defaultdict(list)
    errors: Counter[Coded] = Counter()
    for row in connection.execute(wanted):
        if row.kind == "state":
            waits[row.provider].append((row.at - row.created_at).total_seconds())
        elif found := _RETRIED.search(row.message):
            errors[Coded(row.provider, found[1])] += 1
    return dict(waits), errors


def _ends(
    connection: Connection, counted: Collection[InState], since: datetime, most: int
) -> tuple[dict[InState, list[float]], "Counter[Coded]"]:
    """How long the newest ended jobs ran, and why those failed that did. One small statement a provider and state."""
    took: defaultdict[InState, list[float]] = defaultdict(list)
    failed: Counter[Coded] = Counter()
    latest = and_(attempts.c.job_id == jobs.c.id, attempts.c.number == jobs.c.attempt)
    columns = (attempts.c.created_at, jobs.c.finished_at, jobs.c.error["code"].as_string().label("code"))
    for each in counted:
        if each.state not in FINAL:
            continue
        mine = and_(jobs.c.state == each.state, jobs.c.provider == each.provider, jobs.c.finished_at >= since)
        wanted = select(*columns).outerjoin_from(jobs, attempts, latest).where(mine)
        for row in connection.execute(wanted.order_by(jobs.c.finished_at.desc()).limit(most)):
            if row.created_at is not None:
                took[each].append((row.finished_at - row.created_at).total_seconds())
            if each.state is JobState.FAILED and row.code is not None:
                failed[Coded(each.provider, row.code)] += 1
    return dict(took), failed


def _spending_reach(connection: Connection, now: datetime, most: int) -> timedelta:
    oldest = select(jobs.c.created_at).order_by(jobs.c.created_at.desc()).offset(most - 1).limit(1)
    at = connection.execute(oldest).scalar()
    return min(_DAY, max(timedelta(0), now - at)) if at else _DAY


def _spending(connection: Connection, since: datetime) -> dict[str, Spending]:
    amounts = {
        "low": _usd("low"),
        "high": _usd("high"),
        "quote": _usd("quote", "usd"),
    }
    unpriced = case((and_(amounts["high"].is_(None), amounts["quote"].is_(None)), 1), else_=0)
    # What ended before a provider had it costs nothing, as far as is known.
    spent = or_(jobs.c.finished_at.is_(None), jobs.c.remote_id.is_not(None))
    wanted = (
        select(
            jobs.c.provider,
            *(func.coalesce(func.sum(amount), 0.0).label(name) for name, amount in amounts.items()),
            func.sum(unpriced).label("unpriced"),
        )
        .where(jobs.c.created_at >= since, jobs.c.cost.is_not(None), spent)
        .group_by(jobs.c.provider)
    )
    return {
        row.provider: Spending(low=row.low, high=row.high, quote=row.quote, unpriced=row.unpriced)
        for row in connection.execute(wanted)
    }


def _usd(*path: str) -> Any:
    return cast(jobs.c.cost[path if len(path) > 1 else path[0]].as_string(), Float)
