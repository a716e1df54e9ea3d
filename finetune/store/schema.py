"""The tables. A change here needs a migration in `migrations/versions`; a test compares the two."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Boolean, Column, DateTime, Float, Index, Integer, MetaData, String, Table, Text, false, or_
from sqlalchemy import ForeignKey as Ref
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class Utc(TypeDecorator[datetime]):
    """An aware datetime, stored without its zone: SQLite has none, and all our times are UTC."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware to naive UTC; a naive one is a fault of ours and raises ValueError."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive time {value!r}")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Naive UTC to aware."""
        return None if value is None else value.replace(tzinfo=UTC)


#: SQL NULL for None, not the JSON text `null`.
_Json = JSON(none_as_null=True)

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("provider", String(32), nullable=False),
    Column("base_model", String(255), nullable=False),
    Column("recipe", _Json, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    # The fingerprint while this job answers for it, NULL once it failed, was cancelled or was replaced by --force:
    # the unique index makes two submits at the same moment one job.
    Column("answers_for", String(64), unique=True),
    Column("state", String(16), nullable=False),
    Column("provider_state", String(64)),
    Column("cancel_requested", Boolean, nullable=False),
    Column("priority", Integer, nullable=False, default=0),
    Column("admitted_at", Utc),
    Column("hold_requested", Boolean, nullable=False, default=False),
    Column("held", Boolean, nullable=False, default=False),
    Column("deadline_at", Utc),
    Column("due_at", Utc),
    Column("attempt", Integer, nullable=False),
    Column("run_key", String(64)),
    Column("remote_id", String(255)),
    Column("cursor", Text),
    Column("data", _Json, nullable=False),
    Column("remote_data", _Json),
    Column("create_sent_at", Utc),
    Column("doubt_until", Utc),
    Column("cost", _Json),
    Column("estimate", _Json),
    Column("progress", _Json),
    Column("artifact", _Json),
    Column("model", String(128)),
    Column("error", _Json),
    Column("failures", Integer, nullable=False),
    Column("trace", String(64)),
    Column("created_at", Utc, nullable=False),
    Column("changed_at", Utc, nullable=False),
    Column("finished_at", Utc),
    Column("lease_owner", String(128)),
    Column("lease_token", Integer, nullable=False),
    Column("lease_until", Utc),
    Index("jobs_due", "due_at"),
    Index("jobs_created", "created_at"),
    Index("jobs_remote", "remote_id"),
    # Of a hundred thousand jobs few are unfinished (NULL), and most questions are about those.
    Index("jobs_finished", "finished_at"),
    Index("jobs_run", "run_key"),
    # Figures count all jobs without reading them.
    Index("jobs_state", "state", "provider", "finished_at"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("run_key", String(64), primary_key=True),
    Column("job_id", String(32), Ref("jobs.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("remote_id", String(255)),
    Column("created_at", Utc, nullable=False),
    Index("attempts_job", "job_id", "number", unique=True),
)

events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("job_id", String(32), Ref("jobs.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("at", Utc, nullable=False),
    Index("events_job", "job_id", "seq"),
)

metrics = Table(
    "metrics",
    metadata,
    Column("job_id", String(32), Ref("jobs.id"), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("value", Float, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("run_key", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("request", _Json, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("hold_requested", Boolean, nullable=False, default=False),
    Column("starts", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("process", String(128)),
    Column("worker", String(128)),
    Column("need", _Json),
    Column("placed", _Json),
    Column("card_s", Float, nullable=False, default=0.0),
    Column("furthest", Integer, nullable=False, default=0),
    Column("lease_token", Integer, nullable=False),
    Column("lease_until", Utc),
    Column("artifact", _Json),
    Column("error", _Json),
    Column("created_at", Utc, nullable=False),
    Index("runs_state", "state", "created_at"),
)

models = Table(
    "models",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("job_id", String(32), Ref("jobs.id"), nullable=False, unique=True),
    Column("provider", String(32), nullable=False),
    Column("base_model", String(255), nullable=False),
    Column("artifact", _Json, nullable=False),
    Column("lineage", _Json, nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("status", String(16), nullable=False, default="trained"),
)

# Appended, never changed: of each alias the newest row is in force.
traffic = Table(
    "traffic",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False),
    Column("alias", String(64), nullable=False),
    Column("shares", _Json, nullable=False),
    Column("reason", String(255), nullable=False),
    Column("by", String(64), nullable=False),
    Column("at", Utc, nullable=False),
    Index("traffic_alias", "name", "alias", "seq"),
)

reports = Table(
    "reports",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("suite", String(255), primary_key=True),
    Column("report", _Json, nullable=False),
    Column("at", Utc, nullable=False),
)

promotions = Table(
    "promotions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("alias", String(64), nullable=False),
    # `name@alias` while it is unfinished, NULL afterwards: one alias has one promotion at a time.
    Column("moves", String(129), unique=True),
    Column("gateways", _Json, nullable=False),
    Column("steps", _Json, nullable=False),
    Column("pause_s", Float, nullable=False),
    Column("gate", _Json),
    Column("max_hosting", String(32)),
    Column("state", String(16), nullable=False),
    Column("step", Integer, nullable=False),
    Column("before", Integer),
    Column("rollback", Boolean, nullable=False, server_default=false()),
    Column("notes", _Json, nullable=False),
    Column("evidence", _Json, nullable=False),
    Column("error", _Json),
    Column("failures", Integer, nullable=False),
    Column("due_at", Utc),
    Column("by", String(64), nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("finished_at", Utc),
    Column("lease_owner", String(128)),
    Column("lease_token", Integer, nullable=False),
    Column("lease_until", Utc),
    Index("promotions_due", "due_at"),
    Index("promotions_name", "name", "created_at"),
    # Figures count all promotions without reading them.
    Index("promotions_state", "state", "finished_at"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("gateway", String(32), primary_key=True),
    Column("id", String(255), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("alias", String(64), nullable=False),
    Column("listed_as", String(255), nullable=False),
    Column("at", Utc, nullable=False),
)

# Evaluations that have a card, or wait for one.
seats = Table(
    "seats",
    metadata,
    Column("worker", String(128), primary_key=True),
    Column("ref", String(129), primary_key=True),
    # Ids of those that it could take.
    Column("devices", _Json, nullable=False),
    Column("need", _Json, nullable=False),
    Column("placed", _Json),
    # Of who sits there; no number, as the row is gone before the next one sits.
    Column("token", String(16)),
    Column("since", Utc, nullable=False),
    Column("lease_until", Utc, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("worker", String(128), primary_key=True),
    Column("queues", _Json, nullable=False),
    Column("host", String(128), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("devices", _Json),
    Column("slots", Integer, nullable=False, default=1),
    Column("warm", _Json),
    Column("seen_at", Utc, nullable=False),
)


def unleased(table: Table, now: datetime) -> Any:
    """The condition that no live lease holds a row of `jobs`, `runs` or `promotions`."""
    return or_(table.c.lease_until.is_(None), table.c.lease_until <= now)
