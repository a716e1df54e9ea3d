"""What a lease allows, and that a step is whole and cheap: on SQLite and a real PostgreSQL."""

import threading
from datetime import timedelta

import psycopg
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


def due_at(world, *ages_s):
    """Jobs that have been due for so many seconds, `ft_0` first."""
    now = world.clock.now()
    for number, age_s in enumerate(ages_s):
        world.submit(f"ft_{number}", due_at=now - timedelta(seconds=age_s))


def test_a_batch_is_what_is_longest_due(world):
    due_at(world, 1, 30, -5, 20, 10)
    now = world.clock.now()
    mine = world.jobs.claim_due("w1", now, TTL, 2)
    assert [lease.job.id for lease in mine] == ["ft_1", "ft_3"]
    assert {(lease.owner, lease.token, lease.until) for lease in mine} == {("w1", 1, now + TTL)}
    assert [lease.job for lease in mine] == [world.jobs.get("ft_1"), world.jobs.get("ft_3")]
    # What is leased, and what is not due, is left alone.
    assert [lease.job.id for lease in world.jobs.claim_due("w2", now, TTL, 9)] == ["ft_4", "ft_0"]
    assert world.jobs.claim_due("w3", now, TTL, 9) == []
    world.clock.sleep(30)
    again = world.jobs.claim_due("w3", world.clock.now(), TTL, 2)
    assert [(lease.job.id, lease.token) for lease in again] == [("ft_1", 2), ("ft_3", 2)]
    with pytest.raises(LeaseLost):
        world.jobs.apply(mine[0], preparing(world), world.clock.now())


def test_batches_that_are_claimed_at_once_share_no_job(world):
    due_at(world, *range(120))
    taken, others = [], [World(world.url) for _ in range(4)]
    start = threading.Barrier(4)

    def take(other, owner):
        start.wait(10)
        while mine := other.jobs.claim_due(owner, world.clock.now(), TTL, 7):
            taken.extend((lease.job.id, lease.token) for lease in mine)

    threads = [threading.Thread(target=take, args=(other, f"w{n}")) for n, other in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for other in others:
        other.database.close()
    assert sorted(taken) == sorted((f"ft_{number}", 1) for number in range(120))


def test_a_batch_passes_over_what_is_being_taken(postgres_url):
    """Another's transaction that stands still in the middle of its claim holds nobody up."""
    world = World(postgres_url)
    due_at(world, 3, 2, 1)
    with psycopg.connect(postgres_url.replace("postgresql+psycopg", "postgresql")) as other:
        other.execute("SELECT id FROM jobs WHERE id = 'ft_0' FOR UPDATE")
        mine = world.jobs.claim_due("w1", world.clock.now(), TTL, 2)
    world.database.close()
    assert [lease.job.id for lease in mine] == ["ft_1", "ft_2"]
