"""Model versions, what was measured of them, and who gets an alias's calls."""

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from finetune.jobs import Job, Json
from finetune.store.database import Conflict, Database
from finetune.store.promotions import begin, guard, supersede
from finetune.store.schema import deployments, models, reports, traffic
from finetune.versions import Grip, ModelStatus, ModelVersion, Promotion, Traffic

#: The row in force of each alias.
_NEWEST = select(func.max(traffic.c.seq)).group_by(traffic.c.name, traffic.c.alias)
#: Each conflict means that another job has its number; a job that is in no book conflicts for ever.
_TRIES = 100


class SqlModels:
    """`releases.ModelStore` in SQL. Safe for threads and for any number of processes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add_model(
        self, job: Job, now: datetime, *, alias: str | None = None, promotion: Promotion | None = None
    ) -> ModelVersion:
        """See `releases.ModelStore.add_model`."""
        for _ in range(_TRIES - 1):
            # PostgreSQL: another job of this name may take the number between our look and our insert.
            with suppress(Conflict):
                return self._added(job, now, alias, promotion)
        return self._added(job, now, alias, promotion)

    def _added(self, job: Job, now: datetime, alias: str | None, promotion: Promotion | None) -> ModelVersion:
        """Raises Conflict when its number was taken meanwhile, and for a job that is in no book."""
        with self._db.write(durable=True) as connection:
            if row := connection.execute(select(models).where(models.c.job_id == job.id)).first():
                return _version(row, ())
            model = _next(connection, job, now)
            connection.execute(insert(models).values(**{k: v for k, v in vars(model).items() if k != "aliases"}))
            if alias is not None:
                supersede(connection, f"{job.name}@{alias}", now)
                _shift(connection, _all_to(model, alias, job.owner, now))
            if promotion is not None:
                begin(connection, replace(promotion, version=model.version))
        return model

    def models(self, name: str | None = None) -> list[ModelVersion]:
        """See `releases.ModelStore.models`."""
        wanted = select(models).order_by(models.c.name, models.c.version)
        if name is not None:
            wanted = wanted.where(models.c.name == name)
        with self._db.read() as connection:
            moves = _in_force(connection)
            rows = connection.execute(wanted).all()
        named: dict[tuple[str, int], list[str]] = {}
        for move in moves:
            if move.version is not None:
                named.setdefault((move.name, move.version), []).append(move.alias)
        return [_version(row, tuple(sorted(named.get((row.name, row.version), ())))) for row in rows]

    def set_status(self, name: str, version: int, status: ModelStatus) -> None:
        """See `releases.ModelStore.set_status`."""
        with self._db.write() as connection:
            _set_status(connection, name, version, status)

    def note_uri(self, name: str, version: int, uri: str) -> bool:
        """See `releases.ModelStore.note_uri`."""
        mine = (models.c.name == name, models.c.version == version)
        with self._db.write(durable=True) as connection:
            # Locked: `SqlKept.note_gone` writes the same column.
            row = connection.execute(select(models.c.artifact).where(*mine).with_for_update()).first()
            if row is None:
                return False
            artifact = {**row.artifact, "uri": row.artifact.get("uri") or uri}
            connection.execute(update(models).where(*mine).values(artifact=artifact))
        return bool(artifact["uri"] == uri)

    def note_adapter(self, name: str, version: int, artifact: Json, base_model: str) -> None:
        """See `releases.ModelStore.note_adapter`."""
        mine = (models.c.name == name, models.c.version == version)
        with self._db.write(durable=True) as connection:
            row = connection.execute(select(models.c.artifact).where(*mine).with_for_update()).first()
            if row is not None:
                kept = {key: value for key, value in row.artifact.items() if key != "gone"}
                values = {"artifact": {**kept, **artifact}, "base_model": base_model}
                connection.execute(update(models).where(*mine).values(values))

    def shift(self, traffic: Traffic, grip: Grip | None = None) -> Traffic | None:
        """See `releases.ModelStore.shift`."""
        with self._db.write(durable=True) as connection:
            if grip is not None:
                guard(connection, grip)
            return _shift(connection, traffic)

    def traffic(self, name: str, alias: str) -> Traffic | None:
        """See `releases.ModelStore.traffic`."""
        with self._db.read() as connection:
            return _now(connection, name, alias)

    def all_traffic(self) -> list[Traffic]:
        """See `releases.ModelStore.all_traffic`."""
        with self._db.read() as connection:
            return _in_force(connection)

    def moves(self, name: str, alias: str | None = None) -> list[Traffic]:
        """See `releases.ModelStore.moves`."""
        wanted = select(traffic).where(traffic.c.name == name).order_by(traffic.c.seq.desc())
        if alias is not None:
            wanted = wanted.where(traffic.c.alias == alias)
        with self._db.read() as connection:
            return [_traffic(row) for row in connection.execute(wanted)]

    def add_report(self, name: str, version: int, report: Json, now: datetime) -> None:
        """See `releases.ModelStore.add_report`."""
        mine = (reports.c.name == name, reports.c.version == version, reports.c.suite == report["suite"])
        row = {"name": name, "version": version, "suite": report["suite"], "report": report, "at": now}
        with self._db.write(durable=True) as connection:
            connection.execute(reports.delete().where(*mine))
            connection.execute(insert(reports).values(**row))

    def reports(self, name: str, version: int) -> list[Json]:
        """See `releases.ModelStore.reports`."""
        wanted = select(reports).where(reports.c.name == name, reports.c.version == version).order_by(reports.c.suite)
        with self._db.read() as connection:
            return [{**row.report, "at": row.at.isoformat()} for row in connection.execute(wanted)]


def _next(connection: Connection, job: Job, now: datetime) -> ModelVersion:
    artifact = dict(job.artifact or {})
    lineage = artifact.pop("lineage", {})
    newest = select(func.max(models.c.version)).where(models.c.name == job.name)
    return ModelVersion(
        name=job.name,
        version=(connection.execute(newest).scalar() or 0) + 1,
        job_id=job.id,
        provider=job.provider,
        base_model=job.base_model,
        artifact=artifact,
        lineage={"recipe": job.fingerprint, "data": job.data.get("digest"), **lineage},
        created_at=now,
    )


def _all_to(model: ModelVersion, alias: str, by: str, now: datetime) -> Traffic:
    reason = f"promote v{model.version}"
    return Traffic(name=model.name, alias=alias, shares={model.version: 1.0}, reason=reason, by=by, at=now)


def _shift(connection: Connection, new: Traffic) -> Traffic | None:
    """Append it, and note which versions live by it."""
    before = _now(connection, new.name, new.alias)
    values = {key: value for key, value in vars(new).items() if key != "seq"}
    shares = {str(version): share for version, share in new.shares.items()}
    connection.execute(insert(traffic).values(**{**values, "shares": shares}))
    _note_who_lives(connection, new.name)
    return before


def _note_who_lives(connection: Connection, name: str) -> None:
    """Who has a share of an alias's calls is live. Who has none any more waits at gateways, or has retired."""
    mine = [one for one in _in_force(connection) if one.name == name]
    live = [version for one in mine for version, share in one.shares.items() if share > 0]
    of_it = update(models).where(models.c.name == name)
    there = select(deployments.c.version).where(deployments.c.name == name)
    was_live = (models.c.status == ModelStatus.LIVE, models.c.version.not_in(live))
    connection.execute(of_it.where(*was_live, models.c.version.in_(there)).values(status=str(ModelStatus.VERIFIED)))
    connection.execute(of_it.where(*was_live).values(status=str(ModelStatus.RETIRED)))
    connection.execute(of_it.where(models.c.version.in_(live)).values(status=str(ModelStatus.LIVE)))


