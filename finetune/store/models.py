"""Model versions and aliases."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from finetune.jobs import Job, ModelVersion
from finetune.store.database import Conflict, Database
from finetune.store.schema import aliases, models


class SqlModels:
    """`ports.ModelStore` in SQL. Safe for threads and for any number of processes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add_model(self, job: Job, now: datetime, *, alias: str | None = None) -> ModelVersion:
        """See `ports.ModelStore.add_model`."""
        artifact = dict(job.artifact or {})
        lineage = artifact.pop("lineage", {})
        try:
            with self._db.write(durable=True) as connection:
                if row := connection.execute(select(models).where(models.c.job_id == job.id)).first():
                    return _version(row, ())
                newest = select(func.max(models.c.version)).where(models.c.name == job.name)
                model = ModelVersion(
                    name=job.name,
                    version=(connection.execute(newest).scalar() or 0) + 1,
                    job_id=job.id,
                    provider=job.provider,
                    base_model=job.base_model,
                    artifact=artifact,
                    lineage={"recipe": job.fingerprint, "data": job.data.get("digest"), **lineage},
                    created_at=now,
                )
                values = {key: value for key, value in vars(model).items() if key != "aliases"}
                connection.execute(insert(models).values(**values))
                if alias is not None:
                    _point(connection, model.name, alias, model.version, now)
        except Conflict:
            # PostgreSQL only: another job of this name took the number between our look and our insert.
            return self.add_model(job, now, alias=alias)
        return model

    def models(self, name: str | None = None) -> list[ModelVersion]:
        """See `ports.ModelStore.models`."""
        wanted = select(models).order_by(models.c.name, models.c.version)
        if name is not None:
            wanted = wanted.where(models.c.name == name)
        with self._db.read() as connection:
            named = _names(connection)
            rows = connection.execute(wanted).all()
        return [_version(row, tuple(sorted(named.get((row.name, row.version), ())))) for row in rows]

    def set_alias(self, name: str, alias: str, version: int, now: datetime) -> int | None:
        """See `ports.ModelStore.set_alias`."""
        with self._db.write(durable=True) as connection:
            return _point(connection, name, alias, version, now)


def _point(connection: Connection, name: str, alias: str, version: int, now: datetime) -> int | None:
    """Move the alias; the version it pointed to before."""
    mine = (aliases.c.name == name, aliases.c.alias == alias)
    before = connection.execute(select(aliases.c.version).where(*mine)).scalar()
    values = {"version": version, "changed_at": now}
    if before is None:
        connection.execute(insert(aliases).values(name=name, alias=alias, **values))
    else:
        connection.execute(update(aliases).where(*mine).values(**values))
    return before


def _names(connection: Connection) -> dict[tuple[str, int], list[str]]:
    found: dict[tuple[str, int], list[str]] = {}
    for row in connection.execute(select(aliases)):
        found.setdefault((row.name, row.version), []).append(row.alias)
    return found


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
        aliases=names,
    )
