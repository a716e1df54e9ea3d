"""What a lease allows, and that a step is whole and cheap: on SQLite and a real PostgreSQL."""

from datetime import timedelta

import pytest

from finetune.errors import LeaseLost
from finetune.jobs import Change, Event, JobState
from tests.support.jobs import World, sqlite
from tests.support.servers import PostgresServer

TTL = timedelta(seconds=30)


@pytest.fixture(params=["sqlite", "postgres"])
def world(request, tmp_path):
    world = World(sqlite(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    yield world
    world.database.close()


def preparing(world, *notes):
    now = world.clock.now()
    told = tuple(Event(kind="state", message=note, at=now) for note in notes)
    return Change(state=JobState.PREPARING, due_at=now, fields={"failures": 2}, events=told)


def test_a_kept_lease_keeps_others_out_until_its_end(world):
    world.submit()
    now = world.clock.now()
    lease = world.jobs.claim("ft_1", "w1", now, TTL)
    world.clock.sleep(20)
    now = world.clock.now()
    job = world.jobs.apply(lease, preparing(world), now, until=now + TTL)
    assert job.state is JobState.PREPARING
    world.clock.sleep(20)
    assert world.jobs.claim("ft_1", "w2", world.clock.now(), TTL) is None
    assert world.jobs.due(world.clock.now(), 1) == []
    world.clock.sleep(10)
    assert world.jobs.claim("ft_1", "w2", world.clock.now(), TTL).token == lease.token + 1
    with pytest.raises(LeaseLost):
        world.jobs.apply(lease, Change(state=JobState.FAILED, due_at=None, fields={}), world.clock.now(), until=now)
    assert world.jobs.get("ft_1") == job


def test_a_lease_that_was_given_back_writes_nothing(world):
    """A thread that renews it may be late: it must not lease a job that nobody holds."""
    world.submit()
    now = world.clock.now()
    lease = world.jobs.claim("ft_1", "w1", now, TTL)
    job = world.jobs.apply(lease, preparing(world), now)
    for write in (
        lambda: world.jobs.renew(lease, now + TTL),
        lambda: world.jobs.record(lease, now, {"failures": 9}),
        lambda: world.jobs.apply(lease, preparing(world, "late"), now),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert world.jobs.get("ft_1") == job
    assert "late" not in [event.message for event in world.jobs.events("ft_1")]
    assert world.jobs.claim("ft_1", "w2", now, TTL)


def test_a_write_answers_with_the_job_as_it_stands(world):
    """Also with what others wrote of it meanwhile."""
    world.submit(admitted_at=world.clock.now())
    now = world.clock.now()
    lease = world.jobs.claim("ft_1", "w1", now, TTL)
    world.jobs.request_cancel("ft_1", now)
    world.turns.request_hold("ft_1", True, now)
    world.turns.prioritise("ft_1", 7, now)
    change = Change(
        state=JobState.PREPARING,
        due_at=now + timedelta(hours=1),
        fields={"cost": {"low": "1.5", "high": None}, "doubt_until": now, "failures": 3},
    )
    job = world.jobs.apply(lease, change, now, until=now + TTL)
    assert job == world.jobs.get("ft_1")
    assert (job.cancel_requested, job.hold_requested, job.priority, job.due_at) == (True, True, 7, now)
    kept = world.jobs.record(lease, now, {"create_sent_at": now, "doubt_until": None})
    assert kept.job.create_sent_at == now
    assert world.jobs.get("ft_1").doubt_until is None


def test_events_of_a_change_keep_their_order(world):
    world.submit()
    lease = world.jobs.claim("ft_1", "w1", world.clock.now(), TTL)
    notes = [f'it\'s {number} {{}} "x"' for number in range(20)]
    world.jobs.apply(lease, preparing(world, *notes), world.clock.now())
    assert [event.message for event in world.jobs.events("ft_1")][1:] == notes
    seqs = [event.seq for event in world.jobs.events("ft_1")]
    assert seqs == sorted(seqs)


@pytest.fixture
def server():
    with PostgresServer() as server:
        yield server


def test_a_restart_of_the_server_between_two_statements_is_not_noticed(server):
    """The cut connections are known by what stands in them to read: their end."""
    world = World(server.database())
    world.submit()
    server.stop()
    server.restart()
    lease = world.jobs.claim("ft_1", "w1", world.clock.now(), TTL)
    server.stop()
    server.restart()
    assert world.jobs.apply(lease, preparing(world, "x"), world.clock.now()).state is JobState.PREPARING
    server.stop()
    server.restart()
    assert [event.message for event in world.jobs.events("ft_1")] == ["queued", "x"]
    world.database.close()


def test_a_server_that_is_gone_is_said_as_such_and_its_return_is_seen(server):
    world = World(server.database())
    world.submit()
    server.stop()
    for ask in (
        lambda: world.jobs.claim("ft_1", "w1", world.clock.now(), TTL),
        lambda: world.jobs.get("ft_1"),
        lambda: world.turns.prioritise("ft_1", 1, world.clock.now()),
    ):
        with pytest.raises(Exception, match="E502"):
            ask()
    server.restart()
    assert world.jobs.claim("ft_1", "w1", world.clock.now(), TTL)
    world.database.close()


def test_a_fault_in_a_single_statement_is_told_as_any_other(world):
    """It goes past the engine that would translate it."""
    from finetune.store.database import Conflict

    first = world.submit()
    with pytest.raises(Conflict, match="E508"):
        world.jobs.submit(
            type(first)(**{**vars(first), "fingerprint": "another"}),
            Event(kind="state", message="q", at=world.clock.now()),
            force=False,
        )
    assert world.jobs.get("ft_1") == first