def _set_status(connection: Connection, name: str, version: int, status: ModelStatus) -> None:
    mine = (models.c.name == name, models.c.version == version, models.c.status != ModelStatus.LIVE)
    connection.execute(update(models).where(*mine).values(status=str(status)))


def _now(connection: Connection, name: str, alias: str) -> Traffic | None:
    mine = select(traffic).where(traffic.c.name == name, traffic.c.alias == alias)
    row = connection.execute(mine.order_by(traffic.c.seq.desc()).limit(1)).first()
    return None if row is None else _traffic(row)


def _in_force(connection: Connection) -> list[Traffic]:
    rows = connection.execute(select(traffic).where(traffic.c.seq.in_(_NEWEST)).order_by(traffic.c.seq))
    return [_traffic(row) for row in rows]


def _traffic(row: Row[Any]) -> Traffic:
    shares = {int(version): float(share) for version, share in row.shares.items()}
    return Traffic(name=row.name, alias=row.alias, shares=shares, reason=row.reason, by=row.by, at=row.at, seq=row.seq)


def _version(row: Row[Any], names: tuple[str, ...]) -> ModelVersion:
    return ModelVersion(
        name=row.name,
        version=row.version,
        job_id=row.job_id,
        provider=row.provider,
        base_model=row.base_model,
        artifact=row.artifact,
        lineage=row.lineage,
        created_at=row.created_at,
        status=ModelStatus(row.status),
        aliases=names,
    )
