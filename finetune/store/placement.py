"""Which run, and which evaluation, goes on which devices, in SQL. The choice itself is `finetune.placement`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, delete, func, insert, select, text, update

from finetune.ids import new_token
from finetune.jobs import Due
from finetune.placement import WARM, Need, Scene, Share, Site, Taken, Waiting, choices, from_row, to_row
from finetune.runs import Run, Seat
from finetune.store.beats import beat_of
from finetune.store.database import Database, taken_over
from finetune.store.runs import COLUMNS, run_of, seated, waiting
from finetune.store.schema import jobs, runs, seats, workers
from finetune.tasks import ALIVE, QUEUE_OF, TRAIN

#: Any number that nothing else locks in this database.
_LOCK = 0x6675
#: Looked at in one go, in the order of turns; what is beyond comes to its turn later.
_LONGEST = 2_000


class SqlPlacements:
    """`ports.Placements` in SQL, for one worker."""

    def __init__(self, database: Database, site: Site) -> None:
        self._db, self.site = database, site

    def due_runs(self, now: datetime, limit: int) -> Sequence[Due]:
        """See `ports.Placements.due_runs`."""
        with self._db.read() as connection:
            return [due for due, _, _ in self._choices(connection, now)[:limit]]

    def claim_run(self, now: datetime, ttl: timedelta) -> Run | None:
        """See `ports.Placements.claim_run`."""
        # Most bells ring in vain: no lock for those.
        if not self.due_runs(now, 1):
            return None
        with self._db.write() as connection:
            self._alone(connection)
            found = self._choices(connection, now)
            if not found:
                return None
            due, wait, share = found[0]
            take = (
                update(runs)
                # A lock keeps out those who choose, not those who pause or cancel.
                .where(runs.c.run_key == due.key, waiting(now))
                .values(
                    state="running",
                    worker=self.site.worker,
                    placed=to_row(share),
                    starts=runs.c.starts + 1,
                    deaths=runs.c.deaths + case((runs.c.state == "running", 1), else_=0),
                    lease_token=runs.c.lease_token + 1,
                    lease_until=now + ttl,
                )
                .returning(*COLUMNS)
            )
            row = connection.execute(take).first()
            if row is not None:
                self._warm_up(connection, wait.base_model)
        return None if row is None else run_of(row)

    def _choices(self, connection: Connection, now: datetime) -> list[tuple[Due, Waiting, Share]]:
        rows = connection.execute(_in_turn(now).limit(_LONGEST)).all()
        if not rows:
            return []
        tokens = {row.run_key: row.lease_token for row in rows}
        waiting = [*_measuring(connection, self.site, now), *(_waiting(row) for row in rows)]
        found = choices(waiting, self.site, _scene(connection, self.site, now), now)
        return [(Due(each.key, tokens[each.key]), each, share) for each, share in found if not each.measures]

    def sit(self, ref: str, need: Need, now: datetime, ttl: timedelta) -> Seat | None:
        """See `runs.Seats.sit`."""
        mine = self._seat(ref)
        with self._db.write() as connection:
            self._alone(connection)
            connection.execute(delete(seats).where(seats.c.lease_until <= now))
            old = connection.execute(select(seats.c.placed).where(mine)).first()
            if old is not None and old.placed is not None:
                return None
            if old is None:
                asks = {"devices": [each.id for each in self.site.devices], "need": vars(need), "since": now}
                row = {"ref": ref, "worker": self.site.worker, "lease_until": now + ttl, **asks}
                connection.execute(insert(seats).values(row))
            rows = connection.execute(_in_turn(now).limit(_LONGEST))
            waiting = [*_measuring(connection, self.site, now), *map(_waiting, rows)]
            found = choices(waiting, self.site, _scene(connection, self.site, now), now)
            share = next((share for each, share in found if each.key == f"{self.site.worker} {ref}"), None)
            seat = None if share is None else Seat(ref=ref, share=share, token=new_token())
            taken = {"placed": to_row(seat.share), "token": seat.token} if seat else {}
            connection.execute(update(seats).where(mine).values(**taken, lease_until=now + ttl))
        return seat

    def stay(self, seat: Seat, now: datetime, ttl: timedelta) -> None:
        """See `runs.Seats.stay`."""
        # After its time a training may have the card, and a training has no row here.
        mine = and_(self._seat(seat.ref), seats.c.token == seat.token, seats.c.lease_until > now)
        with self._db.write() as connection:
            if not connection.execute(update(seats).where(mine).values(lease_until=now + ttl)).rowcount:
                raise taken_over(f"the card of {seat.ref}")

    def leave(self, seat: Seat) -> None:
        """See `runs.Seats.leave`."""
        with self._db.write() as connection:
            connection.execute(delete(seats).where(self._seat(seat.ref), seats.c.token == seat.token))

    def _seat(self, ref: str) -> ColumnElement[bool]:
        return and_(seats.c.worker == self.site.worker, seats.c.ref == ref)

    def _alone(self, connection: Connection) -> None:
        if not self._db.sqlite:
            # Two that look at once would both find the device free.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})

    def _warm_up(self, connection: Connection, base_model: str) -> None:
        """Note, for those who choose later, what this worker ran last."""
        mine = workers.c.worker == self.site.worker
        row = connection.execute(select(workers.c.warm).where(mine)).first()
        if row is not None:
            warm = [base_model, *(each for each in row.warm or () if each != base_model)][:WARM]
            connection.execute(update(workers).where(mine).values(warm=warm))


def _scene(connection: Connection, site: Site, now: datetime) -> Scene:
    running = connection.execute(select(runs.c.run_key, runs.c.worker, runs.c.placed).where(runs.c.state == "running"))
    taken = [Taken(row.run_key, row.worker, from_row(row.placed)) for row in running]
    taken += seated(connection, now)
    living = connection.execute(select(workers).where(workers.c.seen_at >= now - ALIVE)).all()
    beats = [beat_of(row) for row in living]
    others = [
        Site(beat.worker, beat.devices, beat.slots)
        for beat in beats
        if QUEUE_OF[TRAIN] in beat.queues and beat.worker != site.worker
    ]
    return Scene(taken=taken, sites=[site, *others], warm={row.worker: row.warm or () for row in living})


def _in_turn(now: datetime) -> Select[Any]:
    """Runs that wait for a worker: by priority, owners with the least that train, age."""
    theirs = jobs.alias()
    live = and_(runs.c.state == "running", runs.c.lease_until > now)
    busy = (
        select(theirs.c.owner, func.count().label("count"))
        .join(runs, runs.c.run_key == theirs.c.run_key)
        .where(live)
        .group_by(theirs.c.owner)
        .subquery()
    )
    priority = func.coalesce(jobs.c.priority, 0)
    return (
        select(runs.c.run_key, runs.c.lease_token, runs.c.need, runs.c.created_at, priority.label("priority"))
        .outerjoin(jobs, jobs.c.run_key == runs.c.run_key)
        .outerjoin(busy, busy.c.owner == jobs.c.owner)
        .where(waiting(now))
        .order_by(priority.desc(), func.coalesce(busy.c.count, 0), runs.c.created_at, runs.c.run_key)
    )


def _measuring(connection: Connection, site: Site, now: datetime) -> list[Waiting]:
    """Evaluations that wait for a card of this site, oldest first."""
    here = {device.id for device in site.devices}
    wanted = select(seats).where(seats.c.lease_until > now, seats.c.placed.is_(None)).order_by(seats.c.since)
    rows = connection.execute(wanted) if here else ()
    return [
        Waiting(f"{row.worker} {row.ref}", Need(**row.need), "", priority=0, since=row.since, measures=True)
        for row in rows
        if here & set(row.devices)
    ]


def _waiting(row: Any) -> Waiting:
    need = row.need or {}
    return Waiting(
        key=row.run_key,
        need=Need(need.get("gpus"), need.get("memory_mb")),
        base_model=need.get("base_model", ""),
        priority=row.priority,
        since=row.created_at,
    )
