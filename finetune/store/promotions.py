"""Promotions, and what they have placed at gateways."""

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, not_, select, update

from finetune.errors import NotFound, Problem
from finetune.jobs import Due, Json
from finetune.store.database import Conflict, Database, taken_over
from finetune.store.schema import deployments, models, promotions, traffic, unleased
from finetune.versions import PROMOTED, Grip, ModelStatus, Placed, Promotion, PromotionState

_FIELDS = tuple(field.name for field in fields(Promotion))
#: Of an insert beside others of the same alias.
_TRIES = 20
#: Of a version that gateways have and no alias sends calls to.
_WAITING = (ModelStatus.LOADED, ModelStatus.REGISTERED, ModelStatus.VERIFIED)
_COLUMNS = [promotions.c[name] for name in _FIELDS]


class SqlPromotions:
    """`releases.PromotionStore` in SQL. Safe for threads and for any number of processes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def begin(self, promotion: Promotion) -> Promotion:
        """See `releases.PromotionStore.begin`."""
        for left in reversed(range(_TRIES)):
            try:
                with self._db.write(durable=True) as connection:
                    return begin(connection, promotion)
            except Conflict:
                # PostgreSQL only: another one of this alias began between our look and our insert.
                if not left:
                    raise
        raise AssertionError("a last try returns or raises")

    def get(self, promotion_id: str) -> Promotion:
        """See `releases.PromotionStore.get`."""
        with self._db.read() as connection:
            row = connection.execute(select(*_COLUMNS).where(promotions.c.id == promotion_id)).first()
        if row is None:
            raise NotFound(
                Problem(code="E702", what=f"there is no promotion {promotion_id}", fix="see `ft models show NAME`")
            )
        return _promotion(row)

    def recent(self, name: str | None = None, *, version: int | None = None, limit: int = 20) -> list[Promotion]:
        """See `releases.PromotionStore.recent`."""
        wanted = select(*_COLUMNS).order_by(promotions.c.created_at.desc(), promotions.c.id).limit(limit)
        if name is not None:
            wanted = wanted.where(promotions.c.name == name)
        if version is not None:
            wanted = wanted.where(promotions.c.version == version)
        with self._db.read() as connection:
            return [_promotion(row) for row in connection.execute(wanted)]

    def due(self, now: datetime, limit: int, *, measuring: bool | None = None) -> Sequence[Due]:
        """See `releases.PromotionStore.due`."""
        wanted = select(promotions.c.id, promotions.c.lease_token).where(*_free(now)).order_by(promotions.c.due_at)
        if measuring is not None:
            measured = promotions.c.state == PromotionState.EVALUATING
            wanted = wanted.where(measured if measuring else not_(measured))
        with self._db.read() as connection:
            return [Due(*row) for row in connection.execute(wanted.limit(limit))]

    def under_way(self) -> bool:
        """See `releases.PromotionStore.under_way`."""
        with self._db.read() as connection:
            wanted = select(promotions.c.id).where(promotions.c.moves.is_not(None)).limit(1)
            return connection.execute(wanted).first() is not None

    def hold(self, promotion_id: str, owner: str, now: datetime, ttl: timedelta) -> Grip | None:
        """See `releases.PromotionStore.hold`."""
        taken = {"lease_owner": owner, "lease_until": now + ttl, "lease_token": promotions.c.lease_token + 1}
        wanted = update(promotions).where(promotions.c.id == promotion_id, *_free(now)).values(taken)
        with self._db.write() as connection:
            row = connection.execute(wanted.returning(*_COLUMNS, promotions.c.lease_token)).first()
        if row is None:
            return None
        return Grip(promotion=_promotion(row), owner=owner, token=row[-1], until=now + ttl)

    def write(self, grip: Grip, fields: Json, *, keep: bool = False) -> Promotion:
        """See `releases.PromotionStore.write`."""
        values = {**fields, **({} if keep else {"lease_owner": None, "lease_until": None})}
        if fields.get("state") in PROMOTED:
            values |= {"moves": None}
        with self._db.write(durable=True) as connection:
            changed = update(promotions).where(_held_by(grip)).values(_plain(values)).returning(*_COLUMNS)
            row = connection.execute(changed).first()
        if row is None:
            raise taken_over(grip.promotion.id)
        return _promotion(row)

    def renew(self, grip: Grip, until: datetime) -> None:
        """See `releases.PromotionStore.renew`."""
        with self._db.write() as connection:
            if not connection.execute(update(promotions).where(_held_by(grip)).values(lease_until=until)).rowcount:
                raise taken_over(grip.promotion.id)

    def place(self, placed: Placed) -> None:
        """See `releases.PromotionStore.place`."""
        with self._db.write(durable=True) as connection:
            connection.execute(deployments.delete().where(_at(placed.gateway, placed.id)))
            connection.execute(insert(deployments).values(**vars(placed)))

    def unplace(self, gateway: str, deployment_id: str) -> None:
        """See `releases.PromotionStore.unplace`."""
        gone = deployments.delete().where(_at(gateway, deployment_id))
        with self._db.write(durable=True) as connection:
            row = connection.execute(gone.returning(deployments.c.name, deployments.c.version)).first()
            if row is None:
                return
            mine = (deployments.c.name == row.name, deployments.c.version == row.version)
            if connection.execute(select(deployments.c.id).where(*mine)).first() is None:
                waited = models.c.status.in_(_WAITING)
                there = update(models).where(models.c.name == row.name, models.c.version == row.version, waited)
                connection.execute(there.values(status=str(ModelStatus.RETIRED)))

    def placed(self) -> list[Placed]:
        """See `releases.PromotionStore.placed`."""
        with self._db.read() as connection:
            rows = connection.execute(select(deployments).order_by(deployments.c.at, deployments.c.id)).mappings()
            return [Placed(**row) for row in rows]


def begin(connection: Connection, promotion: Promotion) -> Promotion:
    """Insert a promotion; an unfinished one of its alias ends as superseded. Returns it with `before`."""
    moves = f"{promotion.name}@{promotion.alias}"
    supersede(connection, moves, promotion.created_at)
    # Only now: what has just ended moves nothing any more.
    promotion = replace(promotion, before=_settled_on(connection, promotion.name, promotion.alias))
    values = {**vars(promotion), "moves": None if promotion.final else moves, "lease_token": 0}
    connection.execute(insert(promotions).values(_plain(values)))
    return promotion


def supersede(connection: Connection, moves: str, now: datetime) -> None:
    """End the unfinished promotion of this `name@alias`, if there is one."""
    over = {"state": str(PromotionState.SUPERSEDED), "finished_at": now, "due_at": None}
    over |= {"moves": None, "lease_owner": None, "lease_until": None}
    connection.execute(update(promotions).where(promotions.c.moves == moves).values(over))


def guard(connection: Connection, grip: Grip) -> None:
    """Raise LeaseLost unless the grip holds; nobody else takes the promotion before this transaction has ended."""
    held = select(promotions.c.id).where(_held_by(grip)).with_for_update()
    if connection.execute(held).first() is None:
        raise taken_over(grip.promotion.id)


def _settled_on(connection: Connection, name: str, alias: str) -> int | None:
    """The last version that had all calls of the alias; None: nobody has them."""
    mine = select(traffic.c.shares).where(traffic.c.name == name, traffic.c.alias == alias)
    for (shares,) in connection.execute(mine.order_by(traffic.c.seq.desc())):
        versions = [int(version) for version, share in shares.items() if share > 0]
        if len(versions) <= 1:
            return versions[0] if versions else None
    return None


def _free(now: datetime) -> tuple[Any, ...]:
    return promotions.c.due_at <= now, promotions.c.moves.is_not(None), unleased(promotions, now)


def _held_by(grip: Grip) -> Any:
    mine = (promotions.c.id == grip.promotion.id, promotions.c.lease_token == grip.token)
    return and_(*mine, promotions.c.lease_owner == grip.owner)


def _at(gateway: str, deployment_id: str) -> Any:
    return and_(deployments.c.gateway == gateway, deployments.c.id == deployment_id)


def _plain(values: Json) -> Json:
    """As the columns take them."""
    listed = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
    return {**values, **listed, **({"state": str(values["state"])} if "state" in values else {})}


def _promotion(row: Row[Any]) -> Promotion:
    values = dict(zip(_FIELDS, row, strict=False))
    listed = {name: tuple(values[name]) for name in ("gateways", "steps", "notes")}
    return Promotion(**{**values, **listed, "state": PromotionState(values["state"])})
