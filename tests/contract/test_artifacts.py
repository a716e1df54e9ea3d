"""Where a version's adapter lies, in both stores: noted once, and lost by no other note."""

import threading

import pytest

from finetune.store import Database, SqlModels
from finetune.store.kept import SqlKept
from finetune.versions import ModelStatus
from tests.support.jobs import World, sqlite

URI = "s3://box/ft/0123"


@pytest.fixture(params=["sqlite", "postgres"])
def world(request, tmp_path):
    world = World(sqlite(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    yield world
    world.database.close()


def recorded(world, number=1, **artifact):
    job = world.submit(f"ft_{number}", artifact={"path": "p", "digest": "0123", "lineage": {"seed": 1}, **artifact})
    return world.models.add_model(job, world.clock.now())


def test_an_address_is_noted_beside_what_is_known(world):
    one, other = recorded(world), recorded(world, 2)
    assert world.models.note_uri(one.name, one.version, URI)
    after, untouched = world.models.models("bot")
    assert after.artifact == {"path": "p", "digest": "0123", "uri": URI}
    assert (after.lineage, after.status, after.created_at) == (one.lineage, one.status, one.created_at)
    assert untouched == other
    assert world.models.note_uri(one.name, one.version, URI)
    assert world.models.models("bot") == [after, untouched]


def test_the_address_that_is_noted_stays(world):
    one = recorded(world, uri="gs://first/ft/0123")
    assert not world.models.note_uri(one.name, one.version, URI)
    assert world.models.models("bot")[0].artifact["uri"] == "gs://first/ft/0123"


def test_a_version_that_is_not_there_has_none(world):
    one = recorded(world)
    assert not world.models.note_uri(one.name, one.version + 1, URI)
    assert not world.models.note_uri("other", one.version, URI)
    assert world.models.models() == [one]


def test_of_two_notes_at_once_none_is_lost(world):
    """A machine uploads late while another removes the files of what has retired."""
    many = [recorded(world, number) for number in range(20)]
    for one in many:
        world.models.set_status(one.name, one.version, ModelStatus.RETIRED)
    other, now, start = Database.open(world.url), world.clock.now(), threading.Barrier(2)

    def uploads():
        for one in many:
            start.wait(30)
            assert SqlModels(other).note_uri(one.name, one.version, URI)

    thread = threading.Thread(target=uploads)
    thread.start()
    for one in many:
        start.wait(30)
        assert SqlKept(world.database).note_gone([(one.name, one.version)], now)
    thread.join(30)
    other.close()
    assert {frozenset(one.artifact) for one in world.models.models()} == {frozenset({"path", "digest", "uri", "gone"})}


def test_an_adapter_that_comes_here_is_noted_with_its_weights(world):
    one, other = recorded(world, model="m"), recorded(world, 2)
    there = {"path": "/a/9", "digest": "9"}
    for _ in range(2):
        world.models.note_adapter(one.name, one.version, there, "Qwen/Qwen3-0.6B")
    after, untouched = world.models.models("bot")
    assert (after.artifact, after.base_model) == ({"model": "m", **there}, "Qwen/Qwen3-0.6B")
    assert untouched == other
    world.models.note_adapter("nobody", 1, there, "x")


def test_the_version_of_a_job_from_elsewhere_is_noted(world):
    recorded(world)
    world.jobs.note_model("ft_1", "bot@v1")
    world.jobs.note_model("ft_1", "bot@v1")
    assert world.jobs.get("ft_1").model == "bot@v1"
