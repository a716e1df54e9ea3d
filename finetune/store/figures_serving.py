"""Figures of promotions and of who gets which calls, in SQL: bounded, or along an index alone."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from finetune.figures import Serving, Sharing
from finetune.store.schema import deployments, promotions, traffic, unleased
from finetune.versions import PROMOTED, PromotionState

_HOUR = timedelta(hours=1)
_UNFINISHED = sorted(set(PromotionState) - PROMOTED)


def serving(connection: Connection, now: datetime, *, failed: int, aliases: int) -> Serving:
    """The figures of this moment; of failures the newest `failed`, shares of the `aliases` that were moved last."""
    counted = select(promotions.c.state, func.count().label("promotions")).group_by(promotions.c.state)
    retrying = select(func.count()).where(promotions.c.state.in_(_UNFINISHED), promotions.c.failures > 0)
    waiting = select(func.min(promotions.c.due_at)).where(
        promotions.c.due_at <= now, promotions.c.moves.is_not(None), unleased(promotions, now)
    )
    oldest = connection.execute(waiting).scalar()
    theirs = select(deployments.c.gateway, func.count().label("placed")).group_by(deployments.c.gateway)
    known = select(func.count()).select_from(select(traffic.c.name, traffic.c.alias).distinct().subquery())
    return Serving(
        promotions={PromotionState(row.state): row.promotions for row in connection.execute(counted)},
        retrying=connection.execute(retrying).scalar_one(),
        oldest_s=(now - oldest).total_seconds() if oldest else 0.0,
        failed=_failed(connection, now - _HOUR, failed),
        aliases=connection.execute(known).scalar_one(),
        shares=_shares(connection, aliases),
        deployments={row.gateway: row.placed for row in connection.execute(theirs)},
    )


def _failed(connection: Connection, since: datetime, most: int) -> "Counter[str]":
    ended = (promotions.c.state == PromotionState.FAILED, promotions.c.finished_at >= since)
    wanted = select(promotions.c.error["code"].as_string().label("code")).where(*ended)
    rows = connection.execute(wanted.order_by(promotions.c.finished_at.desc()).limit(most))
    return Counter(row.code for row in rows if row.code is not None)


def _shares(connection: Connection, most: int) -> Mapping[Sharing, float]:
    newest = (
        select(func.max(traffic.c.seq).label("seq"))
        .group_by(traffic.c.name, traffic.c.alias)
        .order_by(func.max(traffic.c.seq).desc())
        .limit(most)
        .subquery()
    )
    rows = connection.execute(select(traffic).join(newest, newest.c.seq == traffic.c.seq))
    return {
        Sharing(row.name, row.alias, int(version)): float(share)
        for row in rows
        for version, share in row.shares.items()
        if share > 0
    }
