"""Rows that a job is given after it was taken in: with its version, in one write, and once, in both stores."""

import threading
from dataclasses import replace

import pytest

from finetune.jobs import Event
from finetune.store import SqlJobs
from finetune.store.imported import SqlImports
from tests.support.jobs import World, sqlite

WITH = {
    "train": "/d/f.jsonl",
    "validation": None,
    "train_rows": 3,
    "validation_rows": 0,
    "digest": "new",
    "format": "openai",
}


@pytest.fixture(params=["sqlite", "postgres"])
def world(request, tmp_path):
    world = World(sqlite(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    yield world
    world.database.close()


def recorded(world, number=1):
    job = world.submit(f"ft_{number}", artifact={"model": "ft:b", "lineage": {"seed": 1}}, state="succeeded")
    world.models.add_model(job, world.clock.now())
    return job


def told(world):
    return Event(kind="state", message="imported: rows of file-1", at=world.clock.now())


def test_job_version_and_history_have_them(world):
    job, other = recorded(world), recorded(world, 2)
    new = replace(job, recipe={**job.recipe, "dataset": {"path": "/d/f.jsonl"}}, data=WITH)
    assert SqlImports(world.database).add_rows(new, told(world))
    assert world.jobs.get("ft_1") == new
    assert world.jobs.get("ft_2") == other
    first, second = world.models.models()
    assert first.lineage == {"recipe": job.fingerprint, "data": "new", "seed": 1}
    assert second.lineage["data"] == "d"
    assert [each.message for each in world.jobs.events("ft_1")] == ["queued", "imported: rows of file-1"]


def test_one_that_has_no_version_yet_has_them(world):
    job = replace(world.submit(), data=WITH)
    assert SqlImports(world.database).add_rows(job, told(world))
    assert world.jobs.get("ft_1").data == WITH


def test_a_job_that_is_not_there_gets_nothing(world):
    job = replace(recorded(world), id="ft_none", data=WITH)
    assert not SqlImports(world.database).add_rows(job, told(world))
    assert world.jobs.events("ft_none") == []


def test_of_two_at_once_one_adds_them(world):
    new, start, found = replace(recorded(world), data=WITH), threading.Barrier(2), []

    def add():
        start.wait()
        found.append(SqlImports(world.database).add_rows(new, told(world)))

    threads = [threading.Thread(target=add) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert sorted(found) == [False, True]
    assert len(SqlJobs(world.database).events("ft_1")) == 2
