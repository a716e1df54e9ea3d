"""Migrations run forward on a database that is in use, from every schema there has been."""

import os
import sqlite3
from contextlib import closing

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, insert

from finetune.jobs import JobState
from finetune.store import Database, SqlJobs, fresh
from finetune.store.database import REVISION
from finetune.store.migrate import config, upgrade
from tests.support.jobs import RECIPE, World, sqlite

COUNT = 50
REVISIONS = list(ScriptDirectory.from_config(config()).walk_revisions())


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    return sqlite(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url")


def populate(url, revision, now):
    """A database of that revision with jobs in every state, a run, and events; through its own tables, not today's."""
    database = Database(url)
    with database.write() as connection:
        settings = config()
        settings.attributes["connection"] = connection
        command.upgrade(settings, revision)
        tables = MetaData()
        tables.reflect(connection)
        states = list(JobState)
        for number in range(COUNT):
            state = states[number % len(states)]
            final = state in ("succeeded", "failed", "cancelled")
            row = {
                "id": f"ft_{number}",
                "name": "bot",
                "owner": "me",
                "provider": "fake",
                "base_model": "m",
                "recipe": RECIPE,
                "fingerprint": str(number),
                "answers_for": str(number),
                "state": str(state),
                "cancel_requested": False,
                "due_at": None if final else now,
                "attempt": 0,
                "data": {"train": "t", "validation": None, "train_rows": 1, "validation_rows": 0}
                | {"digest": "d", "format": "openai"},
                "failures": 0,
                "created_at": now,
                "changed_at": now,
                "finished_at": now if final else None,
                "lease_token": 0,
            }
            if revision >= "0003":
                row["admitted_at"] = now
            connection.execute(insert(tables.tables["jobs"]).values(**row))
            event = {"job_id": f"ft_{number}", "kind": "state", "message": "queued", "at": now}
            connection.execute(insert(tables.tables["events"]).values(**event))
        run = {"run_key": "k", "state": "queued", "request": {}, "cancel_requested": False, "starts": 0, "deaths": 0}
        connection.execute(insert(tables.tables["runs"]).values(**run, lease_token=0, created_at=now))
    database.close()


def test_a_database_of_the_newest_schema_needs_no_migration():
    """Else each start loads what migrates, and a database of the revision named there stays as it is."""
    assert ScriptDirectory.from_config(config()).get_current_head() == REVISION


def dumped(path):
    with closing(sqlite3.connect(path)) as connection:
        return fresh.dump(connection)


def test_a_new_file_is_as_all_migrations_make_it(tmp_path):
    """`REGENERATE_GOLDEN=1 pytest tests/contract/test_migrations.py` writes fresh.sql anew after another migration."""
    migrated = Database(f"sqlite:///{tmp_path / 'migrated.db'}")
    upgrade(migrated.write, postgres=False)
    migrated.close()
    made = dumped(tmp_path / "migrated.db")
    if os.environ.get("REGENERATE_GOLDEN"):
        fresh.FILE.write_text(made)
    empty = Database(f"sqlite:///{tmp_path / 'new.db'}")
    with empty.write() as connection:
        assert fresh.create(connection)
        assert not fresh.create(connection), "it is not empty any more"
    empty.close()
    assert dumped(tmp_path / "new.db") == made == fresh.FILE.read_text()


@pytest.mark.parametrize("revision", sorted(each.revision for each in REVISIONS if each.revision != REVISION))
def test_a_database_in_use_goes_on(url, revision, tmp_path):
    from datetime import datetime

    populate(url, revision, datetime(2027, 1, 1))

    world = World(url)

    jobs = world.jobs.recent()
    assert len(jobs) == COUNT
    assert {job.state for job in jobs} == set(JobState)
    assert all((job.priority, job.hold_requested, job.held) == (0, False, False) for job in jobs)
    # All that exist have had their turn, whatever the limits are from now on.
    assert all(job.admitted_at == job.created_at for job in jobs)
    assert len(world.jobs.recent(unfinished=True)) == sum(not job.final for job in jobs)
    assert world.run("ft_0").state is JobState.SUCCEEDED
    assert len(SqlJobs(world.database).events("ft_0")) > 1
    assert [due.key for due in world.placements().due_runs(world.clock.now(), 5)] == ["k"]
    world.database.close()
